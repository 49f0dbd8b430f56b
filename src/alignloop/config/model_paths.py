"""What stands at a path where a model directory should be, and what to do about it. No torch."""

import re
from pathlib import Path

from alignloop.errors import UserError

GGUF_MAGIC = b"GGUF"
HUB_NAME = re.compile(
    r"(?:hub:|https?:/{1,2}(?:www\.)?(?:huggingface\.co|hf\.co)/)?([\w.-]+/[\w.-]+)/?"
)
HUB_PREFIXES = ("hub:", "http:/", "https:/")
LOCAL = {"data", "model", "models", "out", "output", "outputs", "runs", "checkpoints"}
NO_CONFIG = "there is no model here (config.json is missing)"


def no_model(path: str | Path, setting: str = "model.path") -> UserError:
    """The error for a path at which no model directory lies; it says what is there instead.

    Known are GGUF files and folders of them, names on the Hugging Face Hub, the hub's cache
    folders, and files out of a model directory.
    """
    given, folder = str(path), Path(path)
    if is_gguf(folder) or gguf_files(folder):
        return _is_gguf(folder)
    if folder.is_file():
        if folder.name == "config.json" or folder.suffix == ".safetensors":
            problem = "this is a file out of a model directory"
        else:
            problem = "this is a file, and no model directory"
        return UserError(problem, where=given, fix=f"name the folder as {setting}: {folder.parent}")
    if not folder.exists():
        return _not_there(given, setting)
    if found := _below(folder):
        return UserError(NO_CONFIG, where=given, fix=f"name the folder that holds one: {found}")
    return UserError(
        NO_CONFIG,
        where=given,
        fix="give a model directory as written by `model.save_pretrained(folder)`",
    )


def is_gguf(file: Path) -> bool:
    """Whether a file is GGUF by its first bytes, whatever its name."""
    try:
        with file.open("rb") as stream:
            return stream.read(len(GGUF_MAGIC)) == GGUF_MAGIC
    except OSError:
        return False


def gguf_files(folder: Path) -> list[Path]:
    """The GGUF files directly in a folder, by name; none where it is no folder."""
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix.lower() == ".gguf")


def _is_gguf(path: Path) -> UserError:
    what = "a folder of GGUF files" if path.is_dir() else "a GGUF file"
    out = path if path.is_dir() else path.with_suffix("")
    return UserError(
        f"this is {what}: weights for running, which cannot be trained as they are",
        where=str(path),
        fix=f"`alignloop models convert {path} {out.name}-converted`, then name that directory",
    )


def _not_there(given: str, setting: str) -> UserError:
    name, said_so = HUB_NAME.fullmatch(given), given.startswith(HUB_PREFIXES)
    owner, _, last = name[1].partition("/") if name else ("", "", Path(given).name)
    if not said_so and (not owner or owner in LOCAL or Path(owner).is_dir()):
        how = _download("ORG/NAME", given)
        return UserError(
            "there is no such folder",
            where=given,
            fix=f"name a model directory as {setting}; one of the Hugging Face Hub is brought"
            f" beforehand: {how}",
        )
    there = "" if said_so else "there is no such folder; "
    return UserError(
        f"{there}this looks like a name on the Hugging Face Hub, and nothing is downloaded unasked",
        where=given,
        fix=f"download it first: {_download(f'{owner}/{last}', f'models/{last}')}, then"
        f" {setting} = models/{last}",
    )


def _download(repository: str, target: str) -> str:
    return f'`hf download {repository} --exclude "*.bin" "*.pth" --local-dir {target}`'


def _below(folder: Path) -> Path | None:
    """The one model directory below a folder: one level down, or the hub cache's snapshot."""
    found = [
        p.parent
        for pattern in ("*/config.json", "snapshots/*/config.json")
        for p in folder.glob(pattern)
    ]
    return found[0] if len(found) == 1 else None
