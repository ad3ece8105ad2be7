"""The exceptions that a user may see: bad input, told so that it can be acted on, and a stop."""

import unicodedata

TURNING = ("LRE", "RLE", "LRO", "RLO", "LRI", "RLI", "PDF", "PDI")
"""Classes of characters that turn the direction of the text behind them."""


class UserError(Exception):
    """Bad input: what is wrong, what was found, what was expected, how to fix it.

    The command line prints it and exits with status 2. Any other exception is our bug.
    """

    def __init__(self, what: str, *, found: object, expected: str, fix: str) -> None:
        self.what, self.found, self.expected, self.fix = what, str(found), expected, fix
        rows = {"found": found, "expected": expected, "fix": fix}
        lines = [what, *(f"  {k:<9} {v}" for k, v in rows.items())]
        # Indented, so that no name with a newline looks like a line of ours.
        told = (visible(line, keep="\n").replace("\n", "\n    ") for line in lines)
        super().__init__("\n".join(told))


class UnreadableError(UserError):
    """One file of many cannot be read; the others may be gone on with."""


class Interrupted(Exception):  # noqa: N818 (not an error: everything is saved)
    """Ctrl-C or SIGTERM came; everything is saved, and the message says how to go on."""


def visible(text: object, *, keep: str = "") -> str:
    """Text that does nothing to a terminal, whatever is in the name of a file.

    Args:
        text: a name, or a line with names in it.
        keep: control characters that stay, such as a newline.

    Returns:
        The text with control characters, those that turn its direction, and halves of characters
        written as JSON writes them: a backslash, u, four digits.
    """
    return "".join(f"\\u{ord(c):04x}" if c not in keep and _acts(c) else c for c in str(text))


def _acts(character: str) -> bool:
    if character.isascii():
        return not character.isprintable()
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(character) in TURNING
