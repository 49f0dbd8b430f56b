"""Who judges, what is trained for it, and which prompts were taught."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from alignloop.config import Recipe
from alignloop.errors import UserError
from alignloop.judge_choice import (
    check_judge,
    doubts_about_reward,
    doubts_about_validation,
    judge_of,
    learnt_from,
    model_of,
)
from alignloop.judging.of_run import RewardModels, has_reward_stage, trained
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
    gold = {"evaluate": {"prompts": "playground", "judge": "playground"}}
    assert trained(recipe(**gold)) == ("reward_held_out", "reward")
    assert trained(recipe(**MINE)) == ("reward_held_out", "reward_judge", "reward")
    named = {"evaluate": {"prompts": "held.jsonl", "judge": "models/judge"}}
    assert trained(recipe(**named)) == ("reward_held_out", "reward")
    assert trained(recipe(**MINE, reward={"held_out_model": False})) == ("reward",)


def test_the_most_independent_model_judges_and_says_what_else_it_did(tmp_path: Path) -> None:
    climbed = add_model(tmp_path / "reward", 0.7)
    facts = judge_of(recipe(**MINE), tmp_path)[1]
    assert (facts.name, facts.climbed, facts.chose_checkpoint) == ("reward model", True, True)
    assert facts.source == str(climbed)
    chooser = add_model(tmp_path / "reward_held_out", 0.71)
    facts = judge_of(recipe(**MINE), tmp_path)[1]
    found = (facts.name, facts.climbed, facts.chose_checkpoint)
    assert found == ("held-out reward model", False, True) and facts.source == str(chooser)
    judge = add_model(tmp_path / "reward_judge", 0.72)
    facts = judge_of(recipe(**MINE), tmp_path)[1]
    found = (facts.name, facts.climbed, facts.chose_checkpoint)
    assert found == ("judge reward model", False, False) and facts.source == str(judge)
    assert facts.card is not None and facts.card["accuracy"] == 0.72
    named = add_model(tmp_path / "elsewhere")
    evaluate = {"evaluate": {"prompts": "held.jsonl", "judge": str(named)}}
    facts = judge_of(recipe(**evaluate), tmp_path)[1]
    assert facts.name == f"reward model {named}" and facts.card is None
    asked = {"evaluate": {"prompts": "held.jsonl", "judge": "held_out_reward_model"}}
    facts = judge_of(recipe(**asked), tmp_path)[1]
    assert (facts.source, facts.chose_checkpoint) == (str(chooser), True)
    assert model_of(recipe(**asked), tmp_path) == chooser
    gold = recipe(evaluate={"judge": "playground"})
    make, facts = judge_of(gold, tmp_path)
    assert facts.kind == "gold" and make().facts == facts and model_of(gold, tmp_path) is None


def test_what_an_earlier_reward_stage_learnt_chooses_nothing_for_another_reward(
    tmp_path: Path,
) -> None:
    add_model(tmp_path / "reward")
    add_model(tmp_path / "reward_held_out")
    found = RewardModels.of(recipe(rl={"rewards": "mine:score"}), tmp_path)
    assert (found.climbed, found.chooser, found.judge) == (None, None, None)


def test_models_that_are_planned_count_as_there(tmp_path: Path) -> None:
    found = RewardModels.of(recipe(**MINE), tmp_path, planned=trained(recipe(**MINE)))
    assert found.best == tmp_path / "reward_judge" / "model"
    assert found.chooser == tmp_path / "reward_held_out" / "model"


def test_nobody_to_judge_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no judge is available") as caught:
        judge_of(recipe(**MINE), tmp_path)
    assert "alignloop reward" in caught.value.fix


def test_the_function_that_rl_climbed_judges_if_nobody_else_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ours_to_judge.py").write_text("def half(p, r): return [0.5 for _ in r]\n")
    monkeypatch.syspath_prepend(tmp_path)
    own = recipe(**MINE, rl={"rewards": "ours_to_judge:half"})
    make, facts = judge_of(own, tmp_path)
    assert (facts.name, facts.kind, facts.climbed) == (
        "function ours_to_judge:half",
        "function",
        True,
    )
    assert make().facts.name == facts.name and not facts.chose_checkpoint
    other = recipe(evaluate={"prompts": "h", "judge": "ours_to_judge:half"})
    assert not judge_of(other, tmp_path)[1].climbed


def test_a_run_without_any_judge_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once begun its settings are fixed, and the evaluation could never be had."""
    (tmp_path / "ours_to_climb.py").write_text("def half(p, r): return [0.5 for _ in r]\n")
    monkeypatch.syspath_prepend(tmp_path)
    for rewards in ("ours_to_climb:half", "reward_model", ["1 * a", "1 * reward_model"]):
        check_judge(recipe(**MINE, rl={"rewards": rewards}), tmp_path)
    check_judge(recipe(evaluate={"judge": "playground", "prompts": "playground"}), tmp_path)
    with pytest.raises(UserError, match="can only judge that world's prompts"):
        check_judge(recipe(evaluate={"judge": "playground", "prompts": "mine.jsonl"}), tmp_path)
    alone = {"rl": {"rewards": "ours_to_climb:half"}, "reward": {"held_out_model": False}}
    for name in ("held_out_reward_model", "judge_reward_model"):
        with pytest.raises(UserError, match=f"do not train the {name}"):
            check_judge(recipe(**alone, evaluate={"judge": name}), tmp_path)
    add_model(tmp_path / "reward_held_out")
    check_judge(recipe(**alone, evaluate={"judge": "held_out_reward_model"}), tmp_path)
    for name, problem in (("nowhere", "no model found here"), ("nowhere:f", "no module")):
        with pytest.raises(UserError, match=problem):
            check_judge(recipe(evaluate={"judge": name}), tmp_path)


def test_reward_models_are_trained_for_a_reward_or_a_judge() -> None:
    """Also to look after a reward model from elsewhere, if there are labels."""
    assert has_reward_stage(recipe())
    assert not has_reward_stage(recipe(rl={"rewards": "a:b"}))
    assert has_reward_stage(recipe(rl={"rewards": "a:b"}, evaluate={"judge": "judge_reward_model"}))
    assert not has_reward_stage(recipe(rl={"rewards": "models/x"}))
    assert has_reward_stage(recipe(rl={"rewards": "models/x"}, reward={"pairs": "p"}))
    assert not has_reward_stage(recipe(rl={"rewards": "a:b"}, reward={"pairs": "p"}))


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
    assert told.startswith("1 of 2 validation prompts are (nearly) training prompts")
    assert doubts_about_validation(mine, train, other) == ""
    assert doubts_about_validation(recipe(), train, train) == ""
