"""Rewards that can be checked, by hand and on the answers of GSM8K."""

import json
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignloop.config.stages import RewardPart, names_function
from alignloop.errors import UserError
from alignloop.records import Message, Prompt
from alignloop.scoring import load_function, verifiable
from alignloop.scoring.final_answer import Number, final_letter, final_number

GSM8K = Path(__file__).parents[4] / "shared/data/demos/gsm8k_train_first2000.jsonl"


def asked(reference: str | tuple[str, ...] | None, number: int = 0) -> Prompt:
    turns = (Message(role="user", content=f"q{number}"),)
    return Prompt(prompt_id=f"p{number}", messages=turns, reference=reference)


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("Paris", "paris", 1), ("  ＰＡＲＩＳ。 ", "Paris", 1), ('"Paris".', "Paris", 1),
        ("New\n York", "new york", 1), ("Paris, France", "Paris", 0), ("", "Paris", 0),
        ("<think>London</think>Paris", "Paris", 1), ("北京。", "北京", 1), ("-5", "5", 0),
    ],
)  # fmt: skip
def test_exact_match(answer: str, reference: str, score: float) -> None:
    assert verifiable.exact_match(answer, reference) == score


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("#### 72", 72), ("#### 1,234", 1234), ("#### -5", -5), ("It is −5.", -5), ("x = 5", 5),
        ("\\boxed{\\frac{3}{4}}", Fraction(3, 4)), ("\\boxed{18\\text{ cm}}", 18),
        ("\\boxed{7} and not 8", 7), ("3/4", Fraction(3, 4)), ("2 1/2", Fraction(5, 2)),
        ("2½", Fraction(5, 2)), ("It costs **$18.00**", 18), ("The answer is $-5", -5),
        ("The answer is -$5", -5), ("1{,}234", 1234), ("1e3", 1000), (".5", Fraction(1, 2)),
        ("The answer is 3*6 = 18.", 18), ("The answer is 18, since 3*6 = 18", 18),
        ("The answer is 5. No, wait: the answer is 6.", 6), ("Answer: 7 apples", 7),
        ("答案是18个", 18), ("答案：１８。", 18), ("3万", 30000),
        ("最终答案为 3.5 米", Fraction(7, 2)),
        ("所以一共有 12 个。", 12), ("1.5 million", 1_500_000), ("So 3 + 4 = 7", 7), ("(5)", 5),
        ("<think>5 or 6</think>It is 6", 6), ("Between 3 and 4 lies 3.5.", Fraction(7, 2)),
        ("The answer is\n\n18", 18), ("page 12, so 3 in all", 3),
        # which number it is is not clear, or there is none
        ("5 or 6", None), ("The answer is 5 or 6.", None), ("5 dollars or 6 dollars", None),
        ("答案是5或6", None), ("从3到4", None), ("3-4", None), ("1,23", None), ("12:30", None),
        ("3, 4", None), ("12 000", None), ("The answer is 3 * 6", None), ("10^2", None),
        ("10²", None), ("5!", None), ("3.14.15", None), ("x2", None), ("many", None), ("", None),
        ("1/0", None), ("9" * 5000, None), ("\\boxed{unclear}, maybe 3", None),
        ("The answer is unknown.\nWe had 3.", None), ("\\boxed{3", None),
    ],
)  # fmt: skip
def test_final_number(text: str, value: Fraction | int | None) -> None:
    assert final_number(text) == (None if value is None else Number(value=Fraction(value)))


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("25%", "25%", 1), ("25 %", "25", 1), ("25 percent", "0.25", 1), ("0.25", "25%", 1),
        ("25", "25%", 1), ("25", "0.25", 0), ("0.25", "25", 0), ("2500%", "25%", 0),
        ("72.0", "#### 72", 1), ("0.333", "1/3", 0), ("18 km", "18 m", 1), ("-72", "72", 0),
    ],
)  # fmt: skip
def test_numeric_answer(answer: str, reference: str, score: float) -> None:
    assert verifiable.numeric_answer(answer, reference) == score


@given(
    st.fractions(-(10**9), 10**9, max_denominator=1000),
    st.sampled_from(
        ["{}", "#### {}", "The answer is {}.", "\\boxed{{{}}}", "答案：{}", "so = {} kg"]
    ),
)
def test_whatever_is_written_is_found(value: Fraction, form: str) -> None:
    assert final_number(form.format(value)) == Number(value=value)
    if value.denominator == 1:
        assert final_number(form.format(f"{value.numerator:,}")) == Number(value=value)


@given(st.text(max_size=200))
def test_any_text_is_looked_at_without_an_error(text: str) -> None:
    final_number(text), final_letter(text)
    for check in ("exact_match", "contains", "starts_with", "ends_with", "language"):
        assert getattr(verifiable, check)(text, "en") in (0.0, 1.0)


