"""The reinforcement learning loop, on one screen."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from alignloop.config import ModelConfig, RlConfig
from alignloop.data.tokenise import decode
from alignloop.errors import UserError
from alignloop.losses import (
    AdaptiveKl,
    explained_variance,
    kl_estimate,
    masked_mean,
    reduce_tokens,
)
from alignloop.models import save_model
from alignloop.models.training import Guard, linear_schedule
from alignloop.rl.algorithms.base import Algorithm, Credit
from alignloop.rl.build import Parts, RlInputs, build
from alignloop.rl.experience import Experience, ScoredRollouts, policy_metrics
from alignloop.rl.stopping import Evaluation, Watch
from alignloop.rl.update import counts_of, is_finite
from alignloop.rl.validation import Observer
from alignloop.rollout import Rollout, take_compile_seconds
from alignloop.run import generator
from alignloop.run.checkpoints import memories
from alignloop.run.files import atomic_folder, remove_folder
from alignloop.run.stage_run import StageRun
from alignloop.stats.textstats import repetition

SHOWN = ("score", "kl", "response_length", "eos_rate", "validation_held_out_score")
SHOWN += ("skipped_steps",)  # where there are any
MOSTLY_CUT_OFF = 0.5
BEST = "best"  # beside the checkpoints
# Mean difference of probabilities between sampler and trainer: docs/algorithms.md#ppo-22.
MISMATCH_ALARM = 0.01


def train_rl(
    config: RlConfig,
    model_config: ModelConfig,
    inputs: RlInputs,
    run: StageRun,
    *,
    observer: Observer | None = None,
) -> Path:
    """Train the policy; returns the directory of the checkpoint that `Watch` has kept."""
    counts = (len(inputs.prompts), len(inputs.validation_prompts))
    run.say("rl: {} prompts to learn from, {} for the curves; loading the models".format(*counts))
    parts = build(config, model_config, inputs, seed=run.seed, observer=observer)
    algorithm, rate = parts.learner.algorithm, linear_schedule(config.num_steps)
    for step in run.steps(config.num_steps, parts.state, save_every=config.save_every):
        if step == 1:
            run.say("rl: asking the validation prompts before the first step")
            _evaluate(0, config, parts, run)
        parts = parts.with_penalty(run.memory.get("missing_eos_penalty"))
        clock = [time.perf_counter()]
        rollouts = parts.sampler.generate(
            parts.stream.at(step), generator(run.seed, "rollout", step)
        )
        clock.append(time.perf_counter())
        with _kept(run, step - 1):
            scored = parts.scorer.score(rollouts)
        kl_coef = run.memory.get("kl_coef", config.algorithm.kl_coef)
        credit = algorithm.credit(scored, kl_coef)
        clock.append(time.perf_counter())
        experience = make_experience(scored, credit, config.algorithm.importance_cap)
        metrics = parts.learner.update(experience, seed=run.seed, step=step, rate=rate(step))
        clock.append(time.perf_counter())
        metrics |= _left_out(metrics, step, config, run)
        metrics |= _describe(scored, credit) | _texts(rollouts, parts) | _speeds(clock, scored)
        metrics |= _price(algorithm, kl_coef, scored)
        run.memory["kl_coef"] = _next_kl_coef(algorithm, kl_coef, metrics, len(rollouts))
        watch = _watch(run, config).stepped(step, metrics.get("kl"), is_finite(metrics))
        run.memory["watch"] = _kept_in_json(watch)
        if step % config.eval_every == 0 or step == config.num_steps or watch.reason:
            metrics |= _evaluate(step, config, parts, run, log=False)
        run.log(step, metrics | _compiling(run), show=SHOWN)
        if metrics["sampler_mismatch"] > MISMATCH_ALARM:
            gap = metrics["sampler_mismatch"]
            run.say(f"step {step}: sampler and trainer disagree by {gap:.3f} in mean probability")
        run.memory["last"] = {"step": step, "kl": metrics.get("kl")}
        if _watch(run, config).reason:
            run.end()
    return _finish(config, run)


def _left_out(
    metrics: dict[str, float], step: int, config: RlConfig, run: StageRun
) -> dict[str, float]:
    """Count the optimiser steps that were left out, and stop where none has any effect."""
    steps, taken = int(metrics["optimizer_steps"]), int(metrics.pop("finite_steps"))
    guard, last = Guard(stage=run.name, section="rl"), step == config.num_steps
    return guard.left_out(run.memory, step, taken=taken, steps=steps, last=last)


@contextmanager
def _kept(run: StageRun, done: int) -> Iterator[None]:
    """Save what `done` steps have learnt where the next one's reward cannot be had."""
    try:
        yield
    except UserError:
        if done:
            run.save(done)
        raise


