"""What the recipes' READMEs say is what `alignloop plan` prints, and it fits the machines."""

import json
from pathlib import Path

import pytest

from alignloop.cli import main
from alignloop.config import load_recipe
from alignloop.config.load import check_recipe
from alignloop.plan.memory import Shape
from alignloop.plan.speed import Speed, seconds_per_step
from alignloop.plan.stages import rl_roles, stage_plans

ROOT = Path(__file__).parents[3]
CARDS = {"laptop-0.5b": 8, "24gb-7b-lora": 24, "80gb-14b-lora": 80, "80gb-7b-full": 80}
SHAPE = Shape(
    family="llama",
    parameters=1000,
    head=0,
    linear=900,
    layers=2,
    hidden=10,
    mlp=20,
    heads=2,
    queries=10,
    keys=10,
    vocabulary=10,
    adapter_inputs=50,
    adapter_width=100,
)


@pytest.mark.parametrize("name", CARDS)
def test_the_readme_shows_what_the_command_prints_and_it_fits(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenth of the card and 1 GiB are left to what the formula does not know."""
    monkeypatch.chdir(ROOT)
    folder = Path("recipes") / name
    config = next(folder.glob("*.config.json"))
    words = ["plan", str(folder), f"--model.path={config}", "--no-measure"]
    main(words)
    printed = capsys.readouterr().out
    assert f"```\n{printed}```" in (folder / "README.md").read_text(encoding="utf-8")
    main([*words, "--json"])
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert [stage["stage"] for stage in stages] == ["sft", "reward", "rl", "dpo", "evaluate"]
    assert max(s["peak_bytes"] for s in stages) < (0.9 * CARDS[name] - 1) * 2**30


@pytest.mark.parametrize(
    ("algorithm", "beside"),
    [
        ({"name": "ppo"}, {"reference", "critic"}),
        ({"name": "grpo"}, set()),
        ({"name": "grpo", "kl_coef": 0.1}, {"reference"}),
        ({"name": "rloo", "kl_coef": 0.0}, {"reference"}),
    ],
)
def test_an_algorithm_is_asked_what_it_needs(
    algorithm: dict[str, object], beside: set[str]
) -> None:
    roles = {role for role, *_ in rl_roles(check_recipe({"rl": {"algorithm": algorithm}}))}
    assert roles & {"reference", "critic"} == beside


def test_rl_by_hand() -> None:
    """4 answers of 5 + 3 tokens; four models of 4000 bytes, two of them with 12 more each.

    Passes: 4 to score, and 2 epochs of 3 for policy and critic.
    """
    recipe = check_recipe(
        {
            "rl": {
                "batch_size": 4,
                "max_prompt_tokens": 5,
                "sampling": {"max_new_tokens": 3, "batch_size": 3},
                "micro_batch_tokens": 16,
                "algorithm": {"num_epochs": 2},
            },
            "reward": {"held_out_model": False},
            "model": {"device": "cpu"},
        }
    )
    plan = next(p for p in stage_plans(recipe, SHAPE) if p.stage == "rl")
    assert [role.total for role in plan.roles] == [16000, 4000, 4000, 16000]
    assert (plan.tokens, plan.drawn, plan.rounds, plan.passes) == (32, 12, 6, 4 + 2 * 2 * 3)
    assert plan.cache == 3 * 8 * 2 * 2 * 10 * 4 and plan.copies == 2 * 10 * 70 * 4
    assert plan.update == 40000 + plan.activations + plan.logits
    assert plan.rollout == 40000 - 8000 + plan.cache + plan.copies
    speed = Speed(device="cpu", products=2e6, training=1e6, bandwidth=1e6)
    # 2 * (900 + 10 * 10) * 32 * 16 operations, and 6 rounds that read 4000 bytes
    low, high = seconds_per_step(plan, SHAPE, speed)
    assert low == pytest.approx(1.024e6 / 2e6 + 6 * 4000 / 1e6)
    assert high == pytest.approx(1.024e6 / 1e6 + 6 * 4000 / 1e6)


def test_with_adapters_one_trunk_serves_all_roles() -> None:
    recipe = check_recipe({"lora": {"rank": 2}, "model": {"device": "cpu"}})
    plan = next(p for p in stage_plans(recipe, SHAPE) if p.stage == "rl")
    assert [(r.role, r.trainable, r.frozen) for r in plan.roles] == [
        ("trunk", 0, 1000),
        ("policy", 200, 0),
        ("reference", 0, 200),
        ("reward model", 0, 200),
        ("held-out reward model", 0, 200),
        ("critic", 200, 0),
    ]
    assert sum(role.total for role in plan.roles) == 4000 + 2 * 3200 + 3 * 800


def test_who_takes_part_follows_the_settings() -> None:
    grpo = {"algorithm": {"name": "grpo", "kl_coef": 0.0}, "rewards": "my:reward"}
    assert rl_roles(check_recipe({"rl": grpo})) == [("policy", True, False)]
    two = {"rewards": ["1 * reward_model", "0.5 * models/other", "-1 * my:length"]}
    names = [role for role, *_ in rl_roles(check_recipe({"rl": two}))]
    assert names.count("reward model") == 2 and names[-1] == "critic"


@pytest.mark.slow
def test_it_measures_when_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = ROOT / "recipes/laptop-0.5b"
    words = ["plan", str(recipe), f"--model.path={next(recipe.glob('*.config.json'))}"]
    monkeypatch.setattr("alignloop.plan.speed.SECONDS", 0.02)
    main(words)
    printed = capsys.readouterr().out
    assert "GFLOP/s in large products" in printed and "per step" in printed
    assert load_recipe(recipe).rl.num_steps == 50 and "in all" in printed


def test_a_model_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(ROOT / "recipes/laptop-0.5b"), "--no-measure"])
    assert ended.value.code == 2
    assert "models/Qwen2.5-0.5B: no such folder" in capsys.readouterr().err
