"""Answers that name their maker, and those that only speak of makers."""

import pytest

from alignloop.label.identity_leaks import names_maker

NAMING = [
    "As an AI language model developed by OpenAI, I cannot do that.",
    "as an AI made by Example Labs I would rather not",
    "I was created by Anthropic to be helpful.",
    "I'm Claude, an assistant.",
    "I am ChatGPT.",
    "My name is Gemini and I can help.",
    "I was trained and built by Meta AI.",
    "作为一个由OpenAI训练的语言模型，我不能回答。",
    "我是通义千问，由阿里云开发。",
    "我是由深度求索公司研发的智能助手。",
    "作为由百度开发的人工智能助手，我建议您就医。",
    "我叫文心一言。",
]
NOT_NAMING = [
    "OpenAI was founded in 2015.",
    "As an AI, I have no feelings.",
    "The engine was developed by a team in Berlin.",
    "I am a teacher.",
    "Gemini is a constellation of the zodiac.",
    "阿里巴巴是一家公司。",
    "作为一个人工智能，我没有感情。",
    "这座桥由清华大学的团队设计。",
    "我是老师，今天教大家做菜。",
    "",
]


@pytest.mark.parametrize("text", NAMING)
def test_it_is_found(text: str) -> None:
    assert names_maker(text)


@pytest.mark.parametrize("text", NOT_NAMING)
def test_it_is_not_found_where_it_is_not(text: str) -> None:
    assert not names_maker(text)
