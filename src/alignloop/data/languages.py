"""The language of a text, told by its script and its commonest words: enough for a table."""

import re
import unicodedata
from collections import Counter

_LOOKED_AT = 2000  # characters
_SCRIPTS = {
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "CJK": "zh",
    "CYRILLIC": "ru",
    "ARABIC": "ar",
    "HEBREW": "he",
    "GREEK": "el",
    "THAI": "th",
    "DEVANAGARI": "hi",
    "LATIN": "latin",
}
# A Chinese character says about as much as four letters do.
_WEIGHT = {"zh": 4, "ja": 4, "ko": 3}
_KANA_SHARE = 0.1  # of what is Chinese or Japanese: Japanese is written in both
_COMMON = {
    "en": "the of and to is in that it you what for are how i do can with me my a an",
    "de": "der die das und ist nicht ein eine zu mit ich es auf wie was sie den von",
    "fr": "le la les et est un une des que pour dans en je vous ce qui pas du",
    "es": "el la los las y es un una que de para en por como no se del qué",
    "pt": "o os as e é um uma que para em por como não se do da você",
    "it": "il lo gli e è un una che di per in come non si del della sono",
    "nl": "de het een en is niet van ik te dat op met voor wat hoe zijn",
}
_WORDS = {language: set(words.split()) for language, words in _COMMON.items()}


def language_of(text: str) -> str:
    """A code such as "en", "zh", "ja"; "latin" for letters of no known language; "" for none."""
    scripts: Counter[str] = Counter()
    for character, count in Counter(text[:_LOOKED_AT]).items():
        if character.isalpha():
            name = "LATIN" if character.isascii() else unicodedata.name(character, "")
            if language := _SCRIPTS.get(name.split(" ")[0].split("-")[0]):
                scripts[language] += count * _WEIGHT.get(language, 1)
    if not scripts:
        return ""
    if scripts["ja"] >= _KANA_SHARE * (scripts["ja"] + scripts["zh"]) > 0:
        scripts["ja"] += scripts.pop("zh", 0)
    (language, _), *_ = scripts.most_common(1)
    return _latin(text[:_LOOKED_AT]) if language == "latin" else language


def _latin(text: str) -> str:
    words = re.findall(r"[^\W\d_]+", text.lower())
    found = {language: sum(word in common for word in words) for language, common in _WORDS.items()}
    best = max(found, key=lambda language: found[language])
    return best if found[best] else "latin"
