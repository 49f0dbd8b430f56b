"""Load tokenizer, policy, reward model and critic from Hugging Face directories.

Anything that would fail later in a puzzling way is checked here.
"""

import copy
import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from alignloop.config import LoraConfig, ModelConfig
from alignloop.config.model_paths import no_model
from alignloop.errors import UserError
from alignloop.models.adapters import base_of, is_adapter, merged, with_bias
from alignloop.models.device import device_of
from alignloop.models.kinds import (
    TOKENIZER_FILES,
    by_transformers,
    head_of,
    is_ours,
    is_reward_model,
    require_policy,
    settings_of,
)
from alignloop.models.padding import check_embeddings, fit_embeddings, give_pad
from alignloop.models.quantised import four_bit_options

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_tokenizer(
    path: str | Path, config: ModelConfig | None = None, *, as_it_is: bool = False
) -> Any:
    """The tokenizer of a model directory, with a PAD token that is not EOS (line 1).

    `as_it_is` keeps the PAD it has, or none: it decides which tokens another library's reward
    model reads. Raises UserError if there is no tokenizer.
    """
    folder = _model_folder(path)
    if is_adapter(folder) and not _has_tokenizer(folder):  # PEFT does not save tokenizers
        folder = base_of(folder)
    if not _has_tokenizer(folder):
        raise UserError(
            "this model directory has no tokenizer",
            where=str(folder),
            fix="save one into it with `tokenizer.save_pretrained(folder)`",
        )
    try:
        tokenizer = _tokenizer_class(folder).from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=bool(config and config.trust_remote_code),
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"the tokenizer cannot be read: {_first_line(error)}", where=str(folder)
        ) from None
    if not as_it_is:
        give_pad(tokenizer, str(folder))
    return tokenizer


def context_of(path: str | Path) -> int | None:
    """The longest sequence in tokens according to a model's config; None if not given."""
    settings = settings_of(_model_folder(path))
    names = ("max_position_embeddings", "n_positions")  # the second is GPT-2's
    return next((settings[name] for name in names if name in settings), None)


def load_policy(path: str | Path, tokenizer: PreTrainedTokenizerBase, config: ModelConfig) -> Any:
    """A causal language model in `config.dtype` with dropout off, checked against its tokenizer.

    For an adapter's directory, the full model with the adapter merged.
    """
    folder = _model_folder(path)
    require_policy(folder)
    model = _load(AutoModelForCausalLM, base_of(folder), config)
    fit_embeddings(model, tokenizer, folder)
    return _ready(_with_adapter(model, folder), config, folder)


def load_reward_model(
    path: str | Path, tokenizer: PreTrainedTokenizerBase, config: ModelConfig
) -> Any:
    """A sequence classification model with one label, checked against the policy's tokenizer.

    `tokenizer` is the policy's: both must agree, because token ids are passed on unchanged. Other
    libraries' heads may have another name, and a bias that transformers lacks.
    """
    folder = _model_folder(path)
    if not is_reward_model(folder):
        raise UserError(
            "this is not a reward model: it needs a scalar head (num_labels = 1)",
            where=str(folder),
            fix="train one with `alignloop reward`",
        )
    # compared by vocabulary, not by name: equal ids must mean equal tokens
    own = load_tokenizer(folder, config, as_it_is=not is_ours(folder))
    if own.get_vocab() != tokenizer.get_vocab():
        raise UserError(
            "the reward model's tokenizer differs from the policy's",
            where=str(folder),
            fix="train the reward model from the same base model as the policy",
        )
    # the head then comes from elsewhere, so its absence is no error
    fresh = is_adapter(folder) or not by_transformers(folder)
    kind = AutoModelForSequenceClassification
    model = _load(kind, base_of(folder), config, num_labels=1, fresh_head=fresh)
    if is_ours(folder):
        fit_embeddings(model, own, folder)
    if is_adapter(folder):
        model = merged(model, folder)
    check_embeddings(model, own, folder)
    if not is_adapter(folder) and isinstance(getattr(model, "score", None), nn.Linear):
        _fill_head(model, folder)
    return _ready(model, config, folder)