def make_experience(
    scored: ScoredRollouts, credit: Credit, importance_cap: float | None
) -> Experience:
    """What the update reads; with a cap, tokens weigh min(p_trainer / p_sampler, cap)."""
    weights = torch.ones_like(scored.rollout_logprobs)
    if importance_cap is not None:
        assert scored.old_logprobs is not None
        ratio = torch.exp(scored.old_logprobs - scored.rollout_logprobs)
        weights = torch.where(scored.response_mask, ratio.clamp(max=importance_cap), 1.0)
    return Experience(
        input_ids=scored.input_ids,
        attention_mask=scored.attention_mask,
        response_mask=scored.response_mask,
        rollout_logprobs=scored.rollout_logprobs,
        old_logprobs=scored.old_logprobs,
        ref_logprobs=scored.ref_logprobs,
        old_values=scored.values,
        advantages=credit.advantages,
        returns=credit.returns,
        token_weights=weights,
    )


def _evaluate(
    step: int, config: RlConfig, parts: Parts, run: StageRun, *, log: bool = True
) -> dict[str, float]:
    """Ask the validation prompts; keep the policy if it is worth more than any before it."""
    metrics, samples = parts.validation.evaluate(step, run.memory.get("usual_surprise"))
    run.log_samples(samples)
    if "missing_eos_penalty" in metrics:
        penalty = run.memory["missing_eos_penalty"] = metrics["missing_eos_penalty"]
        run.say(
            f"rl.missing_eos_penalty = {config.missing_eos_penalty:g} would pay for never ending:"
            f" responses that end score about that or less; {penalty:.3g} is used"
        )
    if step == 0:
        run.memory["usual_surprise"] = metrics.get("validation_surprise_95")
        run.memory["learnt_score"] = parts.validation.learnt
        run.memory["price"] = _price_of_kl(config, parts, metrics)
        _say_what_is_cut_off(metrics["validation_eos_rate"], config, run)
    watch = _watch(run, config)
    if not watch.reason:
        watch = watch.evaluated(_evaluation(step, metrics))
        run.memory["watch"] = _kept_in_json(watch)
        if watch.best is not None and watch.best.step == step:
            _keep(step, parts, run)
    if log:
        run.log(step, metrics | _compiling(run))
    return metrics


def _keep(step: int, parts: Parts, run: StageRun) -> None:
    """Save the policy of a step beside those that a checkpoint still speaks of.

    Each step has a folder of its own: going on from a checkpoint, what its memory names as the
    best is there, whatever was the best later on.
    """
    with atomic_folder(_kept_policy(run, step)) as folder:
        save_model(folder, parts.learner.policy, parts.tokenizer)
    watches = [memory["watch"] for memory in memories(run.stage.checkpoints) if "watch" in memory]
    spoken_of = {watch["best"]["step"] for watch in watches if watch["best"]}
    keep = {_kept_policy(run, one) for one in (*spoken_of, step)}
    for path in set((run.path / BEST).glob("step-*")) - keep:
        remove_folder(path)


def _kept_policy(run: StageRun, step: int) -> Path:
    """Where the policy of a step is kept; runs of earlier releases had one place for all."""
    own, earlier = run.path / BEST / f"step-{step:06d}", run.path / BEST
    return earlier if (earlier / "config.json").exists() and not own.exists() else own


def _compiling(run: StageRun) -> dict[str, float]:
    """What compiling took since it was last told, where anything was compiled."""
    seconds = take_compile_seconds()
    if not seconds:
        return {}
    run.say(f"compiled the decoding step in {seconds:.1f} s")
    return {"compile_seconds": seconds}


def _watch(run: StageRun, config: RlConfig) -> Watch:
    if "watch" in run.memory:
        return Watch.restored(run.memory["watch"])
    learnt = run.memory.get("learnt_score", True)
    return Watch(
        patience=config.patience,
        kl_budget=config.kl_budget,
        price=run.memory.get("price", 0.0),
        bounded=learnt,
    )


def _kept_in_json(watch: Watch) -> dict[str, Any]:
    """The watch as a checkpoint keeps it."""
    return asdict(watch)


def _price_of_kl(config: RlConfig, parts: Parts, metrics: dict[str, float]) -> float:
    """What a nat costs in the choice of the checkpoint, in units of the held-out score.

    Nothing where a person's function gives the score: it says what is wanted, near and far.
    """
    spread = metrics["validation_held_out_std"] or 1.0
    return config.choice_kl_coef * spread if parts.validation.learnt else 0.0


def _evaluation(step: int, metrics: dict[str, float]) -> Evaluation:
    return Evaluation(
        step=step,
        held_out=metrics["validation_held_out_score"],
        climbed=metrics["validation_score"],
        kl=metrics.get("validation_kl"),
        outside=metrics.get("validation_outside"),
        eos_rate=metrics["validation_eos_rate"],
    )


