"""Colours of program code: runs of text and what they are, with the text untouched."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from alignloop.extras import needs

with needs("label", "the annotation page"):
    from pygments import lexers
    from pygments.lexer import Lexer
    from pygments.token import Token

LONGEST_CODE = 5_000  # characters of one block; longer code has no colours
# Lexers none of whose patterns takes long at one place of a hostile text; a test tries each.
LANGUAGES = {
    *("bash", "sh", "shell", "zsh", "c", "c++", "cpp", "cs", "csharp", "css", "dockerfile", "go"),
    *("golang", "html", "xml", "java", "javascript", "js", "jsx", "json", "kotlin", "lua", "php"),
    *("python", "python3", "py", "r", "rb", "ruby", "rs", "rust", "scala", "sql", "swift", "toml"),
    *("ts", "tsx", "typescript", "yaml", "yml"),
}
_KINDS = {
    Token.Comment: "code-comment",
    Token.Keyword: "code-keyword",
    Token.Literal.String: "code-string",
    Token.Literal.Number: "code-number",
    Token.Name.Function: "code-name",
    Token.Name.Class: "code-name",
    Token.Name.Builtin: "code-name",
    Token.Name.Tag: "code-keyword",
    Token.Name.Attribute: "code-name",
    Token.Operator.Word: "code-keyword",
}
COLOURS = set(_KINDS.values())


@dataclass(kw_only=True)
class CodeColours:
    """Colours the code of one text, as long as its processor time lasts."""

    seconds: float = 0.1
    clock: Callable[[], float] = time.thread_time

    def of(self, code: str, language: str) -> list[tuple[str, str]]:
        """Runs of (kind, text) whose texts, joined, are the code; kind "" has no colour.

        >>> CodeColours().of("x = 1", "python")
        [('', 'x = '), ('code-number', '1')]
        """
        if language not in LANGUAGES or len(code) > LONGEST_CODE:
            return [("", code)]
        lexer, began = _lexer(language), self.clock()
        runs: list[tuple[str, str]] = []
        # not get_tokens, which changes line ends and adds one
        for _, token, text in lexer.get_tokens_unprocessed(code):
            kind = next((_KINDS[one] for one in reversed(token.split()) if one in _KINDS), "")
            if runs and runs[-1][0] == kind:
                runs[-1] = (kind, runs[-1][1] + text)
            else:
                runs.append((kind, text))
            if self.clock() - began > self.seconds:
                break
        self.seconds -= self.clock() - began
        return runs if "".join(text for _, text in runs) == code else [("", code)]


@cache
def _lexer(language: str) -> Lexer:
    return lexers.get_lexer_by_name(language)  # pyright: ignore[reportUnknownMemberType]
