"""The parser and the commands of `alignloop recipes`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HELP = """\
Lists the recipes that come with the package. Run one by its name, `alignloop run playground`, or
copy and edit it: `alignloop recipes copy playground mine`, then `alignloop run mine`.
"""


def add_recipes(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `recipes` and `recipes copy` to the command line's parser."""
    recipes = commands.add_parser(
        "recipes",
        help="list the packaged recipes, or copy one",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    recipes.set_defaults(do=_list)
    actions = recipes.add_subparsers(dest="action", metavar="ACTION")
    copy = actions.add_parser("copy", help="copy a recipe with its files, to edit it")
    copy.add_argument("name", metavar="NAME", help="a name from `alignloop recipes`")
    copy.add_argument("folder", metavar="DIR", help="the new folder; the recipe takes its name")
    copy.set_defaults(do=_copy)


def _list(_options: argparse.Namespace, _rest: Sequence[str]) -> None:
    from alignloop.config.packaged import packaged_recipes

    for name, about in packaged_recipes().items():
        print(f"{name:15}{about}")


def _copy(options: argparse.Namespace, _rest: Sequence[str]) -> None:
    from alignloop.config.packaged import copy_recipe

    print(copy_recipe(options.name, Path(options.folder)).resolve())
