"""Adapters on disk, in the format that `PeftModel.from_pretrained` reads and writes.

A directory holds adapter_config.json, adapter_model.safetensors and, if written here, tokenizer and
chat template. It names the adapter's base model and does not copy it.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from alignloop.errors import UserError
from alignloop.extras import needs
from alignloop.models.library import untyped

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
POLICY, SCORER = "CAUSAL_LM", "SEQ_CLS"  # PEFT's task types
PREFIX = "base_model.model."
HEAD = f"{PREFIX}score.weight"
OUTPUT_LAYERS = (f"{PREFIX}lm_head.", f"{PREFIX}embed_out.")
# These initialisations are computed from the base weights, and change them.
CHANGES_WEIGHTS = ("pissa", "olora", "corda", "loftq", "lora_ga")


def is_adapter(folder: Path) -> bool:
    """Whether a directory holds an adapter rather than a full model."""
    return (folder / CONFIG).is_file()


def base_of(folder: Path) -> Path:
    """The full model's directory: `folder` itself, or the base model of its adapter.

    Raises UserError if the adapter's base model is not on this machine.
    """
    if not is_adapter(folder):
        return folder
    name = _settings(folder).get("base_model_name_or_path") or ""
    for base in (Path(name), folder / name):
        if name and (base / "config.json").is_file():
            return base
    raise UserError(
        f"the base model of this adapter, {name!r}, does not exist",
        where=str(folder / CONFIG),
        fix="put the model there, or run `alignloop merge ADAPTER_DIR OUT --base DIR`",
    )


def scores(folder: Path) -> bool:
    """Whether an adapter makes a reward model: by its task type, or without one by its head."""
    task = _settings(folder).get("task_type")
    return task == SCORER or (task is None and HEAD in read_weights(folder))


def is_plain(folder: Path) -> bool:
    """Whether an adapter is only matrices in the layers, and perhaps a head.

    Adapters with `modules_to_save`, of the embedding or the output layer, or initialised by
    changing the base weights cannot share a base: they are merged instead.
    """
    start = _settings(folder).get("init_lora_weights")
    changes = isinstance(start, str) and start.lower().startswith(CHANGES_WEIGHTS)
    matrix = re.compile(r".*\.lora_(A\.weight|B\.weight|magnitude_vector)")
    names = set(read_weights(folder)) - {HEAD}
    return not changes and all(
        matrix.fullmatch(name) and not name.startswith(OUTPUT_LAYERS) for name in names
    )


def read_shape(folder: Path) -> Any:
    """The `peft.LoraConfig` of an adapter directory, without its settings for heads."""
    with needs("lora", "an adapter"):
        import peft

    kind = _settings(folder).get("peft_type")
    if kind != "LORA":
        raise UserError(f"only LORA adapters are supported, not {kind}", where=str(folder))
    try:
        found = untyped(peft.LoraConfig).from_pretrained(str(folder))
    except (TypeError, ValueError) as error:
        raise UserError(f"this file is damaged: {error}", where=str(folder / CONFIG)) from None
    return dataclasses.replace(found, task_type=None, modules_to_save=None, inference_mode=False)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of an adapter directory, by PEFT's names on disk."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise UserError(
            f"this adapter has no {WEIGHTS}",
            where=str(folder),
            fix="save it with `model.save_pretrained(folder, safe_serialization=True)`",
        )
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"the adapter cannot be read: {error}", where=str(path)) from None


def write_adapter(
    folder: Path, shape: Any, tensors: Mapping[str, Tensor], *, base: Path, task: str
) -> None:
    """Write configuration and tensors; `base` is the model's directory, saved as absolute path."""
    settings = shape.to_dict() | {
        "base_model_name_or_path": str(base.resolve()),
        "inference_mode": True,
        "modules_to_save": ["score"] if task == SCORER else None,
        "task_type": task,
    }
    # PEFT keeps names in sets; sorted, the same adapter gives the same file
    text = json.dumps(settings, indent=2, sort_keys=True, default=sorted) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        folder / WEIGHTS,
        metadata={"format": "pt"},
    )


def adapter_parameters(model: nn.Module, adapter: str) -> dict[str, nn.Parameter]:
    """An adapter's parameters in a model, by their names on disk, without the adapter's name."""
    found: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        on_disk, count = re.subn(rf"(\.lora_\w+)\.{re.escape(adapter)}(?=\.|$)", r"\1", name)
        if count:  # for DoRA's magnitudes the files keep an older name
            on_disk = re.sub(r"(\.lora_magnitude_vector)\.weight$", r"\1", on_disk)
            found[f"{PREFIX}{on_disk}"] = parameter
    return found


