"""Models that TRL's trainers and PEFT made: our numbers are plain transformers' on the same texts.

Reward models in the judge of `evaluate` and in what RL climbs, policies in log-probabilities and in
greedy answers; full models, LoRA, DoRA and rsLoRA, with PAD = EOS and without.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_support import END, TALKS, as_prompt

from alignloop.config import EvaluateConfig, LoraConfig, ModelConfig, RlConfig
from alignloop.data.batching import pad_batch
from alignloop.data.tokenise import encode_prompt
from alignloop.evaluate.compare import answer_all
from alignloop.judging.protocol import Answer
from alignloop.judging.registry import Making, make_judge
from alignloop.models import load_tokenizer, token_logprobs
from alignloop.models.initialise import init_policy, load_policy_to_sample
from alignloop.rl import train_rl
from alignloop.rl.build import build
from alignloop.rollout import Rollout
from alignloop.rollout.batch import RolloutBatch
from alignloop.run import read_metrics

PROMPTS = [as_prompt(asked) for asked, _ in TALKS]
REWARDS = [f"reward-{name}" for name in ("chatml", "chatml-own-pad", "ends-in-eos")]
ADAPTERS = ["lora", "dora", "rslora"]
OWN_PAD = [f"{work}-chatml-own-pad" for work in ("base", "sft", "dpo")]
PAD_IS_EOS = [f"{work}-chatml" for work in ("base", "sft", "dpo")]
POLICIES = [*OWN_PAD, *(f"dpo-{name}" for name in ADAPTERS)]
ALL_REWARDS = [*REWARDS, *(f"reward-{name}" for name in ADAPTERS)]


@pytest.fixture(scope="module")
def made(
    with_trl: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """The folder in which TRL made its models, and what transformers said of each there."""
    folder = tmp_path_factory.mktemp("trl")
    with_trl("train_with_trl.py", folder)
    return folder, json.loads((folder / "expected.json").read_text())


def policy_of(folder: Path, reward: str) -> Path:
    """A policy whose tokenizer the reward model has."""
    base = folder / f"base-{reward.removeprefix('reward-')}"
    return base if base.exists() else folder / "base-chatml"


def answered(policy: Path) -> RolloutBatch:
    """The answers of TALKS as a policy draws them, each with the end of its turn."""
    tokenizer, rollouts = load_tokenizer(policy), []
    end = tokenizer.eos_token_id if END not in str(tokenizer.chat_template) else None
    for prompt, (_, answer) in zip(PROMPTS, TALKS, strict=True):
        asked = encode_prompt(tokenizer, prompt, 999)
        said = [*tokenizer.encode(answer), end or tokenizer.convert_tokens_to_ids(END)]
        rollout = Rollout(
            prompt_id=prompt.prompt_id,
            input_ids=(*asked, *said),
            response_start=len(asked),
            rollout_logprobs=(0.0,) * len(said),
            finish_reason="eos",
        )
        rollouts.append(rollout)
    return RolloutBatch.of(rollouts, tokenizer.pad_token_id, 1000)


@pytest.mark.parametrize("name", ALL_REWARDS)
def test_the_judge_of_evaluate_scores_as_transformers(
    name: str, made: tuple[Path, dict[str, Any]], model_config: ModelConfig
) -> None:
    folder, expected = made
    judge = make_judge(str(folder / name), Making(model_config=model_config))
    verdicts = judge.rate(PROMPTS, [Answer(text=answer) for _, answer in TALKS])
    raw = [verdict.reward for verdict in verdicts]
    assert raw == pytest.approx(expected["rewards"][name], abs=1e-4)
    for verdict, score in zip(verdicts, raw, strict=True):
        assert verdict.score == pytest.approx(1 / (1 + math.exp(-score)), abs=1e-4)
    assert len({round(score, 3) for score in raw}) == 3, "the texts have to differ"


@pytest.mark.parametrize("name", ALL_REWARDS)
@pytest.mark.parametrize("rank", [None, 2])
def test_rl_climbs_what_transformers_says(
    rank: int | None,
    name: str,
    made: tuple[Path, dict[str, Any]],
    model_config: ModelConfig,
    rl_config: Callable[..., RlConfig],
    rl_inputs: Callable[..., Any],
) -> None:
    """With a policy of all weights, and with an adapter, whose trunk PEFT's reward model shares."""
    folder, expected = made
    policy = policy_of(folder, name)
    inputs = rl_inputs(
        policy_dir=policy,
        reward_dir=folder / name,
        held_out_dir=folder / name,
        prompts=PROMPTS,
        validation_prompts=PROMPTS,
        lora=LoraConfig(rank=rank),
    )
    config = rl_config(max_prompt_tokens=100)
    parts = build(config, model_config, inputs, seed=3, observer=None)
    answers = answered(policy)
    assert parts.validation.held_out is not None
    for rewarder in (parts.scorer.rewarder, parts.validation.held_out):
        found = rewarder.scores(answers).tolist()
        assert found == pytest.approx(expected["rewards"][name], abs=1e-4)


