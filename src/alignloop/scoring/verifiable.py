"""Verifiable rewards: functions of (answer, reference) with a result in 0..1.

They execute nothing from an answer, use no model, and give the same result for the same texts
(except `regular_expression`, which has a time limit). Use one with
`rl.rewards = ["verifiable:numeric_answer"]`; an unusable reference raises ValueError.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from alignloop.data.languages import language_of
from alignloop.errors import UserError
from alignloop.scoring.final_answer import final_letter, final_number, without_thoughts
from alignloop.stats.textstats import words

PATTERN_SECONDS = 1.0  # per answer: a pattern may take exponential time on a hostile text
_QUOTES = "\"'`*“”‘’「」『』 "
_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.S)


def exact_match(answer: str, reference: str) -> float:
    """1 if the texts are equal up to case, white space, width, quotes and a final full stop.

    Compares NFKC forms, case-folded, with runs of white space collapsed. Thoughts up to </think>
    are not part of the answer.
    """
    return float(_normalised(without_thoughts(answer)) == _normalised(reference))


def numeric_answer(answer: str, reference: str) -> float:
    """1 if the answer's final number equals the reference's exactly (`final_number`).

    A percentage equals the number without the sign, and its hundredth: 25 %, 25, 0.25.
    Raises ValueError if the reference has no single final number.
    """
    right = final_number(reference)
    if right is None:
        raise ValueError(f"the reference {reference[:80]!r} has no single final number")
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
    anything else.
    """
    right = final_letter(reference) or final_letter(reference[:2])
    if not right:
        raise ValueError(f"the reference {reference[:80]!r} is not a letter from A to J")
    return float(final_letter(answer) == right)


def json_schema(answer: str, reference: str) -> float:
    """1 if the answer is JSON valid under the schema, as a whole or as its only fenced block.

    `reference` is the schema as JSON text, or the name of a .json file. Patterns in it are matched
    in linear time, and a $ref to the network is refused. Raises UserError without the package
    jsonschema-rs, ValueError for an invalid schema.
    """
    validator = _validator(reference)
    text = without_thoughts(answer)
    blocks = _FENCE.findall(text)
    try:
        value = json.loads(blocks[0] if len(blocks) == 1 else text, parse_constant=_no_number)
        return float(validator.is_valid(value))
    except (ValueError, RecursionError):
        return 0.0


@lru_cache(256)
def _validator(reference: str) -> Any:
    try:
        import jsonschema_rs
    except ImportError as error:
        fix = "pip install 'alignloop[verifiable]'"
        raise UserError("this needs jsonschema-rs", where="json_schema", fix=fix) from error
    text = reference.strip()
    written = Path(text).read_text(encoding="utf-8") if text.endswith(".json") else text
    # patterns come from data files: backtracking could hang the run
    linear = jsonschema_rs.RegexOptions()
    return jsonschema_rs.validator_for(json.loads(written), pattern_options=linear, offline=True)


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def regular_expression(answer: str, reference: str) -> float:
    """1 if the pattern matches in the answer (^ and $ are its ends); 0 after 1 s.

    The syntax is that of the package `regex`. Raises ValueError for an invalid pattern.
    """
    import regex

    try:
        return float(regex.search(reference, answer, timeout=PATTERN_SECONDS) is not None)
    except TimeoutError:
        return 0.0
    except regex.error as error:
        raise ValueError(f"the pattern {reference[:80]!r}: {error}") from None


def contains(answer: str, reference: str) -> float:
    """1 if the answer contains the text verbatim."""
    return float(reference in answer)


def starts_with(answer: str, reference: str) -> float:
    """1 if the answer starts with the text, ignoring leading white space."""
    return float(answer.lstrip().startswith(reference))


def ends_with(answer: str, reference: str) -> float:
    """1 if the answer ends with the text, ignoring trailing white space."""
    return float(answer.rstrip().endswith(reference))


def max_words(answer: str, reference: str) -> float:
    """1 if the answer has at most this many words; a Chinese or Japanese character is a word."""
    return float(len(words(answer)) <= int(reference))


def min_words(answer: str, reference: str) -> float:
    """1 if the answer has at least this many words; a Chinese or Japanese character is a word."""
    return float(len(words(answer)) >= int(reference))


def language(answer: str, reference: str) -> float:
    """1 if the answer is in the language, a code such as "en" or "zh" (by script and words)."""
    return float(language_of(answer) == reference.strip().lower())


def forbidden(answer: str, references: Sequence[str]) -> float:
    """1 if the answer contains none of the texts, ignoring case."""
    folded = answer.casefold()
    return float(not any(reference.casefold() in folded for reference in references))


def _normalised(text: str) -> str:
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(_QUOTES).rstrip(".。!！").strip(_QUOTES)
