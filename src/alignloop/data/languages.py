"""The language of a text, by its script and its commonest words: good enough for a table."""

import re
import unicodedata
from collections import Counter

_MAX_CHARACTERS = 2000  # characters
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
# Words per character in scripts without spaces. A Chinese word has about 1.6 characters; they get a
# higher weight, since names and code are Latin in any language.
_UNSPACED = {"zh": 1.5, "ja": 1.5, "th": 0.3}
_KANA_SHARE = 0.1  # of Chinese and Japanese characters: Japanese uses both
_COMMON = {
    "en": (
        "the of and to is in that it you what for are how i do can with me my a an no not yes this"
        " these those was were be been have has had will would could should there here at on your"
        " we they he she or but if when why who which by from about as so please write give tell"
        " explain make all any some more into than then our his her their its im don"
    ),
    "de": (
        "der die das und ist nicht ein eine zu mit ich es auf wie was sie den von wer wo warum kann"
        " haben hat sind im dem des für auch nur noch bei oder aber wenn man wir bitte einen mir"
    ),
    "fr": (
        "le la les et est un une des que pour dans en je vous ce qui pas du sur par avec au aux"
        " cette sont comment pourquoi mais ou où il elle nous quel quelle moi"
    ),
    "es": (
        "el la los las y es un una que de para en por como no se del qué con su al más pero sin"
        " sobre cómo cuál está son mi me lo si porque"
    ),
    "pt": (
        "o os as e é um uma que para em por como não se do da você com no na mais mas ao dos das"
        " qual são eu me sobre está isso"
    ),
    "it": (
        "il lo gli e è un una che di per in come non si del della sono con la le i mi da al"
        " perché qual quale cosa anche questo"
    ),
    "nl": (
        "de het een en is niet van ik te dat op met voor wat hoe zijn in aan er maar ook je kan"
        " waarom wie naar bij om als deze"
    ),
}
_WORDS = {language: set(words.split()) for language, words in _COMMON.items()}
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_]+(?:[\w.]*[A-Za-z0-9_])?", re.ASCII)  # one word, however long
_FEWEST_WORDS = 2


def language_of(text: str) -> str:
    """A code such as "en", "zh", "ja"; "latin" if unknown with Latin letters; "" for none.

    Words count, not letters; code (between backquotes) and addresses do not: long names in a
    question do not make it English. One short word that several languages share decides nothing,
    except for English.
    """
    start = text[:_MAX_CHARACTERS]
    prose = _CODE.sub(" ", start)
    found = _by_script(prose) or _by_script(start)
    if not found:
        return ""
    if found["ja"] >= _KANA_SHARE * (found["ja"] + found["zh"]) > 0:
        found["ja"] += found.pop("zh", 0)
    (language, _), *_ = found.most_common(1)
    return _latin(prose) if language == "latin" else language


def _by_script(text: str) -> Counter[str]:
    """Approximate number of words in each script."""
    found: Counter[str] = Counter()
    names = _NAME.findall(text)
    if names:
        found["latin"] += len(names) + sum(name.lower() in _WORDS["en"] for name in names)  # type: ignore[assignment]
    for run in re.findall(r"[^\W\d_]+", _NAME.sub(" ", text)):
        scripts: Counter[str] = Counter(filter(None, map(_script_of, run)))
        for script, count in scripts.items():
            found[script] += _UNSPACED.get(script, 0) * count or 1  # type: ignore[assignment]
    return found


def _script_of(character: str) -> str:
    name = unicodedata.name(character, "")
    return _SCRIPTS.get(name.split(" ")[0].split("-")[0], "")


def _latin(text: str) -> str:
    words = re.findall(r"[^\W\d_]+", text.lower())
    found = {language: sum(word in common for word in words) for language, common in _WORDS.items()}
    most = max(found.values())
    best = [language for language, count in found.items() if count == most]
    if most == 0 or (best[0] != "en" and (len(best) > 1 or len(words) < _FEWEST_WORDS)):
        return "latin"
    return best[0]
