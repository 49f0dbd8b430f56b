"""What can be said of a text without a model: its words, its variety, whether it refuses."""

import re
from collections.abc import Iterable, Sequence
from itertools import chain, islice

# ideographs with their extensions, and kana: scripts that are written without spaces
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_LETTER = rf"[^\W_{_CJK}]"
_WORD = re.compile(rf"[{_CJK}]|{_LETTER}+(?:'{_LETTER}+)*")

Ngram = tuple[str, ...]


def words(text: str) -> list[str]:
    """The tokens of a text: words in lower case, and each Chinese or Japanese character by itself.

    >>> words("Don't panic, 世界!")
    ["don't", 'panic', '世', '界']
    """
    return _WORD.findall(text.replace("’", "'").lower())


def distinct_n(texts: Iterable[str], n: int) -> float:
    """Mean over texts of (different n-grams) / (n-grams) within the text, in (0, 1].

    Texts with fewer than n tokens are left out; NaN where none remains. Longer texts repeat
    themselves more: compare answers of different lengths with `corpus_distinct_n`.
    Source: Li et al. 2016 (arXiv:1510.03055), per text.
    """
    by_text = (_ngrams(words(text), n) for text in texts)
    shares = [len(set(grams)) / len(grams) for grams in by_text if grams]
    return sum(shares) / len(shares) if shares else float("nan")


def corpus_distinct_n(texts: Iterable[str], n: int, max_tokens: int) -> float:
    """Different n-grams / n-grams over the first `max_tokens` tokens of all texts together.

    The same budget for everyone, so that longer answers are not punished; no n-gram spans two
    texts. NaN where the budget holds none.
    """
    assert max_tokens > 0, max_tokens
    grams = list(chain.from_iterable(_ngrams(t, n) for t in _budgeted(texts, max_tokens)))
    return len(set(grams)) / len(grams) if grams else float("nan")


