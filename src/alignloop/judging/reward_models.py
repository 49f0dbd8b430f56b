"""Reward models with their own tokenizer and template, from any library."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from alignloop.config import ModelConfig
from alignloop.data.batching import token_budget_batches
from alignloop.data.templates import apply_template, install_template
from alignloop.data.tokenise import encode_example
from alignloop.errors import UserError
from alignloop.judging.judges import chance, verdict
from alignloop.judging.protocol import Answer, JudgeFacts, Rater, facts_of_model
from alignloop.models import (
    RewardScale,
    context_of,
    load_tokenizer,
    read_reward_scale,
    sequence_scores,
)
from alignloop.models.initialise import load_frozen_reward_model
from alignloop.models.kinds import by_openrlhf, is_ours, scale_in_config, unread_token
from alignloop.records import Message, Prompt, Verdict
from alignloop.tensors import floats

Encode = Callable[[Any, Prompt, str], dict[str, list[int]]]


@dataclass(frozen=True, kw_only=True)
class RewardModel(Rater):
    """A sequence classification model with one label; `context` is its context length in tokens.

    `unread` is a token that it skips at a text's end (`sequence_scores`). `name` is its name in
    reports, `folder` its directory.
    """

    model: Any
    tokenizer: Any
    encode: Encode
    scale: RewardScale
    folder: str
    name: str
    context: int | None
    micro_batch_tokens: int
    unread: int | None = None

    @classmethod
    def load(
        cls,
        folder: str | Path,
        config: ModelConfig,
        *,
        micro_batch_tokens: int,
        policy: Any = None,
        name: str | None = None,
    ) -> Self:
        """Load a model directory; shares the base of `policy` if it is an adapter of that model.

        Raises UserError if its input format is unknown.
        """
        path = Path(folder)
        tokenizer = load_tokenizer(path, config, as_it_is=not is_ours(path))
        model = load_frozen_reward_model(path, tokenizer, config, policy=policy)
        limits = (context_of(path), tokenizer.model_max_length)
        causal = _reads_one_token(model)
        return cls(
            model=model,
            tokenizer=tokenizer,
            encode=_encoding_of(path, causal, tokenizer, config),
            scale=scale_of(path),
            folder=str(folder),
            name=name or f"reward model {folder}",
            context=min((n for n in limits if n is not None and n < 10**9), default=None),
            micro_batch_tokens=micro_batch_tokens,
            unread=unread_token(path, tokenizer) if causal else None,
        )

    @property
    def facts(self) -> JudgeFacts:
        """The reward model by its name."""
        return facts_of_model(self.name, self.folder)

    def rate(self, prompts: Sequence[Prompt], answers: Sequence[Answer]) -> list[Verdict]:
        """(raw - bias) / scale as reward, and the calibrated chance of beating a demonstration."""
        rewards = self.scores(prompts, [answer.text for answer in answers])
        return [
            verdict(reward, chance(reward, self.scale), answer)
            for reward, answer in zip(rewards, answers, strict=True)
        ]

    @torch.no_grad()
    def scores(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[float]:
        """(raw - bias) / scale of each response.

        Raises UserError if a text is too long or a score is not finite.
        """
        codes = [self._encoded(*text) for text in zip(prompts, responses, strict=True)]
        lengths = [len(code["input_ids"]) for code in codes]
        found = torch.zeros(len(codes))
        for rows in token_budget_batches(lengths, self._budget()):
            found[rows] = self._raw([codes[row] for row in rows])
        scores = [(raw - self.scale.bias) / self.scale.scale for raw in floats(found)]
        for prompt, score in zip(prompts, scores, strict=True):
            if not math.isfinite(score):
                raise UserError(
                    f"the reward model's score is {score}, which is not finite",
                    where=f'{self.folder}, prompt_id "{prompt.prompt_id}"',
                    fix="its weights are damaged, or too large for model.dtype",
                )
        return scores

    def reads_ids_of(self, tokenizer: Any) -> bool:
        """Whether a causal model has the same token ids as another tokenizer.

        Then it can score every token; an added PAD of that tokenizer also needs an embedding row.
        """
        theirs = tokenizer.get_vocab()
        rows = self.model.get_input_embeddings().weight.shape[0]
        same = all(theirs.get(word) == i for word, i in self.tokenizer.get_vocab().items())
        return _reads_one_token(self.model) and same and len(tokenizer) <= rows

    def _encoded(self, prompt: Prompt, response: str) -> dict[str, list[int]]:
        code = self.encode(self.tokenizer, prompt, response)
        length = len(code["input_ids"])
        if self.context is not None and length > self.context:
            raise UserError(
                f"prompt and response have {length} tokens for this reward model, whose context is"
                f" {self.context}",
                where=f'{self.folder}, prompt_id "{prompt.prompt_id}"',
                fix="lower rl.max_prompt_tokens or rl.sampling.max_new_tokens",
            )
        return code

    def _budget(self) -> int:
        """Micro-batch budget; 1 (single texts) if the model finds ends by PAD but has none."""
        finds_ends = _reads_one_token(self.model) or self.model.config.pad_token_id is not None
        return self.micro_batch_tokens if finds_ends else 1

    def _raw(self, codes: Sequence[dict[str, list[int]]]) -> Tensor:
        """Raw scores [batch]; a head at every token is read at the last one."""
        batch = {
            name: pad_sequence([torch.tensor(code[name]) for code in codes], batch_first=True)
            for name in codes[0]
        }
        lengths = torch.tensor([len(code["input_ids"]) for code in codes])
        mask = torch.arange(batch["input_ids"].shape[1]) < lengths.unsqueeze(1)
        pad = self.model.config.pad_token_id or 0
        # models that find the end by PAD must not see another id there
        batch["input_ids"] = batch["input_ids"].masked_fill(~mask, pad)
        if _reads_one_token(self.model):
            return sequence_scores(self.model, batch["input_ids"], mask, unread=self.unread)
        inputs = {name: value.to(self.model.device) for name, value in batch.items()}
        attention = mask.long().to(self.model.device)
        return self.model(**inputs, attention_mask=attention).logits[:, 0].float().cpu()


def reads_tokens_of(tokenizer: Any, folder: Path, config: ModelConfig) -> bool:
    """Whether a reward model was trained here, with the same vocabulary and chat template.

    Other libraries' models also read what their template writes after the end of a turn.
    """
    if not is_ours(folder):
        return False
    own = load_tokenizer(folder, config)
    same_words = own.get_vocab() == tokenizer.get_vocab()
    return same_words and own.chat_template in (None, tokenizer.chat_template)


def scale_of(folder: Path) -> RewardScale:
    """The scale for raw scores: stored with the model, from its config.json, or identity."""
    if not is_ours(folder) and (found := scale_in_config(folder)) is not None:
        return RewardScale(bias=found[0], scale=found[1])
    return read_reward_scale(folder)


def _reads_one_token(model: Any) -> bool:
    """Whether a causal model, with its head `score` at every token."""
    return isinstance(getattr(model, "score", None), nn.Linear)


def _encoding_of(folder: Path, causal: bool, tokenizer: Any, config: ModelConfig) -> Encode:
    """The input format the model was trained with: ours, its chat template, or two texts."""
    if not tokenizer.chat_template and config.chat_template and causal:
        install_template(tokenizer, config.chat_template)
    # decision 0023: a reward model must read texts as in its training
    if is_ours(folder) and tokenizer.eos_token_id is not None:
        return _as_ours
    if tokenizer.chat_template:
        return _as_openrlhf if by_openrlhf(folder) else _as_conversation
    if not causal:
        return _as_two_texts
    raise UserError(
        "this reward model has no chat template, so its input format is unknown",
        where=str(folder),
        fix='set model.chat_template = "chatml", or save its template with its tokenizer',
    )


def _as_ours(tokenizer: Any, prompt: Prompt, response: str) -> dict[str, list[int]]:
    return {
        "input_ids": list(encode_example(tokenizer, prompt, response, max_tokens=10**9).input_ids)
    }


def _as_conversation(tokenizer: Any, prompt: Prompt, response: str) -> dict[str, list[int]]:
    """The whole conversation with whatever the template appends, as TRL trains."""
    messages = (*prompt.messages, Message(role="assistant", content=response))
    return {"input_ids": apply_template(tokenizer, messages, add_generation_prompt=False)}


def _as_openrlhf(tokenizer: Any, prompt: Prompt, response: str) -> dict[str, list[int]]:
    """The conversation without trailing line breaks, and with " " and EOS unless it ends in EOS.

    Source: OpenRLHF, openrlhf/datasets/reward_dataset.py.
    """
    ids = _as_conversation(tokenizer, prompt, response)["input_ids"]
    while ids and not tokenizer.decode(ids[-1:]).strip("\n"):
        ids = ids[:-1]
    if tokenizer.eos_token_id is not None and ids[-1:] != [tokenizer.eos_token_id]:
        space = tokenizer.encode(" ", add_special_tokens=False)
        ids = [*ids, *space, tokenizer.eos_token_id]
    return {"input_ids": ids}


def _as_two_texts(tokenizer: Any, prompt: Prompt, response: str) -> dict[str, list[int]]:
    question = "\n".join(message.content for message in prompt.messages)
    code = tokenizer(question, response)
    return {name: code[name] for name in ("input_ids", "token_type_ids") if name in code}
