"""Chat templates: how messages become the tokens that a model reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension

from alignloop.data.spelling import Written, special_pattern, tokens_of, told_apart
from alignloop.errors import UserError
from alignloop.records import Extra, Message, ToolCall, answer_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

TEMPLATES = {"chatml": CHATML}
Tools = Sequence[dict[str, Any]]

_OWN_WORDS = ("role", "type")
_WRITING = (
    "join",
    "indent",
    "tojson",
    "default",
)  # filters whose texts are written, not looked for


def install_template(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Give the tokenizer one of our templates by name ("chatml"); it is saved along with it.

    Raises UserError for a name that we do not know.
    """
    if name not in TEMPLATES:
        raise UserError(
            f'there is no chat template named "{name}"',
            where="model.chat_template",
            fix=f"choose one of: {', '.join(TEMPLATES)}",
        )
    tokenizer.chat_template = TEMPLATES[name]


def require_template(tokenizer: PreTrainedTokenizerBase, where: str = "tokenizer") -> None:
    """Raise UserError if the tokenizer has no chat template."""
    if not tokenizer.chat_template:
        raise UserError(
            "the tokenizer has no chat template",
            where=where,
            fix='set model.chat_template = "chatml"',
        )


def apply_template(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    add_generation_prompt: bool,
    tools: Tools = (),
) -> list[int]:
    """Token ids of a conversation by the tokenizer's own template, which writes any BOS itself.

    Only what the template writes may be special: text of a message, a tool or a call that spells a
    special token stays text. Without such text the ids are those of `apply_chat_template`.

    Raises UserError as `written` does.
    """
    return tokens_of(tokenizer, written(tokenizer, messages, add_generation_prompt, tools))


def written(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    add_generation_prompt: bool,
    tools: Tools = (),
) -> Written:
    """The same before it becomes tokens: the text, and where people's words spell special tokens.

    Raises UserError if there is no template, if it refuses the messages (some accept no system
    message, or only alternating roles), or if it leaves out tools, calls or reasoning.
    """
    require_template(tokenizer)
    chat = as_dicts(tokenizer, messages)
    pattern = special_pattern(tokenizer)
    structured = tools or any(_is_structured(turn) for turn in messages)
    said = list(_texts((chat, list(tools)))) if structured else [m.content for m in messages]

    def render(change: Callable[[str], str]) -> str:
        """With each text changed; the real one is made once."""
        changed, changed_tools = _changed((chat, list(tools)), change)
        return _render(tokenizer, changed, changed_tools, add_generation_prompt, messages)

    if structured:
        _check_carried(tokenizer, messages, chat, tools, add_generation_prompt)
    if pattern is None or not any(pattern.search(one) for one in said):
        text = _render(tokenizer, chat, list(tools), add_generation_prompt, messages)
        return Written(text=text)
    return told_apart(render, pattern, said)


def _render(
    tokenizer: PreTrainedTokenizerBase,
    chat: Sequence[dict[str, Any]],
    tools: Sequence[dict[str, Any]],
    add_generation_prompt: bool,
    messages: Sequence[Message],
) -> str:
    try:
        text = tokenizer.apply_chat_template(
            list(chat),
            tools=list(tools) or None,
            add_generation_prompt=add_generation_prompt,
            tokenize=False,
        )
    except (TemplateError, TypeError) as error:
        roles = ", ".join(message.role for message in messages)
        raise UserError(
            f"the chat template refuses the messages ({roles}): {error}",
            where="tokenizer",
            fix='change the roles of the messages, or set model.chat_template = "chatml"',
        ) from error
    assert isinstance(text, str), "one conversation gives one text"
    return text


def rendered(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], add_generation_prompt: bool
) -> str:
    """The text alone."""
    return written(tokenizer, messages, add_generation_prompt).text


