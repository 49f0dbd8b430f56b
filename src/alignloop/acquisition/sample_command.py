"""`alignloop label sample`: from the command line to the functions of this package."""

import argparse
import sys
from contextlib import closing
from pathlib import Path

from alignloop.acquisition.answers import Policy, Sampling, sample_answers
from alignloop.acquisition.candidates import candidates
from alignloop.acquisition.filing import file_chosen
from alignloop.acquisition.scores import with_scores
from alignloop.acquisition.select import choose
from alignloop.config import ModelConfig
from alignloop.data.formats import read_prompts
from alignloop.errors import UserError, harmless
from alignloop.label.store import projects
from alignloop.label.store.batches import batch_for_import
from alignloop.label.store.database import Database, open_database
from alignloop.label.store.overview import count_slices
from alignloop.label.store.tasks import LabelSchema

SLUG = "comparisons"  # of the project created if there is none
ANSWERS_FOLDER = "sampled"  # below the project's folder


def run_sample(options: argparse.Namespace) -> None:
    """Sample answers, choose comparisons and file them; prints a summary."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    sampling = _sampling(options)
    prompts = read_prompts(options.prompts)
    with closing(open_database(options.database or options.project)) as database:
        project_id, ranking = _project(database, options)
        answers = sample_answers(sampling, prompts, Path(options.project) / ANSWERS_FOLDER)
        possible = candidates(answers, ranking=ranking)
        if not possible:
            problem = "no prompt got two different answers"
            raise UserError(problem, where="--policy", fix="raise --temperature or --answers")
        if options.reward_model:
            config = ModelConfig(device=options.device, chat_template=options.chat_template)
            possible = with_scores(possible, options.reward_model, config)
        with database.reading() as session:
            # without the batch itself, so that repeating the command chooses the same
            held = count_slices(session, project_id, except_batch=options.batch)
        chosen = choose(
            possible,
            options.choose,
            count=options.count,
            per_prompt=options.per_prompt,
            seed=options.seed,
            held=held,
        )
        with database.transaction() as session:
            asked = {"overlap": options.overlap}
            found = batch_for_import(session, project_id, options.batch, **asked)
            if told := found.words():
                print(harmless(f"batch {options.batch}: {told}, for all its items"))
        done = file_chosen(database, project_id, found.batch.id, chosen)
    print(
        f"{len(answers)} answers to {len(prompts)} prompts, {len(possible)} possible comparisons,"
        f" {len(chosen)} chosen ({options.choose})"
    )
    print(f"filed in batch {options.batch!r}: {done.added}, already there: {done.duplicates}")
    for refusal in done.refused:
        print(harmless(refusal), file=sys.stderr)
    if options.count is not None and len(chosen) < options.count:
        print(f"fewer than --count {options.count}: raise --per-prompt", file=sys.stderr)


def _sampling(options: argparse.Namespace) -> Sampling:
    return Sampling(
        policies=tuple(_policy(word) for word in options.policy),
        answers=options.answers,
        temperatures=tuple(options.temperature or [1.0]),
        max_new_tokens=options.max_new_tokens,
        max_prompt_tokens=options.max_prompt_tokens,
        chat_template=options.chat_template,
        device=options.device,
        seed=options.seed,
    )


def _policy(word: str) -> Policy:
    """ "DIR", or "NAME=DIR" to give it another name."""
    name, _, path = word.partition("=")
    if path and not Path(word).exists():
        return Policy(name=name, path=path)
    return Policy(name=word, path=word)


def _project(database: Database, options: argparse.Namespace) -> tuple[int, bool]:
    """The project, created if the database has none, and whether it collects rankings."""
    with database.transaction() as session:
        if options.slug or projects.list_projects(session):
            project = projects.get_project(session, options.slug)
        else:
            schema = LabelSchema(kind=options.kind)
            project = projects.create_project(session, SLUG, SLUG.capitalize(), schema)
        return project.id, project.kind == "ranking"
