"""Preference pairs, encoded once: pairs of one prompt stay together, and each text is read once."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from alignloop.data.tokenise import Encoded, LengthLimit, encode_example, encode_fitting
from alignloop.data.truncation import pair_cutter
from alignloop.records import Message, PreferencePair, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TextKey = tuple[str, str]  # a prompt and an answer, by content
Group = list[int]  # pairs connected by common texts


@dataclass(frozen=True, kw_only=True)
class TextCodes:
    """Encodes each text once; `seen` can be shared by models with the same tokenizer."""

    tokenizer: "PreTrainedTokenizerBase"
    limit: LengthLimit
    seen: dict[TextKey, Encoded] = field(default_factory=dict[TextKey, Encoded])

    def of(self, pair: PreferencePair) -> tuple[TextKey, TextKey]:
        """The keys in `seen` of a pair's texts; raises TooLongError if one does not fit."""
        prompt_key = _prompt_key(pair.prompt)
        chosen, rejected = (self._key(prompt_key, pair.prompt, answer) for answer in pair.answers)
        return chosen, rejected

    def _key(self, prompt_key: str, prompt: Prompt, answer: Message) -> TextKey:
        # by content, since files repeat one answer under many ids
        key = (prompt_key, answer.model_dump_json())
        if key not in self.seen:
            self.seen[key] = encode_example(self.tokenizer, prompt, answer, self.limit.tokens)
        return key


@dataclass(frozen=True, kw_only=True)
class PairStore:
    """Pairs as indices into `texts`; `chosen` and `rejected` are in the order of the pairs.

    The K answers of a prompt occur once each, in however many pairs (InstructGPT: a reward model
    that sees a prompt's pairs shuffled apart overfits within an epoch).
    """

    pairs: tuple[PreferencePair, ...]
    texts: tuple[Encoded, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]

    @classmethod
    def of(cls, pairs: Sequence[PreferencePair], codes: TextCodes) -> "PairStore":
        """The pairs whose texts both fit; raises UserError if longer ones are refused."""

        kept, found = encode_fitting(
            pairs, codes.of, codes.limit, pair_cutter(codes.tokenizer, codes.limit)
        )
        keys = [key or codes.of(pair) for pair, key in zip(kept, found, strict=True)]
        chosen, rejected = zip(*keys, strict=True)
        index = {key: number for number, key in enumerate(dict.fromkeys((*chosen, *rejected)))}
        return cls(
            pairs=tuple(kept),
            texts=tuple(codes.seen[key] for key in index),
            chosen=tuple(index[key] for key in chosen),
            rejected=tuple(index[key] for key in rejected),
        )

    @property
    def weight(self) -> tuple[float, ...]:
        """The weight of each pair in the loss."""
        return tuple(pair.weight for pair in self.pairs)

    @property
    def decided(self) -> int:
        """The number of pairs that are not ties."""
        return sum(pair.preference != 0.5 for pair in self.pairs)

    def take(self, rows: Sequence[int], *, groups: Sequence[Group] | None = None) -> "PairStore":
        """Some of the pairs with their texts, which come in the order of the `groups` of rows."""
        index = {text: number for number, text in enumerate(self._texts(groups or [list(rows)]))}
        return PairStore(
            pairs=tuple(self.pairs[row] for row in rows),
            texts=tuple(self.texts[text] for text in index),
            chosen=tuple(index[self.chosen[row]] for row in rows),
            rejected=tuple(index[self.rejected[row]] for row in rows),
        )

    def cuts(self, micro_batch_tokens: int) -> list[list[Group]]:
        """All pairs in micro-batches within a budget of padded tokens, the longest first.

        Pairs connected by texts stay together if they fit, so that each text is read once; else
        they are split, and a text is read in each micro-batch that needs it. A pair longer than the
        budget gets its own micro-batch.
        """
        groups = [
            part
            for group in self._connected()
            for part in self._split_group(group, micro_batch_tokens)
        ]
        cuts: list[list[Group]] = []
        count = widest = 0
        # longest first: running out of memory shows in the first step
        for group in sorted(groups, key=self._longest, reverse=True):
            texts = len(self._texts([group]))
            if cuts and (count + texts) * widest <= micro_batch_tokens:
                cuts[-1].append(group)
                count += texts
            else:
                cuts.append([group])
                count, widest = texts, self._longest(group)
        return cuts

    def text_cuts(self, micro_batch_tokens: int) -> list[list[int]]:
        """The texts of `cuts`, each once, for reading without gradients."""
        seen: set[int] = set()
        found: list[list[int]] = []
        for cut in self.cuts(micro_batch_tokens):
            texts = [text for text in self._texts(cut) if text not in seen]
            seen.update(texts)
            found += [texts] if texts else []
        return found

    def _texts(self, groups: Sequence[Sequence[int]]) -> list[int]:
        """The texts of some pairs: group by group, the chosen ones first."""
        sides = (self.chosen, self.rejected)
        order = (side[row] for group in groups for side in sides for row in group)
        return list(dict.fromkeys(order))

    def _longest(self, group: Group) -> int:
        return max(len(self.texts[text].input_ids) for text in self._texts([group]))

    def _connected(self) -> list[Group]:
        """The pairs grouped by common texts, in the order of each group's first pair."""
        group_of: dict[int, Group] = {}
        for row, texts in enumerate(zip(self.chosen, self.rejected, strict=True)):
            mine: Group = [row]
            for other in {id(g): g for t in texts if (g := group_of.get(t))}.values():
                mine += other
            for text in self._texts([mine]):
                group_of[text] = mine
        found = {id(group): sorted(group) for group in group_of.values()}
        return sorted(found.values())

    def _split_group(self, group: Group, micro_batch_tokens: int) -> list[Group]:
        """The group if it fits, else parts of it in the order of its pairs."""
        parts: list[Group] = []
        for row in group:
            wider = [*parts[-1], row] if parts else [row]
            fits = len(self._texts([wider])) * self._longest(wider) <= micro_batch_tokens
            if parts and fits:
                parts[-1] = wider
            else:
                parts.append([row])
        return parts


def _prompt_key(prompt: Prompt) -> str:
    """A prompt's identity for a model, whatever its id."""
    return prompt.model_dump_json(include={"messages", "tools"})


def prompt_batches(
    pairs: Sequence[PreferencePair], batch_size: int, seed: int, epoch: int
) -> list[list[int]]:
    """Index batches of about `batch_size` pairs in random order, the pairs of a prompt together."""
    groups: dict[str, list[int]] = {}
    for i, pair in enumerate(pairs):
        groups.setdefault(_prompt_key(pair.prompt), []).append(i)
    order = list(groups.values())
    # each epoch has its own order, and resuming needs no state
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
