"""What a stage remembers goes through a checkpoint; what another version wrote is refused."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from alignloop.errors import UserError
from alignloop.rl.memory import RlMemory
from alignloop.rl.stopping import Evaluation, Watch
from alignloop.run.checkpoints import save_checkpoint
from alignloop.run.training_state import TrainingState
from alignloop.training import LearningMemory
from alignloop.training.guard import Health


def state_of(memory: Any) -> TrainingState[Any]:
    return TrainingState(modules={"m": torch.nn.Linear(1, 1)}, optimizers={}, memory=memory)


@dataclass(kw_only=True)
class Counted:
    steps: list[int] = field(default_factory=list[int])


def test_a_stage_goes_on_with_what_it_remembers(stage_run: Callable[..., Any]) -> None:
    run, memory = stage_run("sft"), Counted()
    for step in run.steps(4, state_of(memory), save_every=2):
        memory.steps.append(step)
        if step == 3:
            break
    run.folder.close()
    again, resumed = stage_run("sft"), Counted()
    for step in again.steps(4, state_of(resumed), save_every=2):
        resumed.steps.append(step)
    assert resumed.steps == [1, 2, 3, 4]  # step 3 was done again from the checkpoint of step 2


def test_an_end_before_the_last_step_is_remembered(stage_run: Callable[..., Any]) -> None:
    run = stage_run("rl")
    for step in run.steps(4, state_of(Counted()), save_every=0):
        if step == 2:
            run.end()
    run.folder.close()
    assert list(stage_run("rl").steps(4, state_of(Counted()), save_every=0)) == []


@pytest.mark.parametrize(
    "memory", [{}, {"kl_coef": 0.1}, {"steps": "many"}, {"steps": [], "more": 1}]
)
def test_a_memory_of_another_version_is_refused(
    memory: dict[str, Any], stage_run: Callable[..., Any]
) -> None:
    run, state = stage_run("sft"), state_of(Counted())
    save_checkpoint(run.stage.checkpoints, 2, state.tensors(), {"memory": memory, "seconds": 1.0})
    with pytest.raises(UserError, match="written by another version") as caught:
        next(run.steps(4, state, save_every=0))
    assert "delete the folder" in caught.value.fix and "checkpoints" in caught.value.where


@pytest.mark.parametrize(
    "memory",
    [
        LearningMemory(health=Health(first_loss=2.5, skipped_steps=1), held_out={"a": 0.5}),
        RlMemory(algorithm={"kl_coef": 0.125}),
        RlMemory(
            algorithm={},
            watch=Watch(patience=2, kl_budget=None, price=0.5).evaluated(
                Evaluation(step=3, held_out=1.0, climbed=0.5, kl=None, outside=0.25, eos_rate=1.0)
            ),
            last_step=3,
        ),
    ],
)
def test_every_memory_returns_from_json(memory: Any) -> None:
    import json

    fresh = type(memory)(**({"algorithm": {}} if isinstance(memory, RlMemory) else {}))
    state = state_of(fresh)
    state.load(state.tensors(), json.loads(json.dumps(state_of(memory).remembered())))
    assert fresh == memory
