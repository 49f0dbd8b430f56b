"""Collect comparisons: a sampler answers prompts several times, simulated annotators compare."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from alignloop.config import ComparisonsConfig
from alignloop.data.tokenise import decode, encode_prompt
from alignloop.playground.annotators import annotate
from alignloop.playground.prompts import prompt_sets
from alignloop.records import Comparison, Judgement, Prompt, Response
from alignloop.rollout import Rollout, Sampler
from alignloop.run import progress_for, row_seeds

MAX_PROMPT_TOKENS = 256
ANSWERED_TOGETHER = 200  # prompts per update of the progress bar


@dataclass(frozen=True, kw_only=True)
class Collected:
    """Comparisons and the annotators' judgements."""

    comparisons: list[Comparison]
    judgements: list[Judgement]


def collect(sampler: Sampler, tokenizer: Any, config: ComparisonsConfig, *, seed: int) -> Collected:
    """Sample answers to comparison prompts, pair them and have them judged."""
    prompts = _choose(config, seed)
    rollouts = _answers(prompts, sampler, tokenizer, config.responses_per_prompt, seed)
    comparisons: list[Comparison] = []
    finished: dict[str, bool] = {}
    for index, prompt in enumerate(prompts):
        first = index * config.responses_per_prompt
        answers = rollouts[first : first + config.responses_per_prompt]
        responses = _responses(prompt, answers, tokenizer)
        finished |= {r.response_id: ended for r, ended in responses}
        comparisons += _pair_up(prompt, [r for r, _ in responses], config, seed)
    judgements = annotate(comparisons, finished, overlap_share=config.overlap_share, seed=seed)
    return Collected(comparisons=comparisons, judgements=judgements)


def _choose(config: ComparisonsConfig, seed: int) -> list[Prompt]:
    prompts = list(prompt_sets()["comparisons"])
    random.Random(f"comparison prompts/{seed}").shuffle(prompts)
    return prompts[: config.num_prompts]


def _answers(
    prompts: Sequence[Prompt], sampler: Sampler, tokenizer: Any, count: int, seed: int
) -> list[Rollout]:
    """`count` answers per prompt, side by side, with a progress bar."""
    rollouts: list[Rollout] = []
    seeds = row_seeds(len(prompts) * count, seed, "comparisons")
    with progress_for("comparisons", len(prompts)) as bar:
        for first in range(0, len(prompts), ANSWERED_TOGETHER):
            encoded = [
                (prompt.prompt_id, encode_prompt(tokenizer, prompt, MAX_PROMPT_TOKENS))
                for prompt in prompts[first : first + ANSWERED_TOGETHER]
                for _ in range(count)
            ]
            rollouts += sampler.generate(encoded, seeds[len(rollouts) :][: len(encoded)])
            bar.update(len(rollouts) // count)
    return rollouts


def _responses(
    prompt: Prompt, rollouts: Sequence[Rollout], tokenizer: Any
) -> list[tuple[Response, bool]]:
    """The distinct non-empty answers to one prompt, each with whether it ended with EOS."""
    found: dict[str, tuple[Response, bool]] = {}
    for number, rollout in enumerate(rollouts):
        text = decode(tokenizer, rollout.response_ids).strip()
        if text and text not in found:
            response = Response(response_id=f"{prompt.prompt_id}#{number}", text=text)
            found[text] = response, rollout.finish_reason == "eos"
    return list(found.values())


def _pair_up(
    prompt: Prompt, responses: Sequence[Response], config: ComparisonsConfig, seed: int
) -> list[Comparison]:
    pairs = list(combinations(responses, 2))
    random.Random(f"pairs/{seed}/{prompt.prompt_id}").shuffle(pairs)
    return [
        Comparison(
            comparison_id=f"{one.response_id}~{other.response_id.rsplit('#', 1)[1]}",
            prompt=prompt,
            responses=(one, other),
            sampled_from="sft",
        )
        for one, other in pairs[: config.pairs_per_prompt]
    ]
