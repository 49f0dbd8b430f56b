"""Checkpoints: resuming equals not having stopped, and nothing half-written is ever loaded."""

import errno
import json
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch.optim.lr_scheduler import LambdaLR

from alignloop.errors import UserError
from alignloop.run import checkpoints
from alignloop.run.checkpoints import (
    load_latest,
    load_optimizer,
    optimizer_tensors,
    save_checkpoint,
)
from alignloop.run.seeds import generator


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _model() -> torch.nn.Module:
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    draw = generator(3, "model")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, generator=draw)
    return model


def _adamw(model: torch.nn.Module) -> torch.optim.AdamW:
    weights = [p for p in model.parameters() if p.dim() == 2]
    biases = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.05, weight_decay=0.1)


def _schedule(optimizer: torch.optim.Optimizer, steps_done: int) -> LambdaLR:
    for group in optimizer.param_groups:
        group["initial_lr"] = 0.05
    return LambdaLR(optimizer, lambda step: 1 / (1 + step), last_epoch=steps_done - 1)


def _train(model, optimizer, schedule, steps: range) -> None:
    for step in steps:
        batch = torch.randn(8, 5, generator=generator(3, "data", step))
        loss = (model(batch) - batch.sum(1, keepdim=True)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


@pytest.mark.slow
def test_three_steps_saved_and_three_more_equal_six_bit_for_bit(tmp_path):
    straight = _model()
    optimizer = _adamw(straight)
    _train(straight, optimizer, _schedule(optimizer, 0), range(6))

    first = _model()
    first_optimizer = _adamw(first)
    _train(first, first_optimizer, _schedule(first_optimizer, 0), range(3))
    tensors = {f"model.{name}": value for name, value in first.state_dict().items()}
    save_checkpoint(tmp_path, 3, tensors | optimizer_tensors(first_optimizer, "adam"), {"step": 3})

    checkpoint = load_latest(tmp_path)
    assert checkpoint is not None and checkpoint.step == 3 and checkpoint.state == {"step": 3}
    second = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    second.load_state_dict(
        {n.removeprefix("model."): t for n, t in checkpoint.tensors.items() if n[:6] == "model."}
    )
    second_optimizer = _adamw(second)
    load_optimizer(second_optimizer, checkpoint.tensors, "adam")
    schedule = _schedule(second_optimizer, 3)
    assert schedule.get_last_lr() == [0.05 / 4, 0.05 / 4]
    _train(second, second_optimizer, schedule, range(3, 6))

    for name, value in straight.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
        assert not torch.equal(value, first.state_dict()[name]), "the last steps changed nothing"
    ours, theirs = optimizer_tensors(second_optimizer, "a"), optimizer_tensors(optimizer, "a")
    assert ours.keys() == theirs.keys() and len(ours) == 4 * 3
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_optimizer_tensors_are_named_by_parameter_and_key():
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.Adam([weight], betas=(0.5, 0.75))
    weight.grad = torch.tensor([2.0, -4.0])
    optimizer.step()
    found = optimizer_tensors(optimizer, "critic")
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "critic.0.step": 1.0,
        "critic.0.exp_avg": [1.0, -2.0],  # (1 - 0.5) g
        "critic.0.exp_avg_sq": [1.0, 4.0],  # (1 - 0.75) g^2
    }


def test_loading_an_optimizer_reads_its_own_prefix_and_leaves_the_checkpoint_alone():
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([weight], lr=0.5)
    tensors = {
        "a.0.step": torch.tensor(4.0),
        "a.0.exp_avg": torch.tensor([1.0, 2.0]),
        "a.0.exp_avg_sq": torch.tensor([3.0, 4.0]),
        "ab.0.exp_avg": torch.tensor([9.0, 9.0]),
        "a.0": torch.tensor([9.0]),
    }
    load_optimizer(optimizer, tensors, "a")
    assert optimizer.param_groups[0]["lr"] == 0.5
    weight.grad = torch.ones(2)
    optimizer.step()
    assert optimizer.state[weight]["step"].item() == 5.0
    assert tensors["a.0.exp_avg"].tolist() == [1.0, 2.0]
    assert tensors["a.0.step"].item() == 4.0


def test_plain_sgd_has_nothing_to_store():
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    weight.grad = torch.ones(2)
    optimizer.step()
    assert optimizer_tensors(optimizer, "sgd") == {}


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("a.0.exp_avg", (3,), r"\(3,\) in the checkpoint, \(2,\) in this model"),
        ("a.1.step", (), "no such"),
    ],
)
def test_an_optimizer_of_another_model_is_refused(name, shape, said):
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])
    with pytest.raises(UserError, match=said) as caught:
        load_optimizer(optimizer, {name: torch.zeros(shape)}, "a")
    assert caught.value.where == name


