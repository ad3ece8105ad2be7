"""python -m synfoc."""

from synfoc.cli import main

main()
