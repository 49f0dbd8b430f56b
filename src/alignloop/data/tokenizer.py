"""What transformers types only in part of a tokenizer, as far as it is used here."""

from typing import Any, Protocol


class Tokenizer(Protocol):
    """A `PreTrainedTokenizerBase` fits."""

    @property
    def chat_template(self) -> object:
        """A template, templates by name, or None."""
        ...

    def apply_chat_template(
        self,
        conversation: list[Any],
        tools: list[Any] | None,
        *,
        add_generation_prompt: bool,
        tokenize: bool,
    ) -> object:
        """A text, if there is one conversation and it is not to be tokenised."""
        ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids."""
        ...

    def decode(self, token_ids: list[int], skip_special_tokens: bool) -> object:
        """A text, if there is one sequence."""
        ...
