"""OpenAssistant trees: a prompt, ranked replies to it, replies to those, and so on."""

from collections.abc import Iterator
from itertools import groupby

from alignloop.data.formats.dialects import role_of
from alignloop.data.formats.parts import (
    demonstration,
    grouped_pairs,
    message,
    number,
    prompt,
    text,
)
from alignloop.data.formats.registry import Refused, Row, demonstrations, pairs, prompts
from alignloop.data.narrow import object_at, objects_in
from alignloop.records import Demonstration, Message, PreferencePair, Prompt

Path = tuple[Message, ...]


@pairs("open-assistant", message_tree_id=str, prompt=dict)
def _ranked_siblings(row: Row, source: str) -> list[PreferencePair]:
    """The ranked answers to one prompt as a group; rank 0 is the best."""
    made: list[PreferencePair] = []
    for before, siblings in groupby(_answers(row), key=lambda found: found[0]):
        ranked = [(node, rank) for _, node in siblings if (rank := _rank(node)) is not None]
        texts = [text(node, "text") for node, _ in ranked]
        if len({answer.strip() for answer in texts}) > 1:
            asked = _asked(row, source, before)
            made += grouped_pairs(asked, texts, [-rank for _, rank in ranked], strength=False)
    return made


@demonstrations("open-assistant", message_tree_id=str, prompt=dict)
def _every_answer(row: Row, source: str) -> list[Demonstration]:
    """Each answer in the tree, with the path that leads to it as prompt."""
    return [
        demonstration(_shared_fields(row), source, before, text(node, "text"))
        for before, node in _answers(row)
    ]


@prompts("open-assistant", message_tree_id=str, prompt=dict)
def _every_question(row: Row, source: str) -> list[Prompt]:
    return [_asked(row, source, path) for path, _ in _paths(row) if path[-1].role == "user"]


def _asked(row: Row, source: str, before: Path) -> Prompt:
    return prompt(_shared_fields(row), source, before)


def _shared_fields(row: Row) -> Row:
    """Fields of the tree that apply to all its prompts."""
    return {"language": object_at(row, "prompt").get("lang")}


def _answers(row: Row) -> Iterator[tuple[Path, Row]]:
    """Every assistant node with the turns before it, siblings together."""
    for path, node in _paths(row):
        replies = [reply for reply in _replies(node) if _is_answer(reply)]
        yield from ((path, reply) for reply in replies if path[-1].role == "user")


def _paths(row: Row) -> Iterator[tuple[Path, Row]]:
    """Every node with the turns from the root to it, inclusive; deleted ones are left out."""
    root = object_at(row, "prompt")
    waiting: list[tuple[Path, Row]] = [((_turn(root),), root)]
    if waiting[0][0][0].role != "user":
        raise Refused("the tree does not start with a prompt", "remove the row")
    while waiting:
        path, node = waiting.pop()
        yield path, node
        waiting += [((*path, _turn(reply)), reply) for reply in reversed(_replies(node))]


def _turn(node: Row) -> Message:
    turn = message({"role": node.get("role"), "content": node.get("text")}, "prompt")
    if turn is None or turn.role == "system":
        raise Refused("the tree contains a system message", "remove the row")
    return turn


def _replies(node: Row) -> list[Row]:
    return [reply for reply in objects_in(node.get("replies")) if not reply.get("deleted")]


def _is_answer(node: Row) -> bool:
    return role_of(node) == "assistant"


def _rank(node: Row) -> float | None:
    return number(node.get("rank"))
