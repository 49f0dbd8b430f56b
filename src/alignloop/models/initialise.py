"""The models each stage starts from: full models, or roles on one shared base with adapters.

`init_...` returns a model to train, `load_...` one to read.
"""

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from alignloop.config import ALL_WEIGHTS, LoraConfig, ModelConfig
from alignloop.errors import UserError
from alignloop.extras import needs
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
from alignloop.models.library import untyped
from alignloop.models.loading import (
    draw_head,
    fill_value_head,
    load_base,
    load_policy,
    load_reward_model,
    new_critic,
    new_reward_model,
)
from alignloop.models.shared_base import (
    Role,
    SharedBase,
    copy_adapter,
    draw,
    policy_role,
    role_of,
    scorer_role,
)


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model with its origin: directory, settings and tokenizer."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    folder: Path
    config: ModelConfig
    lora: LoraConfig = ALL_WEIGHTS


def init_policy(
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    config: ModelConfig,
    lora: LoraConfig,
    seed: int,
) -> Any:
    """A policy to train: a directory's model, or an adapter on it.

    An existing adapter is trained further; a new one is drawn with `seed`.
    """
    if not lora.on:
        return load_policy(path, tokenizer, config)
    folder = Path(path)
    _require_plain(folder)
    shared = SharedBase(load_base(folder, tokenizer, config, lora), base_of(folder))
    return policy_role(shared, _begin(shared, "policy", folder, lora, _generator(seed)))


def load_policy_to_sample(
    path: str | Path, tokenizer: PreTrainedTokenizerBase, config: ModelConfig
) -> Any:
    """A policy to sample from. An adapter is not merged, which would copy the base's weights."""
    folder = Path(path)
    if not is_adapter(folder) or not is_plain(folder):
        return load_policy(path, tokenizer, config)
    shared = SharedBase(load_base(folder, tokenizer, config, ALL_WEIGHTS), base_of(folder))
    return policy_role(shared, _read(shared, "policy", folder))


def load_reference(policy: LoadedModel) -> Any:
    """The initial policy, frozen; for a role, its base with a frozen copy of its adapter."""
    role = role_of(policy.model)
    if role is None:
        found = load_policy(policy.folder, policy.tokenizer, policy.config)
        return found.requires_grad_(False)
    if not is_adapter(policy.folder):
        return policy_role(role.shared, None)
    return policy_role(role.shared, _read(role.shared, "reference", policy.folder))


def init_reward_model(
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    config: ModelConfig,
    lora: LoraConfig,
    seed: int,
) -> Any:
    """A reward model to train, with a new head, from a policy's directory."""
    if not lora.on:
        return new_reward_model(path, tokenizer, config, seed)
    folder = Path(path)
    _require_plain(folder)
    base = load_base(folder, tokenizer, config, lora, scores=True)
    shared, generator = SharedBase(base, base_of(folder)), _generator(seed)
    model = scorer_role(shared, _begin(shared, "reward", folder, lora, generator))
    draw_head(model.score, generator)
    return model


def load_frozen_reward_model(
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    config: ModelConfig,
    *,
    policy: Any = None,
) -> Any:
    """A frozen reward model; it shares the base of `policy` if it is an adapter of that model."""
    role, folder = role_of(policy), Path(path)
    if role is None or not _is_adapter_of(role.shared, folder):
        return load_reward_model(folder, tokenizer, config).requires_grad_(False)
    if not scores(folder):
        raise UserError("this adapter is a policy, not a reward model", where=str(folder))
    model = scorer_role(role.shared, _read(role.shared, "reward", folder))
    fill_head(model.score.requires_grad_(False), read_weights(folder), folder)
    return model


def init_critic_from_reward_model(
    reward_model: Any, lora: LoraConfig, seed: int, *, scale: float = 1.0, bias: float = 0.0
) -> Any:
    """A critic to train, initialised from the reward model: its value is the score so far.

    See docs/algorithms.md#ppo-7.

    From a role, one more adapter on the same base; from a full model, an adapter on its weights.
    `scale` and `bias` are the reward model's normalisation, so values start in normalised units.
    """
    if not lora.on:
        return new_critic(reward_model, scale=scale, bias=bias)
    role = role_of(reward_model)
    if role is None:  # the reward model becomes a role too, without adapter: its layers are shared
        shared = SharedBase(reward_model, Path(reward_model.name_or_path))
        role = reward_model.role = Role(shared=shared, adapter=None)
    critic = scorer_role(role.shared, _like(role, "critic", lora, seed), bias=True)
    fill_value_head(critic.score, reward_model.score, scale=scale, bias=bias)
    return critic


