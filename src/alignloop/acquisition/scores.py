"""Reward model scores of candidates: one calibrated number per answer."""

from collections.abc import Sequence
from dataclasses import replace

from alignloop.acquisition.candidates import Answered, Candidate
from alignloop.config import ModelConfig
from alignloop.judging.protocol import Answer
from alignloop.judging.reward_models import RewardModel
from alignloop.run import progress_for

CHUNK_SIZE = 256  # answers per update of the progress bar
MICRO_BATCH_TOKENS = 4096


def with_scores(
    candidates: Sequence[Candidate], reward_models: Sequence[str], config: ModelConfig
) -> list[Candidate]:
    """The candidates with each reward model's score / temperature of every answer.

    The sigmoid of a difference is the model's calibrated probability that one is better. Each
    answer is scored once, however many candidates contain it.
    """
    answers = {a.response_id: a for one in candidates for a in one.answers}
    by_model = {name: _scores(list(answers.values()), name, config) for name in reward_models}
    return [
        replace(
            one,
            scores={
                name: tuple(scores[answer.response_id] for answer in one.answers)
                for name, scores in by_model.items()
            },
        )
        for one in candidates
    ]


def _scores(answers: Sequence[Answered], name: str, config: ModelConfig) -> dict[str, float]:
    model = RewardModel.load(name, config, micro_batch_tokens=MICRO_BATCH_TOKENS)
    found: dict[str, float] = {}
    with progress_for("scores", len(answers)) as bar:
        for start in range(0, len(answers), CHUNK_SIZE):
            part = answers[start : start + CHUNK_SIZE]
            given = [Answer(text=a.text) for a in part]
            temperature = model.scale.temperature
            found |= {
                answer.response_id: verdict.reward / temperature
                for answer, verdict in zip(
                    part, model.rate([a.prompt for a in part], given), strict=True
                )
            }
            bar.update(len(found))
    return found
