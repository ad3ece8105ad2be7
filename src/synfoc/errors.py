"""The exceptions that a user may see: bad input, told so that it can be acted on, and a stop."""


class UserError(Exception):
    """Bad input: what is wrong, what was found, what was expected, how to fix it.

    The command line prints it and exits with status 2. Any other exception is our bug.
    """

    def __init__(self, what: str, *, found: object, expected: str, fix: str) -> None:
        self.what, self.found, self.expected, self.fix = what, str(found), expected, fix
        rows = {"found": found, "expected": expected, "fix": fix}
        super().__init__("\n".join([what, *(f"  {k:<9} {v}" for k, v in rows.items())]))


class Interrupted(Exception):  # noqa: N818 (not an error: everything is saved)
    """Ctrl-C or SIGTERM came; everything is saved, and the message says how to go on."""
