"""`alignloop label sample`: from the command line to the functions of this room."""

import argparse
import sys
from contextlib import closing
from pathlib import Path

from sqlalchemy import select

from alignloop.asking.answers import Policy, Sampling, sample_answers
from alignloop.asking.candidates import candidates
from alignloop.asking.choose import choose
from alignloop.asking.filing import file_chosen, held_slices
from alignloop.asking.scores import with_scores
from alignloop.config import ModelConfig
from alignloop.data.formats import read_prompts
from alignloop.errors import UserError
from alignloop.label.store import projects
from alignloop.label.store.database import Database, open_database
from alignloop.label.store.refusals import NotFound
from alignloop.label.store.tables import Project
from alignloop.label.store.tasks import LabelSchema

SLUG = "comparisons"  # of the project that is made where there is none yet
KEPT = "sampled"  # below the project's folder


def run_sample(options: argparse.Namespace) -> None:
    """Let models answer, choose what is worth asking, and file it; prints what became of it."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    sampling = _sampling(options)
    prompts = read_prompts(options.prompts)
    with closing(open_database(options.database or options.project)) as database:
        project_id, ranking = _project(database, options)
        answers = sample_answers(sampling, prompts, Path(options.project) / KEPT)
        possible = candidates(answers, ranking=ranking)
        if not possible:
            problem = "no prompt got two different answers"
            raise UserError(problem, where="--policy", fix="raise --temperature or --answers")
        if options.reward_model:
            config = ModelConfig(device=options.device, chat_template=options.chat_template)
            possible = with_scores(possible, options.reward_model, config)
        chosen = choose(
            possible,
            options.choose,
            count=options.count,
            per_prompt=options.per_prompt,
            seed=options.seed,
            held=held_slices(database, project_id, beside=options.batch),
        )
        batch_id = _batch(database, project_id, options)
        done = file_chosen(database, project_id, batch_id, chosen)
    print(
        f"{len(answers)} answers to {len(prompts)} prompts, {len(possible)} comparisons possible,"
        f" {len(chosen)} chosen ({options.choose})"
    )
    print(f"filed in batch {options.batch!r}: {done.added}, there already: {done.duplicates}")
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
    """ "DIR", or "NAME=DIR" where the folder's name says little."""
    name, _, path = word.partition("=")
    if path and not Path(word).exists():
        return Policy(name=name, path=path)
    return Policy(name=word, path=word)


def _project(database: Database, options: argparse.Namespace) -> tuple[int, bool]:
    """The project, made where the database has none, and whether it asks for rankings."""
    with database.transaction() as session:
        if options.slug:
            project = projects.get_project(session, options.slug)
        else:
            found = list(session.scalars(select(Project).limit(2)))
            if len(found) > 1:
                fix = "name one with --slug"
                raise UserError("there are several projects", where=options.project, fix=fix)
            schema = LabelSchema(kind=options.kind)
            project = (
                found[0]
                if found
                else projects.create_project(session, SLUG, SLUG.capitalize(), schema)
            )
        return project.id, project.schema["kind"] == "ranking"


def _batch(database: Database, project_id: int, options: argparse.Namespace) -> int:
    with database.transaction() as session:
        try:
            return projects.get_batch(session, project_id, options.batch).id
        except NotFound:
            return projects.create_batch(
                session, project_id, options.batch, overlap=options.overlap
            ).id
