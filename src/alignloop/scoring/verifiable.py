"""Rewards that can be checked: each is a function of (answer, reference) to a number in 0..1.

Nothing of an answer is run, no model is asked, and the same texts always give the same number
(but for `regular_expression`, whose time is limited). `rl.rewards = ["verifiable:numeric_answer"]`
uses one; a reference that cannot be used is a ValueError.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from alignloop.data.languages import language_of
from alignloop.extras import needs
from alignloop.scoring.final_answer import final_letter, final_number, without_thoughts
from alignloop.stats.textstats import words

PATTERN_SECONDS = 1.0  # for one answer: a pattern may take time exponential in a hostile text
_QUOTES = "\"'`*“”‘’「」『』 "
_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.S)


def exact_match(answer: str, reference: str) -> float:
    """1 if both are the same text but for case, white space, width, quotes and a final full stop.

    Compared are NFKC forms, case-folded, each run of white space one space. A thought that ends
    in </think> is no part of the answer.
    """
    return float(_plain(without_thoughts(answer)) == _plain(reference))


def numeric_answer(answer: str, reference: str) -> float:
    """1 if the final number of the answer is exactly that of the reference (`final_number`).

    One with a percent sign equals the same number without it, and its hundredth: 25 %, 25, 0.25.
    Raises ValueError for a reference without one final number.
    """
    right = final_number(reference)
    if right is None:
        raise ValueError(f"the reference {reference[:80]!r} has no one final number")
    found = final_number(answer)
    if found is None:
        return 0.0
    if found.percent == right.percent:
        return float(found.value == right.value)
    hundredth = found.value / 100 if found.percent else found.value * 100
    return float(right.value in (found.value, hundredth))


def choice_letter(answer: str, reference: str) -> float:
    """1 if the answer chooses the letter of the reference, A to J (`final_letter`), and no other.

    The reference may be "B", "(B)", "B. the text of the option" or 乙. Raises ValueError for
    another.
    """
    right = final_letter(reference) or final_letter(reference[:2])
    if not right:
        raise ValueError(f"the reference {reference[:80]!r} is no letter from A to J")
    return float(final_letter(answer) == right)


def json_schema(answer: str, reference: str) -> float:
    """1 if the answer is JSON that the schema allows, alone or as its only fenced block.

    `reference` is the schema as JSON text, or the name of a file that ends in .json. Patterns in
    it are matched in linear time, and a $ref to the network is refused. Raises UserError without
    the package jsonschema-rs, ValueError for no schema.
    """
    validator = _validator(reference)
    said = without_thoughts(answer)
    blocks = _FENCE.findall(said)
    try:
        value = json.loads(blocks[0] if len(blocks) == 1 else said, parse_constant=_no_number)
        return float(validator.is_valid(value))
    except (ValueError, RecursionError):
        return 0.0


@lru_cache(256)
def _validator(reference: str) -> Any:
    with needs("verifiable", "verifiable:json_schema"):
        import jsonschema_rs
    text = reference.strip()
    written = Path(text).read_text(encoding="utf-8") if text.endswith(".json") else text
    linear = jsonschema_rs.RegexOptions()
    return jsonschema_rs.validator_for(json.loads(written), pattern_options=linear, offline=True)


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def regular_expression(answer: str, reference: str) -> float:
    """1 if the pattern is found in the answer (^ and $ are its ends); 0 after 1 s of looking.

    The syntax is that of the package `regex`. Raises ValueError for no pattern.
    """
    import regex

    try:
        return float(regex.search(reference, answer, timeout=PATTERN_SECONDS) is not None)
    except TimeoutError:
        return 0.0
    except regex.error as error:
        raise ValueError(f"the pattern {reference[:80]!r}: {error}") from None


def contains(answer: str, reference: str) -> float:
    """1 if the answer holds the text, to the letter."""
    return float(reference in answer)


def starts_with(answer: str, reference: str) -> float:
    """1 if the answer begins with the text, white space before it aside."""
    return float(answer.lstrip().startswith(reference))


def ends_with(answer: str, reference: str) -> float:
    """1 if the answer ends with the text, white space behind it aside."""
    return float(answer.rstrip().endswith(reference))


def max_words(answer: str, reference: str) -> float:
    """1 if the answer has at most so many words; each Chinese or Japanese character is one."""
    return float(len(words(answer)) <= int(reference))


def min_words(answer: str, reference: str) -> float:
    """1 if the answer has at least so many words; each Chinese or Japanese character is one."""
    return float(len(words(answer)) >= int(reference))


def language(answer: str, reference: str) -> float:
    """1 if the answer is in the language, a code such as "en" or "zh" (by script and words)."""
    return float(language_of(answer) == reference.strip().lower())


def forbidden(answer: str, references: Sequence[str]) -> float:
    """1 if the answer holds none of the texts, whatever their case."""
    said = answer.casefold()
    return float(not any(reference.casefold() in said for reference in references))


def _plain(text: str) -> str:
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(_QUOTES).rstrip(".。!！").strip(_QUOTES)
