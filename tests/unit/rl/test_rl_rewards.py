"""Rewards of every origin in one loop: what each gives, their sum, and a run that they stop."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from alignloop.config import ModelConfig, RlConfig
from alignloop.data.tokenise import decode
from alignloop.errors import UserError
from alignloop.judging.judges import FunctionJudge, TokenJudge
from alignloop.models import save_model
from alignloop.records import Prompt
from alignloop.rl import train_rl
from alignloop.rl.build import build
from alignloop.rl.rewards import EndRewarder, Rewards, sound_penalty
from alignloop.rollout import Rollout
from alignloop.rollout.batch import RolloutBatch
from alignloop.run import read_metrics

REWARDS = """\
import pathlib

def length(prompts, responses):
    return [float(len(r)) for r in responses]

def later(prompts, responses):
    count = pathlib.Path("count")
    calls = int(count.read_text()) if count.exists() else 0
    count.write_text(str(calls + 1))
    if pathlib.Path("mended").exists() or calls < 3:
        return [0.5] * len(responses)
    raise OSError("the judge is asleep")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_rewards.py").write_text(REWARDS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_rewards", raising=False)
    return tmp_path


def rollout(prompt: Prompt, response: list[int], finish: Any = "eos") -> Rollout:
    return Rollout(
        prompt_id=prompt.prompt_id,
        input_ids=(3, 9, 4, *response),
        response_start=3,
        rollout_logprobs=(0.0,) * len(response),
        finish_reason=finish,
    )


@pytest.fixture
def answers(prompts: list[Prompt]) -> RolloutBatch:
    drawn = [
        rollout(prompts[0], [5, 6, 1]),
        rollout(prompts[1], [7, 1]),
        rollout(prompts[2], [8, 9, 10], "length"),
    ]
    return RolloutBatch.of(drawn, 0, 1000)


def test_a_function_alone_and_a_critic_from_the_policy(
    here: Path,
    answers: RolloutBatch,
    model_config: ModelConfig,
    rl_inputs: Callable[..., Any],
    rl_config: Callable[..., RlConfig],
) -> None:
    config = rl_config(rewards="my_rewards:length", missing_eos_penalty=-7.0)
    parts = build(config, model_config, rl_inputs(reward_dir=None), seed=3, observer=None)
    assert isinstance(parts.scorer.rewarder, EndRewarder)
    lengths = [float(len(decode(parts.tokenizer, r.response_ids))) for r in answers.rollouts]
    assert parts.scorer.rewarder.scores(answers).tolist() == [*lengths[:2], -7.0]
    trunk = parts.learner.policy.get_input_embeddings().weight
    assert torch.equal(parts.learner.critic.get_input_embeddings().weight, trunk)
    assert parts.learner.critic.score.bias.tolist() == [0.0]


def test_several_are_added_by_their_weights(
    here: Path,
    answers: RolloutBatch,
    model_config: ModelConfig,
    reward_dirs: dict[str, Path],
    rl_inputs: Callable[..., Any],
    rl_config: Callable[..., RlConfig],
) -> None:
    """0.5 * stage's model + 2 * another family's + 0.25 * a function, each normalised first."""
    named = (f"2 * {reward_dirs['gpt2']}", "0.25 * my_rewards:length", "-0.5 * reward_model")
    config = rl_config(rewards=named, missing_eos="off")
    parts = build(config, model_config, rl_inputs("llama"), seed=3, observer=None)
    found = parts.scorer.rewarder.scores(answers)
    single = [
        build(
            rl_config(missing_eos="off"), model_config, rl_inputs(family), seed=3, observer=None
        ).scorer.rewarder.scores(answers)
        for family in ("gpt2", "llama")
    ]
    lengths = torch.tensor([len(decode(parts.tokenizer, r.response_ids)) for r in answers.rollouts])
    expected = 2 * single[0] + 0.25 * lengths - 0.5 * single[1]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert isinstance(parts.scorer.rewarder, EndRewarder)
    kinds = [type(judge) for _, judge in parts.scorer.rewarder.rewarder.parts]
    assert kinds == [TokenJudge, FunctionJudge, TokenJudge]


def test_another_template_makes_texts_of_the_answers(
    answers: RolloutBatch,
    tokenizer: Any,
    model_config: ModelConfig,
    reward_dirs: dict[str, Path],
    rl_inputs: Callable[..., Any],
    rl_config: Callable[..., RlConfig],
    tmp_path: Path,
) -> None:
    """The same words, otherwise put together: the tokens drawn are not what this model reads."""
    import copy

    other = copy.deepcopy(tokenizer)
    other.chat_template = "{% for m in messages %}{{ m['content'] + ' <unk> ' }}{% endfor %}"
    model = AutoModelForSequenceClassification.from_pretrained(reward_dirs["llama"]).eval()
    save_model(tmp_path, model, other)
    inputs = rl_inputs(reward_dir=tmp_path, held_out_dir=tmp_path)
    parts = build(rl_config(missing_eos="off"), model_config, inputs, seed=3, observer=None)
    found = parts.scorer.rewarder.scores(answers).tolist()
    assert parts.validation.held_out is not None
    assert parts.validation.held_out.scores(answers).tolist() == found
    for prompt, drawn, score in zip(inputs.prompts, answers.rollouts, found, strict=False):
        text = decode(tokenizer, drawn.response_ids)
        ids = other.encode(f"{prompt.text} <unk> {text} <unk> ")
        expected = float(model(torch.tensor([ids])).logits[0, 0].detach())
        assert score == pytest.approx(expected, abs=1e-5)
    assert parts.learner.critic.score.bias.tolist() == [0.0]  # from the policy, not this model


