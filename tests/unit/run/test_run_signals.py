"""Whoever asks a stage to stop, the step ends, everything is saved, and it goes on from there."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch

from alignloop.run.stage_run import Interrupted


class Nothing:
    """A stage's state of one tensor."""

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"a": torch.zeros(2)}

    def remembered(self) -> dict[str, Any]:
        return {}

    def load(self, tensors: Any, memory: Any) -> None:
        assert set(tensors) == {"a"} and not memory


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_the_step_end_and_saves(
    sent: signal.Signals, stage_run: Callable[..., Any]
) -> None:
    run = stage_run("sft")
    surrounding = signal.signal(sent, signal.SIG_DFL)  # whoever runs the tests may ignore it
    try:
        with pytest.raises(Interrupted, match="after step 2 of 5") as caught:
            for step in run.steps(5, Nothing(), save_every=0):
                if step == 2:
                    os.kill(os.getpid(), sent)
        assert signal.getsignal(sent) == signal.SIG_DFL
    finally:
        signal.signal(sent, surrounding)
    assert caught.value.exit_code == 128 + sent
    assert [path.name for path in run.stage.checkpoints.iterdir()] == ["step-000002"]


def test_nohup_stays_in_force(stage_run: Callable[..., Any]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        done = []
        for step in stage_run("sft").steps(3, Nothing(), save_every=0):
            os.kill(os.getpid(), signal.SIGHUP)
            done.append(step)
        assert done == [1, 2, 3]
    finally:
        signal.signal(signal.SIGHUP, before)
