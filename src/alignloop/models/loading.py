"""Loading tokenizer, policy, reward model and critic from plain Hugging Face directories.

Everything that would fail later in a puzzling way is checked here and told in one sentence.
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
    """The tokenizer of a model directory, with a PAD that is not EOS (docs/algorithms.md#ppo-1).

    `as_it_is` leaves it the PAD that it has, or none: what another library's reward model reads
    depends on it. Raises UserError where there is no tokenizer.
    """
    folder = _model_folder(path)
    if is_adapter(folder) and not _has_tokenizer(folder):  # PEFT itself saves none
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
    """The longest sequence in tokens that a model directory says it can read; None = unsaid."""
    settings = settings_of(_model_folder(path))
    names = ("max_position_embeddings", "n_positions")  # the second is GPT-2's
    return next((settings[name] for name in names if name in settings), None)


def load_policy(path: str | Path, tokenizer: PreTrainedTokenizerBase, config: ModelConfig) -> Any:
    """A causal language model in `config.dtype` with dropout off, checked against its tokenizer.

    Of an adapter's directory it is the plain model with the adapter in its weights.
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

    `tokenizer` is the policy's: token ids are handed over as they are, so both must be the same.
    The head of another library's model may have another name, and a bias that transformers has not.
    """
    folder = _model_folder(path)
    if not is_reward_model(folder):
        raise UserError(
            "this is no reward model: it needs a scalar head (num_labels = 1)",
            where=str(folder),
            fix="train one with `alignloop reward`",
        )
    own = load_tokenizer(folder, config, as_it_is=not is_ours(folder))
    if own.get_vocab() != tokenizer.get_vocab():
        raise UserError(
            "the reward model's tokenizer differs from the policy's",
            where=str(folder),
            fix="train the reward model from the same base model as the policy",
        )
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
    """Put the head of a directory into `model.score`: its name may be another, a bias beside it.

    transformers drops both with a line in its log.
    """
    head = head_of(folder)
    if head is None:  # as transformers read it
        return
    weight, bias = head.tensors()
    if weight.shape != model.score.weight.shape:
        raise UserError(
            f"the head {head.name} is {tuple(weight.shape)} and not"
            f" {tuple(model.score.weight.shape)}",
            where=str(head.file),
        )
    model.score = with_bias(model.score, bias is not None)
    model.score.weight.copy_(weight)
    if bias is not None:
        model.score.bias.copy_(bias)


def new_reward_model(
    path: str | Path, tokenizer: PreTrainedTokenizerBase, config: ModelConfig, seed: int
) -> Any:
    """A reward model on the layers of a causal language model, with a fresh scalar head."""
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
    """The model that adapters stand on: a directory's own, or that of the directory's adapter."""
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
    """A sequence classification model whose head holds nothing of use yet."""
    kind = AutoModelForSequenceClassification
    model = _load(kind, base_of(folder), config, num_labels=1, fresh_head=True, **options)
    fit_embeddings(model, tokenizer, folder)
    return model


@torch.no_grad()
def draw_head(head: nn.Linear, generator: torch.Generator) -> None:
    """A fresh scalar head, std 1/sqrt(d+1) for hidden size d (docs/algorithms.md#ppo-6)."""
    noise = torch.randn(head.weight.shape, generator=generator)
    head.weight.copy_(noise / math.sqrt(head.weight.shape[1] + 1))
    if getattr(head, "bias", None) is not None:
        head.bias.zero_()


def new_critic(reward_model: Any, *, scale: float = 1.0, bias: float = 0.0) -> Any:
    """A critic that begins as a copy of the reward model: its value is the score so far.

    See docs/algorithms.md#ppo-7.

    `scale` and `bias` are the reward model's normalisation, so that values begin in its units.
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
    """Let a head with a bias say what a reward model's says, normalised: (raw - bias) / scale."""
    target.weight.copy_(head.weight / scale)
    assert target.bias is not None
    target.bias.fill_(-bias / scale)


def _with_adapter(model: Any, folder: Path) -> Any:
    return merged(model, folder) if is_adapter(folder) else model


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).exists() for name in TOKENIZER_FILES)


def _tokenizer_class(folder: Path) -> Any:
    """The class that reads tokenizer.json as it stands, where the directory asks for no other.

    For some model types AutoTokenizer overrules a generic class by the family's own, which adds
    tokens and splits text otherwise than the tokenizer that was saved.
    """
    config = folder / "tokenizer_config.json"
    name = (
        json.loads(config.read_text(encoding="utf-8")).get("tokenizer_class")
        if config.exists()
        else None
    )
    generic = name in ("PreTrainedTokenizerFast", "TokenizersBackend")
    return PreTrainedTokenizerFast if generic else AutoTokenizer


def _model_folder(path: str | Path) -> Path:
    folder = Path(path)
    if not (folder / "config.json").is_file() and not is_adapter(folder):
        raise no_model(path)
    return folder


def require_weights(folder: Path) -> None:
    """Raise UserError where a model directory has no safetensors weights."""
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
    """Raise UserError where transformers knows the family, but not with the head that is asked."""
    if not str(error).startswith("Unrecognized configuration class"):
        return
    settings = settings_of(folder)
    wants_scores = kind is AutoModelForSequenceClassification
    head = "sequence classification" if wants_scores else "causal language"
    use = "a reward model or a critic" if wants_scores else "a policy"
    raise UserError(
        f"transformers has no {head} model of the family {settings.get('model_type')!r}, so that"
        f" it cannot be {use}",
        where=str(folder),
        fix="choose a model of another family (docs/models.md lists those that are tested)",
    )


def scalar_head(model: Any, folder: Path) -> nn.Linear:
    """The layer that makes a score of the last hidden state: `score` in every causal family."""
    head = getattr(model, "score", None)
    if not isinstance(head, nn.Linear):
        raise UserError(
            f"{type(model).__name__} keeps its head elsewhere than in a linear layer `score`",
            where=str(folder),
            fix="start from a causal language model (docs/models.md lists those that are tested)",
        )
    return head


def _ready(model: Any, config: ModelConfig, folder: Path) -> Any:
    """Dropout off, and layers that keep nothing for the way back but what they read, if wanted."""
    if config.gradient_checkpointing:
        if not model.supports_gradient_checkpointing:
            raise UserError(
                f"{type(model).__name__} has no gradient checkpointing",
                where=str(folder),
                fix="set model.gradient_checkpointing to false",
            )
        # its name until transformers 5.22 or so, and deprecated since
        newer = getattr(model, "activation_checkpointing_enable", None)
        (newer or model.gradient_checkpointing_enable)({"use_reentrant": False})
    return _without_dropout(model)


def _without_dropout(model: Any) -> Any:
    """Dropout off for good: logprobs of one text must be the same at every reading.

    See docs/algorithms.md#ppo-19.

    Some families keep the rate in a layer's attribute, Falcon in its config; saving keeps the 0.
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
