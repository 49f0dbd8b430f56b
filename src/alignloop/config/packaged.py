"""The recipes that come with the package: list them, find them by name, copy them."""

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


def _about(file: Path) -> str:
    line = file.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")
    return line.split(". ")[0].rstrip(".")
