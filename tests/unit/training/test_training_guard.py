"""Steps that are left out are counted, and a stage that learns nothing ends with an error."""

import json
import math
from dataclasses import asdict
from typing import Any

import pytest
import torch

from alignloop.config import SftConfig
from alignloop.errors import UserError
from alignloop.sft.train import PERPLEXITY, refuse_diverged
from alignloop.training import LearningMemory
from alignloop.training.guard import IN_A_ROW, Guard, Health, above_coin_toss, above_uniform
from alignloop.training.optimiser import make_optimizer

NAN, INF = float("nan"), float("inf")


def guard(limit: Any = above_coin_toss) -> Guard:
    return Guard(stage="dpo", section="dpo", limit=limit)


def seen(norms: list[float], losses: list[float] | None = None, *, total: int = 99) -> list[Any]:
    """The metrics after each step; what is counted goes through JSON, as in a checkpoint."""
    health = Health()
    found = []
    for step, norm in enumerate(norms, 1):
        loss = losses[step - 1] if losses else 0.5
        health = Health(**json.loads(json.dumps(asdict(health))))
        last = step == total
        found.append(guard().seen(health, step, loss=loss, norm=norm, last=last))
    return found


def test_nothing_is_said_while_all_is_well() -> None:
    assert seen([1.0, 0.0, 1e30]) == [{}, {}, {}]


def test_steps_left_out_are_counted() -> None:
    found = seen([1.0, INF, NAN, 1.0, NAN])
    assert [m.get("skipped_steps") for m in found] == [None, 1.0, 2.0, 2.0, 3.0]


def test_three_in_a_row_end_the_stage() -> None:
    assert IN_A_ROW == 3
    with pytest.raises(UserError, match=r"not finite at step 4 and all 2 before it") as caught:
        seen([1.0, INF, NAN, INF, 1.0])
    assert caught.value.where == "dpo" and "dpo.learning_rate" in str(caught.value.fix)


def test_a_short_stage_that_took_no_step_ends_too() -> None:
    with pytest.raises(UserError, match="not finite at step 2 and all 1 before it"):
        seen([INF, INF], total=2)
    with pytest.raises(UserError, match="not finite at step 1: the weights"):
        seen([INF], total=1)
    assert seen([1.0, INF], total=2)[-1] == {"skipped_steps": 1.0}


def test_a_loss_that_is_not_finite_ends_the_stage_at_once() -> None:
    with pytest.raises(UserError, match="the loss is not finite at step 2"):
        seen([1.0, NAN], [0.5, NAN])


def test_losses_that_explode_end_the_stage() -> None:
    """Ten times log 2 is 6.93: twice above it is chance, three times is divergence."""
    assert seen([1.0] * 6, [0.6, 7.0, 7.0, 6.9, 7.0, 7.0]) == [{}] * 6
    with pytest.raises(UserError, match=r"diverged: the loss at step 4 is 9; it was 0\.6"):
        seen([1.0] * 4, [0.6, 7.0, 8.0, 9.0])


def test_limits_by_hand() -> None:
    assert above_coin_toss(0.1) == pytest.approx(6.931471805599453)
    assert above_coin_toss(2.0) == 20.0
    assert above_uniform(6144)(3.0) == pytest.approx(math.log(6144) + 0.5)
    assert above_uniform(600)(7.0) == 7.5  # a model that began above a uniform guess


def remembered(first_loss: float, perplexity: float) -> LearningMemory:
    return LearningMemory(health=Health(first_loss=first_loss), held_out={PERPLEXITY: perplexity})


def test_a_perplexity_above_a_uniform_guess_is_divergence() -> None:
    memory = remembered(3.0, 225_754.0)
    with pytest.raises(UserError, match=r"perplexity is 225,754; a uniform guess .* 6,144"):
        refuse_diverged(memory, 6144)
    refuse_diverged(remembered(3.0, 6143.0), 6144)
    refuse_diverged(LearningMemory(health=Health(first_loss=3.0)), 6144)  # nothing was held out


def test_an_untrained_model_may_stay_where_it_was() -> None:
    refuse_diverged(remembered(9.0, math.exp(9.05)), 6144)
    with pytest.raises(UserError, match="diverged"):
        refuse_diverged(remembered(9.0, math.exp(9.15)), 6144)


class Block(torch.nn.Module):
    """A matrix with its bias, and a norm."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 2, dtype=dtype)
        self.norm = torch.nn.LayerNorm(2, dtype=dtype)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_and_biases_do_not_decay(dtype: torch.dtype) -> None:
    """A step of rate 0.5 along no gradient: a weight of 1 becomes 1 - 0.5 * 0.5, a norm stays."""
    block = Block(dtype)
    optimizer = make_optimizer(block, SftConfig(weight_decay=0.5), learning_rate=0.5)
    (sum(p.float().sum() for p in block.parameters()) * 0.0).backward()
    optimizer.step()
    assert block.linear.weight.tolist() == [[0.75, 0.75], [0.75, 0.75]]
    vectors = (block.linear.bias, block.norm.weight, block.norm.bias)
    assert [v.tolist() for v in vectors] == [[1.0, 1.0]] * 3


def test_without_decay_there_is_one_group_in_the_models_order() -> None:
    block = Block(torch.float32)
    groups = make_optimizer(block, SftConfig()).param_groups
    assert [len(g["params"]) for g in groups] == [4]
    assert all(a is b for a, b in zip(groups[0]["params"], block.parameters(), strict=True))
