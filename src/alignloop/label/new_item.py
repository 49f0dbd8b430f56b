"""One item: what is asked, by whom it was written, and whether it can be labelled at all."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, cast

from pydantic import Field

from alignloop.data.formats.parts import digest_of
from alignloop.data.unstorable import is_storable
from alignloop.records import Comparison, PreferencePair, Prompt, Record, Response

Why = Literal["random", "uncertain", "ensemble", "coverage", "gold", "repeat", "import"]
MOST_ANSWERS = 9


class NewItem(Record):
    """A comparison to label, with its metadata; a line of an import file.

    `models` and `settings` are by response_id; `comparison.sampled_from` is the default model.
    `gold` is the right answer of a gold question: a response_id, "tie" or "both_bad".
    """

    comparison: Comparison
    models: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    why: Why = "import"
    why_detail: dict[str, Any] = Field(default_factory=dict)
    gold: str | None = None


class ReadItem(NamedTuple):
    """An item as it was read, and where; `judged` if the row also says which answer is better."""

    item: NewItem
    file: str = ""
    line: int = 0
    judged: bool = False


def _texts_of(item: NewItem) -> list[str]:
    """All texts of an item that go into a text column."""
    comparison, prompt = item.comparison, item.comparison.prompt
    texts = [comparison.comparison_id, comparison.sampled_from, *item.models.values()]
    texts += [prompt.prompt_id, prompt.category, prompt.language, prompt.source]
    texts += [message.content for message in prompt.messages]
    if prompt.tools or prompt.metadata or prompt.reference is not None:
        texts += _texts_within([*prompt.tools, *prompt.references, prompt.metadata])
    for response in comparison.responses:
        texts += (response.response_id, response.text)
    return texts


def _texts_within(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts_within([*cast("dict[str, Any]", value).items()])
    elif isinstance(value, list | tuple):
        for one in cast("list[Any]", value):
            yield from _texts_within(one)


def item_problem(item: NewItem) -> str:
    """Why a comparison cannot be labelled; "" if it can."""
    responses = item.comparison.responses
    ids = {response.response_id for response in responses}
    texts = {response.text.strip() for response in responses}
    if len(responses) > MOST_ANSWERS:
        return f"there are more than {MOST_ANSWERS} responses"
    if len(ids) < len(responses):
        return "two responses have the same response_id"
    if len(texts) < len(responses):
        return "two responses have the same text"
    if not all(texts):
        return "a response is empty"
    if not is_storable("\n".join(_texts_of(item))):
        return "a text contains NUL, or half a character (a lone surrogate)"
    if item.gold is not None and item.gold not in {*ids, "tie", "both_bad"}:
        return f"gold names no response: {item.gold[:40]!r}"
    return ""


def item_of_comparison(asked: Comparison, models: Mapping[str, str]) -> NewItem:
    """An item with the answers in a neutral order; `models` is by the comparison's own ids."""
    texts = [response.text for response in asked.responses]
    named = {o.text: models[o.response_id] for o in asked.responses if o.response_id in models}
    return item_of_texts(asked.prompt, texts, asked.comparison_id, models=named)


def are_together(one: PreferencePair, other: PreferencePair) -> bool:
    """Whether two pairs belong to one comparison."""
    if not one.comparison_id or one.comparison_id != other.comparison_id:
        return False
    # Not the metadata, which may differ by judgement.
    key = "prompt_id", "messages"
    return all(getattr(one.prompt, name) == getattr(other.prompt, name) for name in key)


def item_of_pairs(pairs: list[PreferencePair], *, gold: bool) -> NewItem:
    """One item with the distinct answers of some pairs; with `gold` also the right one of them."""
    prompt = pairs[0].prompt
    texts = sorted({text for pair in pairs for text in (pair.chosen, pair.rejected)})
    key = pairs[0].comparison_id or digest_of([prompt.prompt_id, *texts])
    return item_of_texts(prompt, texts, key, gold=_gold_of(pairs) if gold else None)


def item_of_texts(
    prompt: Prompt,
    texts: Iterable[str],
    key: str,
    *,
    models: Mapping[str, str] | None = None,
    gold: str | None = None,
) -> NewItem:
    """An item with these answers, in a neutral order; `models` by text, `gold` a text or "tie"."""
    ids = {text: digest_of([prompt.prompt_id, text]) for text in texts}
    # ordered by hash: the stored order must not reveal the winner or the model
    by_hash = sorted(ids, key=ids.__getitem__)
    responses = tuple([Response(response_id=ids[text], text=text) for text in by_hash])
    return NewItem(
        comparison=Comparison(comparison_id=key, prompt=prompt, responses=responses),
        models={ids[text]: model for text, model in (models or {}).items()},
        gold=gold and ids.get(gold, gold),
        why="import" if gold is None else "gold",
    )


def _gold_of(pairs: list[PreferencePair]) -> str | None:
    """The answer that beats others and is never beaten or equalled; "tie" if all are ties.

    None if annotators disagree or two answers share first place: no majority is invented.
    """
    ties = [pair for pair in pairs if pair.preference == 0.5]
    if len(ties) == len(pairs):
        return "tie"
    not_best = {pair.rejected for pair in pairs} | {pair.chosen for pair in ties}
    best = {pair.chosen for pair in pairs if pair.chosen not in not_best}
    return best.pop() if len(best) == 1 else None