@pytest.mark.parametrize("name", POLICIES)
def test_policies_say_what_they_say_in_transformers(
    name: str, made: tuple[Path, dict[str, Any]], model_config: ModelConfig
) -> None:
    """Log-probabilities of given answers, and the greedy answers of `evaluate`."""
    folder, expected = made
    wanted = expected["policies"][name]
    tokenizer = load_tokenizer(folder / name)
    starts = [load_policy_to_sample(folder / name, tokenizer, model_config)]
    if name not in OWN_PAD:
        lora = LoraConfig(rank=4)
        starts.append(init_policy(folder / name, tokenizer, model_config, lora, 1))
    for policy in starts:
        assert said(policy, folder / name) == pytest.approx(wanted["logprobs"], abs=1e-4)
    sampling = {"temperature": 0, "max_new_tokens": len(max(wanted["greedy"], key=len))}
    config = EvaluateConfig.model_validate({"sampling": sampling})
    drawn = answer_all(folder / name, model_config, config, PROMPTS, seed=1)
    assert [list(rollout.response_ids) for rollout in drawn] == wanted["greedy"]


@pytest.mark.parametrize("name", PAD_IS_EOS)
def test_a_pad_that_is_added_takes_its_share_and_no_more(
    name: str, made: tuple[Path, dict[str, Any]], model_config: ModelConfig
) -> None:
    """A row of mean logits has at most 1 / (vocabulary + 1) of every token's probability."""
    folder, expected = made
    wanted, tokenizer = expected["policies"][name], load_tokenizer(folder / name)
    policy = load_policy_to_sample(folder / name, tokenizer, model_config)
    for rollout, ours, theirs in zip(
        answered(folder / name).rollouts,
        said(policy, folder / name),
        wanted["logprobs"],
        strict=True,
    ):
        most = len(rollout.response_ids) * math.log(1 + 1 / (len(tokenizer) - 1))
        assert -1e-4 <= theirs - ours <= most + 1e-4
    sampling = {"temperature": 0, "max_new_tokens": len(max(wanted["greedy"], key=len))}
    config = EvaluateConfig.model_validate({"sampling": sampling})
    drawn = answer_all(folder / name, model_config, config, PROMPTS, seed=1)
    assert [list(rollout.response_ids) for rollout in drawn] == wanted["greedy"]


def said(policy: Any, folder: Path) -> list[float]:
    """The log-probability of each given answer with the end of its turn."""
    batch = pad_batch(answered(folder).rollouts, policy.config.pad_token_id)
    return token_logprobs(policy, **batch).logprobs.sum(dim=1).tolist()


def test_the_trainers_did_change_the_models(made: tuple[Path, dict[str, Any]]) -> None:
    """Or all of the above would compare one and the same model."""
    _, expected = made
    rewards = {name: tuple(found) for name, found in expected["rewards"].items()}
    # the PAD changes neither what is trained nor where it is read: a line break stands last
    assert rewards.pop("reward-chatml-own-pad") == rewards["reward-chatml"]
    assert len(set(rewards.values())) == len(ALL_REWARDS) - 1
    policies = [tuple(expected["policies"][name]["logprobs"]) for name in POLICIES]
    assert len(set(policies)) == len(POLICIES)


@pytest.mark.parametrize(
    ("policy", "reward"),
    [("dpo-chatml", "reward-chatml"), ("dpo-dora", "reward-dora")],
)
def test_ppo_runs_from_their_models(
    policy: str,
    reward: str,
    made: tuple[Path, dict[str, Any]],
    model_config: ModelConfig,
    rl_config: Callable[..., RlConfig],
    rl_inputs: Callable[..., Any],
    stage_run: Callable[..., Any],
) -> None:
    """The first ratio is 1 and the first KL 0, and what is saved is a model of its own."""
    folder, _ = made
    inputs = rl_inputs(
        policy_dir=folder / policy,
        reward_dir=folder / reward,
        prompts=PROMPTS,
        validation_prompts=PROMPTS,
        lora=LoraConfig(rank=4 if policy == "dpo-dora" else None),
    )
    run = stage_run("rl")
    config = rl_config(max_prompt_tokens=100, num_steps=2, batch_size=3)
    train_rl(config, model_config, inputs, run)
    steps = read_metrics(run.folder.path, "rl")
    first = next(line for line in steps if line["step"] == 1)
    assert first["kl"] == pytest.approx(0, abs=1e-4)
    assert all(math.isfinite(line["loss"]) for line in steps if "loss" in line)
    tokenizer = load_tokenizer(run.folder.path / "rl" / "model")
    saved = load_policy_to_sample(run.folder.path / "rl" / "model", tokenizer, model_config)
    assert torch.isfinite(next(saved.parameters())).all()