def test_a_score_that_is_no_number_is_told(
    answers: RolloutBatch,
    model_config: ModelConfig,
    rl_inputs: Callable[..., Any],
    rl_config: Callable[..., RlConfig],
) -> None:
    parts = build(rl_config(), model_config, rl_inputs(), seed=3, observer=None)
    assert isinstance(parts.scorer.rewarder, EndRewarder)
    rewarder = parts.scorer.rewarder.rewarder
    ((_, judge),) = rewarder.parts
    assert isinstance(judge, TokenJudge)
    with torch.no_grad():
        judge.model.score.weight.fill_(torch.nan)
    with pytest.raises(UserError, match="score is nan") as caught:
        rewarder.scores(answers)
    assert caught.value.where == f'prompt_id "{answers.rollouts[0].prompt_id}"'


@pytest.mark.slow
def test_a_function_that_fails_loses_nothing(
    here: Path,
    model_config: ModelConfig,
    rl_inputs: Callable[..., Any],
    rl_config: Callable[..., RlConfig],
    stage_run: Callable[..., Any],
) -> None:
    """Validation, step 1, step 2, then it fails: step 3 begins with what step 2 has learnt."""
    config = rl_config(rewards="my_rewards:later", num_steps=4, eval_every=9)
    inputs = rl_inputs(reward_dir=None)
    run = stage_run("rl")
    with pytest.raises(UserError, match="raised OSError: the judge is asleep") as caught:
        train_rl(config, model_config, inputs, run)
    assert "prompt_id" in caught.value.where and "my_rewards:later" in caught.value.where
    assert [line["step"] for line in read_metrics(run.folder.path, "rl")] == [0, 1, 2]
    run.folder.close()
    (here / "mended").touch()
    train_rl(config, model_config, inputs, stage_run("rl"))
    stopped = read_metrics(run.folder.path, "rl")
    (here / "count").unlink()
    straight = stage_run("rl", run="straight")
    train_rl(config, model_config, inputs, straight)
    for one, other in zip(stopped, read_metrics(straight.folder.path, "rl"), strict=True):
        for key in one.keys() - {"time"}:
            if not key.endswith(("_seconds", "_per_second")):
                assert one[key] == other[key], key


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"rewards": []}, "at least 1 item"),
        ({"rewards": ["2 * "]}, "not of the form 'SOURCE' or 'WEIGHT"),
        ({"rewards": ["two * a"]}, "could not convert"),
        ({"rewards": "held_out_reward_model"}, "RL must not use held_out_reward_model"),
        ({"rewards": ["0.5 * judge_reward_model"]}, "RL must not use judge_reward_model"),
        ({"rewards": ["0 * a"]}, "needs a finite weight other than 0"),
    ],
)
def test_settings_that_contradict_themselves(
    changes: dict[str, Any], problem: str, rl_config: Callable[..., RlConfig]
) -> None:
    with pytest.raises(ValueError, match=problem):
        rl_config(**changes)


def test_who_needs_the_reward_stage(rl_config: Callable[..., RlConfig]) -> None:
    assert rl_config().uses_reward_stage
    assert rl_config(rewards=["1 * a", "1 * reward_model"]).uses_reward_stage
    for rewards in ("a", "a:b", ["1 * a:b"]):
        assert not rl_config(rewards=rewards).uses_reward_stage


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([1.0, -1.0], -1.0),  # mean 0, std 1: -1 is a whole std below
        ([1.5, -0.5], -1.0),
        ([0.0, -1.0], -1.0),  # mean -1/2, std 1/2: -1 lies below -3/4
        ([0.0, -2.0], -2.0),  # mean -1, std 1: -1 is what an answer gets anyway
        ([-2.0, -4.0], -4.0),  # mean -3: -1 would be a prize
        ([-3.0, -3.0], -4.0),  # no spread: one below
        ([-0.5, -0.5], -1.0),
        ([-100.0, -50.0], -100.0),
    ],
)
def test_a_penalty_never_pays(scores: list[float], expected: float) -> None:
    assert sound_penalty(-1.0, torch.tensor(scores)) == expected


def test_only_what_replaces_a_score_is_checked_and_by_answers_that_ended() -> None:
    nothing = Rewards(parts=[], tokenizer=None, prompts={})  # the scores are there already
    raw, finished = torch.tensor([-3.0, -3.0, 9.0]), torch.tensor([True, True, False])
    for mode, penalty in (("replace", -4.0), ("subtract", -1.0), ("off", -1.0)):
        ending = EndRewarder(rewarder=nothing, missing_eos=mode, penalty=-1.0)
        assert ending.checked(raw, finished).penalty == penalty, mode
    ending = EndRewarder(rewarder=nothing, missing_eos="replace", penalty=-1.0)
    none_ended = ending.checked(raw, torch.zeros(3, dtype=torch.bool))
    assert none_ended.penalty == pytest.approx(1.0 - math.sqrt(32.0))  # all of them count then
