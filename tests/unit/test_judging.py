"""Who judges, what is trained for it, and which prompts were taught."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from alignloop.config import Recipe
from alignloop.errors import UserError
from alignloop.judging import (
    RewardModels,
    doubts_about_reward,
    doubts_about_validation,
    judge_of,
    learnt_from,
    trained,
)
from alignloop.records import Prompt

MakePrompt = Callable[..., Prompt]


def recipe(**sections: dict[str, Any]) -> Recipe:
    return Recipe.model_validate(sections)


MINE: dict[str, Any] = {"evaluate": {"prompts": "held.jsonl"}}


def add_model(folder: Path, accuracy: float | None = None) -> Path:
    """A directory that looks like a model, with a report card beside it."""
    model = folder / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}", encoding="utf-8")
    (model / "model.safetensors").write_bytes(b"")
    if accuracy is not None:
        card = {"accuracy": accuracy, "verdict": {"ready": accuracy > 0.6, "reasons": ["weak"]}}
        (folder / "report_card.json").write_text(json.dumps(card), encoding="utf-8")
    return model


def test_a_judge_is_trained_where_nobody_else_judges() -> None:
    assert trained(recipe()) == ("reward_held_out", "reward")  # the gold judge judges
    assert trained(recipe(**MINE)) == ("reward_held_out", "reward_judge", "reward")
    named = {"evaluate": {"prompts": "held.jsonl", "reward_model": "judge"}}
    assert trained(recipe(**named)) == ("reward_held_out", "reward")
    assert trained(recipe(**MINE, reward={"held_out_model": False})) == ("reward",)


def test_the_most_independent_model_judges_and_says_what_else_it_did(tmp_path: Path) -> None:
    climbed = add_model(tmp_path / "reward", 0.7)
    facts = judge_of(recipe(**MINE), "held.jsonl", tmp_path)[1]
    assert (facts.name, facts.climbed, facts.chose_checkpoint) == (
        f"reward model {climbed}",
        True,
        True,
    )
    chooser = add_model(tmp_path / "reward_held_out", 0.71)
    facts = judge_of(recipe(**MINE), "held.jsonl", tmp_path)[1]
    assert (facts.name, facts.climbed, facts.chose_checkpoint) == (
        f"reward model {chooser}",
        False,
        True,
    )
    judge = add_model(tmp_path / "reward_judge", 0.72)
    facts = judge_of(recipe(**MINE), "held.jsonl", tmp_path)[1]
    assert (facts.name, facts.climbed, facts.chose_checkpoint) == (
        f"reward model {judge}",
        False,
        False,
    )
    assert facts.card is not None and facts.card["accuracy"] == 0.72
    named = add_model(tmp_path / "elsewhere")
    evaluate = {"evaluate": {"prompts": "held.jsonl", "reward_model": str(named)}}
    facts = judge_of(recipe(**evaluate), "held.jsonl", tmp_path)[1]
    assert facts.name == f"reward model {named}" and facts.card is None
    assert judge_of(recipe(), "playground", tmp_path)[1].kind == "gold"


def test_what_an_earlier_reward_stage_learnt_chooses_nothing_for_another_reward(
    tmp_path: Path,
) -> None:
    add_model(tmp_path / "reward")
    add_model(tmp_path / "reward_held_out")
    found = RewardModels.of(recipe(rl={"reward_function": "mine:score"}), tmp_path)
    assert (found.climbed, found.chooser, found.judge) == (None, None, None)


def test_models_that_are_planned_count_as_there(tmp_path: Path) -> None:
    found = RewardModels.of(recipe(**MINE), tmp_path, planned=trained(recipe(**MINE)))
    assert found.best == tmp_path / "reward_judge" / "model"
    assert found.chooser == tmp_path / "reward_held_out" / "model"


def test_nobody_to_judge_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nobody is there to judge") as caught:
        judge_of(recipe(**MINE), "held.jsonl", tmp_path)
    assert "alignloop reward" in caught.value.fix


def test_a_reward_model_that_is_not_ready_is_doubted(tmp_path: Path) -> None:
    weak, good = add_model(tmp_path / "a", 0.5), add_model(tmp_path / "b", 0.7)
    assert doubts_about_reward(str(weak)) == ["weak"]
    assert doubts_about_reward(str(good)) == []
    assert doubts_about_reward(str(add_model(tmp_path / "other"))) == []
    assert doubts_about_reward(None) == []


def write(path: Path, rows: Iterable[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_every_file_that_teaches_is_read_for_its_prompts(tmp_path: Path) -> None:
    told = write(tmp_path / "told.jsonl", [{"prompt": "a?", "response": "b"}])
    pairs = write(tmp_path / "pairs.jsonl", [{"prompt": "c?", "chosen": "d", "rejected": "e"}])
    asked = write(tmp_path / "asked.jsonl", [{"prompt": f"tea {n}?"} for n in range(40)])
    found = learnt_from(
        recipe(
            sft={"demonstrations": told},
            reward={"pairs": pairs},
            dpo={"pairs": pairs},
            rl={"prompts": asked},
            evaluate={"prompts": "held.jsonl"},
        )
    )
    assert {setting: len(prompts) for setting, prompts in found.items()} == {
        "sft.demonstrations": 1,
        "reward.pairs": 1,
        "dpo.pairs": 1,
        "rl.prompts": 40,
    }
    assert learnt_from(recipe()) == {}


def test_validation_prompts_that_are_learnt_from_are_told(
    make_prompt: MakePrompt, tmp_path: Path
) -> None:
    file = write(tmp_path / "asked.jsonl", [{"prompt": "how do I make tea?"}])
    train = [make_prompt("how do I make green tea at home")]
    other = [make_prompt("why is the sea salty")]
    mine = recipe(rl={"prompts": file}, sft={"demonstrations": file})
    told = doubts_about_validation(mine, train, [*train, *other])
    assert told.startswith("1 of 2 validation prompts are training prompts")
    assert doubts_about_validation(mine, train, other) == ""
    assert doubts_about_validation(recipe(), train, train) == ""
