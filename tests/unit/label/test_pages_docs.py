"""The guide shows every screen in every look, and names no picture that is not there."""

import re
from itertools import product
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"
IMAGES = DOCS / "images" / "label"
LOOKS = {f"{locale}-{shade}" for locale, shade in product(("en", "zh"), ("light", "dark"))}
MOST_BYTES = 3 * 2**20


@pytest.mark.parametrize("name", ["labelling.md", "labelling.zh-CN.md"])
def test_the_guide_and_its_pictures_belong_together(name: str) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    named = set(re.findall(r'(?:src|srcset|href)="images/label/([\w-]+\.webp)"', text))
    there = {path.name for path in IMAGES.glob("*.webp")}
    assert named == there
    screens = {file.rsplit("-", 2)[0] for file in there}
    assert len(screens) >= 20
    assert there == {f"{screen}-{look}.webp" for screen in screens for look in LOOKS}
    assert 'alt=""' not in text


def test_the_pictures_are_small() -> None:
    assert sum(path.stat().st_size for path in IMAGES.glob("*.webp")) < MOST_BYTES