def _say_what_is_cut_off(eos_rate: float, config: RlConfig, run: StageRun) -> None:
    """Said before hours go by: a model that never ends is scored by the penalty alone."""
    if eos_rate < MOSTLY_CUT_OFF:
        run.say(
            f"step 0: {1 - eos_rate:.0%} of the validation answers are cut off at"
            f" {config.sampling.max_new_tokens} tokens, and get the penalty instead of their score:"
            " raise rl.sampling.max_new_tokens"
        )


def _price(algorithm: Algorithm, kl_coef: float, scored: ScoredRollouts) -> dict[str, float]:
    """The present price of KL, and what it took from the mean reward where it is charged there."""
    if algorithm.charged_kl is None:
        return {"kl_coef": kl_coef}
    assert scored.old_logprobs is not None and scored.ref_logprobs is not None
    kl = kl_estimate(scored.old_logprobs, scored.ref_logprobs, algorithm.charged_kl)
    mask = scored.response_mask
    charged = float(reduce_tokens(kl, mask, count=counts_of(mask)["sequences"]))
    return {"kl_reward": -kl_coef * charged, "kl_coef": kl_coef}


def _next_kl_coef(
    algorithm: Algorithm, kl_coef: float, metrics: dict[str, float], num_episodes: int
) -> float:
    adaptive = algorithm.adaptive_kl
    if adaptive is None:
        return kl_coef
    controller = AdaptiveKl(coef=kl_coef, target=adaptive.target, horizon=adaptive.horizon)
    return controller.updated(metrics["kl"], num_episodes).coef


def _describe(scored: ScoredRollouts, credit: Credit) -> dict[str, float]:
    """The metrics of docs/algorithms.md#ppo-31 that come from the batch, of the models that ran.

    Where the policy was not asked before the update, the update has told what it says.
    """
    mask, counts = scored.response_mask, counts_of(scored.response_mask)
    found = {
        "score": float(scored.scores.mean()),
        "score_std": float(scored.scores.std(unbiased=False)),
        "reward": float(reduce_tokens(credit.rewards, mask, count=counts["sequences"])),
        "response_length": float(mask.sum(dim=1).float().mean()),
        "eos_rate": float(scored.finished.float().mean()),
    }
    if scored.old_logprobs is not None and scored.entropy is not None:
        policy = (scored.old_logprobs, scored.entropy, scored.rollout_logprobs)
        found |= policy_metrics(*policy, scored.ref_logprobs, mask, **counts)
    if scored.values is not None and credit.returns is not None:
        found["explained_variance"] = float(explained_variance(scored.values, credit.returns, mask))
        found["value"] = float(masked_mean(scored.values, mask))
    return found


def _texts(rollouts: Sequence[Rollout], parts: Parts) -> dict[str, float]:
    texts = [decode(parts.tokenizer, rollout.response_ids) for rollout in rollouts]
    return {"repetition": sum(repetition(text) for text in texts) / len(texts)}


def _speeds(clock: list[float], scored: ScoredRollouts) -> dict[str, float]:
    tokens = int(scored.response_mask.sum())
    names = ("rollout", "scoring", "update")
    seconds = {n: b - a for n, a, b in zip(names, clock[:-1], clock[1:], strict=True)}
    return {
        **{f"{name}_seconds": value for name, value in seconds.items()},
        **{f"{name}_tokens_per_second": tokens / value for name, value in seconds.items()},
        "tokens_per_second": tokens / (clock[-1] - clock[0]),
    }


def _finish(config: RlConfig, run: StageRun) -> Path:
    """The best checkpoint becomes the stage's model."""
    watch, last = _watch(run, config), run.memory["last"]
    kept = watch.best
    assert kept is not None, "step 0 is always evaluated"
    if watch.not_finite and kept.step == 0:
        raise UserError(
            f"training has diverged: {watch.reason}, and no policy before it was better than the"
            " one that it began with",
            where=run.name,
            fix="lower rl.learning_rate, or check the rewards and the models' weights",
        )
    target = run.path / "model"
    with atomic_folder(target) as folder:
        shutil.copytree(_kept_policy(run, kept.step), folder, dirs_exist_ok=True)
    reason = watch.reason or f"all {config.num_steps} steps are done"
    run.say(f"stopped because {reason}; kept the policy of step {kept.step}")
    if kept.step == 0:
        run.say("that is the model it began with: no step near enough to be judged was worth more")
    doubt = "all of its answers were cut off" if kept.eos_rate == 0 else ""
    if doubt:
        run.say(f"this choice cannot be trusted: {doubt}")
    run.finish(
        {
            "steps": last["step"],
            "kl": last["kl"],
            "stopped_because": reason,
            "best_step": kept.step,
            "best_held_out_score": kept.held_out,
            "best_kl": kept.kl,
            "best_outside": kept.outside,
            "cannot_choose": doubt,
            "skipped_steps": run.memory.get("skipped_steps", 0),
        }
    )
    remove_folder(run.path / BEST)
    return target
