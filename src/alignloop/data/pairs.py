"""Preference pairs as batches: pairs of one prompt stay together, and each text is read once."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from alignloop.data.batching import token_budget_batches
from alignloop.data.tokenise import Encoded, LengthLimit, encode_example, encode_fitting
from alignloop.data.truncation import pair_cutter
from alignloop.records import Message, PreferencePair, Prompt


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """Pairs as indices into `texts`; all of [pairs] are in the order of the pairs.

    The K answers of a prompt appear once each however many pairs they stand in (InstructGPT: a
    reward model that sees them shuffled overfits within an epoch).
    """

    texts: tuple[Encoded, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    preference: tuple[float, ...]
    margin: tuple[float, ...]
    weight: tuple[float, ...]

    def part(self, indices: Sequence[int]) -> "PairBatch":
        """Some of the texts and the pairs among them; both texts of a pair, or neither."""
        place = {text: number for number, text in enumerate(indices)}
        kept = self.pairs_among(indices)
        return PairBatch(
            texts=tuple(self.texts[i] for i in indices),
            chosen=tuple(place[self.chosen[i]] for i in kept),
            rejected=tuple(place[self.rejected[i]] for i in kept),
            preference=tuple(self.preference[i] for i in kept),
            margin=tuple(self.margin[i] for i in kept),
            weight=tuple(self.weight[i] for i in kept),
        )

    def pairs_among(self, indices: Sequence[int]) -> list[int]:
        """The pairs whose texts are among some texts."""
        texts = set(indices)
        return [i for i, text in enumerate(self.chosen) if text in texts]


def encode_pairs(pairs: Sequence[PreferencePair], tokenizer: Any, max_tokens: int) -> PairBatch:
    """Tokenise the pairs of a batch."""
    index: dict[tuple[str, str], int] = {}
    texts: list[Encoded] = []

    def place(prompt: Prompt, answer: Message) -> int:
        key = (_asked(prompt), answer.model_dump_json())
        if key not in index:
            index[key] = len(texts)
            texts.append(encode_example(tokenizer, prompt, answer, max_tokens))
        return index[key]

    chosen = tuple(place(pair.prompt, pair.answers[0]) for pair in pairs)
    rejected = tuple(place(pair.prompt, pair.answers[1]) for pair in pairs)
    return PairBatch(
        texts=tuple(texts),
        chosen=chosen,
        rejected=rejected,
        preference=tuple(pair.preference for pair in pairs),
        margin=tuple(pair.margin for pair in pairs),
        weight=tuple(pair.weight for pair in pairs),
    )


def pairs_that_fit(
    pairs: Sequence[PreferencePair], tokenizer: Any, limit: LengthLimit
) -> list[PreferencePair]:
    """The pairs of which both texts fit; raises UserError where too long ones are refused."""

    def encode(pair: PreferencePair) -> None:
        for answer in pair.answers:
            encode_example(tokenizer, pair.prompt, answer, limit.tokens)

    return encode_fitting(pairs, encode, limit, pair_cutter(tokenizer, limit))[0]


def _asked(prompt: Prompt) -> str:
    """What makes two prompts the same to a model, whatever they are called."""
    return prompt.model_dump_json(include={"messages", "tools"})


def prompt_batches(
    pairs: Sequence[PreferencePair], batch_size: int, seed: int, epoch: int
) -> list[list[int]]:
    """Index batches of about `batch_size` pairs in random order, the pairs of a prompt together."""
    groups: dict[str, list[int]] = {}
    for i, pair in enumerate(pairs):
        groups.setdefault(_asked(pair.prompt), []).append(i)
    order = list(groups.values())
    random.Random(f"pairs/{seed}/{epoch}").shuffle(order)
    batches: list[list[int]] = []
    for group in order:
        if batches and len(batches[-1]) + len(group) <= batch_size:
            batches[-1] += group
        else:
            batches.append(list(group))
    return batches


def batches_of_epochs(
    pairs: Sequence[PreferencePair],
    batch_size: int,
    seed: int,
    *,
    num_epochs: float,
    max_steps: int | None,
) -> list[list[int]]:
    """The batches of all epochs in order: a function of the seed alone."""
    epochs = math.ceil(num_epochs)
    batches = [b for e in range(epochs) for b in prompt_batches(pairs, batch_size, seed, e)]
    steps = max(1, round(len(batches) * num_epochs / epochs))
    return batches[: min(steps, max_steps or steps)]


def whole_pair_batches(batch: PairBatch, micro_batch_tokens: int) -> list[list[int]]:
    """Indices into `batch.texts` by micro-batch, texts that pairs connect never apart."""
    count = len(batch.texts)
    links = coo_array((np.ones(len(batch.chosen)), (batch.chosen, batch.rejected)), (count, count))
    _, component = connected_components(links, directed=False)
    groups: dict[int, list[int]] = {}
    for text, number in enumerate(component.tolist()):
        groups.setdefault(number, []).append(text)
    longest = {n: max(len(batch.texts[i].input_ids) for i in g) for n, g in groups.items()}
    cuts: list[list[int]] = []
    widest = 0
    for number in sorted(groups, key=lambda n: -longest[n]):
        group = groups[number]
        if cuts and (len(cuts[-1]) + len(group)) * widest <= micro_batch_tokens:
            cuts[-1] += group
        else:
            cuts.append(list(group))
            widest = longest[number]
    return cuts


def padded_tokens(texts: Sequence[Encoded], cuts: Sequence[Sequence[int]]) -> int:
    """How many tokens, padding included, the micro-batches hold together."""
    return sum(len(cut) * max(len(texts[i].input_ids) for i in cut) for cut in cuts)


def one_pass_batches(batch: PairBatch, micro_batch_tokens: int) -> list[list[int]] | None:
    """Micro-batches of whole pairs, or None where it is better to part the pairs.

    Micro-batches of whole pairs are read once, forwards and backwards. Texts of similar length pad
    less, but part the pairs, so that scores come first and each text is read twice: three passes
    become four. Whichever reads fewer tokens, and fits, is done; the gradient is the same.
    """
    lengths = [len(text.input_ids) for text in batch.texts]
    whole = whole_pair_batches(batch, micro_batch_tokens)
    apart = token_budget_batches(lengths, micro_batch_tokens)
    fits = all(padded_tokens(batch.texts, [cut]) <= micro_batch_tokens for cut in whole)
    pays = 3 * padded_tokens(batch.texts, whole) <= 4 * padded_tokens(batch.texts, apart)
    return whole if fits and pays else None
