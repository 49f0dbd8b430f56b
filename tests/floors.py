"""Prints constraints that hold each dependency at the lowest version of pyproject.toml."""

import re
import tomllib
from itertools import chain
from pathlib import Path


def floors(pyproject: str) -> list[str]:
    """`name==version` for each requirement `name>=version`, those of the extras included.

    The tools of the tests (the extra `dev`) stay free.
    """
    found = []
    project = tomllib.loads(pyproject)["project"]
    extras = [texts for name, texts in project["optional-dependencies"].items() if name != "dev"]
    named = dict.fromkeys(chain(project["dependencies"], *extras))  # some are of two extras
    for text in (one for one in named if not one.startswith(f"{project['name']}[")):
        match = re.match(r"([\w.-]+)>=([^,;\s]+)", text)
        assert match is not None, f"{text} has no floor"
        found.append(f"{match[1]}=={match[2]}")
    return found


if __name__ == "__main__":
    pyproject = Path(__file__).parents[1] / "pyproject.toml"
    print("\n".join(floors(pyproject.read_text(encoding="utf-8"))))
