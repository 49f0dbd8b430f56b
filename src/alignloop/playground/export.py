"""Write the playground's prompts and demonstrations as JSONL, to inspect or use elsewhere."""

from pathlib import Path

from alignloop.data.files import write_records
from alignloop.playground.demonstrations import demonstrations
from alignloop.playground.prompts import prompt_sets


def export(folder: Path, seed: int) -> list[Path]:
    """One file per prompt set, and the demonstrations of a seed; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, prompts in prompt_sets().items():
        path = folder / f"prompts_{name}.jsonl"
        write_records(path, prompts)
        written.append(path)
    path = folder / "demonstrations.jsonl"
    write_records(path, demonstrations(seed))
    return [*written, path]
