"""Reward models that read texts by their own tokenizer and template, whoever made them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from alignloop.config import ModelConfig
from alignloop.data.batching import token_budget_batches
from alignloop.data.templates import apply_template, install_template
from alignloop.data.tokenise import encode_example
from alignloop.errors import UserError
from alignloop.models import (
    RewardScale,
    context_of,
    load_reward_model,
    load_tokenizer,
    read_reward_scale,
    sequence_scores,
)
from alignloop.models.saving import SCALE_FILE
from alignloop.records import Message, Prompt

Encode = Callable[[Any, Prompt, str], dict[str, list[int]]]


class TextScorer(Protocol):
    """Anything that gives each response a number, from texts alone."""

    def scores(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Sequence[float]:
        """One number per response."""
        ...


@dataclass(frozen=True, kw_only=True)
class RewardModel:
    """A sequence classification model with one label; `context` is what it can read, in tokens."""

    model: Any
    tokenizer: Any
    encode: Encode
    scale: RewardScale
    name: str
    context: int | None
    micro_batch_tokens: int

    @classmethod
    def load(cls, folder: str | Path, config: ModelConfig, *, micro_batch_tokens: int) -> Self:
        """From a model directory. Raises UserError where nothing says how it reads."""
        tokenizer = load_tokenizer(folder, config)
        model = load_reward_model(folder, tokenizer, config).requires_grad_(False)
        limits = (context_of(folder), tokenizer.model_max_length)
        return cls(
            model=model,
            tokenizer=tokenizer,
            encode=_encoding_of(Path(folder), model, tokenizer, config),
            scale=read_reward_scale(folder),
            name=str(folder),
            context=min((n for n in limits if n is not None and n < 10**9), default=None),
            micro_batch_tokens=micro_batch_tokens,
        )

    @torch.no_grad()
    def scores(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[float]:
        """(raw - bias) / scale of each response. Raises UserError for one that is too long."""
        codes = [self._encoded(*text) for text in zip(prompts, responses, strict=True)]
        lengths = [len(code["input_ids"]) for code in codes]
        found = torch.zeros(len(codes))
        for rows in token_budget_batches(lengths, self.micro_batch_tokens):
            found[rows] = self._raw([codes[row] for row in rows])
        return [(raw - self.scale.bias) / self.scale.scale for raw in found.tolist()]

    def _encoded(self, prompt: Prompt, response: str) -> dict[str, list[int]]:
        code = self.encode(self.tokenizer, prompt, response)
        length = len(code["input_ids"])
        if self.context is not None and length > self.context:
            raise UserError(
                f"prompt and response are {length} tokens to this reward model, which reads"
                f" {self.context}",
                where=f'{self.name}, prompt_id "{prompt.prompt_id}"',
                fix="lower rl.max_prompt_tokens or rl.sampling.max_new_tokens",
            )
        return code

    def _raw(self, codes: Sequence[dict[str, list[int]]]) -> Tensor:
        """Raw scores [batch]; a head at every token is read at the last one that counts."""
        batch = {
            name: pad_sequence([torch.tensor(code[name]) for code in codes], batch_first=True)
            for name in codes[0]
        }
        lengths = torch.tensor([len(code["input_ids"]) for code in codes])
        mask = torch.arange(batch["input_ids"].shape[1]) < lengths.unsqueeze(1)
        batch["input_ids"] = batch["input_ids"].masked_fill(~mask, self.tokenizer.pad_token_id)
        if _reads_last_token(self.model):
            return sequence_scores(self.model, batch["input_ids"], mask)
        there = {name: value.to(self.model.device) for name, value in batch.items()}
        attention = mask.long().to(self.model.device)
        return self.model(**there, attention_mask=attention).logits[:, 0].float().cpu()


def _reads_last_token(model: Any) -> bool:
    """A causal model, with its head `score` at every token; others have one of their own kind."""
    return isinstance(getattr(model, "score", None), nn.Linear)


def _encoding_of(folder: Path, model: Any, tokenizer: Any, config: ModelConfig) -> Encode:
    """How the model was taught to read: as ours are, by its template, or as two texts."""
    causal = _reads_last_token(model)
    if not tokenizer.chat_template and config.chat_template and causal:
        install_template(tokenizer, config.chat_template)
    if (folder / SCALE_FILE).exists() and tokenizer.eos_token_id is not None:
        return _as_ours
    if tokenizer.chat_template:
        return _as_conversation
    if not causal:
        return _as_two_texts
    raise UserError(
        "this reward model has another tokenizer than the policy, and no chat template of its own",
        where=str(folder),
        fix='set model.chat_template = "chatml", or save its template with its tokenizer',
    )


def _as_ours(tokenizer: Any, prompt: Prompt, response: str) -> dict[str, list[int]]:
    return {
        "input_ids": list(encode_example(tokenizer, prompt, response, max_tokens=10**9).input_ids)
    }


def _as_conversation(tokenizer: Any, prompt: Prompt, response: str) -> dict[str, list[int]]:
    messages = (*prompt.messages, Message(role="assistant", content=response))
    return {"input_ids": apply_template(tokenizer, messages, add_generation_prompt=False)}


def _as_two_texts(tokenizer: Any, prompt: Prompt, response: str) -> dict[str, list[int]]:
    asked = "\n".join(message.content for message in prompt.messages)
    code = tokenizer(asked, response)
    return {name: code[name] for name in ("input_ids", "token_type_ids") if name in code}
