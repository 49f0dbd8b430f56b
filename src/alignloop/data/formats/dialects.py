"""Dialects of a turn: role names, contents in parts, tool calls, weights; normalised to one form.

The form is OpenAI's: {"role", "content"}, and "tool_calls" and "reasoning_content" if present.
"""

import json

from alignloop.data.formats.registry import Refused, Row, shown
from alignloop.data.narrow import Json, are_objects
from alignloop.records import Role

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "ai": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "chatbot": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "tool_result": "tool",
    "ipython": "tool",
    "environment": "tool",
}
_CALLS = {"function_call", "tool_call"}
_SAID_BY, _SAYS = ("role", "from"), ("content", "value")


def speaker_of(item: Json) -> Json:
    """The speaker, as spelled in the file."""
    fields = item if isinstance(item, dict) else {}
    return next((fields[key] for key in _SAID_BY if key in fields), None)


def role_of(item: Json) -> Role | None:
    """The role: {"from": "gpt"} and {"role": "Assistant"} are the same; None if unknown."""
    named = speaker_of(item)
    return ROLES.get(named.strip().lower()) if isinstance(named, str) else None


def in_one_form(item: Json) -> Row:
    """A turn with role and content, whatever the file calls them; further keys stay.

    A content in parts becomes one text if all parts are text, reasoning or calls. A turn with the
    role "function_call" becomes an answer with a call.
    """
    if not isinstance(item, dict):
        return {}
    key = next((key for key in _SAYS if key in item), "content")
    turn: Row = item | {"role": role_of(item), "content": item.get(key)}
    for name in (_SAID_BY[1], _SAYS[1]):
        turn.pop(name, None)
    if isinstance(parts := turn["content"], list):
        turn |= _of_parts(parts)
    named = speaker_of(item)
    if isinstance(named, str) and named.strip().lower() in _CALLS:
        turn |= {"content": "", "tool_calls": [*calls_in(turn["content"])]}
    return turn


def _of_parts(parts: list[Json]) -> Row:
    """A content's texts joined, with its reasoning and calls; unchanged if it has other parts.

    Parts are {"type", "text"} (OpenAI), {"type", "value"} (LLaMA-Factory 1), or plain texts.
    """
    found: dict[str, list[str]] = {"text": [], "reasoning": [], "tool_call": []}
    names = {"thinking": "reasoning", "output_text": "text", "input_text": "text"}
    for part in parts:
        fields = part if isinstance(part, dict) else {"text": part}
        kind_given = fields.get("type")
        kind = names.get(kind_given, kind_given) if isinstance(kind_given, str) else "text"
        content = next((fields[key] for key in ("text", "value", kind) if key in fields), None)
        if kind not in found or not isinstance(content, str):
            return {"content": parts}
        found[kind].append(content)
    turn: Row = {"content": "".join(found["text"])}
    if found["reasoning"]:
        turn["reasoning_content"] = "".join(found["reasoning"])
    if found["tool_call"]:
        turn["tool_calls"] = [call for content in found["tool_call"] for call in calls_in(content)]
    return turn


def calls_in(value: Json) -> list[Row]:
    """The tool calls in a JSON text, {"name", "arguments"} or a list of them.

    Raises Refused for any other text.
    """
    try:
        found: Json = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        found = None
    calls: Json = found if isinstance(found, list) else [found]
    if not are_objects(calls) or not calls or not all(one.get("name") for one in calls):
        raise Refused(
            f"invalid tool call: {shown(value)}",
            'write {"name": ..., "arguments": {...}} as JSON, or remove the row',
        )
    return [
        {
            "type": "function",
            "function": {
                "name": one["name"],
                "arguments": one.get("arguments", one.get("parameters", {})),
            },
        }
        for one in calls
    ]


# --- weights -----------------------------------------------------------------------------------

# 1 or true: the turn is trained on.
_LEARNT = (
    "weight", "loss_weight", "loss", "train", "training", "trainable", "loss_mask", "learn",
    "train_on_turn", "compute_loss",
)  # fmt: skip
_NOT_LEARNT = ("masked", "is_masked", "ignore_loss")  # 1 or true: it is not trained on


def is_learnt(item: Row) -> bool:
    """Whether a turn counts in the loss, by the file; raises Refused if that is unclear.

    Weights are 0 or 1 (false or true): fractions are not supported.
    """
    flags = [_flag(item, key) for key in _LEARNT]
    flags += [None if (flag := _flag(item, key)) is None else not flag for key in _NOT_LEARNT]
    distinct = {one for one in flags if one is not None}
    if len(distinct) > 1:
        raise Refused("the weights of a turn contradict each other", "keep one of them")
    if item.get("mask") is not None:
        raise Refused(
            f'"mask" of a turn is {shown(item["mask"])}, whose meaning differs between files',
            'use "loss_mask" (1: trained on) or "masked" (true: not trained on)',
        )
    return distinct != {False}


_FLAGS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


def _flag(item: Row, key: str) -> bool | None:
    value = item.get(key)
    if value is None or value == "":
        return None
    flag = (
        _FLAGS.get(str(value).strip().lower())
        if isinstance(value, bool | int | float | str)
        else None
    )
    if flag is None:
        raise Refused(
            f'"{key}" of a turn is {shown(value)}; only 0 and 1 are supported',
            f'write 0 or 1 in "{key}", or remove the row',
        )
    return flag
