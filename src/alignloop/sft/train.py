"""Supervised fine-tuning: cross-entropy on response tokens only."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from alignloop.config import ALL_WEIGHTS, LoraConfig, ModelConfig, SftConfig
from alignloop.data.batching import length_grouped_batches, pad_batch, token_budget_batches
from alignloop.data.splits import hold_out
from alignloop.data.templates import install_template
from alignloop.data.tokenise import (
    Encoded,
    LengthLimit,
    check_tokenizer,
    encode_demonstration,
    encode_fitting,
)
from alignloop.data.truncation import demonstration_cutter
from alignloop.errors import UserError
from alignloop.losses import reduce_tokens
from alignloop.models import context_of, load_tokenizer, save_model, token_logprobs
from alignloop.models.initialise import init_policy
from alignloop.records import Demonstration
from alignloop.run import derive_seed
from alignloop.run.stage_run import StageRun
from alignloop.training import LearningMemory, Objective, Step, fit
from alignloop.training.guard import above_uniform

PERPLEXITY = "held_out_perplexity"
SHOWN = ("loss", PERPLEXITY, "skipped_steps", "tokens_per_second")


def train_sft(
    config: SftConfig,
    model_config: ModelConfig,
    demonstrations: Sequence[Demonstration],
    run: StageRun,
    *,
    lora: LoraConfig = ALL_WEIGHTS,
    held_out: Sequence[Demonstration] = (),
    split_seed: int | None = None,
) -> Path:
    """Fine-tune the base model on demonstrations; returns the new model's directory.

        loss = -sum over response tokens of log p(token) / number of response tokens in the batch

    The perplexity is measured on `held_out`, or by default on a share of the demonstrations chosen
    by `split_seed` (default: the run's seed).
    """
    tokenizer = load_tokenizer(model_config.path, model_config)
    if model_config.chat_template:
        install_template(tokenizer, model_config.chat_template)
    check_tokenizer(tokenizer, model_config.path)
    splits_by = run.seed if split_seed is None else split_seed
    context = context_of(model_config.path)
    examples, tests = learning_set(config, demonstrations, held_out, tokenizer, context, splits_by)
    run.say(
        f"sft: training on {len(examples)} demonstrations, {len(tests)} held out; loading the model"
    )
    adapter_seed = derive_seed(run.seed, "adapter", "sft")
    policy = init_policy(model_config.path, tokenizer, model_config, lora, adapter_seed)
    objective = cross_entropy(config, policy, examples, tests, tokenizer.pad_token_id, run.seed)
    memory = fit(objective, config, run)
    refuse_diverged(memory, _vocabulary(policy))
    target = run.write_folder(
        run.path / "model", lambda folder: save_model(folder, policy, tokenizer)
    )
    run.finish(
        {
            "steps": len(objective.batches),
            "num_demonstrations": len(examples),
            "perplexity_before": memory.before.get(PERPLEXITY),
            "held_out_perplexity": memory.held_out.get(PERPLEXITY),
        }
    )
    return target


def cross_entropy(
    config: SftConfig,
    policy: Any,
    examples: Sequence[Encoded],
    tests: Sequence[Encoded],
    pad_id: int,
    seed: int,
) -> Objective:
    """Mean cross-entropy per response token, in nats; perplexity on held-out data."""

    def measure() -> dict[str, float]:
        return {PERPLEXITY: perplexity(policy, tests, pad_id, config)}

    return Objective(
        role="policy",
        section="sft",
        model=policy,
        batches=all_batches(examples, config, seed),
        step=lambda rows: _step(policy, [examples[row] for row in rows], pad_id, config),
        limit=above_uniform(_vocabulary(policy)),
        shown=SHOWN,
        measure=measure if tests else None,
        measures_start=True,
        eval_every=config.eval_every,
    )


def _vocabulary(policy: Any) -> int:
    return policy.get_output_embeddings().weight.shape[0]


def refuse_diverged(memory: LearningMemory, vocabulary: int) -> None:
    """Raise UserError if the held-out perplexity is worse than that of a uniform guess.

    A uniform guess has the vocabulary size as its perplexity. If the model started above that (an
    untrained one may), it must also end a tenth of a nat above its start to be refused.
    """
    found, first_loss = memory.held_out.get(PERPLEXITY), memory.health.first_loss
    if found is None or first_loss is None:
        return
    # an untrained model may start above a uniform guess without having diverged
    began = max(first_loss, math.log(memory.before.get(PERPLEXITY, 1.0)))
    if math.log(found) <= max(math.log(vocabulary), began + 0.1):
        return
    raise UserError(
        f"training has diverged: the held-out perplexity is {found:,.0f}; a uniform guess over the"
        f" vocabulary has {vocabulary:,}",
        where="sft",
        fix="lower sft.learning_rate",
    )


def learning_set(
    config: SftConfig,
    demonstrations: Sequence[Demonstration],
    held_out: Sequence[Demonstration],
    tokenizer: Any,
    context: int | None,
    split_seed: int,
) -> tuple[list[Encoded], list[Encoded]]:
    """Encoded training and held-out examples; raises UserError if texts do not fit.

    `context` is the model's context length in tokens.
    """
    share = 0.0 if held_out else config.held_out_share
    train_set, test_set = hold_out(demonstrations, share, split_seed, section="sft")
    test_set = [*held_out, *test_set]
    limit = LengthLimit.of("sft.max_tokens", config.max_tokens, context, config.too_long)
    examples = _encode(train_set, tokenizer, limit)
    return examples, _encode(test_set, tokenizer, limit) if test_set else []


def perplexity(policy: Any, examples: Sequence[Encoded], pad_id: int, config: SftConfig) -> float:
    """exp of the mean negative log-probability per response token, EOS included."""
    total, count = 0.0, 0
    with torch.no_grad():
        for indices in token_budget_batches(
            [len(e.input_ids) for e in examples], config.micro_batch_tokens
        ):
            batch = pad_batch([examples[i] for i in indices], pad_id)
            statistics = token_logprobs(
                policy, batch["input_ids"], batch["attention_mask"], batch["response_mask"]
            )
            total -= float(statistics.logprobs.sum())
            count += int(batch["response_mask"].sum())
    return math.exp(min(total / count, 700.0))  # exp overflows a double above 709


def _encode(
    demonstrations: Sequence[Demonstration], tokenizer: Any, limit: LengthLimit
) -> list[Encoded]:
    _, codes = encode_fitting(
        demonstrations,
        lambda d: encode_demonstration(tokenizer, d, limit.tokens),
        limit,
        demonstration_cutter(tokenizer, limit),
    )
    return codes


def all_batches(examples: Sequence[Encoded], config: SftConfig, seed: int) -> list[list[int]]:
    """The batches of all epochs in order: a function of the seed, so resuming needs no state."""
    lengths = [len(example.input_ids) for example in examples]
    batches: list[list[int]] = []
    for epoch in range(math.ceil(config.num_epochs)):
        batches += length_grouped_batches(lengths, config.batch_size, seed, epoch)
    # a fractional epoch ends in the middle of its batches
    steps = max(1, round(config.num_epochs * math.ceil(len(examples) / config.batch_size)))
    return batches[: min(steps, config.max_steps or steps)]


def _step(policy: Any, batch: Sequence[Encoded], pad_id: int, config: SftConfig) -> Step:
    """The batch's mean loss per response token, however it is split into micro-batches."""
    count = sum(sum(example.response_mask) for example in batch)
    lengths = [len(example.input_ids) for example in batch]

    def loss(micro_batch: list[int]) -> tuple[torch.Tensor, dict[str, float]]:
        padded = pad_batch([batch[i] for i in micro_batch], pad_id)
        mask = padded["response_mask"]
        statistics = token_logprobs(
            policy, padded["input_ids"], padded["attention_mask"], mask, entropy=False
        )
        found = reduce_tokens(-statistics.logprobs, mask, count=count)
        return found, {"loss": float(found.detach())}

    micro_batches = token_budget_batches(lengths, config.micro_batch_tokens)
    return Step(micro_batches=micro_batches, loss=loss, tokens=sum(lengths))
