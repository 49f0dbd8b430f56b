"""What each stage starts from: full models, or roles on one trunk where adapters are trained."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from alignloop.config import ALL_WEIGHTS, LoraConfig, ModelConfig
from alignloop.errors import UserError
from alignloop.models.adapters import (
    base_of,
    fill,
    fill_head,
    is_adapter,
    is_plain,
    read_shape,
    read_weights,
    scores,
)
from alignloop.models.loading import (
    draw_head,
    fill_value_head,
    load_base,
    load_policy,
    load_reward_model,
    new_critic,
    new_reward_model,
)
from alignloop.models.roles import (
    Role,
    Trunk,
    as_policy,
    as_scorer,
    copy_adapter,
    draw,
    role_of,
)


def start_policy(
    path: str | Path, tokenizer: Any, config: ModelConfig, lora: LoraConfig, seed: int
) -> Any:
    """A policy to train: the model of a directory, or an adapter on it.

    An adapter that is there already is trained on; a fresh one is drawn by `seed`.
    """
    if not lora.on:
        return load_policy(path, tokenizer, config)
    folder = Path(path)
    _require_plain(folder)
    trunk = Trunk(load_base(folder, tokenizer, config, lora), base_of(folder))
    generator = torch.Generator().manual_seed(seed % 2**63)
    return as_policy(trunk, _begin(trunk, "policy", folder, lora, generator))


def read_policy(path: str | Path, tokenizer: Any, config: ModelConfig) -> Any:
    """A policy to sample from. An adapter stays apart: merged, the sampler would copy matrices."""
    folder = Path(path)
    if not is_adapter(folder) or not is_plain(folder):
        return load_policy(path, tokenizer, config)
    trunk = Trunk(load_base(folder, tokenizer, config, ALL_WEIGHTS), base_of(folder))
    return as_policy(trunk, _read(trunk, "policy", folder))


def start_reward_model(
    path: str | Path, tokenizer: Any, config: ModelConfig, lora: LoraConfig, seed: int
) -> Any:
    """A reward model to train, with a fresh head, from the directory of a policy."""
    if not lora.on:
        return new_reward_model(path, tokenizer, config, seed)
    folder = Path(path)
    _require_plain(folder)
    trunk = Trunk(load_base(folder, tokenizer, config, lora, scores=True), base_of(folder))
    generator = torch.Generator().manual_seed(seed % 2**63)
    model = as_scorer(trunk, _begin(trunk, "reward", folder, lora, generator))
    draw_head(model.score, generator)
    return model


def reference_of(policy: Any, path: str | Path, tokenizer: Any, config: ModelConfig) -> Any:
    """The policy as it starts, for good: for a role its trunk, with a frozen copy of its adapter.

    `path` is the directory that the policy was started from.
    """
    role = role_of(policy)
    if role is None:
        return load_policy(path, tokenizer, config).requires_grad_(False)
    if not is_adapter(Path(path)):
        return as_policy(role.trunk, None)
    return as_policy(role.trunk, _read(role.trunk, "reference", Path(path)))


def reward_model_beside(policy: Any, path: str | Path, tokenizer: Any, config: ModelConfig) -> Any:
    """A frozen reward model: on the policy's trunk where it is an adapter of the same model."""
    role, folder = role_of(policy), Path(path)
    if role is None or not shares_trunk(policy, folder):
        return load_reward_model(folder, tokenizer, config).requires_grad_(False)
    if not scores(folder):
        raise UserError("this adapter makes a policy, not a reward model", where=str(folder))
    adapter = _read(role.trunk, "reward", folder)
    model = as_scorer(role.trunk, adapter)
    fill_head(model.score.requires_grad_(False), read_weights(folder), folder)
    return model


def start_critic(
    reward_model: Any, lora: LoraConfig, seed: int, *, scale: float = 1.0, bias: float = 0.0
) -> Any:
    """A critic to train; begins as the reward model, its value is the score so far.

    See docs/algorithms.md#ppo-7.

    Beside a role it is one more adapter; beside a full model, adapters on that one's weights.
    `scale` and `bias` are the reward model's normalisation, so that values begin in its units.
    """
    if not lora.on:
        return new_critic(reward_model, scale=scale, bias=bias)
    role = role_of(reward_model)
    if role is None:  # from now on it reads its own layers, which are shared, without adapter
        trunk = Trunk(reward_model, Path(reward_model.name_or_path))
        role = reward_model.role = Role(trunk=trunk, adapter=None)
    critic = as_scorer(role.trunk, _like(role, "critic", lora, seed), bias=True)
    fill_value_head(critic.score, reward_model.score, scale=scale, bias=bias)
    return critic


def fresh_critic(
    policy: Any, path: str | Path, tokenizer: Any, config: ModelConfig, lora: LoraConfig, seed: int
) -> Any:
    """A critic to train that begins as the policy, with a fresh head."""
    role = role_of(policy)
    if role is None:
        return new_critic(new_reward_model(path, tokenizer, config, seed))
    critic = as_scorer(role.trunk, _like(role, "critic", lora, seed), bias=True)
    draw_head(critic.score, torch.Generator().manual_seed(seed % 2**63))
    return critic


