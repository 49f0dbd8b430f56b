"""Chat templates: how messages become the tokens that a model reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from jinja2.exceptions import TemplateError

from alignloop.errors import UserError
from alignloop.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

TEMPLATES = {"chatml": CHATML}


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
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], add_generation_prompt: bool
) -> list[int]:
    """Token ids of a conversation by the tokenizer's own template, which writes any BOS itself.

    Raises UserError if there is no template, or if the template refuses the messages (some accept
    no system message, or only alternating roles).
    """
    ids = _render(tokenizer, messages, add_generation_prompt, tokenize=True)
    assert isinstance(ids, list), "one conversation gives one list of ids"
    return cast("list[int]", ids)


def rendered(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], add_generation_prompt: bool
) -> str:
    """The same as text, before it becomes tokens."""
    text = _render(tokenizer, messages, add_generation_prompt, tokenize=False)
    assert isinstance(text, str), "one conversation gives one text"
    return text


def _render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    add_generation_prompt: bool,
    *,
    tokenize: bool,
) -> object:
    require_template(tokenizer)
    try:
        return tokenizer.apply_chat_template(
            [message.model_dump() for message in messages],
            add_generation_prompt=add_generation_prompt,
            tokenize=tokenize,
            return_dict=False,
        )
    except TemplateError as error:
        roles = ", ".join(message.role for message in messages)
        raise UserError(
            f"the chat template refuses the messages ({roles}): {error}",
            where="tokenizer",
            fix='change the roles of the messages, or set model.chat_template = "chatml"',
        ) from error
