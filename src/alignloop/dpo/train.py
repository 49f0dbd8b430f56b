"""Direct preference optimisation: learning from log(policy / reference) of whole responses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from alignloop.config import ALL_WEIGHTS, DpoConfig, LoraConfig, ModelConfig
from alignloop.data.batching import pad_batch
from alignloop.data.pairs import PairStore, TextCodes, batches_of_epochs
from alignloop.data.splits import hold_out
from alignloop.data.tokenise import Encoded, LengthLimit, check_tokenizer
from alignloop.dpo.objectives import PairLogprobs, make_loss
from alignloop.models import context_of, load_tokenizer, save_model, token_logprobs
from alignloop.models.initialise import init_policy
from alignloop.records import PreferencePair
from alignloop.run import derive_seed
from alignloop.run.progress import Say, now_and_then
from alignloop.run.stage_run import StageRun
from alignloop.shapes import PerSequence
from alignloop.training import Objective, fit
from alignloop.training.guard import above_coin_toss
from alignloop.training.pairs import Loss, PairLosses, PairScores, means, pair_step, scores_of

SHOWN = ("loss", "accuracy", "margin", "held_out_accuracy", "skipped_steps")


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A policy's log p(response | prompt), summed over the response's tokens and EOS."""

    policy: Any
    pad_id: int
    micro_batch_tokens: int

    def logprobs(self, texts: Sequence[Encoded]) -> PerSequence:
        """Log probabilities of some texts in one forward pass, in nats, [texts]."""
        batch = pad_batch(texts, self.pad_id)
        ids, attention, response = (
            batch[name] for name in ("input_ids", "attention_mask", "response_mask")
        )
        found = token_logprobs(self.policy, ids, attention, response, entropy=False)
        return found.logprobs.sum(dim=1)

    @torch.no_grad()
    def all_logprobs(self, store: PairStore, say: Say | None = None) -> PerSequence:
        """Those of all texts of a store, [texts], without gradient; `say` reports progress."""
        found = torch.zeros(len(store.texts))
        micro_batches = store.text_cuts(self.micro_batch_tokens)
        for micro_batch in now_and_then(
            micro_batches, say, "{done} of {total} texts read", sizes=map(len, micro_batches)
        ):
            found[micro_batch] = self.logprobs([store.texts[text] for text in micro_batch])
        return found


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Log probabilities under the initial policy, in nats, [pairs]; NaN if not computed."""

    chosen: PerSequence
    rejected: PerSequence

    @classmethod
    def of(
        cls, store: PairStore, rows: Sequence[int], reader: Reader, say: Say | None = None
    ) -> "Reference":
        """Compute them for some of the pairs."""
        part = store.take(rows)
        found = reader.all_logprobs(part, say)
        sides = [torch.full((len(store.pairs),), torch.nan) for _ in range(2)]
        for side, texts in zip(sides, (part.chosen, part.rejected), strict=True):
            side[list(rows)] = found[list(texts)]
        return cls(chosen=sides[0], rejected=sides[1])


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

    `split_seed` chooses the held-out prompts (default: the run's seed). The loss is that of
    `config.objective`.
    """
    tokenizer = load_tokenizer(model_dir, model_config)
    check_tokenizer(tokenizer, str(model_dir))
    limit = LengthLimit.of(
        "dpo.max_tokens", config.max_tokens, context_of(model_dir), config.too_long
    )
    splits_by = run.seed if split_seed is None else split_seed
    codes = TextCodes(tokenizer=tokenizer, limit=limit)
    fitting = PairStore.of(pairs, codes).pairs
    train_set, test_set = hold_out(fitting, config.held_out_share, splits_by, section="dpo")
    run.say(f"dpo: training on {len(train_set)} pairs, {len(test_set)} held out; loading the model")
    adapter_seed = derive_seed(run.seed, "adapter", "dpo")
    policy = init_policy(model_dir, tokenizer, model_config, lora, adapter_seed)
    train = PairStore.of(train_set, codes)
    test = PairStore.of(test_set, codes) if test_set else None
    objective = preference(config, policy, train, test, tokenizer.pad_token_id, run)
    memory = fit(objective, config, run)
    target = run.write_folder(
        run.path / "model", lambda folder: save_model(folder, policy, tokenizer)
    )
    facts = {"steps": len(objective.batches), "num_pairs": len(train_set)}
    run.finish(facts | memory.held_out)
    return target


