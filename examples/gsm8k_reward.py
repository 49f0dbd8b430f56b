"""A verifiable reward: 1 if an answer to a GSM8K question ends in the right number, else 0.

    GSM8K=gsm8k_train.jsonl alignloop rl my-recipe --rl.prompts gsm8k_train.jsonl \
        --rl.reward_function gsm8k_reward:reward --rl.algorithm.name grpo

Run it in this file's folder. The environment variable names the file of questions and worked
answers, one {"question": ..., "answer": "... #### 72"} per line.
"""

import json
import os
import re
from functools import cache
from pathlib import Path

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def reward(prompts: list[str], responses: list[str]) -> list[float]:
    """1.0 for each response whose final number is the one in the file, else 0.0."""
    answers = answers_by_question(os.environ.get("GSM8K", "gsm8k_train.jsonl"))
    return [
        float(final_number(response) == answers[prompt.strip()])
        for prompt, response in zip(prompts, responses, strict=True)
    ]


@cache
def answers_by_question(file: str) -> dict[str, float | None]:
    """The final number of each worked answer."""
    rows = map(json.loads, Path(file).read_text(encoding="utf-8").splitlines())
    return {row["question"].strip(): final_number(row["answer"]) for row in rows}


def final_number(text: str) -> float | None:
    """The number after the last "####", else the last number in the text; None if there is none."""
    _, mark, behind = text.rpartition("####")
    found = NUMBER.findall(behind)
    if not found:
        return None
    return float((found[0] if mark else found[-1]).replace(",", ""))
