"""The reinforcement learning loop, on one screen."""

import shutil
import time
from collections.abc import Generator, Sequence
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

# the last is shown only if there are any
SHOWN = ("score", "kl", "response_length", "eos_rate", "validation_held_out_score", "skipped_steps")
MOSTLY_CUT_OFF = 0.5
BEST = "best"  # folder next to the checkpoints
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
    """Train the policy; returns the directory of the checkpoint that `Watch` chose."""
    counts = (len(inputs.prompts), len(inputs.validation_prompts))
    run.say("rl: {} training prompts, {} for validation; loading the models".format(*counts))
    parts = build(config, model_config, inputs, seed=run.seed, observer=observer, world=run.world)
    algorithm, rate = parts.learner.algorithm, linear_schedule(config.num_steps)
    memory = parts.state.memory
    for step in run.steps(config.num_steps, parts.state, save_every=config.save_every):
        # step 0 calibrates penalty, surprise and price, so it is always evaluated
        if step == 1:
            run.say("rl: answering the validation prompts before the first step")
            run.log(0, _evaluate(0, config, parts, run))
        parts = parts.with_penalty(memory.missing_eos_penalty)
        clock = [time.perf_counter()]
        parts.sampler.load(parts.learner.policy, step - 1)
        rollouts = parts.sampler.generate(parts.stream.at(step), parts.stream.seeds(step))
        clock.append(time.perf_counter())
        with _saving_on_error(run, step - 1):
            scored = parts.scorer.score(rollouts)
        state = memory.algorithm
        credit = algorithm.credit(scored, state)
        clock.append(time.perf_counter())
        experience = Experience(scored=scored, credit=credit)
        metrics = parts.learner.update(experience, seed=run.seed, step=step, rate=rate(step))
        clock.append(time.perf_counter())
        metrics |= _count_skipped(metrics, step, config, parts, run)
        metrics |= _describe(scored, credit) | algorithm.metrics(scored, credit, state)
        metrics |= _texts(rollouts, parts) | _speeds(clock, scored)
        finite, memory.last_step = is_finite(metrics), step
        if finite:  # otherwise NaN would enter the checkpoint and the next step
            memory.algorithm = dict(algorithm.after(state, metrics, len(rollouts)))
            memory.last_kl = metrics.get("kl")
        memory.watch = watch = _watched(memory).stepped(step, metrics.get("kl"), finite)
        if step % config.eval_every == 0 or step == config.num_steps or watch.reason:
            metrics |= _evaluate(step, config, parts, run)
        run.log(step, metrics, show=SHOWN)
        if metrics["sampler_mismatch"] > MISMATCH_ALARM:
            gap = metrics["sampler_mismatch"]
            run.say(f"step {step}: sampler and trainer differ by {gap:.3f} in mean probability")
        if _watched(memory).reason:
            run.end()
    return _finish(config, memory, run)


def _count_skipped(
    metrics: dict[str, float], step: int, config: RlConfig, parts: Parts, run: StageRun
) -> dict[str, float]:
    """Count skipped optimiser steps, and stop if none has any effect."""
    steps, taken = int(metrics["optimizer_steps"]), int(metrics.pop("finite_steps"))
    guard, last = Guard(stage=run.name, section="rl"), step == config.num_steps
    health = parts.state.memory.health
    return guard.left_out(health, step, taken=taken, steps=steps, last=last)


@contextmanager
def _saving_on_error(run: StageRun, done: int) -> Generator[None]:
    """Save after `done` steps if the next step's reward raises UserError."""
    try:
        yield
    except UserError:
        if done:
            run.save(done)
        raise


