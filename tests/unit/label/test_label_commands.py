"""`alignloop label ...`, in this process: what it prints, and how it fails."""

import json
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from label_support import PASSWORD, SOURCE, comparison

from alignloop import cli
from alignloop.evaluate.compare import people_instead
from alignloop.label.commands import check_binding
from alignloop.label.new_items import NewItem, items_of_file
from alignloop.label.store import accounts, tokens
from alignloop.label.store.database import FILE, open_database

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `alignloop label WORDS --project DIR`; its exit code and what it printed."""

    def call(*words: str) -> tuple[int, str, str]:
        code = 0
        try:
            cli.main(["label", *words, "--project", str(tmp_path / "project")])
        except SystemExit as end:
            code = int(end.code or 0)
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    return call


def test_from_nothing_to_items_and_people(run: Run, tmp_path: Path) -> None:
    assert run("project", "add", "demo", "--title", "Demo") == (0, "demo\n", "")
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(comparison(n).model_dump_json() for n in range(3)), encoding="utf-8")
    code, out, _ = run("import", str(file), "--batch", "one", "--overlap", "2")
    assert (code, out) == (0, "added: 3, already there: 0, refused: 0\n")
    assert run("import", str(file), "--batch", "one")[1].startswith("added: 0, already there: 3")
    assert run("batch", "list")[1] == "one\t3 items\toverlap 2\topen\n"
    assert run("batch", "close", "one")[1] == "demo/one\n"
    assert run("batch", "list")[1].endswith("closed\n")
    code, out, _ = run("user", "add", "ann", "--url", "https://label.example")
    link = re.match(r"https://label\.example/invite/([\w-]{43})\n", out)
    assert link
    database = open_database(tmp_path / "project")
    with database.transaction() as session:
        accounts.accept(session, link[1], "", PASSWORD)
    assert run("user", "list")[1] == "ann\tannotator\tactive\n"
    secret = run("token", "add", "ann")[1].strip()
    assert tokens.whose(database, secret) is not None
    assert run("token", "revoke", run("token", "list")[1].split("\t")[0])[0] == 0
    assert tokens.whose(database, secret) is None
    assert run("user", "disable", "ann")[1] == "ann\n"
    assert run("user", "list")[1] == "ann\tannotator\tdisabled\n"
    database.close()


def test_the_commands_that_evaluate_prints(run: Run, tmp_path: Path) -> None:
    """evaluate/answers.jsonl as it is: blind, with who said it; equal answers ask nothing."""
    rows = [
        {
            "set": "prompts",
            "prompt": comparison(n).prompt.model_dump(mode="json"),
            "sft": {"response": f"answer {n}", "num_tokens": 2, "score": 0.5},
            "policy": {"response": said, "num_tokens": 2, "score": 0.5},
            "base": {"response": "what it said before", "num_tokens": 4, "score": 0.1},
        }
        for n, said in enumerate(("better 0", "better 1", "answer 2", ""))
    ]
    folder = tmp_path / "evaluate"
    folder.mkdir()
    file = folder / "answers.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    printed = people_instead(tmp_path).splitlines()[1:]
    commands = [line.split()[2:] for line in printed]
    assert [line.split()[:2] for line in printed] == [["alignloop", "label"]] * 3
    assert {words[-2:][0] for words in commands} == {"--project"}
    add, importing, serve = (words[:-2] for words in commands)
    assert run(*add)[0] == 0
    assert run(*importing)[:2] == (0, "added: 2, already there: 0, refused: 0\n")
    assert serve == ["serve"]
    items = [item for item in items_of_file(file) if isinstance(item, NewItem)]
    for n, item in enumerate(items):
        said = {one.text: item.models[one.response_id] for one in item.comparison.responses}
        assert said == {f"answer {n}": "sft", f"better {n}": "policy"}


def test_a_damaged_evaluation_is_refused_by_line(run: Run, tmp_path: Path) -> None:
    run("project", "add", "demo")
    file = tmp_path / "answers.jsonl"
    row = {"prompt": {"prompt_id": 3}, "sft": {"response": "a"}, "policy": {"response": "b"}}
    file.write_text(json.dumps(row) + "\n", encoding="utf-8")
    code, out, err = run("import", str(file), "--batch", "one")
    assert "refused: 1" in out and code != 0
    assert "answers.jsonl:1" in err


def test_refused_rows_are_told_and_the_exit_code_is_1(run: Run, tmp_path: Path) -> None:
    run("project", "add", "demo")
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{comparison(0).model_dump_json()}\n{{broken\n", encoding="utf-8")
    code, out, err = run("import", str(file), "--batch", "one")
    assert (code, out) == (1, "added: 1, already there: 0, refused: 1\n")
    assert f"{file}:2: broken JSON" in err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["serve", "--host", "0.0.0.0"], "--behind-tls"),
        (["serve", "--host", "::"], "--behind-tls"),
        (["serve", "--host", "nowhere"], "this is not an IP address"),
        (["serve", "--port", "70000"], "the port cannot be opened"),
        (["batch", "list"], "create one: alignloop label project add"),
        (["user", "disable", "nobody"], "there is no such user"),
        (["token", "add", "nobody"], "there is no such user"),
        (["token", "revoke", "7"], "there is no such token"),
        (["project", "add", "Not A Slug"], "small letters"),
        (["import", "missing.jsonl", "--batch", "x"], "error: "),
    ],
)
def test_errors_say_what_to_do_and_exit_with_2(run: Run, words: list[str], problem: str) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert problem in err
    assert "Traceback" not in err


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", "postgresql://127.0.0.1:1/x"])
def test_a_database_that_is_none_is_told(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["label", "project", "list", "--database", url])
    assert end.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.9"])
def test_loopback_needs_no_tls(host: str) -> None:
    check_binding(host, behind_tls=False)
    check_binding("0.0.0.0", behind_tls=True)


def test_the_database_is_for_its_owner_alone(run: Run, tmp_path: Path) -> None:
    run("project", "add", "demo")
    folder = tmp_path / "project"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in folder.glob(f"{FILE}*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_each_project_has_a_secret_of_its_own(run: Run, tmp_path: Path) -> None:
    from alignloop.label.store.projects import list_projects

    run("project", "add", "one")
    run("project", "add", "two")
    database = open_database(tmp_path / "project")
    with database.reading() as session:
        secrets = {project.secret for project in list_projects(session)}
    database.close()
    assert len(secrets) == 2
    assert {len(secret) for secret in secrets} == {64}


def test_the_parser_loads_no_web_framework() -> None:
    code = "import sys, alignloop.cli as c; c.make_parser(); print({'fastapi', 'sqlalchemy', "
    code += "'uvicorn', 'alembic', 'argon2', 'pydantic'} & set(sys.modules))"
    environment: dict[str, str] = {"PYTHONPATH": str(SOURCE), "PATH": ""}
    words: Sequence[str] = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
