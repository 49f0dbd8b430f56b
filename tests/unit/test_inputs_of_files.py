"""Where a stage's records come from: refused rows are kept, held-out prompts left out."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alignloop import inputs
from alignloop.config import Recipe, to_toml
from alignloop.config.load import load_recipe
from alignloop.errors import UserError
from alignloop.run import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    with RunFolder.create(tmp_path / "run") as made:
        yield made


@pytest.fixture
def rows_file(tmp_path: Path) -> Callable[..., str]:
    def write(name: str, *rows: dict[str, Any]) -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return write


def recipe(**settings: Any) -> Recipe:
    return Recipe.model_validate({"sft": {"demonstrations": "mine"}, **settings})


ROWS = [{"prompt": f"question {n}", "response": "a", "chosen": "a", "rejected": "b"} for n in "xyz"]


def test_refused_rows_stop_or_are_kept_in_the_run_folder(
    folder: RunFolder, rows_file: Callable[..., str]
) -> None:
    file = rows_file("d.jsonl", *ROWS, {"prompt": "q", "response": ""})
    with pytest.raises(UserError, match='"response" is empty'):
        inputs.demonstrations(recipe(), file, folder)
    assert not (folder.path / "refused.jsonl").exists()
    found, _ = inputs.demonstrations(recipe(skip_refused=True), file, folder)
    assert len(found) == 3
    (line,) = (folder.path / "refused.jsonl").read_text().splitlines()
    assert (json.loads(line)["line"], json.loads(line)["row"]["prompt"]) == (4, "q")


def test_excluded_prompts_are_learnt_from_by_no_stage(
    folder: RunFolder, rows_file: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    held = rows_file("held.jsonl", {"prompt": "Question Y?"})
    file = rows_file("d.jsonl", *ROWS)
    settings = recipe(
        data={"exclude": held}, rl={"validation_prompts": file}, reward={"pairs": file}
    )
    with caplog.at_level(logging.WARNING):
        demonstrations, _ = inputs.demonstrations(settings, file, folder)
    pairs, _ = inputs.preference_pairs(settings, "reward.pairs", file, Path("m"), folder)
    prompts, validation = inputs.rl_prompts(settings, file, folder)
    assert "sft.demonstrations: left out 1 of 3 records, held out" in caplog.text
    for found in ([d.prompt for d in demonstrations], [p.prompt for p in pairs], prompts):
        assert [prompt.text for prompt in found] == ["question x", "question z"]
    # What is only looked at stays whole.
    assert len(validation) == len(inputs.evaluation_sets(settings, file, folder)["prompts"]) == 3


PLAYGROUND = "playground"


def test_the_playground_leaves_out_excluded_prompts_too(
    folder: RunFolder, rows_file: Callable[..., str]
) -> None:
    train, held_out = inputs.demonstrations(Recipe(), PLAYGROUND, folder)
    held = rows_file("held.jsonl", {"prompt": train[0].prompt.text})
    settings = Recipe.model_validate({"data": {"exclude": [held], "near_duplicate": 1.0}})
    fewer, same = inputs.demonstrations(settings, PLAYGROUND, folder)
    assert train[0].prompt.text not in {one.prompt.text for one in fewer}
    assert 0 < len(train) - len(fewer) < 20 and same == held_out


def test_everything_excluded_is_an_error(folder: RunFolder, rows_file: Callable[..., str]) -> None:
    file = rows_file("d.jsonl", *ROWS)
    with pytest.raises(UserError, match="all prompts are held out"):
        inputs.demonstrations(recipe(data={"exclude": file}), file, folder)


def test_splits_of_a_file_do_not_depend_on_the_seed_of_the_run(
    folder: RunFolder, rows_file: Callable[..., str]
) -> None:
    file = rows_file("p.jsonl", *[{"prompt": f"question number {n}"} for n in range(60)])
    one, other = (inputs.rl_prompts(recipe(seed=seed), file, folder) for seed in (1, 2))
    assert one == other
    moved = inputs.rl_prompts(recipe(data={"split_seed": 1}), file, folder)
    assert moved != one
    assert inputs.split_seed(recipe(seed=7), PLAYGROUND) == 7


def test_one_id_for_a_prompt_to_learn_from_and_another_to_look_at_is_refused(
    folder: RunFolder, rows_file: Callable[..., str]
) -> None:
    """A reward of texts finds its prompt by the id: it would score answers to another question."""
    train = rows_file("train.jsonl", {"prompt_id": "1", "prompt": "What is tea?"})
    seen = rows_file("seen.jsonl", {"prompt_id": "1", "prompt": "What is rain?"})
    with pytest.raises(UserError, match='prompt_id "1" names two different prompts') as caught:
        inputs.rl_prompts(recipe(rl={"validation_prompts": seen}), train, folder)
    assert caught.value.where == f"{train} and {seen}"
    both, same = inputs.rl_prompts(recipe(rl={"validation_prompts": train}), train, folder)
    assert both == same


def test_exclude_is_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    for given in ((), ("a.jsonl",), ('with "quotes".jsonl', "b.jsonl")):
        path.write_text(to_toml(recipe(name="r", data={"exclude": given})), encoding="utf-8")
        assert load_recipe(path).data.exclude == given
    assert load_recipe(path, {"data.exclude": "c.jsonl"}).data.exclude == ("c.jsonl",)
    assert load_recipe(path, {"data.exclude": '["c", "d"]'}).data.exclude == ("c", "d")
    assert load_recipe(path, {"data.exclude": "none"}).data.exclude == ()


BOTH = {"prompt": "a", "response": "b", "instruction": "c", "input": "", "output": "d"}
BOTH_PAIRS = {"prompt": "a", "chosen": "b", "rejected": "c", "chosen_safe": "d"}


def test_a_format_may_be_forced(folder: RunFolder, rows_file: Callable[..., str]) -> None:
    """Rows that fit two formats are read as the one that is named, by every stage."""
    rows = [{**BOTH, "prompt": f"a {n}", "instruction": f"c {n}", "goal": f"g {n}"} for n in "xyz"]
    pairs = [{**BOTH_PAIRS, "prompt": f"a {n}", "rejected_unsafe": "e"} for n in "xyz"]
    file, pairs_file = rows_file("rows.jsonl", *rows), rows_file("pairs.jsonl", *pairs)
    forced = recipe(
        sft={"demonstrations": "mine", "format": "alpaca"},
        reward={"format": "jade"},
        dpo={"format": "trl-preference"},
        rl={"format": "advbench", "validation_prompts": file},
        evaluate={"format": "prompt"},
    )
    found, _ = inputs.demonstrations(forced, file, folder)
    assert [d.response for d in found] == ["d"] * 3
    chosen = {
        name: inputs.preference_pairs(forced, name, pairs_file, folder.path, folder)[0][0].chosen
        for name in ("reward.pairs", "dpo.pairs")
    }
    assert chosen == {"reward.pairs": "d", "dpo.pairs": "b"}
    train, validation = inputs.rl_prompts(forced, file, folder)
    assert [p.messages[0].content for p in (*train, *validation)] == ["g x", "g y", "g z"] * 2
    asked = inputs.evaluation_sets(forced, file, folder)["prompts"]
    assert [p.messages[0].content for p in asked] == ["a x", "a y", "a z"]


def test_an_unknown_format_is_refused_with_those_that_are_known(
    folder: RunFolder, rows_file: Callable[..., str]
) -> None:
    forced = recipe(sft={"demonstrations": "mine", "format": "alpakka"})
    with pytest.raises(UserError, match='no format is named "alpakka"'):
        inputs.demonstrations(forced, rows_file("rows.jsonl", BOTH), folder)


NAMED = {
    "model": {"path": "m"},
    "sft": {"demonstrations": "d"},
    "reward": {"pairs": "p"},
    "rl": {"prompts": "q"},
    "evaluate": {"prompts": "h"},
}


def test_a_recipe_that_names_no_data_is_told_all_that_is_missing() -> None:
    with pytest.raises(UserError, match="no data given for") as caught:
        inputs.require_named(inputs.named_in(Recipe()))
    wanted = "model.path, sft.demonstrations, reward.pairs, rl.prompts, evaluate.prompts"
    assert wanted in caught.value.problem
    assert "--rl.prompts FILE" in caught.value.fix and "playground" in caught.value.fix
    inputs.require_named(inputs.named_in(Recipe.model_validate(NAMED)))


@pytest.mark.parametrize("section", NAMED)
def test_each_one_is_told_by_itself(section: str) -> None:
    settings = {name: keys for name, keys in NAMED.items() if name != section}
    with pytest.raises(UserError, match=f"no data given for: {section}[.][a-z]*$"):
        try:
            inputs.require_named(inputs.named_in(Recipe.model_validate(settings)))
        except UserError as error:
            raise UserError(error.problem) from None


def test_what_a_run_does_not_read_need_not_be_named() -> None:
    """A function as reward: no pairs. "none": no SFT."""
    settings = {**NAMED, "reward": {}, "sft": {"demonstrations": None}, "rl": {"prompts": "q"}}
    settings["rl"] = {"prompts": "q", "rewards": "mine:length"}
    inputs.require_named(inputs.named_in(Recipe.model_validate(settings)))


def test_a_stage_by_itself_wants_its_own_data(folder: RunFolder) -> None:
    with pytest.raises(UserError, match="no data given for: rl"):
        inputs.rl_prompts(Recipe(), "", folder)
    with pytest.raises(UserError, match="no data given for: evaluate"):
        inputs.evaluation_sets(Recipe(), "", folder)
    with pytest.raises(UserError, match="no data given for: reward"):
        inputs.preference_pairs(Recipe(), "reward.pairs", "", folder.path, folder)


def test_demonstrations_set_the_zero_of_pairs_of_their_own_world() -> None:
    mine, world = recipe(), recipe(sft={"demonstrations": PLAYGROUND})
    assert inputs.zero_source(mine, "pairs.jsonl") == "mine"
    assert inputs.zero_source(mine, PLAYGROUND) is None
    assert inputs.zero_source(world, PLAYGROUND) == PLAYGROUND
    assert inputs.zero_source(world, "pairs.jsonl") is None
    assert inputs.zero_source(recipe(sft={"demonstrations": None}), "pairs.jsonl") is None
