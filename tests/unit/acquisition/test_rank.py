"""`alignloop label rank`: what is worth labelling, scored once, and ranked again in time."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from label_support import items, make_world

from alignloop.acquisition.candidates import Answered, Candidate, candidates
from alignloop.acquisition.rank_command import Scorer, how, rank, watch
from alignloop.acquisition.select import worth
from alignloop.errors import UserError
from alignloop.label.store.database import open_database
from alignloop.label.store.ranking import open_items
from alignloop.records import Message, Prompt


def pair(*texts: str, **scores: tuple[float, ...]) -> Candidate:
    """Two answers in the order of the candidate, with scores by model."""
    prompt = Prompt(prompt_id="p", messages=(Message(role="user", content="?"),))
    (one,) = candidates(
        [Answered(prompt=prompt, text=text, model="m", settings={}) for text in texts],
        ranking=False,
    )
    by_text = {name: dict(zip(texts, found, strict=True)) for name, found in scores.items()}
    ordered = {n: tuple(v[a.text] for a in one.answers) for n, v in by_text.items()}
    return Candidate(comparison=one.comparison, answers=one.answers, scores=ordered)


def test_what_is_worth_labelling() -> None:
    even, clear = pair("a", "b", m=(1.0, 1.0)), pair("a", "b", m=(5.0, 0.0))
    assert worth(even, "uncertain")[0] == 0.0 > worth(clear, "uncertain")[0]
    agree = pair("a", "b", m=(1.0, 0.0), n=(1.0, 0.0))
    differ = pair("a", "b", m=(3.0, 0.0), n=(0.0, 3.0))
    assert worth(agree, "ensemble")[0] == 0.0 < worth(differ, "ensemble")[0]


def test_the_probe_of_length_finds_sure_preferences_for_the_longer() -> None:
    long = "x" * 30
    assert worth(pair(long, "x", m=(50.0, 0.0)), "length")[0] == pytest.approx(1 - 1 / 30)
    assert worth(pair(long, "x", m=(0.0, 50.0)), "length")[0] == 0.0  # the shorter one is preferred
    assert worth(pair("ab", "cd", m=(50.0, 0.0)), "length")[0] == 0.0  # none is longer


def test_ways_need_their_models() -> None:
    def asked(by: str | None, *models: str) -> argparse.Namespace:
        return argparse.Namespace(by=by, reward_model=list(models))

    assert how(asked(None, "a")) == "uncertain"
    assert how(asked(None, "a", "b")) == "ensemble"
    assert how(asked("length", "a", "b")) == "length"
    with pytest.raises(UserError, match="two reward models"):
        how(asked("ensemble", "a"))


class Scores:
    """A reward model that prefers what ends in a small number, and counts what it reads."""

    def __init__(self) -> None:
        self.read = 0

    def __call__(self, new: Sequence[Candidate], names: Sequence[str]) -> list[Candidate]:
        self.read += len(new)
        return [
            Candidate(
                comparison=one.comparison,
                answers=one.answers,
                scores={names[0]: tuple(float(len(a.text)) for a in one.answers)},
            )
            for one in new
        ]


def test_ranking_again_scores_only_what_is_new(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_text("one")
    database = open_database(tmp_path / "project")
    here = make_world(database, items(12))
    scores = Scores()
    scorer = Scorer(models=(str(model),), score=scores)
    given: dict[str, Any] = {"control": 0.0, "seed": 0}
    assert rank(database, here.project_id, scorer, "uncertain", **given) == (12, 0)
    assert scores.read == 12
    with database.reading() as session:
        first = {one.item_id for one in open_items(session, here.project_id)}
    here.work(at_most=4)
    here.file(items(8, start=50))
    told: list[tuple[int, int]] = []

    def once() -> None:
        told.append(rank(database, here.project_id, scorer, "uncertain", **given))

    class Enough(Exception):
        pass

    def wait(_: float) -> None:
        if told:
            raise Enough
        here.work(at_most=2)

    with pytest.raises(Enough):
        watch(database, here.project_id, 4, once, wait=wait)
    assert len(told) == 1
    with database.reading() as session:
        still_open = open_items(session, here.project_id)
    assert told[0][0] == len(still_open)
    new = [one for one in still_open if one.item_id not in first]
    assert scores.read == 12 + len(new)
    database.close()


@pytest.mark.slow
def test_the_command_ranks_with_a_model(
    reward_dirs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from alignloop import cli

    database = open_database(tmp_path / "project")
    make_world(database, items(6))
    database.close()
    words = ["label", "rank", "--project", str(tmp_path / "project"), "--control", "0.5"]
    cli.main([*words, "--reward-model", str(reward_dirs["llama"])])
    assert "6 open items ranked (uncertain)" in capsys.readouterr().out
