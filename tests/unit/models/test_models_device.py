"""One function chooses where models live; a GPU has an index."""

import pytest
import torch

from alignloop.config import ModelConfig
from alignloop.errors import UserError
from alignloop.models.device import device_of


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)


def with_gpus(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("setting", "rank", "gpus", "expected"),
    [
        ("auto", None, 0, "cpu"),
        ("cpu", "1", 2, "cpu"),
        ("auto", None, 2, "cuda:0"),
        ("cuda", None, 2, "cuda:0"),
        ("auto", "1", 2, "cuda:1"),
        ("cuda", "1", 2, "cuda:1"),
        ("cuda:0", "1", 2, "cuda:0"),
        ("cuda:1", None, 2, "cuda:1"),
    ],
)
def test_the_setting_goes_before_the_launcher(
    setting: str, rank: str | None, gpus: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpus(gpus, monkeypatch)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert device_of(ModelConfig(device=setting)) == torch.device(expected)


@pytest.mark.parametrize(
    ("setting", "rank", "where"), [("cuda:2", "0", "model.device"), ("auto", "2", "LOCAL_RANK")]
)
def test_a_gpu_beyond_the_last_is_refused(
    setting: str, rank: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpus(2, monkeypatch)
    monkeypatch.setenv("LOCAL_RANK", rank)
    with pytest.raises(UserError, match="no GPU 2: torch finds 2") as refused:
        device_of(ModelConfig(device=setting))
    assert refused.value.where == where


@pytest.mark.parametrize("setting", ["gpu", "cuda:", "cuda:x", "cpu:0"])
def test_other_words_are_no_devices(setting: str) -> None:
    with pytest.raises(ValueError, match="device"):
        ModelConfig(device=setting)
