"""From scores in a labelling project to a reward model with a head for each criterion."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from label_support import World, make_world

from alignloop.config import load_recipe
from alignloop.errors import UserError
from alignloop.label.store.database import open_database
from alignloop.label.store.importing import NewItem
from alignloop.label.store.tasks import LabelSchema
from alignloop.models.criteria_head import read_criteria_head
from alignloop.pipeline import Pipeline
from alignloop.records import Comparison, Message, Prompt, Response

pytestmark = pytest.mark.slow
CRITERIA = [
    {"key": "helpful", "name_en": "Helpful", "name_zh": "有帮助", "levels": 10},
    {"key": "correct", "name_en": "Correct", "name_zh": "正确"},
]
RECIPE = """\
name = "criteria"
num_threads = 1

[reward]
model = "{model}"
pairs = "label:{project}"
learning_rate = 5e-3
num_epochs = 6
batch_size = 16
criteria = ["helpful", "correct"]
criteria_weights = [0.6, 0.4]
held_out_model = false
"""


def question(number: int) -> NewItem:
    """Two answers, of which the one with "good" is the helpful one."""
    name = f"p{number}"
    prompt = Prompt(
        prompt_id=name, messages=(Message(role="user", content=f"how is tea {number}"),)
    )
    texts = "tea is good", "tea is bad"
    responses = tuple(Response(response_id=f"{name}-{n}", text=t) for n, t in enumerate(texts))
    return NewItem(
        comparison=Comparison(comparison_id=f"c{number}", prompt=prompt, responses=responses)
    )


def judge_all(world: World, user: int) -> None:
    """Helpful follows the word; correct is whatever the number of the question says."""
    while (task := world.claim(user)) is not None:
        good = next(one.id for one in task.answers if "good" in one.text)
        number = int(task.prompt[0].text.rpartition(" ")[2])
        scores = {
            one.id: {"helpful": 9 - user if one.id == good else 2, "correct": 1 + number % 5}
            for one in task.answers
        }
        world.submit(task, user, choice=good, strength=2, scores=scores)


def test_scores_become_heads_of_a_reward_model(tmp_path: Path, lm_dirs: dict[str, Path]) -> None:
    project = tmp_path / "project"
    schema = LabelSchema.model_validate({"criteria": CRITERIA})
    with closing(open_database(project)) as database:
        world = make_world(
            database, [question(n) for n in range(40)], users=2, overlap=2, schema=schema
        )
        for user in range(2):
            judge_all(world, user)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(model=lm_dirs["llama"], project=project))
    run = Pipeline(load_recipe(recipe), tmp_path / "run")
    model = run.reward()
    lines = (tmp_path / "run/labels/attributes.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [json.loads(line) for line in lines]
    assert len(kept) == 80
    good = next(row for row in kept if row["response"] == "tea is good")
    assert good["by_annotator"]["ann0"]["helpful"] - good["by_annotator"]["ann1"]["helpful"] == 1
    assert good["helpful"] == 8.5
    card: dict[str, Any] = json.loads((tmp_path / "run/reward/report_card.json").read_text())
    assert card["criteria"]["helpful"]["correlation"]["low"] > 0.8
    assert card["criteria"]["correct"]["num"] == card["criteria"]["helpful"]["num"]
    found = read_criteria_head(model)
    assert found is not None
    assert found[0].names == ("helpful", "correct")
    assert found[0].weights == (0.6, 0.4)
    # the same again, and nothing is done again
    before = (model / "criteria.safetensors").stat().st_mtime_ns
    Pipeline(load_recipe(recipe), tmp_path / "run").reward()
    assert (model / "criteria.safetensors").stat().st_mtime_ns == before


def test_criteria_need_scores(tmp_path: Path, lm_dirs: dict[str, Path]) -> None:
    recipe = tmp_path / "recipe.toml"
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "Q", "chosen": "a", "rejected": "b"}\n')
    text = RECIPE.format(model=lm_dirs["llama"], project="x").replace('"label:x"', f'"{pairs}"')
    recipe.write_text(text)
    with pytest.raises(UserError, match=r"need scores to learn from"):
        Pipeline(load_recipe(recipe), tmp_path / "run").reward()
