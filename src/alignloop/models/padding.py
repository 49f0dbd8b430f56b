"""A PAD token of its own (line 1): chosen or added, and given a row in the model's embedding."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alignloop.errors import UserError

# Names under which tokenizers already keep a token for padding; the first is the one we add.
NAMES = ("<|pad|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<|PAD_TOKEN|>")
logger = logging.getLogger(__name__)


def give_pad(tokenizer: Any, where: str) -> None:
    """Give the tokenizer a PAD token where it has none.

    A special token with a name for padding is taken where there is one; otherwise "<|pad|>" is
    added. The log says so; `fit_embeddings` gives it a row, and saving keeps both. A PAD that is
    EOS is left to `check_tokenizer`, which refuses it: its owner has to know that an end which
    looks like padding is never learnt.
    """
    if tokenizer.pad_token_id is not None:
        return
    there = tokenizer.get_added_vocab()
    free = [name for name in NAMES if name in there and name != tokenizer.eos_token]
    name = free[0] if free else NAMES[0]
    tokenizer.add_special_tokens({"pad_token": name})
    logger.warning("%s: %s pads, since no token of the tokenizer's own does", where, name)


def fit_embeddings(model: Any, tokenizer: Any, folder: Path) -> None:
    """Check that every token has a row in the embedding; a PAD token that `give_pad` added gets it.

    The new rows are the mean of the others, also in the output layer: the logit of PAD is then the
    mean logit, so that its probability is at most 1 / (vocabulary + 1) where logits are not capped.
    Raises UserError where more than that is missing.
    """
    rows, pad = model.get_input_embeddings().weight.shape[0], tokenizer.pad_token_id
    tokens = len(tokenizer)
    if pad is not None and pad >= rows and tokens <= rows + 1:
        _grow(model, rows, pad + 1)
    elif tokens > rows:
        raise UserError(
            f"the tokenizer has {tokens} tokens but the model's embedding has only {rows} rows",
            where=str(folder),
            fix="call `model.resize_token_embeddings(len(tokenizer))` and save the model again",
        )
    model.config.pad_token_id = pad
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.pad_token_id = pad


@torch.no_grad()
def _grow(model: Any, rows: int, wanted: int) -> None:
    model.resize_token_embeddings(wanted, mean_resizing=False)
    head = model.get_output_embeddings()
    weights: list[Tensor] = [model.get_input_embeddings().weight]
    if head is not None:
        weights += [w for w in (head.weight, head.bias) if w is not None]
    for weight in weights:  # tied ones twice: the mean of the same rows is the same
        weight[rows:] = weight[:rows].float().mean(dim=0).to(weight.dtype)
