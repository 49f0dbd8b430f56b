"""Prints constraints that hold each dependency at the lowest version of pyproject.toml."""

import re
import tomllib
from pathlib import Path


def floors(pyproject: str) -> list[str]:
    """`name==version` for each requirement `name>=version`; the tools of the tests stay free."""
    found = []
    for text in tomllib.loads(pyproject)["project"]["dependencies"]:
        match = re.match(r"([\w.-]+)>=([^,;\s]+)", text)
        assert match is not None, f"{text} has no floor"
        found.append(f"{match[1]}=={match[2]}")
    return found


if __name__ == "__main__":
    pyproject = Path(__file__).parents[1] / "pyproject.toml"
    print("\n".join(floors(pyproject.read_text(encoding="utf-8"))))