def init_critic_from_policy(policy: LoadedModel, seed: int) -> Any:
    """A critic to train, initialised from the policy, with a new head."""
    role = role_of(policy.model)
    if role is None:
        return new_critic(new_reward_model(policy.folder, policy.tokenizer, policy.config, seed))
    critic = scorer_role(role.shared, _like(role, "critic", policy.lora, seed), bias=True)
    draw_head(critic.score, _generator(seed))
    return critic


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed % 2**63)


def _begin(
    shared: SharedBase, kind: str, folder: Path, lora: LoraConfig, generator: torch.Generator
) -> str:
    """An adapter to train: the directory's if it has one, otherwise a new one."""
    if not is_adapter(folder):
        adapter = shared.add(kind, _new_shape(shared, lora), trains=True)
        draw(shared.parameters(adapter), generator)
        return adapter
    shape = dataclasses.replace(read_shape(folder), lora_dropout=lora.dropout)
    _check_same(shape, folder, lora)
    adapter = shared.add(kind, shape, trains=True)
    fill(shared.parameters(adapter), read_weights(folder), folder)
    return adapter


def _read(shared: SharedBase, kind: str, folder: Path) -> str:
    """A frozen adapter with a directory's weights."""
    # frozen: dropout would make its numbers random
    shape = dataclasses.replace(read_shape(folder), lora_dropout=0.0)
    adapter = shared.add(kind, shape, trains=False)
    fill(shared.parameters(adapter), read_weights(folder), folder)
    return adapter


def _like(role: Role, kind: str, lora: LoraConfig, seed: int) -> str:
    """An adapter to train, copied from a role's, or new if the role has none."""
    if role.adapter is None:
        adapter = role.shared.add(kind, _new_shape(role.shared, lora), trains=True)
        draw(role.shared.parameters(adapter), _generator(seed))
        return adapter
    shape = dataclasses.replace(copy.deepcopy(role.shared.shapes[role.adapter]), lora_dropout=0.0)
    adapter = role.shared.add(kind, shape, trains=True)
    copy_adapter(role.shared, role.adapter, adapter)
    return adapter


def _new_shape(shared: SharedBase, lora: LoraConfig) -> Any:
    """The `peft.LoraConfig` for the settings."""
    with needs("lora", "lora.rank"):
        import peft

    assert lora.rank is not None
    targets = set(lora.target_modules) or linear_names(shared.shell.base_model)
    unknown = targets - linear_names(shared.shell.base_model)
    if unknown:
        known = ", ".join(sorted(linear_names(shared.shell.base_model)))
        raise UserError(
            f"the model has no linear layer {min(unknown)!r} in its layers",
            where="lora.target_modules",
            fix=f"choose from {known}",
        )
    return peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.scaling * lora.rank,  # pyright: ignore[reportArgumentType]
        lora_dropout=lora.dropout,
        target_modules=sorted(targets),
        fan_in_fan_out=_transposed(shared.shell.base_model),
    )


def linear_names(model: nn.Module) -> set[str]:
    """The last name component of every linear layer, including those with an adapter."""
    from peft.tuners.lora import LoraLayer

    return {
        name.removesuffix(".base_layer").rpartition(".")[2]
        for name, module in untyped(model).named_modules()
        if _is_linear(module) and not isinstance(module, LoraLayer) and ".lora_" not in name
    }


def _is_linear(module: nn.Module) -> bool:
    """Also GPT-2's Conv1D, which stores its matrix transposed."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _transposed(model: nn.Module) -> bool:
    return any(type(module).__name__ == "Conv1D" for module in model.modules())


def _check_same(found: Any, folder: Path, lora: LoraConfig) -> None:
    """Raise UserError if an adapter to train further does not match the settings."""
    settings: dict[str, tuple[object, object]] = {"rank": (lora.rank, found.r)}
    if lora.alpha is not None:
        settings["alpha"] = (lora.alpha, found.lora_alpha)
    if lora.target_modules:
        settings["target_modules"] = (sorted(lora.target_modules), sorted(found.target_modules))
    for name, (setting, there) in settings.items():
        if setting != there:
            raise UserError(
                f"this adapter has {name} {there}, but lora.{name} is {setting}",
                where=str(folder),
                fix=f"set lora.{name} to {there}, or merge the adapter first: `alignloop merge`",
            )


def _is_adapter_of(shared: SharedBase, folder: Path) -> bool:
    """Whether a directory is an adapter of the shared model and fits into its layers."""
    if not is_adapter(folder):
        return False
    return base_of(folder).resolve() == shared.base.resolve() and is_plain(folder)


def _require_plain(folder: Path) -> None:
    """Raise UserError if an adapter to train further is more than matrices in the layers."""
    if is_adapter(folder) and not is_plain(folder):
        raise UserError(
            "this adapter changes more than linear layers (modules_to_save, embedding, output"
            " layer, or its initialisation), and cannot be trained further as an adapter",
            where=str(folder),
            fix="merge it first: `alignloop merge ADAPTER_DIR OUT`",
        )
