"""The parts of a conversation that are not text: tools, tool calls, results and reasoning."""

import json

from alignloop.data.formats.registry import Refused, Row
from alignloop.data.narrow import Json, are_objects, first_text
from alignloop.records import ToolCall

MEDIA = ("images", "image", "videos", "video", "audios", "audio")
REASONING = ("reasoning_content", "reasoning", "thinking")


def tools_of(row: Row) -> tuple[Row, ...]:
    """The tools of a row, as JSON schemas; also from a JSON text, as tables store them.

    Raises Refused for anything else.
    """
    given = _from_json(row.get("tools"))
    if not given:
        return ()
    if not are_objects(given):
        raise Refused(
            '"tools" is not a list of JSON schemas',
            'write "tools" as a list of objects with name, description and parameters',
        )
    return tuple(given)


def refuse_media(row: Row) -> None:
    """Refuse a row with pictures or sounds, on which its texts depend."""
    for key in MEDIA:
        if isinstance(row.get(key), list | dict) and row[key]:
            raise Refused(
                f"the row has {key}, but only text is supported",
                f'remove the row, or remove "{key}" if the texts make sense without it',
            )


def beside_text(turn: Row, key: str) -> dict[str, object]:
    """The fields of a Message other than its text, as far as the turn has them."""
    given = _from_json(turn.get("tool_calls")) or []
    if not isinstance(given, list):
        raise _no_call(key)
    if isinstance(called := turn.get("function_call"), dict):  # OpenAI's first form
        given = [*given, called]
    found: dict[str, object] = {"tool_calls": tuple(_call(one, key) for one in given)}
    thought = first_text(turn, REASONING) or ""
    found["reasoning_content"] = thought if thought.strip() else ""
    for name in ("tool_call_id", "name"):
        if isinstance(turn.get(name), str) and (name != "name" or _says_tool(turn)):
            found[name] = turn[name]
    return {name: value for name, value in found.items() if value}


def _says_tool(turn: Row) -> bool:
    return turn.get("role", turn.get("from")) in ("tool", "function", "ipython")


def _call(given: Json, key: str) -> ToolCall:
    """A call in OpenAI's form, inside "function" or not; arguments may be a JSON text."""
    outer: Row = given if isinstance(given, dict) else {}
    inner = outer.get("function", outer)
    name = inner.get("name") if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or not isinstance(name, str) or not name:
        raise _no_call(key)
    arguments = _from_json(inner.get("arguments", inner.get("parameters")))
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict | str):
        raise _no_call(key)
    named = outer.get("id")
    return ToolCall(name=name, arguments=arguments, id=named if isinstance(named, str) else "")


def _no_call(key: str) -> Refused:
    return Refused(
        f'a message in "{key}" has invalid tool_calls',
        'write each as {"function": {"name": ..., "arguments": {...}}}',
    )


def _from_json(value: Json) -> Json:
    """The value of a JSON text, or the text if it is not JSON; keys with null are dropped."""
    if not isinstance(value, str):
        return _without_nothing(value)
    try:
        found: Json = json.loads(value)
    except ValueError:
        return value
    return _without_nothing(found) if isinstance(found, dict | list) else value


def _without_nothing(value: Json) -> Json:
    """Drop keys with null: columnar files give every call the keys of all calls."""
    if isinstance(value, dict):
        return {k: _without_nothing(one) for k, one in value.items() if one is not None}
    return [_without_nothing(one) for one in value] if isinstance(value, list) else value
