"""Direct preference optimisation: the ranking loss on log(policy / reference) of whole answers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch

from alignloop.config import ALL_WEIGHTS, DpoConfig, LoraConfig, ModelConfig
from alignloop.data.batching import pad_batch, token_budget_batches
from alignloop.data.pairs import (
    PairBatch,
    batches_of_epochs,
    encode_pairs,
    one_pass_batches,
    pairs_that_fit,
)
from alignloop.data.splits import hold_out
from alignloop.data.tokenise import Encoded, LengthLimit, check_tokenizer
from alignloop.losses import dpo_loss
from alignloop.models import context_of, load_tokenizer, save_model, token_logprobs
from alignloop.models.initialise import init_policy
from alignloop.models.shared_base import dropping, trainable
from alignloop.models.training import (
    Guard,
    above_coin_toss,
    backward_through_scores,
    cosine_schedule,
    descend,
    make_optimizer,
)
from alignloop.records import PreferencePair
from alignloop.run import derive_seed
from alignloop.run.files import atomic_folder
from alignloop.run.progress import Say, now_and_then
from alignloop.run.stage_run import StageRun
from alignloop.run.training_state import TrainingState
from alignloop.shapes import PerSequence

SHOWN = ("loss", "accuracy", "margin", "held_out_accuracy", "skipped_steps")


@dataclass(frozen=True, kw_only=True)
class ReferencePairs:
    """Pairs with the reference's log probabilities of both answers, [pairs], in nats."""

    pairs: Sequence[PreferencePair]
    chosen: PerSequence
    rejected: PerSequence

    def take(self, rows: Sequence[int]) -> Self:
        """Some of the pairs."""
        index = torch.tensor(rows)
        pairs = [self.pairs[row] for row in rows]
        return type(self)(pairs=pairs, chosen=self.chosen[index], rejected=self.rejected[index])


