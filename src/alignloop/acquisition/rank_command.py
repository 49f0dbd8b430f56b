"""`alignloop label rank`: reward models put the open items of a project in order, once or often."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from alignloop.acquisition.candidates import Answered, Candidate
from alignloop.acquisition.scores import with_scores
from alignloop.acquisition.select import By, worth
from alignloop.config import ModelConfig
from alignloop.errors import UserError
from alignloop.label.store import projects
from alignloop.label.store.database import Database, open_database
from alignloop.label.store.ranking import OpenItem, count_labels, open_items, set_scores
from alignloop.records import Comparison, Response
from alignloop.run import fingerprint

LOOK_EVERY = 5.0  # seconds between two looks for new judgements
Score = Callable[[Sequence[Candidate], Sequence[str]], list[Candidate]]


@dataclass
class Scorer:
    """Reward models' scores of candidates; what a model has scored is not scored again.

    A folder whose weights change is another model.
    """

    models: tuple[str, ...]
    score: Score
    known: dict[tuple[str, str], dict[str, float]] = field(
        default_factory=dict[tuple[str, str], dict[str, float]]
    )

    def __call__(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates with the scores of all models."""
        found = {name: self._of(name, candidates) for name in self.models}
        return [
            replace(
                one, scores={m: tuple(found[m][a.response_id] for a in one.answers) for m in found}
            )
            for one in candidates
        ]

    def _of(self, model: str, candidates: Sequence[Candidate]) -> dict[str, float]:
        known = self.known.setdefault((model, fingerprint(model)), {})
        new = [c for c in candidates if any(a.response_id not in known for a in c.answers)]
        for one in self.score(new, [model]) if new else ():
            (scores,) = one.scores.values()
            known |= {a.response_id: s for a, s in zip(one.answers, scores, strict=True)}
        return known


def _scores_of(
    one: Candidate, by_model: Mapping[str, Mapping[str, float]]
) -> dict[str, tuple[float, ...]]:
    return {
        model: tuple(scores[answer.response_id] for answer in one.answers)
        for model, scores in by_model.items()
    }


def run_rank(options: argparse.Namespace) -> None:
    """Rank the open items; with --every again whenever so many new judgements are there."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    by = how(options)
    config = ModelConfig(device=options.device, chat_template=options.chat_template)
    scorer = Scorer(
        models=tuple(options.reward_model), score=lambda new, names: with_scores(new, names, config)
    )
    with closing(open_database(options.database or options.project)) as database:
        with database.reading() as session:
            project_id = projects.get_project(session, options.slug).id

        def once() -> None:
            given = {"control": options.control, "seed": options.seed}
            ranked, control = rank(database, project_id, scorer, by, **given)
            print(f"{ranked} open items ranked ({by}), {control} of them control", flush=True)

        once()
        if options.every is not None:
            print("ranking again as judgements arrive; Ctrl+C stops it", flush=True)
            try:
                watch(database, project_id, options.every, once)
            except KeyboardInterrupt:
                print("stopped")


def how(options: argparse.Namespace) -> By:
    """By what to rank: as asked, or what the number of models allows. Raises UserError."""
    by: By = options.by or ("ensemble" if len(options.reward_model) > 1 else "uncertain")
    if by == "ensemble" and len(options.reward_model) < 2:
        fix = "add --reward-model DIR at least twice"
        raise UserError("disagreement needs two reward models", where="--by ensemble", fix=fix)
    return by


def rank(
    database: Database,
    project_id: int,
    scorer: Callable[[Sequence[Candidate]], list[Candidate]],
    by: By,
    *,
    control: float | None,
    seed: int,
) -> tuple[int, int]:
    """Score and order the open items; returns how many, and how many are control."""
    with database.reading() as session:
        items = open_items(session, project_id)
    if not items:
        raise UserError("this project has no open items", where="label rank", fix="import some")
    found = [worth(one, by) for one in scorer([candidate_of(item) for item in items])]
    scores = {item.item_id: score for item, (score, _) in zip(items, found, strict=True)}
    details: dict[int, dict[str, Any]] = {
        item.item_id: detail for item, (_, detail) in zip(items, found, strict=True)
    }
    return set_scores(
        database, project_id, scores, why=by, control=control, seed=seed, details=details
    )


def watch(
    database: Database,
    project_id: int,
    every: int,
    again: Callable[[], object],
    *,
    wait: Callable[[float], object] = time.sleep,
) -> None:
    """Call `again` whenever `every` more judgements have arrived, until `wait` raises."""
    with database.reading() as session:
        ranked_at = count_labels(session, project_id)
    while True:
        wait(LOOK_EVERY)
        with database.reading() as session:
            count = count_labels(session, project_id)
        if count >= ranked_at + every:
            ranked_at = count
            again()


def candidate_of(item: OpenItem) -> Candidate:
    """An open item as a comparison to consider."""
    answers = tuple(
        Answered(prompt=item.prompt, text=text, model="", settings={}) for _, text in item.answers
    )
    responses = tuple(Response(response_id=name, text=text) for name, text in item.answers)
    comparison = Comparison(
        comparison_id=item.comparison_id, prompt=item.prompt, responses=responses
    )
    return Candidate(comparison=comparison, answers=answers)