@torch.no_grad()
def _fill_head(model: Any, folder: Path) -> None:
    """Copy a directory's head into `model.score`, under whichever name, with its bias if any.

    transformers would drop both with only a line in its log.
    """
    head = head_of(folder)
    if head is None:  # transformers has loaded it
        return
    weight, bias = head.tensors()
    if weight.shape != model.score.weight.shape:
        raise UserError(
            f"the head {head.name} is {tuple(weight.shape)}, not {tuple(model.score.weight.shape)}",
            where=str(head.file),
        )
    model.score = with_bias(model.score, bias is not None)
    model.score.weight.copy_(weight)
    if bias is not None:
        model.score.bias.copy_(bias)


def new_reward_model(
    path: str | Path, tokenizer: PreTrainedTokenizerBase, config: ModelConfig, seed: int
) -> Any:
    """A reward model on the layers of a causal language model, with a new scalar head."""
    folder = _model_folder(path)
    model = _new_scorer(folder, tokenizer, config)
    draw_head(scalar_head(model, folder), torch.Generator().manual_seed(seed % 2**63))
    return _ready(_with_adapter(model, folder), config, folder)


def load_base(
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    config: ModelConfig,
    lora: LoraConfig,
    *,
    scores: bool = False,
) -> Any:
    """The base model for adapters: a directory's model, or the base of its adapter."""
    folder = _model_folder(path)
    options = four_bit_options(device_of(config)) if lora.load_in_4bit else {}
    if scores:
        model = _new_scorer(folder, tokenizer, config, **options)
    else:
        require_policy(folder)
        model = _load(AutoModelForCausalLM, base_of(folder), config, **options)
        fit_embeddings(model, tokenizer, folder)
    return _ready(model, config, folder)


def _new_scorer(
    folder: Path, tokenizer: PreTrainedTokenizerBase, config: ModelConfig, **options: Any
) -> Any:
    """A sequence classification model whose head is still to be initialised."""
    kind = AutoModelForSequenceClassification
    model = _load(kind, base_of(folder), config, num_labels=1, fresh_head=True, **options)
    fit_embeddings(model, tokenizer, folder)
    return model


@torch.no_grad()
def draw_head(head: nn.Linear, generator: torch.Generator) -> None:
    """Draw a scalar head ~ N(0, 1/(d+1)), std = 1/sqrt(d+1) for hidden size d (line 6)."""
    noise = torch.randn(head.weight.shape, generator=generator)
    head.weight.copy_(noise / math.sqrt(head.weight.shape[1] + 1))
    if getattr(head, "bias", None) is not None:
        head.bias.zero_()


def new_critic(reward_model: Any, *, scale: float = 1.0, bias: float = 0.0) -> Any:
    """A critic that starts as a copy of the reward model (line 7): its value is the score so far.

    `scale` and `bias` are the reward model's normalisation, so values start in normalised units.
    """
    critic = copy.deepcopy(reward_model)
    critic.requires_grad_(True)
    head = critic.score
    critic.score = nn.Linear(
        head.in_features, 1, dtype=head.weight.dtype, device=head.weight.device
    )
    fill_value_head(critic.score, head, scale=scale, bias=bias)
    return critic


@torch.no_grad()
def fill_value_head(target: nn.Linear, head: nn.Linear, *, scale: float, bias: float) -> None:
    """Make a head with bias give a reward model's normalised score: (raw - bias) / scale."""
    target.weight.copy_(head.weight / scale)
    assert target.bias is not None
    target.bias.fill_(-bias / scale)


def _with_adapter(model: Any, folder: Path) -> Any:
    return merged(model, folder) if is_adapter(folder) else model


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).exists() for name in TOKENIZER_FILES)


