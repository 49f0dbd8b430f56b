"""The reinforcement learning loop, on one screen."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from alignloop.config import ModelConfig, RlConfig
from alignloop.data.tokenise import decode
from alignloop.errors import UserError
from alignloop.losses import reduce_tokens
from alignloop.models import save_model
from alignloop.rl.build import Parts, RlInputs, build
from alignloop.rl.experience import (
    Credit,
    Experience,
    ScoredRollouts,
    WithOldLogprobs,
    policy_metrics,
)
from alignloop.rl.memory import RlMemory
from alignloop.rl.stopping import Evaluation, Watch
from alignloop.rl.update import counts_of, is_finite
from alignloop.rl.validation import Observer
from alignloop.rollout import Rollout
from alignloop.run.checkpoints import memories
from alignloop.run.files import remove_folder
from alignloop.run.stage_run import StageRun
from alignloop.stats.textstats import repetition
from alignloop.training.guard import Guard
from alignloop.training.optimiser import linear_schedule

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
    parts = build(config, model_config, inputs, seed=run.seed, observer=observer, world=run.world)
    algorithm, rate = parts.learner.algorithm, linear_schedule(config.num_steps)
    memory = parts.state.memory
    for step in run.steps(config.num_steps, parts.state, save_every=config.save_every):
        if step == 1:
            run.say("rl: asking the validation prompts before the first step")
            run.log(0, _evaluate(0, config, parts, run))
        parts = parts.with_penalty(memory.missing_eos_penalty)
        clock = [time.perf_counter()]
        parts.sampler.load(parts.learner.policy, step - 1)
        rollouts = parts.sampler.generate(parts.stream.at(step), parts.stream.seeds(step))
        clock.append(time.perf_counter())
        with _kept(run, step - 1):
            scored = parts.scorer.score(rollouts)
        state = memory.algorithm
        credit = algorithm.credit(scored, state)
        clock.append(time.perf_counter())
        experience = Experience(scored=scored, credit=credit)
        metrics = parts.learner.update(experience, seed=run.seed, step=step, rate=rate(step))
        clock.append(time.perf_counter())
        metrics |= _left_out(metrics, step, config, parts, run)
        metrics |= _describe(scored, credit) | algorithm.metrics(scored, credit, state)
        metrics |= _texts(rollouts, parts) | _speeds(clock, scored)
        finite, memory.last_step = is_finite(metrics), step
        if finite:  # what is not has no place in a checkpoint, nor in the next step
            memory.algorithm = dict(algorithm.after(state, metrics, len(rollouts)))
            memory.last_kl = metrics.get("kl")
        memory.watch = watch = _watched(memory).stepped(step, metrics.get("kl"), finite)
        if step % config.eval_every == 0 or step == config.num_steps or watch.reason:
            metrics |= _evaluate(step, config, parts, run)
        run.log(step, metrics, show=SHOWN)
        if metrics["sampler_mismatch"] > MISMATCH_ALARM:
            gap = metrics["sampler_mismatch"]
            run.say(f"step {step}: sampler and trainer disagree by {gap:.3f} in mean probability")
        if _watched(memory).reason:
            run.end()
    return _finish(config, memory, run)


def _left_out(
    metrics: dict[str, float], step: int, config: RlConfig, parts: Parts, run: StageRun
) -> dict[str, float]:
    """Count the optimiser steps that were left out, and stop where none has any effect."""
    steps, taken = int(metrics["optimizer_steps"]), int(metrics.pop("finite_steps"))
    guard, last = Guard(stage=run.name, section="rl"), step == config.num_steps
    health = parts.state.memory.health
    return guard.left_out(health, step, taken=taken, steps=steps, last=last)


@contextmanager
def _kept(run: StageRun, done: int) -> Iterator[None]:
    """Save what `done` steps have learnt where the next one's reward cannot be had."""
    try:
        yield
    except UserError:
        if done:
            run.save(done)
        raise


