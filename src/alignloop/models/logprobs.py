"""Log-probabilities of tokens under a policy. The shift by one happens only here."""

from dataclasses import dataclass

import torch
from torch import Tensor

from alignloop.fastpath import target_logprobs
from alignloop.models.forward import checkpointing, states_at
from alignloop.models.shared_base import activate
from alignloop.protocols import Policy
from alignloop.shapes import PerToken, TokenIds, TokenMask

# Families whose logits are exactly output_embeddings(hidden); others run the whole model.
PLAIN_HEADS = {"qwen2", "qwen3", "llama", "mistral", "phi3", "gpt2", "gpt_neox", "opt", "falcon"}
# Families that then bound their logits to +-cap, if their config has a cap.
CAPPED_HEADS = {"gemma2", "gemma3_text"}


@dataclass(frozen=True, kw_only=True)
class TokenStatistics:
    """A policy's numbers for given tokens, both [batch, seq], zero outside the response mask."""

    logprobs: PerToken
    entropy: PerToken


def token_logprobs(
    model: Policy,
    input_ids: TokenIds,
    attention_mask: TokenMask,
    response_mask: TokenMask,
    *,
    temperature: float = 1.0,
    entropy: bool = True,
) -> TokenStatistics:
    """log p(token t | tokens before t) in float32 for every token of the response, nats.

        logprobs[b, t] = log_softmax(logits[b, t - 1] / temperature)[input_ids[b, t]]

    Logits are computed at response positions only and divided by the sampling temperature before
    the log-softmax (line 11). The entropy is that of the same distribution, without gradient; it
    is 0 if `entropy` is False. The result is on the batch's device, not the model's.
    """
    assert not bool(response_mask[:, 0].any()), "a response cannot begin at the first token"
    predicting = torch.roll(response_mask, -1, dims=1)  # position t - 1 predicts token t
    targets = input_ids[response_mask].to(model.device)
    if model.config.model_type in PLAIN_HEADS:
        hidden = states_at(model, input_ids, attention_mask, predicting)
        head = model.get_output_embeddings()
        chosen, spread = target_logprobs(hidden, head, targets, temperature, entropy=entropy)
    else:
        logits = _logits_at(model, input_ids, attention_mask, predicting)
        # float32: in bfloat16 the ratio to the old policy would be off by percents
        logprobs = torch.log_softmax(logits.float() / temperature, dim=-1)
        chosen = logprobs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        spread = -(logprobs.exp() * logprobs).sum(-1).detach()
    return TokenStatistics(
        logprobs=_scatter(chosen, response_mask), entropy=_scatter(spread, response_mask)
    )


def _logits_at(
    model: Policy, input_ids: TokenIds, attention_mask: TokenMask, query_mask: TokenMask
) -> Tensor:
    """Logits [queries, vocabulary] of a model whose head is more than a linear layer.

        capped = cap * tanh(logits / cap)

    Unknown families run the whole model, which computes logits at every position.
    """
    if model.config.model_type in CAPPED_HEADS:
        hidden = states_at(model, input_ids, attention_mask, query_mask)
        logits = model.get_output_embeddings()(hidden)
        cap = model.config.final_logit_softcapping
        return logits if cap is None else torch.tanh(logits / cap) * cap
    ids, mask, query_mask = (x.to(model.device) for x in (input_ids, attention_mask, query_mask))
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    activate(model)
    with checkpointing(model):
        output = model(
            input_ids=ids, attention_mask=mask.long(), position_ids=positions, use_cache=False
        )
    return output.logits[query_mask]


def _scatter(values: Tensor, mask: TokenMask) -> PerToken:
    """Scatter a flat list of values to their positions in [batch, seq]."""
    return torch.zeros(mask.shape, dtype=values.dtype, device=mask.device).masked_scatter(
        mask, values.to(mask.device)
    )
