"""Find answers that reveal their maker: an annotator who knows the model is no longer blind."""

import re

_NAMES = (
    "openai|anthropic|google|deepmind|meta ai|mistral|alibaba|microsoft|deepseek|moonshot|zhipu|"
    "baidu|bytedance|tencent|xai|cohere"
)
_MODELS = (
    "chatgpt|gpt-?[345]\\w*|claude|gemini|bard|llama|mistral|qwen|deepseek|kimi|glm|ernie|doubao|"
    "copilot|grok|command r"
)
_MADE = "developed|created|made|trained|built|designed"
# Only in the first person or with a maker's verb: texts about companies are not leaks.
_ENGLISH = re.compile(
    rf"\b(?:{_MADE}) (?:and \w+ )?by (?:the team at )?(?:{_NAMES})\b"
    rf"|\bas an? (?:ai|artificial intelligence|large language model|language model)\b"
    rf"[^.!?\n]{{0,40}}\b(?:{_MADE}) (?:and \w+ )?by\b"
    rf"|\b(?:i am|i'm|i’m|my name is|call me) (?:an? )?(?:{_MODELS})\b"
    rf"|\bas (?:{_MODELS})\b[, ]",
    re.IGNORECASE,
)
_MAKERS = (
    "阿里|通义|百度|文心|腾讯|字节|豆包|智谱|月之暗面|深度求索|科大讯飞|讯飞|商汤|华为|"
    "OpenAI|Anthropic|谷歌|Google|微软|Meta|DeepSeek"
)
_NAMES_ZH = (
    "通义千问|千问|文心一言|豆包|混元|智谱清言|ChatGLM|星火|Kimi|DeepSeek|ChatGPT|Claude|Gemini|"
    "Qwen|GPT"
)
_CHINESE = re.compile(
    rf"由[^。！？\n]{{0,12}}(?:{_MAKERS})[^。！？\n]{{0,12}}(?:开发|研发|训练|创建|创造|推出|打造)"
    rf"|(?:作为|我是)(?:一个|一款|一名)?由[^。！？\n]{{1,20}}(?:开发|研发|训练|创建|创造|打造)的?"
    rf"[^。！？\n]{{0,8}}(?:人工智能|AI|语言模型|大模型|助手)"
    rf"|我(?:是|叫|的名字是)(?:{_MAKERS}|{_NAMES_ZH})"
    rf"|(?:{_MAKERS})(?:公司|团队)?(?:开发|研发|训练)的",
    re.IGNORECASE,
)


def names_maker(text: str) -> bool:
    """Whether an answer names its maker, in English or Chinese.

    >>> names_maker("As an AI model developed by Example Inc., I cannot do that.")
    True
    >>> names_maker("OpenAI was founded in 2015.")
    False
    """
    return bool(_ENGLISH.search(text) or _CHINESE.search(text))
