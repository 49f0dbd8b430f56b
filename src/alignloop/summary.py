"""A run as one small JSON object: times and results of each stage. Part of the pipeline."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alignloop.run import StageFolder
from alignloop.run.files import explain_shape, read_object
from alignloop.run.folder import PARTS, seconds_by_stage


def summarise(path: Path) -> dict[str, Any]:
    """The content of summary.json for the finished stages of a run folder."""
    facts = {p: StageFolder(path / p).facts() for p in PARTS if StageFolder(path / p).finished}
    found: dict[str, Any] = {"seconds": _seconds(path)}
    if "reward" in facts:
        found["reward"] = _shaped(path / "reward" / "report_card.json", _reward)
    if "rl" in facts:
        wanted = ("kl", "steps", "stopped_because", "best_step")
        with explain_shape(path / "rl" / "done.json"):
            found["rl"] = {key: facts["rl"][key] for key in wanted}
    if "dpo" in facts:
        found["dpo"] = {key: value for key, value in facts["dpo"].items() if key != "seconds"}
    if "evaluate" in facts:
        results = path / "evaluate" / "results.json"
        found["evaluate"] = _shaped(results, _evaluate)
        found["measures"] = read_object(results).get("measures", [])
    return found


def _seconds(path: Path) -> dict[str, float]:
    found = seconds_by_stage(path)
    found["total"] = sum(found.values())
    return {stage: round(seconds, 2) for stage, seconds in found.items()}


def _reward(card: dict[str, Any]) -> dict[str, Any]:
    accuracy = card["accuracy"]
    return {
        "accuracy": accuracy["value"],
        "accuracy_ci": [accuracy["low"], accuracy["high"]],
        "ceiling": card["ceiling"],
        "longer_wins": card["longer_wins"]["value"],
        "ece": card["ece"],
        "num_pairs": card["num_pairs"],
    }


def _evaluate(results: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, tables in results["sets"].items():
        found[name] = {
            who: {metric: cell and cell["value"] for metric, cell in measured.items()}
            for who, measured in tables["overall"].items()
        }
        rate = results["win_rate"][name]["overall"]
        found[name] |= {"win_rate": rate["value"], "win_rate_ci": [rate["low"], rate["high"]]}
    return found


def _shaped(path: Path, summary: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """A summary of a stage's file; raises UserError naming the file if its shape is wrong."""
    content = read_object(path)
    with explain_shape(path):
        found = summary(content)
        json.dumps(found, allow_nan=False)  # json.loads accepts NaN, which no other reader does
        return found
