"""One linear head for each criterion of a reward model, beside the head of its weighted sum."""

from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from alignloop.errors import UserError
from alignloop.models.scores import last_states
from alignloop.protocols import ScoreModel
from alignloop.shapes import TokenIds, TokenMask

SETTINGS, WEIGHTS = "criteria.json", "criteria.safetensors"


class CriteriaFacts(BaseModel):
    """What the outputs of a criteria head mean, in their order.

    score = sum over criteria of weights * output; a criterion's value on its own scale is
    output * spread + mean.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...]
    weights: tuple[float, ...]
    mean: tuple[float, ...]
    spread: tuple[float, ...]

    def folded(self, heads: Tensor) -> Tensor:
        """The head [1, hidden] of the weighted sum, from those of the criteria [K, hidden]."""
        weights = torch.tensor(self.weights, dtype=heads.dtype, device=heads.device)
        return (weights @ heads).unsqueeze(0)


def save_criteria_head(folder: Path, facts: CriteriaFacts, heads: Tensor) -> None:
    """Write the heads [K, hidden] (safetensors) and their facts beside a saved reward model."""
    save_file({"weight": heads.detach().float().cpu().contiguous()}, folder / WEIGHTS)
    (folder / SETTINGS).write_text(facts.model_dump_json() + "\n", encoding="utf-8")


def read_criteria_head(folder: str | Path) -> tuple[CriteriaFacts, Tensor] | None:
    """The facts and heads [K, hidden] of a reward model; None if it has none. Raises UserError."""
    path = Path(folder)
    if not (path / SETTINGS).is_file():
        return None
    try:
        facts = CriteriaFacts.model_validate_json((path / SETTINGS).read_text(encoding="utf-8"))
        heads = load_file(path / WEIGHTS)["weight"]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(f"these files are damaged: {error}", where=str(path / SETTINGS)) from error
    if heads.shape[0] != len(facts.names):
        problem = f"{heads.shape[0]} heads for {len(facts.names)} criteria"
        raise UserError(problem, where=str(path / SETTINGS))
    return facts, heads


@torch.no_grad()
def criterion_scores(
    model: ScoreModel,
    facts: CriteriaFacts,
    heads: Tensor,
    input_ids: TokenIds,
    attention_mask: TokenMask,
) -> Tensor:
    """Each criterion's value of each sequence on the criterion's own scale, [batch, K]."""
    states = last_states(model, input_ids, attention_mask)
    outputs = (states.float() @ heads.to(states.device).T).to(input_ids.device)
    return outputs * torch.tensor(facts.spread) + torch.tensor(facts.mean)
