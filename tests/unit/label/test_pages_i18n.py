"""The catalogues are complete and say the same; every key that a page uses is there."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from alignloop.label.pages.templating import TEMPLATES
from alignloop.label.texts import i18n
from alignloop.label.texts.i18n import Entry, Texts, catalogue, choose

STATIC = TEMPLATES.parent / "static"
HAN = re.compile(r"[\u4e00-\u9fff]")
SAME_IN_BOTH = {
    "quality.kappa",
    "quality.alpha",
    "quality.dawid_skene",
    "axis.alpha",
}


def sources(folder: Path, ending: str) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob(ending)))


def placeholders(entry: Entry) -> set[str]:
    """The names in braces that an entry fills in, whatever its forms for counts."""
    forms = [entry] if isinstance(entry, str) else list(entry.values())
    return {name for form in forms for name in re.findall(r"\{(\w+)\}", form)}


def test_both_languages_have_the_same_keys_and_placeholders() -> None:
    english, chinese = catalogue("en"), catalogue("zh")
    assert len(english) > 200
    assert english.keys() == chinese.keys()
    named = {key: placeholders(entry) for key, entry in english.items()}
    assert named == {key: placeholders(entry) for key, entry in chinese.items()}


def test_every_chinese_text_is_chinese_and_no_english_one_is() -> None:
    for key, entry in catalogue("zh").items():
        text = entry if isinstance(entry, str) else entry["other"]
        assert bool(HAN.search(text)) is (key not in SAME_IN_BOTH), key
    assert not [key for key, entry in catalogue("en").items() if HAN.search(str(entry))]


def test_every_key_in_a_template_is_in_the_catalogue() -> None:
    used = set(
        re.findall(
            r"""\bt(?:\.raw)?\(["']([a-z_.0-9]+)["'](?!\s*[+|~])""", sources(TEMPLATES, "*.html")
        )
    )
    assert len(used) > 120
    assert not used - catalogue("en").keys()


def test_every_key_in_the_script_is_in_the_catalogue() -> None:
    used = set(re.findall(r"""\bsay\(\s*"([a-z_0-9]+)\"""", sources(STATIC, "*.js")))
    assert len(used) > 15
    assert not used - Texts("en").script().keys()


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 judgements by you"), (1, "1 judgement by you"), (1200, "1,200 judgements by you")],
)
def test_counts_choose_their_form(count: int, expected: str) -> None:
    assert Texts("en")("projects.yours", n=count) == expected


def test_chinese_has_one_form_of_a_count() -> None:
    assert Texts("zh")("projects.yours", n=1) == "您已标注 1 条"


def test_an_unknown_key_or_a_missing_value_is_an_error() -> None:
    with pytest.raises(KeyError):
        Texts("en")("no.such.key")
    with pytest.raises(KeyError):
        Texts("en")("task.answer")


def test_a_value_is_not_read_as_a_template() -> None:
    assert Texts("en")("task.answer", name="{name}{n}") == "Answer {name}{n}"


@pytest.mark.parametrize(
    ("wishes", "accepted", "expected"),
    [
        ((), "", "en"),
        ((), "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ((), "fr, en;q=0.3, zh;q=0.7", "zh"),
        ((), "de;q=nonsense", "en"),
        (("zh",), "en", "zh"),
        ((None, "en"), "zh", "en"),
        (("xx", ""), "zh-TW", "zh"),
    ],
)
def test_the_language_is_the_first_wish_that_we_speak(
    wishes: tuple[str | None, ...], accepted: str, expected: str
) -> None:
    assert choose(*wishes, accepted=accepted) == expected


def test_numbers_shares_and_times() -> None:
    english, chinese = Texts("en"), Texts("zh")
    assert english.number(1234567) == "1,234,567"
    assert english.number(None) == "–"
    assert english.number(0.4321, 2) == "0.43"
    assert (english.percent(0.5), chinese.percent(0.5)) == ("50 %", "50%")
    assert (english.seconds(89), english.seconds(120), chinese.seconds(120)) == (
        "89",
        "2.0 min",
        "2.0 分",
    )
    moment = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    assert english.time(moment) == "2026-01-02 03:04"
    assert english.date(moment) == "2026-01-02"
    assert english.time(None) == "–"


def test_the_tags_are_those_of_the_lang_attribute() -> None:
    assert {locale: Texts(locale).tag for locale in i18n.LOCALES} == {"en": "en", "zh": "zh-CN"}