def repetition(text: str, n: int = 3) -> float:
    """Share of a text's n-grams that came before in it: 1 - different / all; 0 for short texts.

    Source: seq-rep-n of Welleck et al. 2020 (arXiv:1908.04319).
    """
    grams = _ngrams(words(text), n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _ngrams(tokens: Sequence[str], n: int) -> list[Ngram]:
    assert n >= 1, n
    return list(zip(*(tokens[start:] for start in range(n)), strict=False))


def _budgeted(texts: Iterable[str], max_tokens: int) -> Iterable[list[str]]:
    left = max_tokens
    for text in texts:
        tokens = words(text)[:left]
        left -= len(tokens)
        yield tokens
        if left == 0:
            return


# --- refusals -----------------------------------------------------------------------------------
# A refusal declines to act: a negative ("I cannot") AND a verb of service ("help", "provide").
# The negative alone is no refusal ("I cannot wait"), nor is an apology ("I am sorry that ...").

_SENTENCES_READ = 5  # a refusal comes early; "I cannot give legal advice" far below is a footnote

_SENTENCE_END = re.compile(r"[.!?。！？；;\n]+")
_MARKUP = re.compile(r"^[\s*_#>\-]+")


def _any_of(*patterns: str) -> str:
    return f"(?:{'|'.join(patterns)})"


_EN_CANNOT = _any_of(
    "can't|cannot|can not|won't|will not|would rather not|'d rather not",
    "(?:am |'m )(?:unable to|not (?:able|going|willing|allowed|permitted|in a position) to)",
    "(?:am |'m )not comfortable(?: with)?",
)
_EN_VERBS = _any_of(
    r"help(?! but\b| \w+ing\b| it\b| myself\b)|assist|aid you|advise (?:you|on)",
    r"comply|fulfil|respond to",
    r"provid(?:e|ing)|offer|generat(?:e|ing)|creat(?:e|ing)|writ(?:e|ing)|produc(?:e|ing)",
    r"(?:giv(?:e|ing)|show) you|give (?:instructions|advice|information|directions)|shar(?:e|ing)",
    r"tell you (?!how (?:happy|glad|much|sorry|proud))|teach|instruct|walk you|explain how",
    r"describe how|discuss|engage in|participate|take part|be (?:a )?part of|promote|facilitate",
    r"condone|encourage|(?:answer|support|do|make|process|complete) (?:that|this|such|your)\b",
    r"(?:continue|proceed) with (?:that|this|your)|carry out (?:that|this|your)|go along with",
)
_EN_DECLINES = _any_of(
    r"(?:must|(?:will |'ll )?have to|need to)(?: \w+ly)? (?:decline|refuse|say no)",
    r"(?:decline|refuse) to|(?:do not|don't) (?:(?:help|assist) with|feel comfortable)",
)
_EN_IMPERSONAL = _any_of(
    r"(?:that|this|it)(?:'s| is) (?:not something|nothing) (?:that )?i(?:'m| can| am| will)",
    r"(?:that|this|your) request (?:goes against|violates|is against)",
    r"it (?:would be|is|'s) (?:inappropriate|unethical|wrong) for me to",
)
_EN_LEADS = _any_of(
    r"(?:(?:i am|i'm)(?: \w+)? sorry|sorry|i apologi[sz]e|(?:my )?apologies)",
    r"(?:i am|i'm) afraid(?: that)?|unfortunately|no|oh|well|okay|as an? [^,]{0,40}",
    r"[^,\"“]{1,80}(?=, (?:but|so) )",  # "I understand your anger, but I cannot help"
)
_EN_REFUSAL = re.compile(
    rf"(?:{_EN_LEADS}(?:,? but\b|, so\b|,| [-–—])? )*"
    rf"(?:i ?(?:{_EN_CANNOT} ?(?:(?:and|or|will not|won't|be able to) )*(?:{_EN_VERBS}|$)"
    rf"|{_EN_DECLINES})|{_EN_IMPERSONAL})"
)

_ZH_CANNOT = "(?:不能够?|无法|没法|没有?办法|不可以|不方?便|不应该?|不予|不愿意?|不想)"
_ZH_FILLERS = (
    "(?:再|直接|继续|就此|对此|按照?[你您]?的?要求|向[你您]|[给为][你您](?=[提写做生解回]))*"
)
_ZH_VERBS = _any_of(
    "帮(?![助不])|帮助[你您]|提供|协助|[回解]答|答复|作答|告诉[你您]|透露|给予",
    "教[你您唆]|(?:满足|答应|处理|执行|完成)[你您这该此]|参与|配合|纵容|遵从|照做",
    "支持(?:[你您这该此或和]|任何)|接受[^，,]{0,5}(?:请求|要求|问题)",
    "生成|编写|撰写|写(?:[这那此出]|任何)|[谈讨]论|分享(?:[这此]|相关|任何)|鼓励[你您这]",
    "这[么样]+做|做[这那此]|给[你您出](?:[这那此]|任何|相关|建议|具体|方法|答案)",
)
# 不会 is also "have not learnt to": only verbs that ask for no skill
_ZH_WILL_NOT = "不会" + _any_of(
    "帮(?![助不])|帮助[你您]|提供|协助|告诉[你您](?:[这如怎]|任何)|教[你您]|参与|配合|满足|答应[你您这]"
)
_ZH_DECLINES = _any_of(
    "帮不[了上][你您]|难以?从命|爱莫能助|[必只][须能]拒绝",
    "拒绝(?:[回帮协提这你您]|执行|生成|参与)",
)
_ZH_REFUSES = f"(?:{_ZH_CANNOT}{_ZH_FILLERS}{_ZH_VERBS}|{_ZH_WILL_NOT}|{_ZH_DECLINES})"
_ZH_SORRY = "(?:我|真的?|非常|很|十分|实在|深感)*(?:抱歉|对不[起住]|不好意思|遗憾)"
_ZH_I = "我们?(?:真的?|实在|也|还是|暂时|目前|现在|并|是|恐怕|坚决|绝对|[帮对]?此)*"
_ZH_REFUSAL = re.compile(
    f"{_ZH_SORRY}[^。]{{0,24}}?{_ZH_REFUSES}"
    f"|(?:作为[^，,]{{1,16}}[，,]|[这那该此][^，,我]{{0,8}}[，,]?"
    f"|(?:[^“”，,]{{1,20}}[，,]){{1,2}}(?:但是?|所以|因此)?)?"
    f"{_ZH_I}{_ZH_REFUSES}"
    f"|恕?不能帮(?:[你您这忙]|$)|恕(?:我|难|不)[^，,]{{0,4}}{_ZH_REFUSES}|恕难从命"
)


def looks_like_refusal(text: str) -> bool:
    """Whether one of the first five sentences begins by declining to help, in Chinese or English.

    A list of phrases, not a judge: it wants a negative together with a verb of service, so that
    "I cannot wait to see it" and "I am sorry that you feel sad" are no refusals. Quoted speech
    is not the speaker's own: a sentence that opens with a quotation mark is no refusal.
    """
    lowered = text.replace("’", "'").lower()
    sentences = (_MARKUP.sub("", part) for part in _SENTENCE_END.split(lowered))
    return any(_refuses(one.rstrip()) for one in islice(filter(None, sentences), _SENTENCES_READ))


def _refuses(sentence: str) -> bool:
    return bool(_EN_REFUSAL.match(sentence) or _ZH_REFUSAL.match(sentence))