def _tokenizer_class(folder: Path) -> Any:
    """The class that reads tokenizer.json unchanged, unless the directory names a specific one.

    For some model types AutoTokenizer replaces a generic class by the family's own, which adds
    tokens and splits text differently from the saved tokenizer.
    """
    config = folder / "tokenizer_config.json"
    name = (
        json.loads(config.read_text(encoding="utf-8")).get("tokenizer_class")
        if config.exists()
        else None
    )
    # see decision 0008
    generic = name in ("PreTrainedTokenizerFast", "TokenizersBackend")
    return PreTrainedTokenizerFast if generic else AutoTokenizer


def _model_folder(path: str | Path) -> Path:
    folder = Path(path)
    if not (folder / "config.json").is_file() and not is_adapter(folder):
        raise no_model(path)
    return folder


def require_weights(folder: Path) -> None:
    """Raise UserError if a model directory has no safetensors weights."""
    if not [*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")]:
        raise UserError(
            "this model directory has no safetensors weights",
            where=str(folder),
            fix="save it with `model.save_pretrained(folder, safe_serialization=True)`",
        )


def _load(
    kind: Any, folder: Path, config: ModelConfig, *, fresh_head: bool = False, **options: Any
) -> Any:
    require_weights(folder)
    try:
        model, info = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=config.trust_remote_code,
            dtype=DTYPES[config.dtype],
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        _refuse_unknown_family(kind, error, folder)
        raise UserError(
            f"the model cannot be loaded: {_first_line(error)}", where=str(folder)
        ) from None
    missing = [key for key in info["missing_keys"] if not (fresh_head and key.startswith("score"))]
    if missing:
        raise UserError(
            f"the weights lack {len(missing)} tensors of the model, such as {min(missing)}",
            where=str(folder),
            fix="save the whole model again",
        )
    return model if "device_map" in options else model.to(device_of(config))


def _refuse_unknown_family(kind: Any, error: Exception, folder: Path) -> None:
    """Raise UserError if transformers knows the family, but not with the head needed."""
    if not str(error).startswith("Unrecognized configuration class"):
        return
    settings = settings_of(folder)
    wants_scores = kind is AutoModelForSequenceClassification
    head = "sequence classification" if wants_scores else "causal language"
    use = "a reward model or a critic" if wants_scores else "a policy"
    raise UserError(
        f"transformers has no {head} model of the family {settings.get('model_type')!r}, so it"
        f" cannot be {use}",
        where=str(folder),
        fix="choose a model of another family (docs/models.md lists the tested ones)",
    )


def scalar_head(model: Any, folder: Path) -> nn.Linear:
    """The layer from last hidden state to score: `score` in every causal family."""
    head = getattr(model, "score", None)
    if not isinstance(head, nn.Linear):
        raise UserError(
            f"the head of {type(model).__name__} is not a linear layer `score`",
            where=str(folder),
            fix="start from a causal language model (docs/models.md lists the tested ones)",
        )
    return head


def _ready(model: Any, config: ModelConfig, folder: Path) -> Any:
    """Turn dropout off, and gradient checkpointing on if the settings ask for it."""
    if config.gradient_checkpointing:
        if not model.supports_gradient_checkpointing:
            raise UserError(
                f"{type(model).__name__} has no gradient checkpointing",
                where=str(folder),
                fix="set model.gradient_checkpointing to false",
            )
        # `gradient_checkpointing_enable` is deprecated since about transformers 5.22
        newer = getattr(model, "activation_checkpointing_enable", None)
        (newer or model.gradient_checkpointing_enable)({"use_reentrant": False})
    return _without_dropout(model)


def _without_dropout(model: Any) -> Any:
    """Dropout off for good (line 19): logprobs of a text must be the same at every reading.

    Some families keep the rate in a layer's attribute, Falcon in its config; the 0 is saved.
    """
    for holder in (model.config, *model.modules()):
        if isinstance(holder, nn.Dropout):
            holder.p = 0.0
        for name, value in list(vars(holder).items()):
            if isinstance(value, float) and "drop" in name:
                setattr(holder, name, 0.0)
    return model.eval()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