@dataclass(frozen=True, kw_only=True)
class Learner:
    """The policy, its tokenizer, and how they read pairs."""

    policy: Any
    tokenizer: Any
    config: DpoConfig

    def encode(self, pairs: Sequence[PreferencePair]) -> PairBatch:
        """The pairs with each text once."""
        return encode_pairs(pairs, self.tokenizer, self.config.max_tokens)

    def cuts(self, texts: Sequence[Encoded]) -> list[list[int]]:
        """Texts of similar length, within the budget of tokens."""
        lengths = [len(text.input_ids) for text in texts]
        return token_budget_batches(lengths, self.config.micro_batch_tokens)

    def logprobs(self, texts: Sequence[Encoded], indices: Sequence[int]) -> PerSequence:
        """log p(response | prompt) of some texts: summed over the response's tokens and its EOS."""
        batch = pad_batch([texts[i] for i in indices], self.tokenizer.pad_token_id)
        ids, attention, response = (
            batch[name] for name in ("input_ids", "attention_mask", "response_mask")
        )
        found = token_logprobs(self.policy, ids, attention, response, entropy=False)
        return found.logprobs.sum(dim=1)

    @torch.no_grad()
    def all_logprobs(self, batch: PairBatch, say: Say | None = None) -> PerSequence:
        """The same of all texts, [texts], without gradient; `say` hears how far it is."""
        found = torch.zeros(len(batch.texts))
        cuts = one_pass_batches(batch, self.config.micro_batch_tokens) or self.cuts(batch.texts)
        for cut in now_and_then(cuts, say, "{done} of {total} texts read", sizes=map(len, cuts)):
            found[cut] = self.logprobs(batch.texts, cut)
        return found

    def as_reference(
        self, pairs: Sequence[PreferencePair], say: Say | None = None
    ) -> ReferencePairs:
        """What the policy says before it has learnt anything: the reference of all that follows."""
        batch = self.encode(pairs)
        found = self.all_logprobs(batch, say)
        chosen, rejected = found[list(batch.chosen)], found[list(batch.rejected)]
        return ReferencePairs(pairs=pairs, chosen=chosen, rejected=rejected)

    def accumulate(self, reference: ReferencePairs) -> dict[str, float]:
        """Gradients of the pairs' weighted mean loss; returns its metrics."""
        batch = self.encode(reference.pairs)
        whole = one_pass_batches(batch, self.config.micro_batch_tokens)
        if whole is not None:
            return self._accumulate_whole_pairs(batch, reference, whole)
        loss, metrics = backward_through_scores(
            lambda indices: self.logprobs(batch.texts, indices),
            self.cuts(batch.texts),
            lambda logprobs: pair_loss(logprobs, batch, reference, self.config),
        )
        return {"loss": loss, **metrics}

    def _accumulate_whole_pairs(
        self, batch: PairBatch, reference: ReferencePairs, cuts: Sequence[list[int]]
    ) -> dict[str, float]:
        """One pass over micro-batches that part no pair; each counts by its share of the whole."""
        sums: dict[str, float] = {}
        for indices in cuts:
            part, kept = batch.part(indices), batch.pairs_among(indices)
            logprobs = self.logprobs(part.texts, range(len(part.texts)))
            loss, metrics = pair_loss(logprobs, part, reference.take(kept), self.config)
            share = sum(part.weight) / sum(batch.weight)
            (loss * share).backward()
            shares = {"loss": share, "accuracy": _decided_share(part, batch)}
            for name, value in {"loss": loss.item(), **metrics}.items():
                counted = value * shares.get(name, len(kept) / len(batch.chosen))
                sums[name] = sums.get(name, 0.0) + counted
        return sums

    def measure(self, reference: ReferencePairs) -> dict[str, float]:
        """Loss and metrics of held-out pairs."""
        batch = self.encode(reference.pairs)
        logprobs = self.all_logprobs(batch)
        loss, metrics = pair_loss(logprobs, batch, reference, self.config)
        return {f"held_out_{name}": v for name, v in {"loss": float(loss), **metrics}.items()}


def train_dpo(
    config: DpoConfig,
    model_config: ModelConfig,
    model_dir: str | Path,
    pairs: Sequence[PreferencePair],
    run: StageRun,
    *,
    lora: LoraConfig = ALL_WEIGHTS,
    split_seed: int | None = None,
) -> Path:
    """Train the model of `model_dir` on preference pairs; returns the new model's directory.

    `split_seed` chooses the held-out prompts; none = the run's seed.

    loss = mean over pairs of -log sigmoid(beta * (log ratio of chosen - log ratio of rejected))

    Source: Rafailov et al. 2023 (arXiv:2305.18290).
    """
    tokenizer = load_tokenizer(model_dir, model_config)
    check_tokenizer(tokenizer, str(model_dir))
    limit = LengthLimit.of(
        "dpo.max_tokens", config.max_tokens, context_of(model_dir), config.too_long
    )
    splits_by = run.seed if split_seed is None else split_seed
    fitting = pairs_that_fit(pairs, tokenizer, limit)
    train_set, test_set = hold_out(fitting, config.held_out_share, splits_by, section="dpo")
    run.say(f"dpo: {len(train_set)} pairs to learn, {len(test_set)} held out; loading the model")
    adapter_seed = derive_seed(run.seed, "adapter", "dpo")
    policy = init_policy(model_dir, tokenizer, model_config, lora, adapter_seed)
    learner = Learner(policy=policy, tokenizer=tokenizer, config=config)
    batches, wanted = _in_use(
        batches_of_epochs(
            train_set,
            config.batch_size,
            run.seed,
            num_epochs=config.num_epochs,
            max_steps=config.max_steps,
        )
    )
    say = partial(_say_of_reference, run)
    run.say(f"{run.name}: the reference reads {len(wanted) + len(test_set)} pairs")
    # before a checkpoint moves the policy
    reference = learner.as_reference([train_set[i] for i in wanted], say)
    held_out = learner.as_reference(test_set, say) if test_set else None
    optimizer = make_optimizer(policy, config)
    schedule = cosine_schedule(len(batches), config.warmup_share)
    state = TrainingState(modules={"policy": trainable(policy)}, optimizers={"policy": optimizer})
    guard = Guard(stage=run.name, section="dpo", limit=above_coin_toss)
    for step in run.steps(len(batches), state, save_every=config.save_every):
        started = time.perf_counter()
        with dropping(policy, derive_seed(run.seed, "dropout", "dpo", step)):
            metrics = learner.accumulate(reference.take(batches[step - 1]))
        rate = config.learning_rate * schedule(step)
        norm = descend(optimizer, learning_rate=rate, max_grad_norm=config.max_grad_norm)
        last = step == len(batches)
        metrics |= guard.seen(run.memory, step, loss=metrics["loss"], norm=norm, last=last)
        metrics |= {"gradient_norm": norm, "learning_rate": rate}
        metrics["seconds_per_step"] = time.perf_counter() - started
        if held_out and (last or (config.eval_every and step % config.eval_every == 0)):
            run.memory["held_out"] = learner.measure(held_out)
            metrics |= run.memory["held_out"]
        run.log(step, metrics, show=SHOWN)
    target = run.path / "model"
    with atomic_folder(target) as folder:
        save_model(folder, policy, tokenizer)
    run.finish(
        {"steps": len(batches), "num_pairs": len(train_set), **run.memory.get("held_out", {})}
    )
    return target


