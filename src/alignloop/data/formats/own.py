"""Our own records, as written by `write_records` and `alignloop data convert`."""

from alignloop.data.files import without_provenance
from alignloop.data.formats.parts import check_distinct, checked, text
from alignloop.data.formats.registry import Row, demonstrations, pairs, prompts
from alignloop.data.narrow import object_at, objects_in, text_at
from alignloop.records import Demonstration, PreferencePair, Prompt


def _check_messages(prompt: Row) -> None:
    for message in objects_in(prompt["messages"]):
        if message["role"] != "tool" and not message.get("tool_calls"):
            text(message, "content")


@pairs("alignloop", prompt=dict, chosen=str, rejected=str)
def _own_pair(row: Row, source: str) -> list[PreferencePair]:
    for key in ("chosen", "rejected"):
        if not row.get(f"{key}_extra"):
            text(row, key)
    if row.get("chosen_extra") == row.get("rejected_extra"):
        check_distinct(text_at(row, "chosen"), text_at(row, "rejected"))
    record = checked(PreferencePair, without_provenance(row))
    _check_messages(object_at(row, "prompt"))
    return [record]


@demonstrations("alignloop", prompt=dict, response=str)
def _own_demonstration(row: Row, source: str) -> list[Demonstration]:
    if not row.get("extra"):
        text(row, "response")
    record = checked(Demonstration, dict(row.items()))
    _check_messages(object_at(row, "prompt"))
    return [record]


@prompts("alignloop", prompt_id=str, messages=list)
def _own_prompt(row: Row, source: str) -> list[Prompt]:
    record = checked(Prompt, dict(row.items()))
    _check_messages(row)
    return [record]
