"""Chat templates: from messages to the tokens that a model reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from jinja2 import Environment, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension

from alignloop.data.narrow import Json, Object, object_at, objects_in
from alignloop.data.spelling import Written, mark_spellings, special_pattern, tokens_of
from alignloop.data.tokenizer import Tokenizer
from alignloop.errors import UserError
from alignloop.records import Extra, Message, ToolCall, answer_of

if TYPE_CHECKING:
    from jinja2.parser import Parser
    from transformers import PreTrainedTokenizerBase

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

TEMPLATES = {"chatml": CHATML}
Tools = Sequence[Object]

# values of these keys belong to the format and are never people's text
_FORMAT_KEYS = ("role", "type")
_OUTPUT_FILTERS = (
    "join",
    "indent",
    "tojson",
    "default",
)  # filters whose string arguments are written, not searched for


def install_template(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Set one of our templates by name ("chatml"); it is saved with the tokenizer.

    Raises UserError for an unknown name.
    """
    if name not in TEMPLATES:
        raise UserError(
            f'no chat template is named "{name}"',
            where="model.chat_template",
            fix=f"choose one of: {', '.join(TEMPLATES)}",
        )
    tokenizer.chat_template = TEMPLATES[name]


def require_template(tokenizer: Tokenizer, where: str = "tokenizer") -> None:
    """Raise UserError if the tokenizer has no chat template."""
    if not tokenizer.chat_template:
        raise UserError(
            "the tokenizer has no chat template",
            where=where,
            fix='set model.chat_template = "chatml"',
        )


def template_of(tokenizer: Tokenizer) -> str:
    """Its chat template; if it has several by name, all of them."""
    return str(tokenizer.chat_template)


def apply_template(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    add_generation_prompt: bool,
    tools: Tools = (),
) -> list[int]:
    """Token ids of a conversation by the tokenizer's own template, which writes any BOS itself.

    Only what the template writes may be special: text in a message, a tool or a call that spells a
    special token stays text. Without such text the ids equal those of `apply_chat_template`.

    Raises UserError as `written` does.
    """
    return tokens_of(tokenizer, written(tokenizer, messages, add_generation_prompt, tools))


def written(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    add_generation_prompt: bool,
    tools: Tools = (),
) -> Written:
    """The same before tokenising: the text, and where people's texts spell special tokens.

    Raises UserError if there is no template, if it refuses the messages (some accept no system
    message, or only alternating roles), or if it leaves out tools, calls or reasoning.
    """
    require_template(tokenizer)
    chat = as_dicts(tokenizer, messages)
    pattern = special_pattern(tokenizer)
    structured = tools or any(_is_structured(turn) for turn in messages)
    texts = list(_texts([*chat, *tools])) if structured else [m.content for m in messages]

    def render(change: Callable[[str], str]) -> str:
        """Render with each text changed."""
        changed, changed_tools = (_all_changed(one, change) for one in (chat, tools))
        return _render(tokenizer, changed, changed_tools, add_generation_prompt, messages)

    if structured:
        _check_carried(tokenizer, messages, chat, tools, add_generation_prompt)
    if pattern is None or not any(pattern.search(one) for one in texts):
        text = _render(tokenizer, chat, list(tools), add_generation_prompt, messages)
        return Written(text=text)
    return mark_spellings(render, pattern, texts)