def _say_of_reference(run: StageRun, text: str) -> None:
    run.say(f"{run.name}: the reference: {text}")


def _in_use(batches: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[int]]:
    """The batches over those pairs alone that a step will learn, and which pairs these are.

    With max_steps that is a part of them: the reference need not read the rest.
    """
    wanted = sorted({row for batch in batches for row in batch})
    place = {row: number for number, row in enumerate(wanted)}
    return [[place[row] for row in batch] for batch in batches], wanted


def pair_loss(
    logprobs: PerSequence, batch: PairBatch, reference: ReferencePairs, config: DpoConfig
) -> tuple[torch.Tensor, dict[str, float]]:
    """The weighted mean loss of some pairs, and what it has made of them.

    A reward is beta * log(policy / reference), the margin that of chosen minus that of rejected;
    accuracy is the share of decided pairs (no ties) with a margin above 0, a margin of 0 counting
    half: before the first step, where policy and reference are one, it is 0.5.
    """
    chosen, rejected = logprobs[list(batch.chosen)], logprobs[list(batch.rejected)]
    preference, weight = torch.tensor(batch.preference), torch.tensor(batch.weight)
    losses = dpo_loss(
        chosen,
        rejected,
        reference.chosen,
        reference.rejected,
        beta=config.beta,
        label_smoothing=config.label_smoothing,
        preference=preference,
    )
    chosen_reward = config.beta * (chosen.detach() - reference.chosen)
    rejected_reward = config.beta * (rejected.detach() - reference.rejected)
    decided = preference != 0.5
    margins = (chosen_reward - rejected_reward)[decided]
    right = 0.5 * (margins.sign() + 1)
    return (losses * weight).sum() / weight.sum(), {
        "accuracy": float(right.mean()) if len(right) else 0.5,
        "chosen_reward": float(chosen_reward.mean()),
        "rejected_reward": float(rejected_reward.mean()),
        "margin": float((chosen_reward - rejected_reward).mean()),
    }


def _decided_share(part: PairBatch, batch: PairBatch) -> float:
    """The share of the batch's decided pairs that stand in a part; of all pairs if all are ties."""
    decided, total = (sum(p != 0.5 for p in b.preference) for b in (part, batch))
    return decided / total if total else len(part.chosen) / len(batch.chosen)
