"""A model's shape from its config.json alone: transformers builds it on the meta device."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from alignloop.config import LoraConfig
from alignloop.config.model_paths import is_gguf, no_model
from alignloop.errors import UserError
from alignloop.models.library import untyped
from alignloop.plan.memory import Shape


def read_shape(path: str | Path, lora: LoraConfig) -> Shape:
    """The shape of a model directory, of its adapter's base, or of a config.json.

    Raises UserError if transformers cannot build the model.
    """
    file = _config_file(Path(path))
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        config = untyped(AutoConfig).for_model(settings.pop("model_type"), **settings)
        with torch.device("meta"):
            model = untyped(AutoModelForCausalLM).from_config(config)
    except (ValueError, KeyError, TypeError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot build a model from this: {reason}", where=str(file)) from None
    return shape_of(model, lora)


def shape_of(model: Any, lora: LoraConfig) -> Shape:
    """The shape of a causal language model, with or without its weights."""
    config, trunk, head = model.config, model.base_model, model.get_output_embeddings()
    linears = [(n, m) for n, m in trunk.named_modules() if _inputs_and_outputs(m) != (0, 0)]
    chosen = [
        _inputs_and_outputs(module)
        for name, module in linears
        if not lora.target_modules or name.rpartition(".")[2] in lora.target_modules
    ]
    tied = head is None or head.weight is model.get_input_embeddings().weight
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Shape(
        family=config.model_type,
        parameters=sum(p.numel() for p in model.parameters()),
        head=0 if tied or head is None else head.weight.numel(),
        linear=sum(i * o for i, o in map(_inputs_and_outputs, (m for _, m in linears))),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        mlp=_mlp_width(config),
        heads=config.num_attention_heads,
        queries=config.num_attention_heads * width,
        keys=(getattr(config, "num_key_value_heads", None) or config.num_attention_heads) * width,
        vocabulary=config.vocab_size,
        adapter_inputs=sum(i for i, _ in chosen),
        adapter_width=sum(i + o for i, o in chosen),
    )


def _config_file(path: Path) -> Path:
    if path.is_file() and not is_gguf(path):
        return path
    if (path / "adapter_config.json").is_file():
        from alignloop.models.adapters import base_of

        path = base_of(path)
    if not (path / "config.json").is_file():
        raise no_model(path)
    return path / "config.json"


def _inputs_and_outputs(module: nn.Module) -> tuple[int, int]:
    """Of a linear layer, or of GPT-2's Conv1D; (0, 0) for anything else."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if type(module).__name__ == "Conv1D":
        rows, columns = getattr(module, "weight").shape  # noqa: B009
        return int(rows), int(columns)
    return 0, 0


def _mlp_width(config: Any) -> int:
    """Its name differs between families; by default four times the hidden size."""
    names = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")
    return next((w for n in names if (w := getattr(config, n, None))), 4 * config.hidden_size)