def _begin(
    trunk: Trunk, kind: str, folder: Path, lora: LoraConfig, generator: torch.Generator
) -> str:
    """An adapter to train: the directory's own where it has one, otherwise a fresh one."""
    if not is_adapter(folder):
        adapter = trunk.add(kind, _new_shape(trunk, lora), trains=True)
        draw(trunk.parameters(adapter), generator)
        return adapter
    shape = dataclasses.replace(read_shape(folder), lora_dropout=lora.dropout)
    _check_same(shape, folder, lora)
    adapter = trunk.add(kind, shape, trains=True)
    fill(trunk.parameters(adapter), read_weights(folder), folder)
    return adapter


def _read(trunk: Trunk, kind: str, folder: Path) -> str:
    """A frozen adapter with the numbers of a directory."""
    shape = dataclasses.replace(read_shape(folder), lora_dropout=0.0)
    adapter = trunk.add(kind, shape, trains=False)
    fill(trunk.parameters(adapter), read_weights(folder), folder)
    return adapter


def _like(role: Role, kind: str, lora: LoraConfig, seed: int) -> str:
    """An adapter to train that begins as a role's, or fresh where that has none."""
    if role.adapter is None:
        adapter = role.trunk.add(kind, _new_shape(role.trunk, lora), trains=True)
        draw(role.trunk.parameters(adapter), torch.Generator().manual_seed(seed % 2**63))
        return adapter
    shape = dataclasses.replace(copy.deepcopy(role.trunk.shapes[role.adapter]), lora_dropout=0.0)
    adapter = role.trunk.add(kind, shape, trains=True)
    copy_adapter(role.trunk, role.adapter, adapter)
    return adapter


def _new_shape(trunk: Trunk, lora: LoraConfig) -> Any:
    """The `peft.LoraConfig` that the settings ask for."""
    import peft

    assert lora.rank is not None
    targets = set(lora.target_modules) or linear_names(trunk.shell.base_model)
    unknown = targets - linear_names(trunk.shell.base_model)
    if unknown:
        known = ", ".join(sorted(linear_names(trunk.shell.base_model)))
        raise UserError(
            f"the model has no linear layer {min(unknown)!r} in its trunk",
            where="lora.target_modules",
            fix=f"choose among {known}",
        )
    return peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.scaling * lora.rank,  # pyright: ignore[reportArgumentType]
        lora_dropout=lora.dropout,
        target_modules=sorted(targets),
        fan_in_fan_out=_transposed(trunk.shell.base_model),
    )


def linear_names(trunk: nn.Module) -> set[str]:
    """The last part of the name of every linear layer, those with an adapter included."""
    from peft.tuners.lora import LoraLayer

    return {
        name.rpartition(".")[2]
        for name, module in trunk.named_modules()
        if _is_linear(module) and not isinstance(module, LoraLayer) and ".lora_" not in name
        for name in [name.removesuffix(".base_layer")]
    }


def _is_linear(module: nn.Module) -> bool:
    """GPT-2's layers are Conv1D, which keeps its matrix the other way round."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _transposed(trunk: nn.Module) -> bool:
    return any(type(module).__name__ == "Conv1D" for module in trunk.modules())


def _check_same(found: Any, folder: Path, lora: LoraConfig) -> None:
    """Raise UserError where the adapter to be trained on is not what the settings ask for."""
    asked: dict[str, tuple[object, object]] = {"rank": (lora.rank, found.r)}
    if lora.alpha is not None:
        asked["alpha"] = (lora.alpha, found.lora_alpha)
    if lora.target_modules:
        asked["target_modules"] = (sorted(lora.target_modules), sorted(found.target_modules))
    for name, (wanted, there) in asked.items():
        if wanted != there:
            raise UserError(
                f"this adapter has {name} {there}, but lora.{name} is {wanted}",
                where=str(folder),
                fix=f"set lora.{name} to {there}, or make a plain model of it: `alignloop merge`",
            )


def shares_trunk(policy: Any, folder: Path) -> bool:
    """Whether a directory is an adapter of the model that a policy's trunk is, and fits into it."""
    role = role_of(policy)
    if role is None or not is_adapter(folder):
        return False
    return base_of(folder).resolve() == role.trunk.base.resolve() and is_plain(folder)


def _require_plain(folder: Path) -> None:
    """Raise UserError for an adapter with more than matrices in the layers, to be trained on."""
    if is_adapter(folder) and not is_plain(folder):
        raise UserError(
            "this adapter changes more than linear layers (modules_to_save, embedding, output"
            " layer, or how it was begun), and cannot be trained on as an adapter",
            where=str(folder),
            fix="make a plain model of it first: `alignloop merge ADAPTER_DIR OUT`",
        )
