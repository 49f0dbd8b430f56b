"""What the parts of the command line share: the type of a parser's commands."""

import argparse
from typing import Protocol


class Commands(Protocol):
    """What argparse's `add_subparsers` returns; the class itself is private."""

    def add_parser(
        self,
        name: str,
        *,
        help: str,
        description: str | None = None,
        epilog: str | None = None,
        formatter_class: type[argparse.HelpFormatter] = argparse.HelpFormatter,
    ) -> argparse.ArgumentParser:
        """Add a command and return its own parser."""
        ...