def looked_for_by(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What a template may look for in a text: all that it compares, replaces or splits by.

    A text without any of these is written as another one in its place would be.
    """
    looking = (nodes.Compare, nodes.Test, nodes.Call, nodes.Filter, nodes.Assign)
    tree = Environment(extensions=["jinja2.ext.loopcontrols", _Generation]).parse(
        str(tokenizer.chat_template)
    )
    found = {
        const.value
        for kind in looking
        for node in tree.find_all(kind)
        if not (isinstance(node, nodes.Filter) and node.name in _WRITING)
        for const in node.find_all(nodes.Const)
        if isinstance(const.value, str) and const.value.strip()
    }
    return sorted(found)


class _Generation(Extension):
    """The tag that TRL's templates put around answers."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> list[nodes.Node]:
        """What stands within it."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


# --- tools, calls and reasoning ----------------------------------------------------------------


def as_dicts(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> list[dict[str, Any]]:
    """The messages as templates take them; what a message has not got is no key of it."""
    if not any(_is_structured(turn) for turn in messages):
        return [{"role": turn.role, "content": turn.content} for turn in messages]
    way = _way_of(tokenizer, str(tokenizer.chat_template))
    return [_as_dict(turn, way) for turn in messages]


def takes_reasoning(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template has a place of its own for `reasoning_content`."""
    return _way_of(tokenizer, str(tokenizer.chat_template)).reasoning


def _is_structured(turn: Message) -> bool:
    """Whether the turn is more than a text of a person, the system or the model."""
    given = turn.reasoning_content or turn.tool_calls or turn.tool_call_id or turn.name
    return turn.role == "tool" or bool(given)


@dataclass(frozen=True, kw_only=True)
class _Way:
    """How a template takes what stands beside a text: reasoning by a key, arguments as a text."""

    reasoning: bool = True
    arguments_as_text: bool = False


@lru_cache(maxsize=8)
def _way_of(tokenizer: PreTrainedTokenizerBase, _template: str) -> _Way:
    """By trying; where both ways of writing arguments do, they are an object, as others give it."""
    asked, probe = Message(role="user", content="Q"), "ProbeOfTheTemplate"
    thought = answer_of("A", Extra(reasoning_content=probe))
    shown = _tried(tokenizer, [asked, thought], _Way())
    call = ToolCall(name="f", arguments={probe: "x"}, id="call12345")
    called = [asked, answer_of("", Extra(tool_calls=(call,)))]
    as_object = _tried(tokenizer, called, _Way())
    as_text = _tried(tokenizer, called, _Way(arguments_as_text=True))
    spoilt = probe not in as_object or f"'{probe}'" in as_object
    return _Way(reasoning=probe in shown, arguments_as_text=spoilt and f'"{probe}"' in as_text)


def _tried(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], way: _Way) -> str:
    try:
        return _render(tokenizer, [_as_dict(turn, way) for turn in messages], [], False, messages)
    except UserError:
        return ""


def _as_dict(turn: Message, way: _Way) -> dict[str, Any]:
    made: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.reasoning_content and way.reasoning:
        # the key's two names: gpt-oss has the second
        made |= dict.fromkeys(("reasoning_content", "thinking"), turn.reasoning_content)
    elif turn.reasoning_content:
        made["content"] = in_text(turn)
    if turn.tool_calls:
        made["tool_calls"] = [_call(call, way) for call in turn.tool_calls]
    made |= {key: value for key in ("tool_call_id", "name") if (value := getattr(turn, key))}
    return made


def in_text(turn: Message) -> str:
    """The answer with its reasoning before it, as models write both that know no other place."""
    if not turn.reasoning_content:
        return turn.content
    return f"<think>\n{turn.reasoning_content}\n</think>\n\n{turn.content}"


def _call(call: ToolCall, way: _Way) -> dict[str, Any]:
    arguments = call.arguments
    if way.arguments_as_text and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    named = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    return {"id": call.id, **named} if call.id else named


def _check_carried(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    chat: Sequence[dict[str, Any]],
    tools: Tools,
    add_generation_prompt: bool,
) -> None:
    """Refuse a template that leaves out a tool, a call or the last answer's reasoning.

    Found by giving each another name: one that the template does not write is not carried.
    """
    named: dict[str, str] = {}

    def another(kind: str) -> str:
        name = f"Probe{chr(ord('a') + len(named) % 26) * (1 + len(named) // 26)}Name"
        named[name] = kind
        return name

    shown_tools = [_renamed_tool(tool, another("tools")) for tool in tools]
    shown = [dict(turn) for turn in chat]
    for turn in shown:
        if calls := turn.get("tool_calls"):
            turn["tool_calls"] = [
                {**one, "function": {**one["function"], "name": another("tool_calls")}}
                for one in calls
            ]
        if turn["role"] == "tool":
            turn["content"] = another("tool results")
    if messages[-1].reasoning_content and takes_reasoning(tokenizer):
        probe = another("reasoning_content")
        shown[-1] |= dict.fromkeys(("reasoning_content", "thinking"), probe)
    text = _render(tokenizer, shown, shown_tools, add_generation_prompt, messages)
    missing = list(dict.fromkeys(kind for name, kind in named.items() if name not in text))
    if messages[-1].reasoning_content and not _has_place_for_reasoning(tokenizer):
        missing.append("reasoning_content")
    if missing:
        raise UserError(
            f"the chat template leaves out {' and '.join(missing)} of a conversation",
            where=f'the conversation "{messages[0].content[:40]}"',
            fix=f"remove {' and '.join(missing)} from the data, or use a model whose template"
            " writes them",
        )


def _has_place_for_reasoning(tokenizer: PreTrainedTokenizerBase) -> bool:
    """A key of its own, or the marks that a model writes around its thoughts."""
    return takes_reasoning(tokenizer) or "think>" in str(tokenizer.chat_template)


def _renamed_tool(tool: dict[str, Any], name: str) -> dict[str, Any]:
    inner = tool.get("function")
    return (
        {**tool, "function": {**inner, "name": name}}
        if isinstance(inner, dict)
        else {**tool, "name": name}
    )


def _texts(value: object, key: str = "") -> Iterator[str]:
    """Every text that people wrote: all but roles and types, which are the format's own words."""
    if isinstance(value, str):
        yield from () if key in _OWN_WORDS else (value,)
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from _texts(one, str(name))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _changed(value: Any, change: Callable[[str], str], key: str = "") -> Any:
    """The same value with every such text changed."""
    if isinstance(value, str):
        return value if key in _OWN_WORDS else change(value)
    if isinstance(value, dict):
        return {name: _changed(one, change, str(name)) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_changed(one, change) for one in value]
    return value