def test_tied_turned_and_scalar_tensors_come_back(tmp_path):
    table = torch.arange(6.0).reshape(2, 3).requires_grad_()
    tensors = {
        "embedding": table,
        "head": table,
        "turned": table.T,
        "row": table[1],
        "whole": torch.tensor(7),
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "empty": torch.zeros(0, 3),
    }
    save_checkpoint(tmp_path, 1, tensors, {})
    checkpoint = load_latest(tmp_path)
    assert checkpoint is not None and checkpoint.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(checkpoint.tensors[name], tensor), name
        assert checkpoint.tensors[name].dtype == tensor.dtype


def test_state_comes_back_exactly(tmp_path):
    state = {"kl_coef": 0.1 + 0.2, "seen": ["a", "早"], "best": None, "counts": {"x": 2**60}}
    save_checkpoint(tmp_path, 1, {"w": torch.zeros(1)}, state)
    checkpoint = load_latest(tmp_path)
    assert checkpoint is not None and checkpoint.state == state


def test_a_checkpoint_is_as_readable_as_any_file(tmp_path):
    folder = save_checkpoint(tmp_path, 1, {"w": torch.zeros(1)}, {})
    (tmp_path / "plain").write_text("")
    plain = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert stat.S_IMODE((folder / "tensors.safetensors").stat().st_mode) == plain


def test_only_the_newest_are_kept(tmp_path):
    for step in (5, 10, 15, 20):
        save_checkpoint(tmp_path, step, {"w": torch.tensor([float(step)])}, {})
    assert _names(tmp_path) == ["step-000015", "step-000020"]
    save_checkpoint(tmp_path, 1_000_000, {"w": torch.zeros(1)}, {}, keep=1)
    assert _names(tmp_path) == ["step-1000000"]


def test_a_future_that_was_given_up_goes(tmp_path):
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, step, {"w": torch.zeros(1)}, {}, keep=3)
    save_checkpoint(tmp_path, 15, {"w": torch.ones(1)}, {})
    assert _names(tmp_path) == ["step-000010", "step-000015"]


def test_the_same_step_may_be_saved_again(tmp_path):
    save_checkpoint(tmp_path, 5, {"w": torch.zeros(1)}, {"n": 1})
    save_checkpoint(tmp_path, 5, {"w": torch.ones(1)}, {"n": 2})
    checkpoint = load_latest(tmp_path)
    assert checkpoint is not None and checkpoint.state == {"n": 2}
    assert checkpoint.tensors["w"].item() == 1.0


def test_no_checkpoint_is_none(tmp_path):
    assert load_latest(tmp_path / "none") is None
    (tmp_path / "step-000007.txt").write_text("")
    assert load_latest(tmp_path) is None


def _cut(folder: Path) -> None:
    path = folder / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


def _flip(folder: Path) -> None:
    path = folder / "tensors.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _tear_state(folder: Path) -> None:
    path = folder / "state.json"
    path.write_bytes(path.read_bytes()[:-20])


def _rename_step(folder: Path) -> None:
    path = folder / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"step": 99}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_cut, "bytes"),
        (_flip, "checksum of tensors.safetensors is wrong"),
        (_tear_state, "step-000020"),
        (_rename_step, "of step 99"),
        (lambda folder: (folder / "state.json").unlink(), "No such file"),
        (lambda folder: (folder / "tensors.safetensors").unlink(), "No such file"),
        (lambda folder: (folder / "state.json").write_text("[]"), "step-000020"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path, caplog, damage, said):
    for step in (10, 20):
        save_checkpoint(tmp_path, step, {"w": torch.full((3,), float(step))}, {"n": step})
    damage(tmp_path / "step-000020")
    checkpoint = load_latest(tmp_path)
    assert checkpoint is not None and (checkpoint.step, checkpoint.state) == (10, {"n": 10})
    assert checkpoint.tensors["w"].tolist() == [10.0, 10.0, 10.0]
    (warning,) = caplog.records
    assert warning.levelname == "WARNING" and said in warning.getMessage()


def _full_fsync(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _full_save(tensors: dict, path: Path) -> None:
    path.write_bytes(b"half")
    raise SafetensorError("Error while serializing: I/O error: No space left (os error 28)")


@pytest.mark.parametrize(
    ("module", "name", "fails"),
    [(os, "fsync", _full_fsync), (checkpoints, "save_file", _full_save)],
)
def test_a_full_disk_leaves_the_old_checkpoints(tmp_path, monkeypatch, module, name, fails):
    for step in (10, 20):
        save_checkpoint(tmp_path, step, {"w": torch.full((3,), float(step))}, {"n": step})
    monkeypatch.setattr(module, name, fails)
    with pytest.raises(UserError, match="the disk is full"):
        save_checkpoint(tmp_path, 30, {"w": torch.zeros(3)}, {})
    assert _names(tmp_path) == ["step-000010", "step-000020"]
    checkpoint = load_latest(tmp_path)
    assert checkpoint is not None and checkpoint.step == 20
    assert checkpoint.tensors["w"].tolist() == [20.0, 20.0, 20.0]