def _render(
    tokenizer: Tokenizer,
    chat: Sequence[Object],
    tools: Sequence[Object],
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
    """Strings that a template may search a text for: all that it compares, replaces or splits by.

    A text that contains none of these is rendered like any other such text.
    """
    looking = (nodes.Compare, nodes.Test, nodes.Call, nodes.Filter, nodes.Assign)
    tree = Environment(extensions=["jinja2.ext.loopcontrols", _Generation]).parse(
        template_of(tokenizer)
    )
    found = {
        const.value
        for kind in looking
        for node in tree.find_all(kind)
        if not (isinstance(node, nodes.Filter) and node.name in _OUTPUT_FILTERS)
        for const in node.find_all(nodes.Const)
        if isinstance(const.value, str) and const.value.strip()
    }
    return sorted(found)


class _Generation(Extension):
    """The tag that TRL's templates put around answers."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The nodes inside the tag."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


# --- tools, calls and reasoning ----------------------------------------------------------------


def as_dicts(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[Object]:
    """The messages as templates expect them; absent parts have no key."""
    if not any(_is_structured(turn) for turn in messages):
        return [{"role": turn.role, "content": turn.content} for turn in messages]
    conventions = _conventions_of(tokenizer, template_of(tokenizer))
    return [_as_dict(turn, conventions) for turn in messages]


def takes_reasoning(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template renders `reasoning_content`."""
    return _conventions_of(tokenizer, template_of(tokenizer)).reasoning


def _is_structured(turn: Message) -> bool:
    """Whether the turn is more than the text of a user, the system or the model."""
    given = turn.reasoning_content or turn.tool_calls or turn.tool_call_id or turn.name
    return turn.role == "tool" or bool(given)


@dataclass(frozen=True, kw_only=True)
class _Conventions:
    """How a template takes reasoning (by a key) and arguments (as an object or as JSON text)."""

    reasoning: bool = True
    arguments_as_text: bool = False


@lru_cache(maxsize=8)
def _conventions_of(tokenizer: PreTrainedTokenizerBase, _template: str) -> _Conventions:
    """By trial; if both ways of writing arguments work, they are an object, as is usual."""
    asked, probe = Message(role="user", content="Q"), "ProbeOfTheTemplate"
    thought = answer_of("A", Extra(reasoning_content=probe))
    shown = _render_or_empty(tokenizer, [asked, thought], _Conventions())
    call = ToolCall(name="f", arguments={probe: "x"}, id="call12345")
    called = [asked, answer_of("", Extra(tool_calls=(call,)))]
    as_object = _render_or_empty(tokenizer, called, _Conventions())
    as_text = _render_or_empty(tokenizer, called, _Conventions(arguments_as_text=True))
    # some templates print a dict with single quotes: not JSON
    spoilt = probe not in as_object or f"'{probe}'" in as_object
    return _Conventions(
        reasoning=probe in shown, arguments_as_text=spoilt and f'"{probe}"' in as_text
    )


def _render_or_empty(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], conventions: _Conventions
) -> str:
    try:
        return _render(
            tokenizer, [_as_dict(turn, conventions) for turn in messages], [], False, messages
        )
    except UserError:
        return ""


def _as_dict(turn: Message, conventions: _Conventions) -> Object:
    made: Object = {"role": turn.role, "content": turn.content}
    if turn.reasoning_content and conventions.reasoning:
        # both names of the key: gpt-oss uses the second
        made |= dict.fromkeys(("reasoning_content", "thinking"), turn.reasoning_content)
    elif turn.reasoning_content:
        made["content"] = in_text(turn)
    if turn.tool_calls:
        made["tool_calls"] = [_call(call, conventions) for call in turn.tool_calls]
    made |= {key: value for key in ("tool_call_id", "name") if (value := getattr(turn, key))}
    return made


def in_text(turn: Message) -> str:
    """The answer with its reasoning in <think> tags, for templates without a key for it."""
    if not turn.reasoning_content:
        return turn.content
    return f"<think>\n{turn.reasoning_content}\n</think>\n\n{turn.content}"


def _call(call: ToolCall, conventions: _Conventions) -> Object:
    arguments = call.arguments
    if conventions.arguments_as_text and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    named: Object = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    return {"id": call.id, **named} if call.id else named


def _check_carried(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    chat: Sequence[Object],
    tools: Tools,
    add_generation_prompt: bool,
) -> None:
    """Raise UserError if the template leaves out a tool, a call or the last answer's reasoning.

    Each gets a unique name: a name that is missing from the output was left out.
    """
    named: dict[str, str] = {}

    def another(kind: str) -> str:
        name = f"Probe{chr(ord('a') + len(named) % 26) * (1 + len(named) // 26)}Name"
        named[name] = kind
        return name

    shown_tools = [_renamed_tool(tool, another("tools")) for tool in tools]
    shown = [dict(turn) for turn in chat]
    for turn in shown:
        if calls := objects_in(turn.get("tool_calls")):
            turn["tool_calls"] = [
                {**one, "function": {**object_at(one, "function"), "name": another("tool_calls")}}
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
    """Its own key, or the tags that a model writes around its thoughts."""
    return takes_reasoning(tokenizer) or "think>" in template_of(tokenizer)


def _renamed_tool(tool: Object, name: str) -> Object:
    inner = tool.get("function")
    return (
        {**tool, "function": {**inner, "name": name}}
        if isinstance(inner, dict)
        else {**tool, "name": name}
    )


def _texts(value: Json, key: str = "") -> Iterator[str]:
    """Every text written by people: all but roles and types, which belong to the format."""
    if isinstance(value, str):
        yield from () if key in _FORMAT_KEYS else (value,)
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from _texts(one, str(name))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _all_changed(objects: Sequence[Object], change: Callable[[str], str]) -> list[Object]:
    """The same objects with every such text changed."""
    return [
        {name: _changed(one, change, str(name)) for name, one in each.items()} for each in objects
    ]


def _changed(value: Json, change: Callable[[str], str], key: str = "") -> Json:
    if isinstance(value, str):
        return value if key in _FORMAT_KEYS else change(value)
    if isinstance(value, dict):
        return _all_changed([value], change)[0]
    if isinstance(value, list | tuple):
        return [_changed(one, change) for one in value]
    return value
