"""What is at a path where a model directory should be, and how to fix it. No torch."""

import re
from pathlib import Path

from alignloop.errors import UserError

GGUF_MAGIC = b"GGUF"
HUB_NAME = re.compile(
    r"(?:hub:|https?:/{1,2}(?:www\.)?(?:huggingface\.co|hf\.co)/)?([\w.-]+/[\w.-]+)/?"
)
HUB_PREFIXES = ("hub:", "http:/", "https:/")
# a first part like these means a local path, not an organisation on the hub
LOCAL = {"data", "model", "models", "out", "output", "outputs", "runs", "checkpoints"}
NO_CONFIG = "no model here (config.json is missing)"


def no_model(path: str | Path, setting: str = "model.path") -> UserError:
    """The error for a path that is not a model directory; it says what is there instead.

    It recognises GGUF files and folders of them, Hugging Face Hub names, the hub's cache folders,
    and single files of a model directory.
    """
    given, folder = str(path), Path(path)
    if is_gguf(folder) or gguf_files(folder):
        return _is_gguf(folder)
    if folder.is_file():
        if folder.name == "config.json" or folder.suffix == ".safetensors":
            problem = "this is one file of a model directory"
        else:
            problem = "this is a file, not a model directory"
        return UserError(problem, where=given, fix=f"set {setting} to the folder: {folder.parent}")
    if not folder.exists():
        return _not_there(given, setting)
    if found := _below(folder):
        return UserError(NO_CONFIG, where=given, fix=f"use the folder inside it: {found}")
    return UserError(
        NO_CONFIG,
        where=given,
        fix="give a model directory as written by `model.save_pretrained(folder)`",
    )


def is_gguf(file: Path) -> bool:
    """Whether a file is GGUF, by its first bytes, whatever its name."""
    try:
        with file.open("rb") as stream:
            return stream.read(len(GGUF_MAGIC)) == GGUF_MAGIC
    except OSError:
        return False


def gguf_files(folder: Path) -> list[Path]:
    """The GGUF files directly in a folder, by name; [] if it is not a folder."""
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix.lower() == ".gguf")


def _is_gguf(path: Path) -> UserError:
    what = "a folder of GGUF files" if path.is_dir() else "a GGUF file"
    out = path if path.is_dir() else path.with_suffix("")
    return UserError(
        f"this is {what}: weights for inference, which cannot be trained as they are",
        where=str(path),
        fix=f"`alignloop models convert {path} {out.name}-converted`, then use that directory",
    )


def _not_there(given: str, setting: str) -> UserError:
    name, said_so = HUB_NAME.fullmatch(given), given.startswith(HUB_PREFIXES)
    owner, _, last = name[1].partition("/") if name else ("", "", Path(given).name)
    if not said_so and (not owner or owner in LOCAL or Path(owner).is_dir()):
        how = _download("ORG/NAME", given)
        return UserError(
            "no such folder",
            where=given,
            fix=f"set {setting} to a model directory; to use one from the Hugging Face Hub,"
            f" download it first: {how}",
        )
    there = "" if said_so else "no such folder; "
    return UserError(
        f"{there}this looks like a Hugging Face Hub name, and nothing is downloaded automatically",
        where=given,
        fix=f"download it first: {_download(f'{owner}/{last}', f'models/{last}')}, then"
        f" {setting} = models/{last}",
    )


def _download(repository: str, target: str) -> str:
    return f'`hf download {repository} --exclude "*.bin" "*.pth" --local-dir {target}`'


def _below(folder: Path) -> Path | None:
    """The only model directory below a folder: one level down, or the hub cache's snapshot."""
    found = [
        p.parent
        for pattern in ("*/config.json", "snapshots/*/config.json")
        for p in folder.glob(pattern)
    ]
    # with several it is not ours to choose
    return found[0] if len(found) == 1 else None