def _evaluate(step: int, config: RlConfig, parts: Parts, run: StageRun) -> dict[str, float]:
    """Answer the validation prompts; keep the policy if it is the best so far."""
    memory = parts.state.memory
    parts.sampler.load(parts.learner.policy, step)
    metrics, samples = parts.validation.evaluate(step, memory.usual_surprise)
    run.log_samples(samples)
    if "missing_eos_penalty" in metrics:
        penalty = memory.missing_eos_penalty = metrics["missing_eos_penalty"]
        run.say(
            f"rl.missing_eos_penalty = {config.missing_eos_penalty:g} would reward never ending:"
            f" finished responses score about that or less; using {penalty:.3g}"
        )
    if step == 0:
        memory.usual_surprise = metrics.get("validation_surprise_95")
        memory.watch = _new_watch(config, parts, metrics)
        _warn_of_cut_off(metrics["validation_eos_rate"], config, run)
    watch = _watched(memory)
    if not watch.reason:
        memory.watch = watch = watch.evaluated(_evaluation(step, metrics))
        if watch.best is not None and watch.best.step == step:
            _keep(step, parts, run)
    return metrics


def _keep(step: int, parts: Parts, run: StageRun) -> None:
    """Save the policy of a step, and delete those that no checkpoint refers to.

    Each step has its own folder: after resuming from a checkpoint, the best policy in its memory
    still exists, even if a later one was better.
    """
    policy, tokenizer = parts.learner.policy, parts.tokenizer
    target = _policy_folder(run, step)
    run.write_folder(target, lambda folder: save_model(folder, policy, tokenizer))
    if not run.world.is_main:
        return
    watches = [memory.get("watch") for memory in memories(run.stage.checkpoints)]
    referred = {watch["best"]["step"] for watch in watches if watch and watch["best"]}
    keep = {_policy_folder(run, one) for one in (*referred, step)}
    for path in set((run.path / BEST).glob("step-*")) - keep:
        remove_folder(path)


def _policy_folder(run: StageRun, step: int) -> Path:
    """The folder of a step's policy."""
    return run.path / BEST / f"step-{step:06d}"


def _watched(memory: RlMemory) -> Watch:
    assert memory.watch is not None, "step 0 is always evaluated"
    return memory.watch


def _new_watch(config: RlConfig, parts: Parts, metrics: dict[str, float]) -> Watch:
    """A new watch; its price is per nat, in units of the held-out score.

    The price is 0 if a function gives the score: it is right about any answer, however far.
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


def _warn_of_cut_off(eos_rate: float, config: RlConfig, run: StageRun) -> None:
    """Warn early: a model that never ends is scored by the penalty alone."""
    if eos_rate < MOSTLY_CUT_OFF:
        run.say(
            f"step 0: {1 - eos_rate:.0%} of the validation answers are cut off at"
            f" {config.sampling.max_new_tokens} tokens and get the penalty instead of their score:"
            " raise rl.sampling.max_new_tokens"
        )


def _describe(scored: ScoredRollouts, credit: Credit) -> dict[str, float]:
    """Metrics of the batch (docs/algorithms.md#ppo-31); models that did not run have none.

    If the policy did not run before the update, the update returns its metrics.
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
    """Make the best checkpoint the stage's model."""
    watch = _watched(memory)
    best = watch.best
    assert best is not None, "step 0 is always evaluated"
    if watch.not_finite and best.step == 0:
        raise UserError(
            f"training has diverged: {watch.reason}, and no earlier policy was better than the"
            " initial one",
            where=run.name,
            fix="lower rl.learning_rate, or check the rewards and the models' weights",
        )
    # copied, not moved: an interrupted finish must find it again
    source = _policy_folder(run, best.step)
    target = run.write_folder(
        run.path / "model", lambda folder: shutil.copytree(source, folder, dirs_exist_ok=True)
    )
    reason = watch.reason or f"all {config.num_steps} steps are done"
    run.say(f"stopped because {reason}; kept the policy of step {best.step}")
    if best.step == 0:
        run.say("that is the initial model: no step close enough to be judged was better")
    doubt = "all of its answers were cut off" if best.eos_rate == 0 else ""
    if doubt:
        run.say(f"this choice is unreliable: {doubt}")
    run.finish(
        {
            "steps": memory.last_step,
            "kl": memory.last_kl,
            "stopped_because": reason,
            "best_step": best.step,
            "best_held_out_score": best.held_out,
            "best_kl": best.kl,
            "best_outside": best.outside,
            "cannot_choose": doubt,
            "skipped_steps": memory.health.skipped_steps,
        }
    )
    if run.world.is_main:
        remove_folder(run.path / BEST)
    return target
