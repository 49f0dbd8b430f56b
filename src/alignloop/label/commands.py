"""The commands `alignloop label ...`; the parser is in `alignloop.cli_label`."""

import argparse
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from alignloop.data.commands import shares_of
from alignloop.errors import UserError, harmless
from alignloop.label.exports import Query, export_project
from alignloop.label.new_items import items_of_file
from alignloop.label.store import accounts, audit, members, projects, tokens
from alignloop.label.store.database import Database, Session, open_database, open_labels
from alignloop.label.store.importing import import_items
from alignloop.label.store.tasks import LabelSchema
from alignloop.run import progress_for

Options = argparse.Namespace
COMMAND_LINE = "command line"  # the address of these commands in the audit log


def import_file(options: Options) -> int:
    """Import the items of a file; the exit code is 1 if rows are refused."""
    with closing(database_for(options)) as database:
        project_id, batch_id = _batch_for(database, options)
        total = sum(1 for _ in items_of_file(options.file, gold=options.gold))
        items = items_of_file(options.file, gold=options.gold)
        with progress_for("import", total) as bar:
            done = import_items(database, project_id, batch_id, items, on_progress=bar.update)
        _note(database, "items filed", str(options.file), project=project_id, added=done.added)
    print(f"added: {done.added}, already there: {done.duplicates}, refused: {done.num_refused}")
    for refusal in done.refused:
        print(harmless(str(refusal)), file=sys.stderr)
    return 1 if done.num_refused else 0


def run_export(options: argparse.Namespace) -> None:
    """Write a project's labels to a folder; prints the counts and the hash of the content."""
    query = Query(
        kind=options.kind,
        format=options.format,
        shares=shares_of(options.split),
        batch=options.batch,
    )
    database, slug = open_labels(options.source)
    with closing(database):
        done = export_project(database, slug, Path(options.out), query)
    for name, count in done.counts.items():
        print(f"{name}: {count}")
    print(f"content sha256 {done.hash}")


def add_project(options: Options) -> None:
    """Create a project."""
    schema = LabelSchema(
        kind=options.kind, ratings=options.ratings, strength=not options.no_strength
    )
    texts = {"text_en": options.guideline, "text_zh": options.guideline_zh}
    guidelines = {name: _text_of(path) for name, path in texts.items() if path}

    def make(session: Session) -> str:
        people = [accounts.get_user(session, name).id for name in options.member]
        made = projects.create_project(
            session, options.slug, options.title or options.slug, schema, **guidelines
        )
        for user_id in people:
            members.add_members(session, [made.id], user_id)
        return made.slug

    print(make_change(options, "project made", make))


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = f"the guideline cannot be read: {getattr(error, 'strerror', error)}"
        raise UserError(problem, where=path, fix="name a text file in UTF-8") from error


def list_projects(options: Options) -> None:
    """Print the projects, one per line."""
    with closing(database_for(options)) as database, database.reading() as session:
        for project in projects.list_projects(session):
            print(harmless(f"{project.slug}\t{project.kind}\t{project.title}"))


def add_batch(options: Options) -> None:
    """Create a batch."""

    def make(session: Session) -> str:
        project = projects.get_project(session, options.slug)
        made = projects.create_batch(
            session,
            project.id,
            options.name,
            overlap=options.overlap,
            priority=options.priority,
            repeats=options.repeats,
        )
        return f"{project.slug}/{made.name}"

    print(make_change(options, "batch made", make))


def list_batches(options: Options) -> None:
    """Print the batches in working order."""
    with closing(database_for(options)) as database, database.reading() as session:
        for batch in projects.list_batches(session, projects.get_project(session, options.slug).id):
            state = "closed" if batch.closed else "open"
            row = f"{batch.name}\t{batch.num_items} items\toverlap {batch.overlap}\t{state}"
            print(harmless(row))


def close_batch(options: Options) -> None:
    """Close a batch, or reopen it with --open."""

    def change(session: Session) -> str:
        project = projects.get_project(session, options.slug)
        batch = projects.get_batch(session, project.id, options.name)
        projects.close_batch(session, project.id, batch.id, closed=not options.open)
        return f"{project.slug}/{batch.name}"

    print(make_change(options, "batch opened" if options.open else "batch closed", change))


def add_token(options: Options) -> None:
    """Print a new API token; it is shown only once."""
    made: list[str] = []

    def make(session: Session) -> str:
        user = accounts.get_user(session, options.user)
        lasts = timedelta(days=options.days)
        scopes = options.scope or ["judge"]
        made.append(tokens.create_token(session, user.id, options.name, scopes, lasts=lasts)[1])
        return f"{user.name}/{options.name}"

    make_change(options, "token made", make)
    print(made[0])


def list_tokens(options: Options) -> None:
    """Print the API tokens, without their secrets."""
    with closing(database_for(options)) as database, database.reading() as session:
        names = accounts.user_names(session)
        for token in tokens.list_tokens(session):
            until = f"until {token.expires_at:%Y-%m-%d}"
            scopes = ",".join(token.scopes)
            row = f"{token.id}\t{names[token.user_id]}\t{token.name}\t{scopes}\t{until}"
            print(harmless(row))


def revoke_token(options: Options) -> None:
    """End an API token."""

    def change(session: Session) -> str:
        return tokens.revoke_token(session, options.id).name

    print(make_change(options, "token ended", change))


def database_for(options: Options) -> Database:
    """The database that a command names. Raises UserError for one that is none."""
    if options.database and "://" not in options.database:
        fix = "write postgresql://user@host/name, or name a folder with --project"
        raise UserError("this is not a URL", where=f"--database {options.database}", fix=fix)
    return open_database(options.database or Path(options.project))


def make_change(options: Options, action: str, change: Callable[[Session], str]) -> str:
    """Make one change and its audit log entry; returns its target."""
    with closing(database_for(options)) as database, database.transaction() as session:
        target = change(session)
        audit.record(session, action, user_id=None, target=target, address=COMMAND_LINE)
        return target


def _note(database: Database, action: str, target: str, **detail: object) -> None:
    with database.transaction() as session:
        where = {"target": target, "address": COMMAND_LINE}
        audit.record(session, action, user_id=None, detail=detail, **where)


def _batch_for(database: Database, options: Options) -> tuple[int, int]:
    """The ids of the project and of the batch, which is created if missing."""
    with database.transaction() as session:
        project = projects.get_project(session, options.slug)
        numbers = {name: getattr(options, name) for name in ("overlap", "priority", "repeats")}
        batch = projects.get_or_create_batch(session, project.id, options.batch, **numbers)
        return project.id, batch.id
