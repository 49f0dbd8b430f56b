"""One tiny run of all stages on an untrained model, and every number that it writes.

A draw of a token whose uniform number lies within rounding of an edge between two tokens falls on
either side by the processor's way of adding, and all later numbers follow. Such draws are stored
beside the curves and go the stored way; every other draw is compared through the numbers.
"""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from alignloop.config import load_recipe
from alignloop.pipeline import Pipeline
from alignloop.rollout import decode

Curves = dict[str, dict[str, float]]  # {"sft/1": {"loss": ...}}
Draws = dict[str, int]  # {uniform number: token}, of draws near an edge

REPOSITORY = Path(__file__).parents[2]
NEAR = 1e-5  # of the probability: a hundred times what float32 loses in adding up 600 tokens

RECIPE = """\
name = "golden"
seed = 7
num_threads = {threads}

[model]
path = "{folder}/model"

[sft]
learning_rate = 3e-3
demonstrations = "playground"
batch_size = 16
micro_batch_tokens = 1024
max_steps = 8
eval_every = 4

[comparisons]
num_prompts = 96
responses_per_prompt = 2
pairs_per_prompt = 1
sampling.max_new_tokens = 16

[reward]
learning_rate = 1e-3
pairs = "playground"
batch_size = 8
max_steps = 3
labels = "shares"

[rl]
learning_rate = 1e-3
prompts = "playground"
batch_size = 8
num_steps = 3
validation_size = 8
eval_every = 2
missing_eos = "subtract"
sampling.max_new_tokens = 16

[rl.algorithm]
num_epochs = 2
num_minibatches = 2

[evaluate]
prompts = "playground"
judge = "playground"
max_prompts = 8
base = "none"
sampling.max_new_tokens = 16
"""


@dataclass(frozen=True, kw_only=True)
class Golden:
    """The numbers of a run, and its draws near an edge."""

    curves: Curves
    draws: Draws


def run_all_stages(
    folder: Path,
    *,
    draws: Draws | None = None,
    threads: int = 1,
    ulps: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Golden:
    """Run in `folder`; with `draws`, those near an edge fall as these say.

    `ulps`: the seed of a change of each weight of the untrained model by one unit in its last place
    or none, which is what another order of adding could do anywhere.

    The model is untrained and its tokenizer is made from the playground's demonstrations, so that
    the base model in the package may be made anew without touching these curves.
    """
    from alignloop.playground.export import export

    demonstrations = export(folder / "world", 7)[-1]
    _maker().make_model([demonstrations], folder / "model", vocab_size=600, context=640)
    if ulps is not None:
        _shake(folder / "model/model.safetensors", ulps)
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(folder=folder.as_posix(), threads=threads), encoding="utf-8")
    pipeline = Pipeline(load_recipe(recipe, overrides), folder / "run")
    with _draws_near_an_edge(draws) as seen:
        pipeline.run()
    return Golden(curves=_curves(folder / "run"), draws=seen)


def _curves(run: Path) -> Curves:
    """Every number of metrics.jsonl, clocks left out, and the judge's."""
    curves: Curves = {}
    for text in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        place = f"{line.pop('stage')}/{line.pop('step')}"
        curves[place] = {k: v for k, v in line.items() if k != "time" and "second" not in k}
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    curves["reward/card"] = _numbers(summary["reward"])
    for name, measured in summary["evaluate"].items():
        curves[f"evaluate/{name}"] = _numbers(measured)
    return curves


@contextmanager
def _draws_near_an_edge(stored: Draws | None) -> Iterator[Draws]:
    """Collect draws within NEAR of an edge; where one is stored, it falls as it did there."""
    seen: Draws = {}
    original = decode.draw

    def draw(logits: Any, uniform: Any, *rest: Any, **options: Any) -> tuple[Any, Any]:
        tokens, logprobs = original(logits, uniform, *rest, **options)
        shares = torch.softmax(logits.double(), dim=-1)
        upper = shares.cumsum(-1)
        for row, u in enumerate(uniform.tolist()):
            token = int(tokens[row])
            high = float(upper[row, token])
            low = high - float(shares[row, token])
            if min(abs(u - low), abs(u - high)) > NEAR:
                continue
            seen[repr(u)] = token
            wanted = (stored or {}).get(repr(u), token)
            high = float(upper[row, wanted])
            if high - float(shares[row, wanted]) - NEAR <= u <= high + NEAR:
                tokens[row], logprobs[row] = wanted, shares[row, wanted].log()
                seen[repr(u)] = wanted
        return tokens, logprobs

    with mock.patch.object(decode, "draw", draw):
        yield seen


def _shake(weights: Path, seed: int) -> None:
    from safetensors.torch import load_file, save_file

    generator = torch.Generator().manual_seed(seed)
    shaken = {}
    for name, tensor in load_file(weights).items():
        way = torch.randint(-1, 2, tensor.shape, generator=generator)
        target = torch.where(way == 0, tensor, way * torch.inf)
        shaken[name] = torch.nextafter(tensor, target)
    save_file(shaken, weights, metadata={"format": "pt"})


def _numbers(measured: Any, prefix: str = "") -> dict[str, float]:
    """Nested numbers as {"sft.length": ...}."""
    found: dict[str, float] = {}
    pairs = measured.items() if isinstance(measured, dict) else enumerate(measured)
    for key, value in pairs:
        name = f"{prefix}{key}"
        if isinstance(value, dict | list):
            found |= _numbers(value, f"{name}.")
        elif value is not None:
            found[name] = value
    return found


def _maker() -> Any:
    path = REPOSITORY / "recipes/real-small/make_model.py"
    spec = importlib.util.spec_from_file_location("make_model", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
