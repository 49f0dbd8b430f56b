"""`alignloop label sample` with tiny models: deterministic, resumed, filed once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from alignloop import cli
from alignloop.acquisition import answers as answers_module
from alignloop.acquisition.answers import Policy, Sampling, sample_answers
from alignloop.errors import UserError
from alignloop.label.store.database import open_database
from alignloop.label.store.tables import Batch, ItemRow, ResponseRow
from alignloop.records import Prompt


@pytest.fixture
def sampling(lm_dirs: dict[str, Path]) -> Callable[..., Sampling]:
    def make(**changes: Any) -> Sampling:
        policies = tuple(Policy(name=name, path=str(lm_dirs[name])) for name in ("llama", "qwen2"))
        fields = {"policies": policies, "answers": 3, "temperatures": (1.0, 0.5)}
        return Sampling(**{**fields, "max_new_tokens": 6, **changes})

    return make


@pytest.mark.slow
def test_policies_and_temperatures_take_turns(sampling: Callable[..., Sampling]) -> None:
    slots = [(policy.name, heat) for policy, heat in sampling(answers=5).slots()]
    four = [("llama", 1.0), ("qwen2", 1.0), ("llama", 0.5), ("qwen2", 0.5)]
    assert slots == [*four, four[0]]
    for answers in (1, 10):
        with pytest.raises(UserError, match="between 2 and 9"):
            sampling(answers=answers)


def test_answers_are_the_same_again_and_go_on_where_they_stopped(
    sampling: Callable[..., Sampling],
    prompts: list[Prompt],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answers_module, "CHUNK_SIZE", 4)
    whole = sample_answers(sampling(), prompts, tmp_path / "a")
    assert len(whole) == 3 * len(prompts)
    assert [one.model for one in whole[:3]] == ["llama", "qwen2", "llama"]
    assert [one.settings["temperature"] for one in whole[:3]] == [1.0, 1.0, 0.5]
    # a kill after two parts: the kept file has two whole lines and a torn one
    (file,) = (tmp_path / "a").iterdir()
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == 9
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / file.name).write_bytes(b"".join(lines[:2]) + lines[2][:20])
    assert sample_answers(sampling(), prompts, tmp_path / "b") == whole
    # nothing is sampled that is there: no model is loaded at all
    monkeypatch.setattr(answers_module, "load_policy", None)
    assert sample_answers(sampling(), prompts, tmp_path / "b") == whole
    with pytest.raises(TypeError):  # another seed is another file
        sample_answers(sampling(seed=1), prompts, tmp_path / "b")


@pytest.fixture
def command(
    lm_dirs: dict[str, Path], reward_dirs: dict[str, Path], prompts: list[Prompt], tmp_path: Path
) -> Callable[..., list[str]]:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(one.model_dump_json() + "\n" for one in prompts), encoding="utf-8")

    def make(*more: str, batch: str = "first") -> list[str]:
        words = ["label", "sample", "--project", str(tmp_path / "project"), "--batch", batch]
        words += ["--policy", f"a={lm_dirs['llama']}", "--policy", f"b={lm_dirs['qwen2']}"]
        return [*words, "--prompts", str(file), "--max-new-tokens", "6", "--answers", "4", *more]

    return make


@pytest.mark.slow
@pytest.mark.parametrize("how", ["random", "uncertain", "ensemble", "coverage"])
def test_the_command_files_what_it_chose_once(
    how: str, command: Callable[..., list[str]], reward_dirs: dict[str, Path], tmp_path: Path
) -> None:
    models = ["--reward-model", str(reward_dirs["llama"])] * (how != "random")
    models += ["--reward-model", str(reward_dirs["qwen2"])] * (how == "ensemble")
    words = command("--choose", how, "--count", "6", "--overlap", "2", *models)
    cli.main(words)
    before = filed(tmp_path / "project")
    assert len(before) == 6
    for item in before:
        assert (item["why"], item["batch"], item["wanted"]) == (how, "first", 2)
        assert set(item["models"]) <= {"a", "b"}
    if how == "uncertain":
        doubts = [item["detail"]["distance"] for item in before]
        assert sorted(item["detail"]["place"] for item in before) == [1, 2, 3, 4, 5, 6]
        assert max(doubts) <= 0.5
    cli.main(words)
    assert filed(tmp_path / "project") == before


@pytest.mark.parametrize(
    ("option", "value"),
    [("--count", "-1"), ("--per-prompt", "0"), ("--overlap", "x"), ("--temperature", "-1")],
)
def test_a_number_that_makes_no_sense_is_refused_before_anything_is_loaded(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["label", "sample", "--project", str(tmp_path / "none"), "--policy", "DIR"]
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--prompts", "FILE", option, value])
    told = capsys.readouterr().err
    assert ended.value.code == 2 and option in told and value in told
    assert not (tmp_path / "none").exists()


def filed(project: Path) -> list[dict[str, Any]]:
    """What stands in the database, by comparison."""
    database = open_database(project)
    with database.reading() as session:
        rows = session.execute(
            select(ItemRow, Batch.name).join(Batch, Batch.id == ItemRow.batch_id)
        ).all()
        models = {
            row.prompt_id: sorted(
                {
                    r.model
                    for r in session.scalars(
                        select(ResponseRow).where(ResponseRow.prompt_id == row.prompt_id)
                    )
                }
            )
            for row, _ in rows
        }
        found = [
            {
                "key": item.comparison_key,
                "why": item.why,
                "detail": item.why_detail,
                "wanted": item.wanted,
                "batch": name,
                "models": models[item.prompt_id],
            }
            for item, name in rows
        ]
    database.close()
    return sorted(found, key=lambda one: str(one["key"]))


def test_a_ranking_project_gets_all_answers_at_once(
    command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(command("--kind", "ranking"))
    assert "chosen (random)" in capsys.readouterr().out
    database = open_database(tmp_path / "project")
    with database.reading() as session:
        kinds = set(session.scalars(select(ItemRow.kind)))
    database.close()
    assert kinds == {"ranking"}
    kept = list((tmp_path / "project" / "sampled").iterdir())
    assert len(kept) == 1
    assert json.loads(kept[0].read_text().splitlines()[0])["slot"] == 0
