"""`alignloop models convert`: from a GGUF file to a model directory that can be trained.

transformers reads the file and dequantises its weights; this writes them as a self-contained
directory, reads it back and compares.
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
from alignloop.models.library import untyped
from alignloop.models.loading import DTYPES, load_policy, load_tokenizer
from alignloop.models.saving import save_model

PROBE = "Hello! Please name\n\n1. a colour, and\n\n2. a number."
GENERATED = 12  # tokens of the sample answer that is printed
# Pre-tokenizers that transformers converts differently from llama.cpp: each digit alone, then
# GPT-2's rule. Otherwise a blank line before a number becomes other tokens.
DIGITS_APART = {"smollm", "starcoder", "refact", "command-r", "codeshell", "minerva-7b"}
SPLIT_FILE = re.compile(r"(.*)-\d{5}-of-(\d{5})\.gguf")


@dataclass(frozen=True, kw_only=True)
class Header:
    """Metadata of a GGUF file; `pre` names its pre-tokenizer."""

    architecture: str
    pre: str | None
    types: dict[str, int]
    tied: bool


@dataclass(frozen=True, kw_only=True)
class Converted:
    """Result of a conversion: `answer` is the reloaded model's answer to PROBE."""

    parameters: int
    header: Header
    has_template: bool
    answer: str
    notes: tuple[str, ...]


def find_gguf(source: Path) -> Path:
    """The GGUF file given, or the only one in a folder; otherwise raises UserError."""
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
            "this is not a GGUF file (it does not begin with 'GGUF')",
            where=str(source),
            fix="give a completely downloaded .gguf file",
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
    """Write a GGUF file's model into the folder `out`: safetensors, config, tokenizer, template.

    Weights are the file's, dequantised, in `dtype`. `tokenizer_from` is a directory whose tokenizer
    replaces the file's. The result is read back and must give the same logits to the bit and tie
    the output layer as the file does.
    Raises UserError if transformers cannot read the file or the result differs.
    """
    _require_gguf()
    say(f"reading {file}")
    header = read_header(file)
    model = _read(file, "model", lambda: _model(file, dtype))
    tokenizer, notes = _tokenizer(file, header, tokenizer_from)
    # logits before writing: comparing them after reading back finds lost or untied tensors
    ids = torch.tensor([_probe(tokenizer)])
    with torch.no_grad():
        expected = model(input_ids=ids).logits
    parameters = sum(p.numel() for p in model.parameters())
    say(f"writing {parameters:,} parameters in {dtype}")
    save_model(out, model, tokenizer)
    del model
    say("checking: reading it back and sampling an answer")
    answer = _check(out, dtype, header, ids, expected)
    return Converted(
        parameters=parameters,
        header=header,
        has_template=tokenizer.chat_template is not None,
        answer=answer,
        notes=notes,
    )


def read_header(file: Path) -> Header:
    """Read architecture, tokenizer and weight types, without the weights."""
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
    # on the CPU, like the check: equality to the bit needs the same device
    model, info = untyped(AutoModelForCausalLM).from_pretrained(
        file.parent,
        gguf_file=file.name,
        local_files_only=True,
        dtype=DTYPES[dtype],
        output_loading_info=True,
    )
    if missing := info["missing_keys"]:
        raise ValueError(f"it lacks {len(missing)} tensors of the model, such as {min(missing)}")
    # Otherwise transformers refuses to save, or marks the directory as still quantised.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    return model.eval()


def _tokenizer(
    file: Path, header: Header, tokenizer_from: Path | None
) -> tuple[Any, tuple[str, ...]]:
    """The tokenizer, and warnings about it."""
    if tokenizer_from is not None:
        return load_tokenizer(tokenizer_from), ()
    options = {"gguf_file": file.name, "local_files_only": True}
    kind = untyped(AutoTokenizer)
    tokenizer = _read(file, "tokenizer", lambda: kind.from_pretrained(file.parent, **options))
    if header.pre in DIGITS_APART:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    elif header.pre is not None and header.pre not in _known_to_transformers():
        note = (
            f"transformers does not know this file's pre-tokenizer {header.pre!r}: some texts may"
            " become other tokens than in the model's training. What to do:"
            " --tokenizer DIR with the original model's tokenizer files"
        )
        return tokenizer, (note,)
    return tokenizer, ()


def _known_to_transformers() -> set[str]:
    """Pre-tokenizers that transformers converts; older versions have no table of them."""
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
    out: Path, dtype: Literal["float32", "bfloat16"], header: Header, ids: Any, expected: Any
) -> str:
    """Compare the model in `out` with the one read; returns its answer or raises UserError."""
    tokenizer = load_tokenizer(out)
    model = load_policy(out, tokenizer, ModelConfig(path=str(out), dtype=dtype, device="cpu"))
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    if tied != header.tied:
        raise UserError(
            f"the output layer is {'' if header.tied else 'not '}tied to the embedding in the file,"
            f" but transformers made it {'tied' if tied else 'a separate layer'}",
            where=str(out),
        )
    if _probe(tokenizer) != ids[0].tolist():
        raise UserError("the saved tokenizer gives different tokens", where=str(out))
    with torch.no_grad():
        found = model(input_ids=ids).logits[..., : expected.shape[-1]]  # a PAD row may be new
        if not bool(torch.isfinite(found).all()):
            raise UserError("the model's logits are not finite", where=str(out))
        if not torch.equal(found, expected):
            worst = float((found - expected).abs().max())
            raise UserError(f"the written model's logits differ by {worst:g}", where=str(out))
        drawn = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=GENERATED, do_sample=False
        )
    return str(tokenizer.decode(drawn[0, ids.shape[1] :], skip_special_tokens=True)).strip()


def _read(file: Path, what: str, work: Callable[[], Any]) -> Any:
    """Run a library's reader on the file, turning any exception into a UserError.

    Readers of binary files fail in so many ways that no list of exceptions is complete.
    """
    try:
        return work()
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the {what} of this GGUF file cannot be read: {reason}",
            where=str(file),
            fix="download the file again, or use the model's safetensors directory instead",
        ) from None


def _require_gguf() -> None:
    with needs("gguf", "a GGUF file"):
        import gguf  # type: ignore[import-untyped]  # noqa: F401


def _nothing_to_convert(folder: Path) -> UserError:
    if any(folder.glob("*.safetensors")) and (folder / "config.json").is_file():
        return UserError(
            "this is already a model directory; there is nothing to convert",
            where=str(folder),
            fix=f"use it directly: --model.path {folder}",
        )
    if pickled := [*folder.glob("*.bin"), *folder.glob("*.pth"), *folder.glob("*.pt")]:
        return UserError(
            f"{pickled[0].name} is a pickle file; alignloop never unpickles",
            where=str(folder),
            fix="download the model's safetensors files or a GGUF file",
        )
    return UserError(
        "there is no GGUF file in this folder", where=str(folder), fix="name a .gguf file"
    )
