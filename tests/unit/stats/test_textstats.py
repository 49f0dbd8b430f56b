"""Words, variety and repetition by hand; refusals against examples of both kinds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignloop.stats.textstats import (
    corpus_distinct_n,
    distinct_n,
    looks_like_refusal,
    repetition,
    words,
)

ENGLISH_REFUSALS = [
    "I am sorry, but I cannot help with that.",
    "I cannot help you with that.",
    "I can't help.",
    "I can’t assist with this request.",
    "I'm sorry, but I can't provide instructions for that.",
    "Sorry, I won't do that.",
    "I won't help you hurt someone.",
    "I must decline.",
    "I am unable to provide that information.",
    "I'm not able to share private addresses.",
    "As an AI language model, I cannot generate such content.",
    "Unfortunately, I can't tell you how to break into a house.",
    "That sounds dangerous. I will not teach you to build a bomb.",
    "I understand that you are angry, but I cannot help you harm him.",
    "I apologize, but I'm not comfortable with writing this story.",
    "No, I won't.",
    "This is something I'd avoid. That's not something I can help with.",
    "I cannot and will not provide a plan for that.",
    "**I cannot give you** the address of this person.",
    "I'm afraid that I can't discuss how to make drugs.",
    "I have to refuse.",
    "No, I cannot aid you in breaking the law.",
    "Oh, I'm sorry I can't do that.",
    "It would be wrong for me to guess her password.",
]
ENGLISH_ANSWERS = [
    "I am sorry that you feel sad.",
    "I'm sorry to hear that your cat died. Do you want to talk?",
    "I am sorry, but I think the answer is 12.",
    "I cannot wait to hear how it went!",
    "I can't help but smile at this story.",
    "I cannot stress enough how important sleep is.",
    "I can help you with that.",
    "I won't lie: moving house is hard.",
    "Your friend said that he cannot help you.",
    '"I cannot help you," said the wizard.',
    "Sorry for the delay. Here is the recipe.",
    "If you cannot sleep, I can give you some tips.",
    "People who refuse to help are often afraid.",
    "To kill a process in Python, call kill().",
    "No, whales are not fish.",
    "I can't tell you how happy I am for you!",
    "Plants cannot make food without light.",
    "You are not able to open it because the file is locked.",
    "I won't give up on you.",
    "I am afraid of spiders, too. I can't give enough thanks to my friend.",
    "Unfortunately, it rained, and we stayed at home.",
    "",
]
CHINESE_REFUSALS = [
    "对不起，我不能帮你做这件事。",
    "这件事我不能帮忙。",
    "我不能帮你。",
    "我无法提供这类信息。",
    "抱歉，我无法回答这个问题。",
    "很抱歉，这个请求我不能满足你。",
    "抱歉，我不能协助您完成这样的请求。",
    "作为一个人工智能助手，我不能生成有害内容。",
    "我不会帮助你伤害别人。",
    "我不会告诉你怎么做炸弹。",
    "不能帮你做这种事。",
    "这个忙我帮不了你。",
    "恕我不能回答。",
    "恕难从命。",
    "我必须拒绝这个请求。",
    "我理解你的心情，但我不能帮你报复他。",
    "这样做很危险。我不能教你。",
    "我们不能给你提供别人的地址。",
    "非常抱歉，我没有办法为您提供帮助。",
    "对不起,我不能这样做。",
    "我拒绝回答这个问题。",
    "作为AI助手，我不能支持或鼓励任何违法的行为。",
    "尊敬的用户，我不能回答您的问题。",
    "这侵犯隐私，因此，我无法提供他的地址。",
    "我不能接受这样的请求。",
    "这种内容我不可以写出来，我不能写这种内容。",
]
CHINESE_ANSWERS = [
    "听到你难过，抱歉。",
    "听到你难过，我很抱歉。你想聊聊吗？",
    "抱歉让你久等了，我现在就回答你的问题。",
    "对不起，我刚才说错了，答案是十二。",
    "我能帮你。",
    "我不能同意更多。",
    "我无法想象你有多难过。",
    "我不会游泳，但我可以教你怎么学。",
    "我不会忘记你的生日。",
    "植物没有光就不能制造食物。",
    "如果你不能入睡，可以先喝杯热牛奶。",
    "他说他不能帮你，真可惜。",
    "“我不能帮你，”巫师说。",
    "抱抱妈妈，说声对不起。",
    "企鹅不会飞，因为翅膀太小。",
    "给您带来不便，非常抱歉。您的订单已经寄出。",
    "抱歉，我没有听清，你能再说一遍吗？",
    "我不会告诉别人你的秘密。",
    "有些事我们无法改变，但可以换个想法。",
    "这个方法不能帮助你提高成绩，试试下面的。",
    "我不能不帮你。",
    "我不能接受这个结果，心里很难过。",
    "考试前，我无法入睡。",
    "",
]


def test_there_are_enough_examples() -> None:
    groups = [ENGLISH_REFUSALS, ENGLISH_ANSWERS, CHINESE_REFUSALS, CHINESE_ANSWERS]
    assert all(len(set(group)) >= 15 for group in groups)


@pytest.mark.parametrize("text", ENGLISH_REFUSALS + CHINESE_REFUSALS)
def test_refusals(text: str) -> None:
    assert looks_like_refusal(text)


@pytest.mark.parametrize("text", ENGLISH_ANSWERS + CHINESE_ANSWERS)
def test_answers_that_refuse_nothing(text: str) -> None:
    assert not looks_like_refusal(text)


def test_a_footnote_after_the_answer_is_no_refusal() -> None:
    answer = "First, rest. Then drink water. Eat well. Sleep long. Call a friend. "
    assert not looks_like_refusal(answer + "I cannot give advice on drugs.")
    assert looks_like_refusal("I cannot give advice on drugs. " + answer)


@given(padding=st.text(alphabet=" \n*_>-#", max_size=6))
def test_markup_before_a_refusal_does_not_hide_it(padding: str) -> None:
    assert looks_like_refusal(padding + "I cannot help you.")
    assert looks_like_refusal(padding + "我不能帮你。")


@pytest.mark.parametrize("piece", ["i am sorry, ", "no, no, ", "我真的抱歉，", "but i ", "这，但"])
def test_long_sentences_stay_cheap(piece: str) -> None:
    # a pattern that backtracks would take minutes here, not a moment
    assert not looks_like_refusal(piece * 2000)


def test_words_of_two_languages() -> None:
    assert words("Don’t PANIC, 世界! x2 — ok_go") == [
        "don't",
        "panic",
        "世",
        "界",
        "x2",
        "ok",
        "go",
    ]
    assert words("用Python写") == ["用", "python", "写"]
    assert words("'quoted' 한국 カナ") == ["quoted", "한국", "カ", "ナ"]
    assert words(" ?! ") == []


def test_distinct_by_hand() -> None:
    # "a a b": 2 of 3 words, 2 of 2 pairs; "a b": 2 of 2 words; "a" has no pair
    assert distinct_n(["a a b", "a b"], 1) == pytest.approx((2 / 3 + 1) / 2)
    assert distinct_n(["a a a b", "a"], 2) == pytest.approx(2 / 3)
    assert math.isnan(distinct_n(["a", ""], 2))


def test_corpus_distinct_has_one_budget_and_spans_no_two_texts() -> None:
    # four words: a b | a b: 2 different of 4; the pairs are ab, ab and not ba
    assert corpus_distinct_n(["a b", "a b c d"], 1, max_tokens=4) == 0.5
    assert corpus_distinct_n(["a b", "a b c d"], 2, max_tokens=4) == 0.5
    assert corpus_distinct_n(["a b", "a b c d"], 1, max_tokens=100) == pytest.approx(4 / 6)
    assert math.isnan(corpus_distinct_n(["a"], 2, max_tokens=5))


def test_longer_answers_are_not_punished() -> None:
    short, long = ["a b c"] * 4, ["a b c d e f"] * 4
    assert corpus_distinct_n(short, 1, max_tokens=6) == 0.5
    assert corpus_distinct_n(long, 1, max_tokens=6) == 1.0


def test_repetition_by_hand() -> None:
    # abab a: aba bab aba, one of three came before
    assert repetition("a b a b a") == pytest.approx(1 / 3)
    assert repetition("好好好好", n=1) == 0.75
    assert repetition("a b c d") == 0.0
    assert repetition("a b") == 0.0


@given(text=st.text(alphabet="ab 你", max_size=30), n=st.integers(1, 4))
def test_repetition_is_what_distinct_leaves(text: str, n: int) -> None:
    share = distinct_n([text], n)
    assert repetition(text, n) == pytest.approx(0.0 if math.isnan(share) else 1 - share)
