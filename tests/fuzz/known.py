"""Faults that are known and not yet mended; the short run of `make test` passes over them.

Empty is how it should be. `make fuzz` never looks here.
"""

KNOWN: tuple[str, ...] = ()
"""Parts of what a fault says."""
