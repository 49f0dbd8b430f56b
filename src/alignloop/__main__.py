"""`python -m alignloop` is `alignloop`."""

from alignloop.cli import main

main()