def preference(
    config: DpoConfig,
    policy: Any,
    train: PairStore,
    test: PairStore | None,
    pad_id: int,
    run: StageRun,
) -> Objective:
    """The loss of `config.objective`; reads the reference now, before a checkpoint is loaded."""
    batches = batches_of_epochs(
        train.pairs,
        config.batch_size,
        run.seed,
        num_epochs=config.num_epochs,
        max_steps=config.max_steps,
    )
    rows_used = sorted({row for batch in batches for row in batch})  # fewer with max_steps
    reader = Reader(policy=policy, pad_id=pad_id, micro_batch_tokens=config.micro_batch_tokens)
    say = partial(_say_of_reference, run)
    count = len(rows_used) + (len(test.pairs) if test else 0)
    run.say(f"{run.name}: the reference reads {count} pairs")
    losses = pair_losses(config, train, Reference.of(train, rows_used, reader, say))
    measure = held_out_measure(config, test, reader, say) if test else None
    return Objective(
        role="policy",
        section="dpo",
        model=policy,
        batches=batches,
        step=lambda rows: pair_step(
            train, rows, reader.logprobs, losses, config.micro_batch_tokens
        ),
        limit=above_coin_toss,
        shown=SHOWN,
        measure=measure,
        eval_every=config.eval_every,
    )


def held_out_measure(
    config: DpoConfig, store: PairStore, reader: Reader, say: Say | None = None
) -> Callable[[], dict[str, float]]:
    """A function that returns loss and metrics of held-out pairs, as held_out_*."""
    rows = range(len(store.pairs))
    losses = pair_losses(config, store, Reference.of(store, rows, reader, say))

    def measure() -> dict[str, float]:
        scores = scores_of(store, reader.all_logprobs(store), torch.tensor(rows))
        return {f"held_out_{k}": v for k, v in means(store, scores, losses, store)[1].items()}

    return measure


def _say_of_reference(run: StageRun, text: str) -> None:
    run.say(f"{run.name}: the reference: {text}")


def pair_losses(config: DpoConfig, store: PairStore, reference: Reference) -> Loss:
    """The objective's loss and metrics of each pair.

    A reward is beta * log(policy / reference), the margin its difference, chosen minus rejected. A
    pair is right if the margin is above 0 and half right at 0: before the first step policy and
    reference are equal, so the accuracy is 0.5.
    """
    loss_of, beta = make_loss(config.objective), config.objective.beta
    # for objectives that use lengths
    tokens = torch.tensor([float(sum(text.response_mask)) for text in store.texts])
    chosen_tokens, rejected_tokens = tokens[list(store.chosen)], tokens[list(store.rejected)]

    def losses(scores: PairScores) -> PairLosses:
        rows = scores.rows
        pairs = PairLogprobs(
            chosen=scores.chosen,
            rejected=scores.rejected,
            ref_chosen=reference.chosen[rows],
            ref_rejected=reference.rejected[rows],
            chosen_tokens=chosen_tokens[rows],
            rejected_tokens=rejected_tokens[rows],
            preference=scores.preference,
        )
        chosen, rejected = (
            beta * ratio.detach() for ratio in (pairs.chosen_ratio, pairs.rejected_ratio)
        )
        margin = chosen - rejected
        return PairLosses(
            loss=loss_of(pairs),
            right=0.5 * (margin.sign() + 1),
            metrics={"chosen_reward": chosen, "rejected_reward": rejected, "margin": margin},
        )

    return losses
