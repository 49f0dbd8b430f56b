"""The recipes that come with the package: list them, find them by name, copy them."""

import shutil
from pathlib import Path

from alignloop.errors import UserError

FOLDER = Path(__file__).parents[1] / "recipes"
FILE = "recipe.toml"


def packaged_recipes() -> dict[str, str]:
    """The purpose of each packaged recipe, by name: the first sentence of its first comment."""
    return {file.parent.name: _about(file) for file in sorted(FOLDER.glob(f"*/{FILE}"))}


def recipe_file(path: str | Path) -> Path:
    """A recipe's file: `path` itself, the recipe.toml in it, or the packaged recipe of that name.

    An existing file wins, so a copy in ./playground is what `playground` means. Raises UserError if
    nothing is found.
    """
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    if file.is_file():
        return file
    named = packaged_recipes()
    if str(path) in named:
        return FOLDER / path / FILE
    raise UserError(
        "no such recipe",
        where=str(file),
        fix=f"give a recipe.toml, the folder that holds one, or a name: {', '.join(named)}",
    )


def copy_recipe(name: str, target: Path) -> Path:
    """Copy a packaged recipe with its files into a new folder, and name it after the folder.

    Raises UserError for an unknown name, if `target` exists, or if the folder's name is not a
    valid recipe name.
    """
    from alignloop.config.load import check_recipe

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
    # the copy runs under its own name, in its own run folder
    file.write_text(text.replace(f'name = "{name}"', f'name = "{own}"', 1), encoding="utf-8")
    return target


def _about(file: Path) -> str:
    line = file.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")
    return line.split(". ")[0].rstrip(".")
