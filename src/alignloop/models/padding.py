"""A separate PAD token: chosen or added, and given a row in the embedding.

See docs/algorithms.md#ppo-1.
"""

import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from alignloop.errors import UserError
from alignloop.models.library import untyped

# Names of padding tokens and of reserved ones, without the signs around them: "<|pad|>",
# "<|finetune_right_pad_id|>"; "<|reserved_special_token_7|>".
FOR_PADDING = re.compile(r"(finetune_?right_?)?pad(ding)?(_?(token|id))*")
UNUSED = re.compile(r"(reserved|unused|placeholder)(_?special)?(_?token)?_?\d*")
NEW = "<|pad|>"
logger = logging.getLogger(__name__)


def give_pad(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Give the tokenizer a PAD token if it has none, or one with another meaning.

    Another meaning is EOS, or a token that the chat template writes: padding would look like an
    end, and transformers would read a text's score too early. First choice is a special token named
    for padding, then the last reserved one; otherwise "<|pad|>" is added. This is logged;
    `fit_embeddings` gives it a row, and saving keeps both.
    """
    given = _pad_of(tokenizer) is not None
    if given and not _has_meaning(str(tokenizer.pad_token), tokenizer):
        return
    added = [token for _, token in sorted(tokenizer.added_tokens_decoder.items(), reverse=True)]
    free = [token for token in added if not _has_meaning(token.content, tokenizer)]
    named = [token for token in free if _is_named(token, FOR_PADDING)]
    named += [token for token in free if token.special and _is_named(token, UNUSED)]
    name = named[0].content if named else NEW
    reason = "the tokenizer has no padding token"
    if given:
        reason = f"the tokenizer's own, {tokenizer.pad_token}, ends or opens turns"
    tokenizer.add_special_tokens({"pad_token": name})
    logger.warning("%s: padding with %s, because %s", where, name, reason)


def pad_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of PAD, which every tokenizer that trains or samples has (`give_pad`)."""
    pad = _pad_of(tokenizer)
    assert pad is not None
    return pad


def _pad_of(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id of PAD, for which transformers declares types that one token cannot have."""
    pad: Any = tokenizer.pad_token_id
    return pad


def _has_meaning(token: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    return token == tokenizer.eos_token or token in str(untyped(tokenizer).chat_template or "")


def _is_named(token: Any, kind: re.Pattern[str]) -> bool:
    bare = re.sub(r"^\W+|\W+$", "", token.content.replace("\u2581", "_")).strip("_").lower()
    return kind.fullmatch(bare) is not None


def fit_embeddings(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Check that every token has a row in the embedding; add one for a PAD from `give_pad`.

    New rows are the mean of the others, also in the output layer: the logit of PAD is then the mean
    logit, so its probability is at most 1 / (vocabulary + 1) if logits are not capped.
    Raises UserError if more rows are missing.
    """
    rows, pad = model.get_input_embeddings().weight.shape[0], _pad_of(tokenizer)
    check_embeddings(model, tokenizer, folder)
    if pad is not None and pad >= rows:
        _grow(model, rows, pad + 1)
    model.config.pad_token_id = pad
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.pad_token_id = pad


def check_embeddings(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Raise UserError if a token has no row in the embedding, other than a PAD after all others."""
    rows, tokens = model.get_input_embeddings().weight.shape[0], len(tokenizer)
    pad = tokenizer.pad_token_id
    only_pad = pad is not None and pad >= rows and tokens <= rows + 1
    if tokens > rows and not only_pad:
        raise UserError(
            f"the tokenizer has {tokens} tokens but the model's embedding has only {rows} rows",
            where=str(folder),
            fix="call `model.resize_token_embeddings(len(tokenizer))` and save the model again",
        )


@torch.no_grad()
def _grow(model: Any, rows: int, wanted: int) -> None:
    model.resize_token_embeddings(wanted, mean_resizing=False)
    head = model.get_output_embeddings()
    weights: list[Tensor] = [model.get_input_embeddings().weight]
    if head is not None:
        weights += [w for w in (head.weight, head.bias) if w is not None]
    for weight in weights:  # tied ones twice: the mean of the same rows is the same
        weight[rows:] = weight[:rows].float().mean(dim=0).to(weight.dtype)