@pytest.mark.parametrize(
    "text",
    ["1,111" * 20_000, "1" + " " * 100_000 + "1", "\n " * 50_000, "\\boxed{" * 20_000,
     "answer is " * 10_000, "1/" * 50_000, "```\n" * 30_000, "(A) " * 30_000, "9" * 100_000],
)  # fmt: skip
def test_hostile_texts_take_no_time(text: str) -> None:
    began = time.monotonic()
    final_number(text), final_letter(text), verifiable.json_schema(text, "{}")
    assert time.monotonic() - began < 5


@pytest.mark.skipif(not GSM8K.exists(), reason="the shared data is not there")
def test_numbers_of_gsm8k() -> None:
    rows = [json.loads(line)["answer"] for line in GSM8K.read_text("utf-8").splitlines()]
    final = [row.rpartition("#### ")[2].replace(",", "") for row in rows]
    assert len(rows) == 2000
    assert [final_number(row) for row in rows] == [Number(value=Fraction(one)) for one in final]
    numeric = verifiable.numeric_answer
    said = ["So it is ${:,}.", "The answer is {}", "\\boxed{{{}}}", "答案是{}。", "{:.2f}"]
    for form in said:
        assert all(numeric(form.format(int(n)), row) for n, row in zip(final, rows, strict=True))
    for wrong in (
        lambda n: n + 1, lambda n: n - 1, lambda n: n * 10 or 10, lambda n: -n or 7,
        lambda n: n + Fraction(1, 2), lambda n: n * 100 or 3, lambda n: int(f"{n}1"),
    ):  # fmt: skip
        changed = [str(wrong(int(n))) for n in final]
        forms = ("#### {}", "The answer is {}.", "{}")
        assert not any(
            numeric(form.format(number), row)
            for form in forms
            for number, row in zip(changed, rows, strict=True)
        )
    unclear = [numeric(f"It is {n} or 7{n}", row) for n, row in zip(final, rows, strict=True)]
    assert not any(unclear)
    assert not any(numeric("I do not know.", row) for row in rows)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"), ("(B)", "B"), ("(b)", "B"), ("B. the text", "B"), ("D) text", "D"),
        ("B、文本", "B"), ("The answer is B.", "B"), ("The answer is B because it fits", "B"),
        ("The correct answer is (c).", "C"), ("Answer: A", "A"), ("**D**", "D"), ("J: x", "J"),
        ("\\boxed{C}", "C"), ("答案：B", "B"), ("答案选C", "C"), ("选B", "B"), ("选择 B。", "B"),
        ("正确选项是D", "D"), ("正确答案是B选项", "B"), ("乙", "B"), ("答案是丁", "D"),
        ("应选A", "A"), ("option B", "B"), ("It must be (B), I think", "B"),
        ("<think>A</think>\nB", "B"),
        ("A or B", ""), ("The answer is A or B", ""), ("A, B", ""), ("答案是A或B", ""), ("A/B", ""),
        ("A and B", ""), ("(A) is wrong, so (B)", ""), ("A good idea", ""), ("I think so", ""),
        ("The answer is A cat", ""), ("AB", ""), ("b", ""), ("K", ""), ("", ""), ("Both", ""),
    ],
)  # fmt: skip
def test_final_letter(text: str, letter: str) -> None:
    assert final_letter(text) == letter


def test_choice_letter() -> None:
    assert verifiable.choice_letter("The answer is B.", "(B)") == 1
    assert verifiable.choice_letter("答案：B", "乙") == 1
    assert verifiable.choice_letter("A or B", "B. both") == 0
    with pytest.raises(ValueError, match="is not a letter"):
        verifiable.choice_letter("B", "both")


SCHEMA = '{"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}'


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ('{"a": 1}', 1), ('Here:\n```json\n{"a": 1}\n```\nDone.', 1), ('{"a": "1"}', 0), ("[]", 0),
        ('{"a": NaN}', 0), ("a: 1", 0), ("[" * 100_000, 0), ("```\n{}\n```\n```\n{}\n```", 0),
        ('<think>{}</think> {"a": 2}', 1),
    ],
)  # fmt: skip
def test_json_schema(answer: str, score: float, tmp_path: Path) -> None:
    assert verifiable.json_schema(answer, SCHEMA) == score
    (tmp_path / "schema.json").write_text(SCHEMA)
    assert verifiable.json_schema(answer, str(tmp_path / "schema.json")) == score


@pytest.mark.parametrize(
    "schema", ['{"type": "nothing"}', "no json", '{"$ref": "http://example.com/schema"}']
)
def test_what_is_no_schema(schema: str) -> None:
    with pytest.raises(ValueError):
        verifiable.json_schema("{}", schema)


