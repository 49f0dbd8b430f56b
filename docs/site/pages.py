"""Puts the pages of the site together: READMEs, docs/, recipes, the notebook, a page per room.

python docs/site/pages.py build/docs

Links are between files of the repository; here they become links between pages. A link to a file
that is no page becomes its path as text, and a link to the other language one that a browser takes.
"""

import ast
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
CHINESE = ".zh"  # of pages; the files of the repository say zh-CN
IMAGES = (".png", ".svg", ".webp", ".gif", ".jpg")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\]|!\[[^\]]*\]\([^)]*\))*)\]\(([^)\s]+)\)")
RAW = re.compile(r'\b(src|srcset|href)="([^":#]+)"')
FENCE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
GUIDES = ("data", "labelling", "labelling-data", "models", "evaluation", "algorithms")
ABOUT = ("overview", "performance", "lab-log")


def page_map() -> dict[str, str]:
    """The page of each file that becomes one: {"docs/data.md": "data.md"}."""
    pages = {f"docs/{file.name}": _page(file.name) for file in (ROOT / "docs").glob("*.md")}
    pages |= {f"README{x}.md": _page(f"index{x}.md") for x in ("", ".zh-CN")}
    pages |= {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
    for file in (ROOT / "docs/decisions").glob("*.md"):
        pages[f"docs/decisions/{file.name}"] = f"decisions/{file.name}"
    for file in (ROOT / "src/alignloop/recipes").glob("*/README.md"):
        pages[str(file.relative_to(ROOT))] = f"recipes/{file.parent.name}.md"
    pages["docs/decisions"] = "decisions/index.md"
    pages["examples/first_loop.ipynb"] = "first_loop.md"
    return pages


def _page(name: str) -> str:
    return name.replace(".zh-CN", CHINESE)


def with_links(text: str, file: str, page: str, pages: dict[str, str]) -> tuple[str, set[str]]:
    """The text of `file` with links as `page` needs them, and the images that it shows."""
    images: set[str] = set()

    def rewritten(match: re.Match[str]) -> str:
        mark, words, target = match.groups()
        words = LINK.sub(rewritten, words)
        path, _, anchor = target.partition("#")
        if ":" in path or not path:
            return f"{mark}[{words}]({target})"
        found = os.path.normpath(PurePosixPath(file).parent / path)
        anchor = f"#{anchor}" if anchor else ""
        if found in pages:
            return _link(words, page, pages[found], anchor)
        if found.endswith(IMAGES):
            images.add(found)
            return f"{mark}[{words}]({_relative(page, _place(found))})"
        assert (ROOT / found).exists(), f"{file}: there is no {found}"
        return f"{words} (`{found}`)" if found not in words else words

    depth = "../" if CHINESE in page else ""  # raw HTML is not rewritten by the site's generator

    def raw(match: re.Match[str]) -> str:
        found = os.path.normpath(PurePosixPath(file).parent / match[2])
        if found.endswith(IMAGES):
            images.add(found)
        return f'{match[1]}="{depth}{_place(found) if found.endswith(IMAGES) else match[2]}"'

    parts = FENCE.split(text)  # every other one is code
    plain = [RAW.sub(raw, part.replace("\\<", "&lt;")) for part in parts[::2]]
    parts[::2] = [LINK.sub(rewritten, part) for part in plain]
    return "".join(parts), images


def _link(words: str, page: str, target: str, anchor: str) -> str:
    chinese = CHINESE in page
    if (CHINESE in target) == chinese:
        plain = target.replace(CHINESE, "")  # the generator takes the page of the same language
        return f"[{words}]({_relative(page.replace(CHINESE, ''), plain)}{anchor})"
    if target.replace(CHINESE, "") == page.replace(CHINESE, ""):  # the same page
        html = target.replace(CHINESE, "").replace(".md", ".html")
        up = "../" * (page.count("/") + chinese)
        return f'<a href="{up}{"" if chinese else "zh/"}{html}{anchor}">{words}</a>'
    return f"[{words}]({_relative(page, target)}{anchor})"


def _relative(page: str, target: str) -> str:
    return os.path.relpath(target, PurePosixPath(page).parent)


def _place(image: str) -> str:
    return image.removeprefix("docs/")


def rooms() -> Iterator[tuple[str, str, list[str]]]:
    """Each room of the package: its name, what its docstring says, and its modules."""
    package = ROOT / "src/alignloop"
    for path in sorted(package.iterdir()):
        file = path / "__init__.py" if path.is_dir() else path
        if file.suffix != ".py" or not file.is_file() or path.name.startswith("__"):
            continue
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        parts = [one.relative_to(package).with_suffix("").parts for one in files]
        names = [".".join(p for p in part if p != "__init__") for part in parts]
        about = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        yield path.stem, about.split("\n\n")[0].replace("\n", " "), names


def write_api(out: Path) -> list[dict[str, str]]:
    """A page per room, and one that lists them; returns their lines of the navigation."""
    (out / "api").mkdir()
    lines = ["# API", "", "Every room of the package, from the docstrings of the source.", ""]
    entries = [{"Rooms": "api/index.md"}]
    for name, about, modules in rooms():
        lines.append(f"- [`{name}`]({name}.md): {about}")
        text = "".join(
            f"::: alignloop.{module}\n\n" for module in modules if "migrations" not in module
        )
        (out / f"api/{name}.md").write_text(f"---\ntitle: {name}\n---\n\n{text}", "utf-8")
        entries.append({name: f"api/{name}.md"})
    (out / "api/index.md").write_text("\n".join(lines) + "\n", "utf-8")
    return entries


def notebook_as_markdown(notebook: Path) -> str:
    """The cells of a notebook, without what they print."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    texts = [text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in sources]
    return "\n\n".join(texts) + "\n"


def title(file: Path) -> str:
    """The first heading of a page."""
    return re.sub(r"^# ", "", file.read_text(encoding="utf-8").splitlines()[0])


def navigation(out: Path, api: list[dict[str, str]]) -> list[object]:
    """The site's navigation."""
    decisions = sorted((out / "decisions").glob("0*.md"))
    listed = [f"- [{title(file)}]({file.name})\n" for file in decisions]
    text = "# Decisions\n\nContext, choice and price of what somebody will ask about.\n\n"
    (out / "decisions/index.md").write_text(text + "".join(listed), "utf-8")
    recipes = sorted((out / "recipes").glob("*.md"))
    return [
        {"Home": "index.md"},
        {"Tutorial": ["tutorial.md", {"Notebook": "first_loop.md"}]},
        {"Guides": [f"{name}.md" for name in GUIDES]},
        {"Recipes": [{file.stem: f"recipes/{file.name}"} for file in recipes]},
        {"Reference": ["configuration.md", {"API": api}]},
        {
            "About": [
                *(f"{name}.md" for name in ABOUT),
                {"Decisions": ["decisions/index.md", *(f"decisions/{f.name}" for f in decisions)]},
                {"Contributing": "contributing.md"},
                {"Changes": "changelog.md"},
            ]
        },
    ]


def main(out: Path) -> None:
    """Write the pages to `out` and the generator's settings beside it."""
    shutil.rmtree(out, ignore_errors=True)
    pages, images = page_map(), set()
    for file, page in pages.items():
        source, target = ROOT / file, out / page
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_file():
            notebook = source.suffix == ".ipynb"
            text = notebook_as_markdown(source) if notebook else source.read_text(encoding="utf-8")
            text, shown = with_links(text, file, page, pages)
            images |= shown
            target.write_text(text, "utf-8")
    for image in images:
        (out / _place(image)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / image, out / _place(image))
    nav = navigation(out, write_api(out))
    shutil.copytree(ROOT / "docs/site/assets", out / "assets")
    settings = {"INHERIT": os.path.relpath(ROOT / "mkdocs.yml", out.parent), "nav": nav}
    settings |= {"docs_dir": out.name, "site_dir": "site"}
    (out.parent / "mkdocs.yml").write_text(json.dumps(settings, ensure_ascii=False), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
