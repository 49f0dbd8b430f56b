"""Curves and samples: resuming never doubles a line, and NaN stays visible."""

import json
import struct
from pathlib import Path

import pytest

from alignloop.errors import UserError
from alignloop.records import Message, Prompt, Sample
from alignloop.run.metrics import MetricLog, SampleLog, read_metrics, read_samples


def _steps(run: Path, stage: str) -> list[int]:
    return [line["step"] for line in read_metrics(run, stage)]


def _log(run: Path, stage: str, steps: range, resume: int | None) -> None:
    with MetricLog(run, stage, resume) as log:
        for step in steps:
            log.log(step, {"loss": 1 / step})


def _events(folder: Path) -> list:
    """The events of TensorBoard's files, oldest file first (TFRecord framing: 8 + 4, data, 4)."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def _scalars(folder: Path) -> list[tuple[str, int, float]]:
    return [
        (value.tag, event.step, value.simple_value)
        for event in _events(folder)
        for value in event.summary.value
    ]


def _sample(stage: str, step: int, response: str = "Hello.\u2028再见") -> Sample:
    prompt = Prompt(prompt_id="p", messages=(Message(role="user", content="Hi?"),))
    return Sample(
        prompt=prompt, response=response, finish_reason="eos", num_tokens=3, stage=stage, step=step
    )


def test_one_line_per_step_and_the_same_in_tensorboard(tmp_path):
    with MetricLog(tmp_path, "ppo", None) as log:
        log.log(1, {"reward": 0.5, "kl": 2})
        log.log(2, {"reward": 0.25})
    first, second = read_metrics(tmp_path)
    assert first["time"] <= second["time"]
    del first["time"], second["time"]
    assert first == {"stage": "ppo", "step": 1, "reward": 0.5, "kl": 2.0}
    assert second == {"stage": "ppo", "step": 2, "reward": 0.25}
    assert _scalars(tmp_path / "tensorboard" / "ppo") == [
        ("ppo/reward", 1, 0.5),
        ("ppo/kl", 1, 2.0),
        ("ppo/reward", 2, 0.25),
    ]


def test_not_finite_is_said(tmp_path):
    with MetricLog(tmp_path, "ppo", None) as log:
        log.log(1, {"loss": float("nan"), "kl": float("-inf"), "lr": 0.5})
    (line,) = read_metrics(tmp_path)
    del line["time"]
    assert line == {
        "stage": "ppo",
        "step": 1,
        "loss": None,
        "loss_not_finite": True,
        "kl": None,
        "kl_not_finite": True,
        "lr": 0.5,
    }
    assert _scalars(tmp_path / "tensorboard" / "ppo") == [("ppo/lr", 1, 0.5)]


def test_reserved_names_are_refused(tmp_path):
    with MetricLog(tmp_path, "ppo", None) as log, pytest.raises(AssertionError):
        log.log(1, {"step": 3.0})


def test_resuming_drops_what_came_after_and_keeps_other_stages(tmp_path):
    _log(tmp_path, "sft", range(1, 6), None)
    _log(tmp_path, "ppo", range(1, 6), None)
    _log(tmp_path, "ppo", range(4, 8), 3)
    assert _steps(tmp_path, "ppo") == [1, 2, 3, 4, 5, 6, 7]
    assert _steps(tmp_path, "sft") == [1, 2, 3, 4, 5]


def test_tensorboard_is_told_where_the_new_curve_begins(tmp_path):
    _log(tmp_path, "ppo", range(1, 3), None)
    _log(tmp_path, "ppo", range(2, 3), 1)
    starts = [
        event.step
        for event in _events(tmp_path / "tensorboard" / "ppo")
        if event.HasField("session_log")
    ]
    assert starts == [2]


@pytest.mark.parametrize("resume", [None, 0])
def test_a_fresh_start_drops_the_stage(tmp_path, resume):
    _log(tmp_path, "sft", range(1, 3), None)
    with MetricLog(tmp_path, "ppo", None) as log:
        log.log(0, {"loss": 9.0})
    _log(tmp_path, "ppo", range(1, 2), resume)
    assert _steps(tmp_path, "ppo") == [1]
    assert _steps(tmp_path, "sft") == [1, 2]
    assert _scalars(tmp_path / "tensorboard" / "ppo") == [("ppo/loss", 1, 1.0)]


def test_resuming_keeps_step_zero(tmp_path):
    with MetricLog(tmp_path, "ppo", None) as log:
        for step in (0, 1, 2):
            log.log(step, {"loss": 1.0})
    MetricLog(tmp_path, "ppo", 1).close()
    assert _steps(tmp_path, "ppo") == [0, 1]


def test_a_torn_last_line_goes_and_the_others_stay_byte_for_byte(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = '{"stage":"sft",  "step":1}\n{"stage":"ppo","step":1}\n'
    path.write_text(whole + '{"stage":"ppo","st')
    MetricLog(tmp_path, "ppo", 1).close()
    assert path.read_text() == whole


def test_a_bad_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"stage":"sft","step":1}\nwhat\n{"stage":"ppo","step":1}\n')
    with pytest.raises(UserError) as caught:
        MetricLog(tmp_path, "ppo", 1)
    assert caught.value.where == f"{path}:2"


def test_samples_round_trip_and_resume(tmp_path):
    SampleLog(tmp_path, "sft", None).log([_sample("sft", 9)])
    log = SampleLog(tmp_path, "ppo", None)
    log.log([_sample("ppo", 1, "a"), _sample("ppo", 2, "b")])
    log.log([_sample("ppo", 3, "c")])
    SampleLog(tmp_path, "ppo", 1).log([_sample("ppo", 2, "B")])
    assert [(s.step, s.response) for s in read_samples(tmp_path, "ppo")] == [(1, "a"), (2, "B")]
    assert read_samples(tmp_path)[0] == _sample("sft", 9)


def test_samples_of_another_stage_are_refused(tmp_path):
    with pytest.raises(AssertionError):
        SampleLog(tmp_path, "ppo", None).log([_sample("sft", 1)])


def test_reading_an_empty_run(tmp_path):
    assert read_metrics(tmp_path) == []
    assert read_samples(tmp_path) == []


def test_a_line_that_is_no_sample_is_named(tmp_path):
    line = json.dumps({"stage": "ppo"})
    (tmp_path / "samples.jsonl").write_text(_sample("ppo", 1).model_dump_json() + f"\n{line}\n")
    with pytest.raises(UserError, match="Field required") as caught:
        read_samples(tmp_path)
    assert caught.value.where == f"{tmp_path / 'samples.jsonl'}:2"
