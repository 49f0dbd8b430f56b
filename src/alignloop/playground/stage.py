"""The playground's replacement for the annotation page: comparisons made, judged and saved."""

import time
from pathlib import Path

from alignloop.config import Recipe
from alignloop.data.files import write_records
from alignloop.data.preferences import pairs_from_judgements
from alignloop.playground.collect import collect
from alignloop.run import RunFolder


def collect_comparisons(config: Recipe, model_dir: Path, folder: RunFolder) -> Path:
    """Sample answers from the SFT model, have them compared, and write the records.

    Writes comparisons.jsonl, judgements.jsonl and pairs.jsonl; returns the path of the last. Never
    collects twice: labels are data.
    """
    stage = folder.stage("comparisons")
    path = stage.path / "pairs.jsonl"
    if stage.finished:
        return path
    from alignloop.models import load_policy, load_tokenizer
    from alignloop.rollout import make_sampler

    began = time.monotonic()
    tokenizer = load_tokenizer(model_dir, config.model)
    policy = load_policy(model_dir, tokenizer, config.model)
    sampler = make_sampler(policy, tokenizer, config.comparisons.sampling)
    found = collect(sampler, tokenizer, config.comparisons, seed=config.seed)
    comparisons, judgements = (stage.path / f"{n}.jsonl" for n in ("comparisons", "judgements"))
    write_records(comparisons, found.comparisons)
    write_records(judgements, found.judgements)
    write_records(path, pairs_from_judgements(found.comparisons, found.judgements))
    stage.finish(
        {
            "seconds": round(time.monotonic() - began, 2),
            "num_comparisons": len(found.comparisons),
            "num_judgements": len(found.judgements),
        }
    )
    return path
