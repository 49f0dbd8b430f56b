"""The parser and the commands of `alignloop recipes`."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from alignloop.commands import Commands
from alignloop.errors import UserError

HELP = """\
Lists the recipes that come with the package. Run one by its name, `alignloop run playground`, or
copy and edit it: `alignloop recipes copy playground mine`, then `alignloop run mine`.
"""


def add_recipes(commands: Commands) -> None:
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
    print(copy_recipe(options.name, Path(options.folder)).resolve())


def copy_recipe(name: str, target: Path) -> Path:
    """Copy a packaged recipe with its files into a new folder, and name it after the folder.

    Raises UserError for an unknown name, if `target` exists, or if the folder's name is not a
    valid recipe name.
    """
    from alignloop.config.load import check_recipe
    from alignloop.config.packaged import FILE, FOLDER, packaged_recipes

    if name not in (named := packaged_recipes()):
        fix = f"choose one of: {', '.join(named)}"
        raise UserError("no packaged recipe has this name", where=name, fix=fix)
    if target.exists():
        raise UserError(
            "something exists here already, and nothing is overwritten",
            where=str(target),
            fix="name another folder, or remove this one",
        )
    own = check_recipe({"name": target.resolve().name}, where=str(target)).name
    shutil.copytree(FOLDER / name, target, ignore=shutil.ignore_patterns("__pycache__"))
    file = target / FILE
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(f'name = "{name}"', f'name = "{own}"', 1), encoding="utf-8")
    return target
