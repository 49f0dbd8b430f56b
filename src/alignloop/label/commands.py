"""The commands `alignloop label ...`; the parser is in `alignloop.cli_label`."""

import argparse
import ipaddress
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import uvicorn

from alignloop.data.commands import shares_of
from alignloop.errors import UserError, harmless
from alignloop.label.exports import Query, export_project
from alignloop.label.new_items import items_of_file
from alignloop.label.server_settings import LOOPBACK, ServerSettings
from alignloop.label.store import accounts, audit, projects, tokens
from alignloop.label.store.database import Database, Session, open_database, open_labels
from alignloop.label.store.importing import import_items
from alignloop.label.store.tasks import LabelSchema
from alignloop.label.web.app import create_app
from alignloop.run import progress_for

Options = argparse.Namespace
COMMAND_LINE = "command line"  # the address of these commands in the audit log


def serve(options: Options) -> None:
    """Run the server until it is stopped. Raises UserError for an unsafe address."""
    check_binding(options.host, behind_tls=options.behind_tls)
    folder = Path(options.project)
    hosts = tuple(map(str.lower, options.public_host)) if options.behind_tls else LOOPBACK
    settings = ServerSettings(folder=folder, behind_tls=options.behind_tls, hosts=hosts)
    with closing(_database(options)) as database, _listen(options.host, options.port) as listening:
        here = f"http://{_in_url(options.host)}:{listening.getsockname()[1]}"
        _greet(database, here, options)
        config = uvicorn.Config(
            create_app(database, settings),
            log_level="warning",
            server_header=False,
            # Trust X-Forwarded-* only from a proxy on this machine: anyone else could forge it.
            proxy_headers=options.behind_tls,
            forwarded_allow_ips="127.0.0.1",
        )
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)


def check_binding(host: str, *, behind_tls: bool) -> None:
    """Raise UserError if passwords would cross a network unencrypted."""
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise UserError("this is not an IP address", where=f"--host {host}") from None
    if not is_loopback and not behind_tls:
        raise UserError(
            "serving other machines without TLS would expose passwords and cookies",
            where=f"--host {host}",
            fix="put a TLS proxy in front and pass --behind-tls, or omit --host",
        )


def import_file(options: Options) -> int:
    """Import the items of a file; the exit code is 1 if rows are refused."""
    with closing(_database(options)) as database:
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

    def make(session: Session) -> str:
        return projects.create_project(
            session, options.slug, options.title or options.slug, schema
        ).slug

    print(_done(options, "project made", make))


def list_projects(options: Options) -> None:
    """Print the projects, one per line."""
    with closing(_database(options)) as database, database.reading() as session:
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

    print(_done(options, "batch made", make))


def list_batches(options: Options) -> None:
    """Print the batches in working order."""
    with closing(_database(options)) as database, database.reading() as session:
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

    print(_done(options, "batch opened" if options.open else "batch closed", change))


def add_user(options: Options) -> None:
    """Print a one-time link for a new account, or for a new password."""
    made: list[str] = []

    def make(session: Session) -> str:
        made.append(accounts.invite(session, options.role, options.name))
        return str(options.name)

    _done(options, "invited", make)
    days = accounts.INVITATION_LASTS.days
    print(f"{options.url}/invite/{made[0]}\n(works once, for {days} days)")


def list_users(options: Options) -> None:
    """Print the accounts."""
    with closing(_database(options)) as database, database.reading() as session:
        for user in accounts.list_users(session):
            state = "active" if user.active else "disabled"
            print(harmless(f"{user.name}\t{user.role}\t{state}"))


def change_user(options: Options) -> None:
    """Disable an account, or enable it again."""
    active = options.action == "enable"

    def change(session: Session) -> str:
        return accounts.set_active(session, options.name, active=active).name

    print(_done(options, "enabled" if active else "disabled", change))


def add_token(options: Options) -> None:
    """Print a new API token; it is shown only once."""
    made: list[str] = []

    def make(session: Session) -> str:
        user = accounts.get_user(session, options.user)
        lasts = timedelta(days=options.days)
        scopes = options.scope or ["judge"]
        made.append(tokens.create_token(session, user.id, options.name, scopes, lasts=lasts)[1])
        return f"{user.name}/{options.name}"

    _done(options, "token made", make)
    print(made[0])


def list_tokens(options: Options) -> None:
    """Print the API tokens, without their secrets."""
    with closing(_database(options)) as database, database.reading() as session:
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

    print(_done(options, "token ended", change))


def _database(options: Options) -> Database:
    if options.database and "://" not in options.database:
        fix = "write postgresql://user@host/name, or name a folder with --project"
        raise UserError("this is not a URL", where=f"--database {options.database}", fix=fix)
    return open_database(options.database or Path(options.project))


def _done(options: Options, action: str, change: Callable[[Session], str]) -> str:
    """Make one change and its audit log entry; returns its target."""
    with closing(_database(options)) as database, database.transaction() as session:
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


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Name the protocol: asyncio disables Nagle's algorithm only then. Otherwise a request right
    # after another waits 40 ms for a delayed acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(256)
        return listening
    except (OSError, OverflowError) as error:  # no port is that large
        listening.close()
        problem = f"the port cannot be opened: {getattr(error, 'strerror', error)}"
        fix = "choose another one with --port"
        raise UserError(problem, where=f"{host}:{port}", fix=fix) from error


def _greet(database: Database, here: str, options: Options) -> None:
    """Print the server's address, and the first lead's link."""
    with database.transaction() as session:
        token = accounts.invite_first_lead(session)
    if token is not None:
        print(f"Create the lead's account (this link works once):\n{here}/invite/{token}")
    url = database.engine.url.render_as_string()  # without the password
    print(f"Annotation page: {here}   ({url})\nCtrl+C stops it.", flush=True)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