def test_patterns_of_a_schema_and_of_a_person_are_bounded() -> None:
    hostile = "a" * 5000 + "!"
    began = time.monotonic()
    schema = '{"type": "string", "pattern": "^(a+)+$"}'
    assert verifiable.json_schema(json.dumps(hostile), schema) == 0
    assert verifiable.regular_expression(hostile, r"^(a|aa|a+)+$") == 0
    assert time.monotonic() - began < 10 * verifiable.PATTERN_SECONDS
    assert verifiable.regular_expression("it is 42", r"\d+$") == 1
    assert verifiable.regular_expression("it is", r"\d+$") == 0
    with pytest.raises(ValueError, match="the pattern"):
        verifiable.regular_expression("", "(")


@pytest.mark.parametrize(
    ("check", "answer", "reference", "score"),
    [
        ("contains", "Tea, please", "Tea", 1), ("contains", "tea", "Tea", 0),
        ("starts_with", " Dear Ana", "Dear", 1), ("starts_with", "My dear", "Dear", 0),
        ("ends_with", "Yours. ", "Yours.", 1), ("ends_with", "Yours", "Yours.", 0),
        ("max_words", "one two 三四", "4", 1), ("max_words", "one two 三四", "3", 0),
        ("min_words", "one two 三四", "4", 1), ("min_words", "one two 三四", "5", 0),
        ("language", "What is the answer?", "en", 1), ("language", "今天天气很好", "zh", 1),
        ("language", "今天天气很好", "en", 0),
        ("forbidden", "As an AI I", ("as an ai", "sorry"), 0), ("forbidden", "Sure", ("sorry",), 1),
    ],
)  # fmt: skip
def test_texts(check: str, answer: str, reference: str, score: float) -> None:
    assert getattr(verifiable, check)(answer, reference) == score


def test_a_row_is_right_by_any_of_its_references_and_forbids_all() -> None:
    prompts = [asked(("5", "7")), asked("6", 1)]
    assert load_function("verifiable:numeric_answer").scores(prompts, ["7", "7"]) == [1.0, 0.0]
    long_name = load_function("alignloop.scoring.verifiable:numeric_answer")
    assert long_name.scores(prompts, ["7", "7"]) == [1.0, 0.0]
    forbidden = load_function("verifiable:forbidden")
    assert forbidden.scores([asked(("no", "never"))] * 2, ["Never", "yes"]) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("name", "answers", "scores"),
    [
        ("verifiable:max_words(2)", ["a b", "a b c"], [1.0, 0.0]),
        ("verifiable:regular_expression(^(a|b)*$)", ["ab", "abc"], [1.0, 0.0]),
        ('verifiable:forbidden(["x", "y"])', ["a y", "z"], [0.0, 1.0]),
        ('verifiable:contains(["x", "y"])', ["a y", "z"], [1.0, 0.0]),
        ("verifiable:contains()", ["a", ""], [1.0, 1.0]),
    ],
)
def test_a_text_in_brackets_serves_all_rows(
    name: str, answers: list[str], scores: list[float], make_prompt: Callable[..., Prompt]
) -> None:
    prompts = [make_prompt("one"), make_prompt("two")]  # without references of their own
    assert load_function(name).scores(prompts, answers) == scores


def test_a_prompt_without_a_reference_is_named(make_prompt: Callable[..., Prompt]) -> None:
    function = load_function("verifiable:exact_match")
    prompts = [asked("a"), make_prompt("tea")]
    for ask in (lambda: function.scores(prompts, ["a", "b"]), lambda: function.check(prompts)):
        with pytest.raises(UserError, match="there is no reference") as caught:
            ask()
        assert 'prompt_id "p:tea"' in caught.value.where and "docs/data.md" in caught.value.fix
    bad = [asked("5"), asked("five", 1)]
    with pytest.raises(UserError, match="has no single final number") as caught:
        load_function("verifiable:numeric_answer").check(bad)
    assert 'prompt_id "p1"' in caught.value.where


@pytest.mark.parametrize(
    ("text", "weight", "source"),
    [
        ("verifiable:numeric_answer", 1.0, "verifiable:numeric_answer"),
        ("0.2 * verifiable:max_words(60)", 0.2, "verifiable:max_words(60)"),
        ("verifiable:regular_expression(a*)", 1.0, "verifiable:regular_expression(a*)"),
        ("-1 * mine:f(2 * 3)", -1.0, "mine:f(2 * 3)"),
    ],
)
def test_how_settings_name_one(text: str, weight: float, source: str) -> None:
    assert RewardPart.parse(text) == RewardPart(weight=weight, source=source)
    assert names_function(source)


@pytest.mark.parametrize("text", ["models/helpful", "verifiable:max_words(60", "a b:c"])
def test_what_names_no_function_is_a_directory(text: str) -> None:
    assert not names_function(text)
    assert RewardPart.parse(text) == RewardPart(weight=1.0, source=text)
