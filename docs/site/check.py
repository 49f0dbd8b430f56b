"""Fails if a page of the built site loads anything from a network: python docs/site/check.py DIR"""

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

# What a browser fetches by itself; a link that a person follows may lead anywhere.
LOADED = {
    ("script", "src"),
    ("img", "src"),
    ("img", "srcset"),
    ("source", "src"),
    ("source", "srcset"),
    ("iframe", "src"),
    ("video", "src"),
    ("object", "data"),
}
RELATIONS = {"stylesheet", "icon", "preload", "modulepreload", "preconnect", "dns-prefetch"}


class Loaded(HTMLParser):
    """Collects the addresses that a page loads from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element's attributes, as the base class asks for it."""
        values = {name: value or "" for name, value in attrs}
        wanted = [values[name] for one, name in LOADED if one == tag and name in values]
        if tag == "link" and RELATIONS & set(values.get("rel", "").split()):
            wanted.append(values.get("href", ""))
        self.found += [one for one in wanted if one.startswith(("http:", "https:", "//"))]


def loaded_from_elsewhere(text: str) -> list[str]:
    """The addresses that a page of HTML loads from a network."""
    parser = Loaded()
    parser.feed(text)
    return parser.found


def problems(site: Path) -> Iterator[str]:
    """Each page that loads something from elsewhere, and each style sheet that does."""
    for page in sorted(site.rglob("*.html")):
        for address in loaded_from_elsewhere(page.read_text(encoding="utf-8")):
            yield f"{page.relative_to(site)} loads {address}"
    for sheet in sorted(site.rglob("*.css")):
        text = sheet.read_text(encoding="utf-8")
        if "url(http" in text or "url(//" in text or "@import" in text:
            yield f"{sheet.relative_to(site)} loads from elsewhere"


if __name__ == "__main__":
    site = Path(sys.argv[1])
    if not (site / "zh/index.html").is_file():
        sys.exit(f"{site} holds no site in two languages")
    if found := list(problems(site)):
        sys.exit("\n".join(found))
