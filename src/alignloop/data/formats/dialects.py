"""How files spell a turn: names of roles, contents in parts, calls of tools, weights; one form out.

The form is OpenAI's: {"role", "content"}, and where there are such "tool_calls" and
"reasoning_content".
"""

import json
from typing import Any

from alignloop.data.formats.registry import Refused, Row, shown
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


def said_by(item: object) -> object:
    """Who speaks, as the file spells it."""
    fields = item if isinstance(item, dict) else {}
    return next((fields[key] for key in _SAID_BY if key in fields), None)


def role_of(item: object) -> Role | None:
    """Who speaks: {"from": "gpt"} and {"role": "Assistant"} are one; None for an unknown one."""
    named = said_by(item)
    return ROLES.get(named.strip().lower()) if isinstance(named, str) else None


def in_one_form(item: object) -> Row:
    """A turn with role and content, whatever the file calls them; further keys stay.

    A content in parts becomes one text where all parts are text, reasoning or calls. A turn of the
    role "function_call" becomes an answer that calls.
    """
    if not isinstance(item, dict):
        return {}
    key = next((key for key in _SAYS if key in item), "content")
    turn: Row = item | {"role": role_of(item), "content": item.get(key)}
    for name in (_SAID_BY[1], _SAYS[1]):
        turn.pop(name, None)
    if isinstance(turn["content"], list):
        turn |= _of_parts(turn["content"])
    named = said_by(item)
    if isinstance(named, str) and named.strip().lower() in _CALLS:
        turn |= {"content": "", "tool_calls": calls_in(turn["content"])}
    return turn


def _of_parts(parts: list[Any]) -> Row:
    """The texts of a content together, its reasoning and its calls; as it is where more is in it.

    Parts are {"type", "text"} (OpenAI), {"type", "value"} (LLaMA-Factory 1), or plain texts.
    """
    found: dict[str, list[Any]] = {"text": [], "reasoning": [], "tool_call": []}
    names = {"thinking": "reasoning", "output_text": "text", "input_text": "text"}
    for part in parts:
        fields = part if isinstance(part, dict) else {"text": part}
        told = fields.get("type")
        kind = names.get(told, told) if isinstance(told, str) else "text"
        said = next((fields[key] for key in ("text", "value", kind) if key in fields), None)
        if kind not in found or not isinstance(said, str):
            return {"content": parts}
        found[kind].append(said)
    turn: Row = {"content": "".join(found["text"])}
    if found["reasoning"]:
        turn["reasoning_content"] = "".join(found["reasoning"])
    if found["tool_call"]:
        turn["tool_calls"] = [call for said in found["tool_call"] for call in calls_in(said)]
    return turn


def calls_in(told: object) -> list[Row]:
    """The calls of tools that a text holds as JSON, {"name", "arguments"} or a list of them.

    Raises Refused for any other text.
    """
    try:
        found: Any = json.loads(told) if isinstance(told, str) else told
    except (ValueError, RecursionError):
        found = None
    calls = found if isinstance(found, list) else [found]
    if not calls or not all(isinstance(one, dict) and one.get("name") for one in calls):
        raise Refused(
            f"a call of a tool is {shown(told)}",
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

# 1 or true: the turn is learnt.
_LEARNT = ("weight", "loss_weight", "loss", "train", "training", "trainable", "loss_mask", "learn")
_LEARNT += ("train_on_turn", "compute_loss")
_NOT_LEARNT = ("masked", "is_masked", "ignore_loss")  # 1 or true: it is not


def is_learnt(item: Row) -> bool:
    """Whether a turn counts in the loss, as far as the file says; raises Refused if unclear.

    Weights are 0 or 1 (true or false): an answer is learnt or not.
    """
    told = [_flag(item, key) for key in _LEARNT]
    told += [None if (flag := _flag(item, key)) is None else not flag for key in _NOT_LEARNT]
    said = {one for one in told if one is not None}
    if len(said) > 1:
        raise Refused("the weights of a turn contradict each other", "keep one of them")
    if item.get("mask") is not None:
        raise Refused(
            f'"mask" of a turn is {shown(item["mask"])}, and files do not agree on what it means',
            'write "loss_mask" (1: learnt) or "masked" (true: not learnt)',
        )
    return said != {False}


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
            f'"{key}" of a turn is {shown(value)}, and a turn is learnt or not',
            f'write 0 or 1 in "{key}", or remove the row',
        )
    return flag
