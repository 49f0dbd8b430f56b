"""What the server refuses is told in Chinese on a Chinese page, and in English to programs."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from label_support import SOURCE, World, browser

from alignloop.label.texts.refusal_texts import translated, words

LABEL = SOURCE / "alignloop" / "label"
HAN = re.compile(r"[\u4e00-\u9fff]")
REFUSALS = {"NotFound", "Conflict", "Invalid", "Forbidden", "SignInRefused", "TooManyAttempts"}
# What the command line alone can come upon.
NOT_ON_PAGES = {"database.py", "migrate.py"}


def said(node: ast.expr) -> Iterator[str]:
    """A literal text, with a word in each of its places."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        parts = [one.value if isinstance(one, ast.Constant) else "some" for one in node.values]
        yield "".join(map(str, parts))
    elif isinstance(node, ast.Tuple):
        for one in node.elts:
            yield from said(one)


def texts_of(path: Path) -> Iterator[str]:
    """Every problem and every fix that a file tells."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in REFUSALS:
                for one in [*node.args[:1], *(k.value for k in node.keywords if k.arg == "fix")]:
                    yield from said(one)
        elif isinstance(node, ast.Assign):
            names = {
                one.id
                for target in node.targets
                for one in ast.walk(target)
                if isinstance(one, ast.Name)
            }
            if names & {"problem", "fix", "GIVEN_AWAY"}:
                yield from said(node.value)


def test_every_refusal_of_store_and_web_has_its_chinese() -> None:
    files = [*LABEL.glob("store/*.py"), *LABEL.glob("web/*.py"), LABEL / "guards.py"]
    texts = {t for path in files if path.name not in NOT_ON_PAGES for t in texts_of(path) if t}
    assert len(texts) > 60
    assert sorted(text for text in texts if not HAN.search(translated(text, "zh"))) == []


def test_the_places_of_both_languages_fit() -> None:
    for english, chinese in words().items():
        assert HAN.search(chinese) and not HAN.search(english)
        used = {int(n) for n in re.findall(r"\{(\d+)\}", chinese)}
        assert used <= set(range(english.count("{}"))), english


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{0} is not a role", "没有“{0}”这个角色。"),
        ("A is rated 6 and B 9, yet A wins", "A 得 6 分，B 得 9 分，却认为 A 更好。"),
        ("nobody has translated this", "nobody has translated this"),
        ("", ""),
    ],
)
def test_what_is_filled_in_is_kept(text: str, expected: str) -> None:
    assert translated(text, "zh") == expected
    assert translated(text, "en") == text


def test_a_request_is_answered_in_its_language(app: FastAPI, people: World) -> None:
    client = browser(app)
    link = {"token": "x", "name": "ann", "password": "a long password"}
    told = {
        language: client.post(
            "/api/v1/invitations/accept", json=link, headers={"Accept-Language": language}
        ).json()
        for language in ("zh-CN", "en")
    }
    assert told["zh-CN"] == {"detail": "链接已失效。", "fix": "请要一个新的。"}
    assert told["en"]["detail"] == "this link is no longer valid"
    wrong = client.post("/api/v1/login", json={}, headers={"Accept-Language": "zh-CN"}).json()
    assert wrong == {"detail": "以下内容不符合要求：name、password。", "fix": "请检查后重试。"}
