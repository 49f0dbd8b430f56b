"""The recipes that come with the package: listed, found by name, copied to be edited."""

from pathlib import Path

from alignloop.errors import UserError

FOLDER = Path(__file__).parents[1] / "recipes"
FILE = "recipe.toml"


def packaged_recipes() -> dict[str, str]:
    """What each packaged recipe is for, by name: the first sentence of its first comment."""
    return {file.parent.name: _about(file) for file in sorted(FOLDER.glob(f"*/{FILE}"))}


def recipe_file(path: str | Path) -> Path:
    """A recipe's file: `path` itself, the recipe.toml in it, or the packaged one of that name.

    A file that is there comes first, so that a copy in ./playground is what `playground` means.
    Raises UserError if there is neither.
    """
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    if file.is_file():
        return file
    named = packaged_recipes()
    if str(path) in named:
        return FOLDER / path / FILE
    raise UserError(
        "there is no such recipe",
        where=str(file),
        fix=f"give a recipe.toml, the folder that holds one, or a name: {', '.join(named)}",
    )


def _about(file: Path) -> str:
    line = file.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")
    return line.split(". ")[0].rstrip(".")
