"""A run's folder: settings, metrics, samples, seeds, progress bars.

Checkpoints are in `alignloop.run.checkpoints`, which this module does not import: it needs torch.
"""

from alignloop.run.files import append_jsonl, atomic_folder, atomic_write, read_jsonl
from alignloop.run.folder import RunFolder, StageFolder, fingerprint, holds_model
from alignloop.run.metrics import MetricLog, SampleLog, read_metrics, read_samples
from alignloop.run.progress import Progress, progress_for, say_line
from alignloop.run.seeds import derive_seed, generator, row_seeds, set_determinism

__all__ = [
    "MetricLog",
    "Progress",
    "RunFolder",
    "SampleLog",
    "StageFolder",
    "append_jsonl",
    "atomic_folder",
    "atomic_write",
    "derive_seed",
    "fingerprint",
    "generator",
    "holds_model",
    "progress_for",
    "read_jsonl",
    "read_metrics",
    "read_samples",
    "row_seeds",
    "say_line",
    "set_determinism",
]