def _evaluate(step: int, config: RlConfig, parts: Parts, run: StageRun) -> dict[str, float]:
    """Ask the validation prompts; keep the policy if it is worth more than any before it."""
    memory = parts.state.memory
    parts.sampler.load(parts.learner.policy, step)
    metrics, samples = parts.validation.evaluate(step, memory.usual_surprise)
    run.log_samples(samples)
    if "missing_eos_penalty" in metrics:
        penalty = memory.missing_eos_penalty = metrics["missing_eos_penalty"]
        run.say(
            f"rl.missing_eos_penalty = {config.missing_eos_penalty:g} would pay for never ending:"
            f" responses that end score about that or less; {penalty:.3g} is used"
        )
    if step == 0:
        memory.usual_surprise = metrics.get("validation_surprise_95")
        memory.watch = _new_watch(config, parts, metrics)
        _say_what_is_cut_off(metrics["validation_eos_rate"], config, run)
    watch = _watched(memory)
    if not watch.reason:
        memory.watch = watch = watch.evaluated(_evaluation(step, metrics))
        if watch.best is not None and watch.best.step == step:
            _keep(step, parts, run)
    return metrics


def _keep(step: int, parts: Parts, run: StageRun) -> None:
    """Save the policy of a step beside those that a checkpoint still speaks of.

    Each step has a folder of its own: going on from a checkpoint, what its memory names as the
    best is there, whatever was the best later on.
    """
    policy, tokenizer = parts.learner.policy, parts.tokenizer
    run.write_folder(_kept_policy(run, step), lambda folder: save_model(folder, policy, tokenizer))
    if not run.world.is_main:
        return
    watches = [memory.get("watch") for memory in memories(run.stage.checkpoints)]
    spoken_of = {watch["best"]["step"] for watch in watches if watch and watch["best"]}
    keep = {_kept_policy(run, one) for one in (*spoken_of, step)}
    for path in set((run.path / BEST).glob("step-*")) - keep:
        remove_folder(path)


def _kept_policy(run: StageRun, step: int) -> Path:
    """Where the policy of a step is kept."""
    return run.path / BEST / f"step-{step:06d}"


def _watched(memory: RlMemory) -> Watch:
    assert memory.watch is not None, "step 0 is always evaluated"
    return memory.watch


def _new_watch(config: RlConfig, parts: Parts, metrics: dict[str, float]) -> Watch:
    """With the price of a nat in the choice of the checkpoint, in units of the held-out score.

    Nothing where a person's function gives the score: it says what is wanted, near and far.
    """
    spread, learnt = metrics["validation_held_out_std"] or 1.0, parts.validation.learnt
    return Watch(
        patience=config.patience,
        kl_budget=config.kl_budget,
        price=config.choice_kl_coef * spread if learnt else 0.0,
        bounded=learnt,
    )


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
    if isinstance(scored, WithOldLogprobs):
        found |= policy_metrics(scored.old_logprobs, scored.entropy, scored, **counts)
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


def _finish(config: RlConfig, memory: RlMemory, run: StageRun) -> Path:
    """The best checkpoint becomes the stage's model."""
    watch = _watched(memory)
    kept = watch.best
    assert kept is not None, "step 0 is always evaluated"
    if watch.not_finite and kept.step == 0:
        raise UserError(
            f"training has diverged: {watch.reason}, and no policy before it was better than the"
            " one that it began with",
            where=run.name,
            fix="lower rl.learning_rate, or check the rewards and the models' weights",
        )
    source = _kept_policy(run, kept.step)
    target = run.write_folder(
        run.path / "model", lambda folder: shutil.copytree(source, folder, dirs_exist_ok=True)
    )
    reason = watch.reason or f"all {config.num_steps} steps are done"
    run.say(f"stopped because {reason}; kept the policy of step {kept.step}")
    if kept.step == 0:
        run.say("that is the model it began with: no step near enough to be judged was worth more")
    doubt = "all of its answers were cut off" if kept.eos_rate == 0 else ""
    if doubt:
        run.say(f"this choice cannot be trusted: {doubt}")
    run.finish(
        {
            "steps": memory.last_step,
            "kl": memory.last_kl,
            "stopped_because": reason,
            "best_step": kept.step,
            "best_held_out_score": kept.held_out,
            "best_kl": kept.kl,
            "best_outside": kept.outside,
            "cannot_choose": doubt,
            "skipped_steps": memory.health.skipped_steps,
        }
    )
    if run.world.is_main:
        remove_folder(run.path / BEST)
    return target
