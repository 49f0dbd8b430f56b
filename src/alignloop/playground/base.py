"""Build the playground's base model: tokenizer, then pre-training on the world's text.

Run by `alignloop playground build-base`. Everything follows from the seed, so the model can be
reproduced; base.json records seed, tokens, wall time, losses and the checksum.
"""

import hashlib
import itertools
import json
import math
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from alignloop.playground.corpus import ASSISTANT, USER, documents

# Rows at a time: all 24 at once exceed a CPU's cache, and a step takes a quarter longer.
MICRO_BATCH = 4
PAD, END, SYSTEM = "<|pad|>", "<|end|>", "<|system|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


class BaseRecipe(BaseModel):
    """Settings of the base model; the defaults made the one in the package."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    vocab_size: int = 6144
    hidden_size: int = 192
    intermediate_size: int = 512
    num_layers: int = 5
    num_heads: int = 6
    context: int = 512
    sequence_length: int = 192
    batch_size: int = 24
    steps: int = 1500
    muon_learning_rate: float = 5e-3
    adamw_learning_rate: float = 3e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    log_every: int = 20


def build_base(
    recipe: BaseRecipe, out: Path, *, stop_after: int | None = None, say: Any = print
) -> dict[str, Any]:
    """Train tokenizer and model into `out`; returns the content of base.json.

    `stop_after` ends early on the same schedule, so its losses equal those of a full build.
    """
    import torch

    from alignloop.tensors import RANDOM

    RANDOM.manual_seed(recipe.seed)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(recipe)
    tokenizer.save_pretrained(out)
    model = _new_model(recipe, tokenizer)
    say(f"base model: {sum(p.numel() for p in model.parameters()):,} parameters")
    started = time.perf_counter()
    steps = min(recipe.steps, stop_after or recipe.steps)
    losses = _pretrain(model, tokenizer, recipe, steps, say)
    model.half().save_pretrained(out, safe_serialization=True)
    facts = {
        "recipe": recipe.model_dump(),
        "tokens_seen": steps * recipe.batch_size * recipe.sequence_length,
        "wall_seconds": round(time.perf_counter() - started, 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "losses": losses,
        "sha256": hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest(),
    }
    (out / "base.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return facts


def train_tokenizer(recipe: BaseRecipe) -> Any:
    """A byte-level BPE tokenizer from the first 20,000 documents; PAD and EOS are distinct."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocab_size,
        special_tokens=[PAD, END, SYSTEM, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=12,  # bytes, or four Chinese characters: no sentence becomes one token
        show_progress=False,
    )
    texts = itertools.islice(documents(recipe.seed), 20_000)
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        model_max_length=recipe.context,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _new_model(recipe: BaseRecipe, tokenizer: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden_size,
            intermediate_size=recipe.intermediate_size,
            num_hidden_layers=recipe.num_layers,
            num_attention_heads=recipe.num_heads,
            num_key_value_heads=recipe.num_heads,
            max_position_embeddings=recipe.context,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )


def _pretrain(
    model: Any, tokenizer: Any, recipe: BaseRecipe, steps: int, say: Any
) -> list[list[float]]:
    """Next-token training with a cosine schedule; returns [[step, loss], ...]."""
    import torch

    optimizers = _optimizers(model, recipe)
    losses: list[list[float]] = []
    model.train()
    for step, batch in zip(range(steps), _batches(tokenizer, recipe), strict=False):
        for optimizer, rate in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * _schedule(step, recipe)
        loss = _backward(model, torch.tensor(batch), tokenizer.pad_token_id)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, _ in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if step % recipe.log_every == 0 or step == steps - 1:
            losses.append([step, round(loss, 4)])
            say(f"step {step}/{recipe.steps} loss {loss:.4f}")
    return losses


def _backward(model: Any, tokens: Any, pad_id: int) -> float:
    """Gradients of the mean loss over unpadded tokens, in micro-batches that fit the CPU cache."""
    from torch.autograd import backward
    from torch.nn.functional import cross_entropy

    count, total = int((tokens[:, 1:] != pad_id).sum()), 0.0
    for part in tokens.split(MICRO_BATCH):
        targets = part[:, 1:]
        counts = targets != pad_id
        hidden = model.model(input_ids=part, use_cache=False).last_hidden_state[:, :-1]
        logits = model.lm_head(hidden[counts])
        loss = cross_entropy(logits, targets[counts], reduction="sum") / count
        backward(loss)
        total += loss.item()
    return total


def _optimizers(model: Any, recipe: BaseRecipe) -> list[tuple[Any, float]]:
    """Muon for the layers' matrices, AdamW for embedding and norms, each with its rate."""
    import torch

    from alignloop.playground.muon import Muon

    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    in_matrices = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in in_matrices]
    muon = Muon(matrices, recipe.muon_learning_rate, weight_decay=recipe.weight_decay)
    adamw = torch.optim.AdamW(rest, betas=(0.9, 0.95), weight_decay=recipe.weight_decay)
    return [(muon, recipe.muon_learning_rate), (adamw, recipe.adamw_learning_rate)]


def _schedule(step: int, recipe: BaseRecipe) -> float:
    """Linear warm-up, then a cosine to a twentieth of the peak."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))


def _batches(tokenizer: Any, recipe: BaseRecipe) -> Iterator[list[list[int]]]:
    """Whole documents, each with EOS, packed into rows of equal length; PAD fills the rest.

    Documents are not split across rows: a second half alone would teach the model to continue
    without a question.
    """
    rows: list[list[int]] = []
    row: list[int] = []
    for text in documents(recipe.seed):
        ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        ids = ids[: recipe.sequence_length]
        if len(row) + len(ids) > recipe.sequence_length:
            padding = [tokenizer.pad_token_id] * (recipe.sequence_length - len(row))
            rows.append(row + padding)
            row = []
        row = row + ids
        if len(rows) == recipe.batch_size:
            yield rows
            rows = []
