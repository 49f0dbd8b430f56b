"""`alignloop models convert`: from a GGUF file to a plain model directory that can be trained.

transformers reads the file and dequantises its weights; this makes a directory of it that stands
by itself, and looks whether what was written is what was read.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignloop.config import ModelConfig
from alignloop.config.model_paths import gguf_files, is_gguf, no_model
from alignloop.errors import UserError
from alignloop.extras import needs
from alignloop.models.loading import DTYPES, load_policy, load_tokenizer
from alignloop.models.saving import save_model

PROBE = "Hello! Please name\n\n1. a colour, and\n\n2. a number."
GENERATED = 12  # tokens of the answer that shows a person what the model says
# How texts are split before merging, where transformers does not do it as llama.cpp does: every
# digit by itself, then GPT-2's rule. Otherwise a blank line before a number is other tokens.
DIGITS_APART = {"smollm", "starcoder", "refact", "command-r", "codeshell", "minerva-7b"}
SPLIT_FILE = re.compile(r"(.*)-\d{5}-of-(\d{5})\.gguf")


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a GGUF file says of itself: `pre` is how its tokenizer splits texts."""

    architecture: str
    pre: str | None
    types: dict[str, int]
    tied: bool


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What was written: `answer` is what the model says to PROBE, as it was read again."""

    parameters: int
    header: Header
    has_template: bool
    answer: str
    notes: tuple[str, ...]


def find_gguf(source: Path) -> Path:
    """The GGUF file that a person named, or the one in a folder; raises UserError otherwise."""
    if source.is_dir():
        found = gguf_files(source)
        if len(found) > 1:
            raise UserError(
                f"there are {len(found)} GGUF files here",
                where=str(source),
                fix=f"name one of them: {', '.join(file.name for file in found)}",
            )
        if not found:
            raise _nothing_to_convert(source)
        source = found[0]
    if not source.exists():
        raise no_model(source, "FILE.gguf")
    if not is_gguf(source):
        raise UserError(
            "this is no GGUF file (it does not begin with 'GGUF')",
            where=str(source),
            fix="give a .gguf file, downloaded whole",
        )
    if part := SPLIT_FILE.fullmatch(source.name):
        raise UserError(
            f"this is one of {int(part[2])} parts of a model",
            where=str(source),
            fix="join them first: llama.cpp's `llama-gguf-split --merge FIRST_PART OUT.gguf`",
        )
    return source


def convert_gguf(
    file: Path,
    out: Path,
    *,
    dtype: Literal["float32", "bfloat16"] = "float32",
    tokenizer_from: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Converted:
    """Fill the folder `out` with a GGUF file's model: safetensors, config, tokenizer, template.

    Weights are the file's, dequantised, in `dtype`. `tokenizer_from` is a directory whose tokenizer
    takes the place of the file's. What was written is read again: the same logits to the bit, an
    answer of a few tokens, output layer tied or not as in the file.
    Raises UserError where transformers cannot read the file or the result differs.
    """
    _require_gguf()
    say(f"reading {file}")
    header = read_header(file)
    model = _read(file, "model", lambda: _model(file, dtype))
    tokenizer, notes = _tokenizer(file, header, tokenizer_from)
    ids = torch.tensor([_probe(tokenizer)])
    with torch.no_grad():
        wanted = model(input_ids=ids).logits
    parameters = sum(p.numel() for p in model.parameters())
    say(f"writing {parameters:,} parameters in {dtype}")
    save_model(out, model, tokenizer)
    del model
    say("checking: reading it again, and an answer")
    answer = _check(out, dtype, header, ids, wanted)
    return Converted(
        parameters=parameters,
        header=header,
        has_template=tokenizer.chat_template is not None,
        answer=answer,
        notes=notes,
    )


def read_header(file: Path) -> Header:
    """Architecture, tokenizer and types of weights, without the weights."""
    from gguf import GGUFReader  # type: ignore[import-untyped]

    reader = _read(file, "header", lambda: GGUFReader(file))

    def text(key: str) -> str | None:
        field = reader.get_field(key)
        return None if field is None else str(field.contents())

    return Header(
        architecture=text("general.architecture") or "",
        pre=text("tokenizer.ggml.pre"),
        types=dict(Counter(tensor.tensor_type.name for tensor in reader.tensors)),
        tied=all(tensor.name != "output.weight" for tensor in reader.tensors),
    )


def _model(file: Path, dtype: str) -> Any:
    causal: Any = AutoModelForCausalLM
    model, info = causal.from_pretrained(
        file.parent,
        gguf_file=file.name,
        local_files_only=True,
        dtype=DTYPES[dtype],
        output_loading_info=True,
    )
    if missing := info["missing_keys"]:
        raise ValueError(f"it lacks {len(missing)} tensors of the model, such as {min(missing)}")
    # Without these two saving is refused, or the directory says that it is still GGUF.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    return model.eval()


def _tokenizer(
    file: Path, header: Header, tokenizer_from: Path | None
) -> tuple[Any, tuple[str, ...]]:
    """The tokenizer, and what a person has to know of it."""
    if tokenizer_from is not None:
        return load_tokenizer(tokenizer_from), ()
    options = {"gguf_file": file.name, "local_files_only": True}
    tokenizer = _read(
        file, "tokenizer", lambda: AutoTokenizer.from_pretrained(file.parent, **options)
    )
    if header.pre in DIGITS_APART:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    elif header.pre is not None and header.pre not in _known_to_transformers():
        note = (
            f"the file's tokenizer splits texts in the way {header.pre!r}, which transformers does"
            " not know: some texts may become other tokens than the model has learnt. What to do:"
            " --tokenizer DIR with the original's tokenizer files"
        )
        return tokenizer, (note,)
    return tokenizer, ()


def _known_to_transformers() -> set[str]:
    """The ways of splitting that its converter makes; a version without such a table has none."""
    usual = {"default", "gpt-2"}
    try:
        from transformers.integrations.gguf import gguf_tokenizer_mapping
    except ImportError:
        return usual
    return usual | set(getattr(gguf_tokenizer_mapping, "GGUF_PRE_TOKENIZER_SPLITS", ()))


def _probe(tokenizer: Any) -> list[int]:
    if tokenizer.chat_template is None:
        return tokenizer(PROBE).input_ids
    turn = [{"role": "user", "content": PROBE}]
    return tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False)


def _check(
    out: Path, dtype: Literal["float32", "bfloat16"], header: Header, ids: Any, wanted: Any
) -> str:
    """What the model in `out` answers; raises UserError where it is not the one that was read."""
    tokenizer = load_tokenizer(out)
    model = load_policy(out, tokenizer, ModelConfig(path=str(out), dtype=dtype, device="cpu"))
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    if tied != header.tied:
        raise UserError(
            f"the output layer is {'' if header.tied else 'not '}tied to the embedding in the file,"
            f" but transformers made it {'tied' if tied else 'a layer of its own'}",
            where=str(out),
        )
    if _probe(tokenizer) != ids[0].tolist():
        raise UserError("the tokenizer that was saved gives other tokens", where=str(out))
    with torch.no_grad():
        found = model(input_ids=ids).logits[..., : wanted.shape[-1]]  # a PAD row may be new
        if not bool(torch.isfinite(found).all()):
            raise UserError("the model gives numbers that are not finite", where=str(out))
        if not torch.equal(found, wanted):
            worst = float((found - wanted).abs().max())
            raise UserError(f"what was written differs by {worst:g} in logits", where=str(out))
        drawn = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=GENERATED, do_sample=False
        )
    return str(tokenizer.decode(drawn[0, ids.shape[1] :], skip_special_tokens=True)).strip()


def _read(file: Path, what: str, work: Callable[[], Any]) -> Any:
    """What a library makes of the file; whatever it raises over a damaged or unknown one is told.

    Readers of binary files fail in every way, so that no list of exceptions is long enough.
    """
    try:
        return work()
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the {what} of this GGUF file cannot be read: {reason}",
            where=str(file),
            fix="download the file again, or take the model's safetensors directory in its place",
        ) from None


def _require_gguf() -> None:
    with needs("gguf", "a GGUF file"):
        import gguf  # type: ignore[import-untyped]  # noqa: F401


def _nothing_to_convert(folder: Path) -> UserError:
    if any(folder.glob("*.safetensors")) and (folder / "config.json").is_file():
        return UserError(
            "this is a model directory already, and needs no converting",
            where=str(folder),
            fix=f"name it: --model.path {folder}",
        )
    if pickled := [*folder.glob("*.bin"), *folder.glob("*.pth"), *folder.glob("*.pt")]:
        return UserError(
            f"{pickled[0].name} is pickled, and nothing is unpickled here",
            where=str(folder),
            fix="download the model's safetensors files or a GGUF file",
        )
    return UserError(
        "there is no GGUF file in this folder", where=str(folder), fix="name a .gguf file"
    )