@torch.no_grad()
def fill(parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Copy tensors of an adapter directory into the parameters of the same names.

    Raises UserError if names or shapes do not match this model.
    """
    unmatched = set(parameters) ^ {name for name in tensors if name != HEAD}
    if unmatched:
        raise UserError(
            f"the adapter does not fit this model: {len(unmatched)} tensors have no counterpart,"
            f" such as {min(unmatched)}",
            where=str(folder),
        )
    for name, parameter in parameters.items():
        if parameter.shape != tensors[name].shape:
            raise UserError(
                f"the adapter does not fit this model: {name} is {tuple(tensors[name].shape)}, not"
                f" {tuple(parameter.shape)}",
                where=str(folder),
            )
        parameter.copy_(tensors[name])


@torch.no_grad()
def fill_head(head: nn.Linear, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Copy the scalar head of an adapter directory into a reward model's."""
    weight = tensors.get(HEAD)
    if weight is None or weight.shape != head.weight.shape:
        raise UserError("this adapter has no scalar head for this model", where=str(folder))
    head.weight.copy_(weight)


@torch.no_grad()
def merged(model: Any, folder: Path) -> Any:
    """The full model with an adapter merged into its weights: W + alpha / rank * B A.

    That is LoRA; rsLoRA divides by the rank's root, DoRA scales the columns: PEFT merges each.
    Whole tensors in the files (`modules_to_save`, biases, a reward model's head) replace the
    model's. Raises UserError if the files hold anything else.
    """
    shape, tensors = read_shape(folder), read_weights(folder)
    from peft.tuners.lora import LoraModel

    # a reward model has no output layer to which the adapter's could apply
    if model.get_output_embeddings() is None:  # a reward model on a policy's adapter
        tensors = {n: value for n, value in tensors.items() if not n.startswith(OUTPUT_LAYERS)}
    matrices = {name: value for name, value in tensors.items() if ".lora_" in name}
    below = {name: value for name, value in tensors.items() if ".base_layer." in name}
    whole = {n: value for n, value in tensors.items() if n not in matrices and n not in below}
    _untie_if_changed(model, tensors, shape)
    _replace(model, below, folder)  # base weights first: the matrices are added to them
    try:
        tuner = LoraModel(model, shape, "merged")
    except (ValueError, TypeError, RuntimeError, AttributeError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"PEFT cannot load this adapter: {reason}", where=str(folder)) from None
    fill(adapter_parameters(model, "merged"), matrices, folder)
    plain: Any = tuner.merge_and_unload()
    # PEFT freezes the base it wraps
    plain.requires_grad_(True)
    if scores(folder) and hasattr(plain, "score"):
        if HEAD not in whole:
            raise UserError("this adapter has no scalar head for this model", where=str(folder))
        plain.score = with_bias(plain.score, f"{PREFIX}score.bias" in whole)
    elif not hasattr(plain, "score"):
        whole.pop(HEAD, None)
    _replace(plain, whole, folder)
    return plain


@torch.no_grad()
def with_bias(head: nn.Linear, wanted: bool) -> nn.Linear:
    """The same head, with an added bias of 0 if `wanted` and it has none."""
    if not wanted or "bias" in dict(head.named_parameters()):
        return head
    options: dict[str, Any] = {"dtype": head.weight.dtype, "device": head.weight.device}
    grown = nn.Linear(head.in_features, head.out_features, **options)
    grown.weight.copy_(head.weight)
    grown.bias.zero_()
    return grown


def _replace(model: Any, whole: Mapping[str, Tensor], folder: Path) -> None:
    """Replace the model's tensors of these names by whole tensors."""
    embedding = model.get_input_embeddings()
    sizes = [len(value) for name, value in whole.items() if _is_of(name, model, embedding)]
    rows = max(sizes, default=0)
    if rows > embedding.weight.shape[0]:  # the adapter was trained with added tokens
        model.resize_token_embeddings(rows, mean_resizing=False)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, value in whole.items():
        target = parameters.get(name.removeprefix(PREFIX).replace(".base_layer.", "."))
        if target is None or target.shape != value.shape:
            raise UserError(
                f"the adapter does not fit this model, or is of an unsupported kind: {name}",
                where=str(folder),
                fix="merge it with PEFT (`merge_and_unload`) and save the whole model",
            )
        target.copy_(value)


def _untie_if_changed(model: Any, tensors: Mapping[str, Tensor], shape: Any) -> None:
    """Untie output layer and embedding if the adapter changes either.

    As in PEFT, which trains a separate copy of a tied layer unless `ensure_weight_tying` is set.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is not embedding.weight:
        return
    changed = any(_is_of(name, model, part) for name in tensors for part in (head, embedding))
    if changed and not getattr(shape, "ensure_weight_tying", False):
        head.weight = nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False


def _is_of(name: str, model: Any, part: nn.Module) -> bool:
    """Whether a tensor of an adapter belongs to a module of the model."""
    where = next(there for there, module in model.named_modules() if module is part)
    return name.startswith(f"{PREFIX}{where}.")


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        found: JsonValue = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"this file is damaged: {error}", where=str(path)) from None
    if not isinstance(found, dict):
        raise UserError("this file is damaged: it holds no JSON object", where=str(path))
    return found
