"""Our own records, as `write_records` and `alignloop data convert` write them."""

from alignloop.data.files import without_provenance
from alignloop.data.formats.parts import check_distinct, checked, text
from alignloop.data.formats.registry import Row, demonstrations, pairs, prompts
from alignloop.records import Demonstration, PreferencePair, Prompt


def _check_messages(prompt: Row) -> None:
    for message in prompt["messages"]:
        text(message, "content")


@pairs("alignloop", prompt=dict, chosen=str, rejected=str)
def _own_pair(row: Row, source: str) -> list[PreferencePair]:
    check_distinct(text(row, "chosen"), text(row, "rejected"))
    record = checked(PreferencePair, without_provenance(row))
    _check_messages(row["prompt"])
    return [record]


@demonstrations("alignloop", prompt=dict, response=str)
def _own_demonstration(row: Row, source: str) -> list[Demonstration]:
    text(row, "response")
    record = checked(Demonstration, dict(row.items()))
    _check_messages(row["prompt"])
    return [record]


@prompts("alignloop", prompt_id=str, messages=list)
def _own_prompt(row: Row, source: str) -> list[Prompt]:
    record = checked(Prompt, dict(row.items()))
    _check_messages(row)
    return [record]
