"""The commands about people: `alignloop label user`, `member` and `assign`."""

import argparse
from contextlib import closing
from pathlib import Path

from alignloop.errors import UserError, harmless
from alignloop.label.commands import database_for, make_change
from alignloop.label.server_settings import checked_url
from alignloop.label.store import accounts, assigning, members, projects, settings
from alignloop.label.store.database import Session

Options = argparse.Namespace
USUAL_ADDRESS = "http://127.0.0.1:8000"  # if no server has run here yet


def add_users(options: Options) -> None:
    """Print a one-time link for each new account, or for a new password of an existing one."""
    names = [*options.names, *(_lines(options.file) if options.file else [])]
    if not names:
        raise UserError("no name is given", fix="name people, or a file with --file")
    given = checked_url(options.url) if options.url else ""
    links: list[str] = []

    def make(session: Session) -> str:
        joined = _projects_to_join(session, options.slug)
        address = given or settings.kept(session, settings.ADDRESS, USUAL_ADDRESS)
        for name in dict.fromkeys(names):
            token = accounts.invite(session, options.role, name, projects=joined)
            who = f"{name}\t" if len(names) > 1 else ""
            links.append(f"{who}{address}/invite/{token}")
        return ", ".join(names)

    make_change(options, "invited", make)
    print(*map(harmless, links), sep="\n")
    print(f"(works once, for {accounts.INVITATION_LASTS.days} days)")


def _projects_to_join(session: Session, slugs: list[str]) -> list[int]:
    """The named projects, or the only one there is."""
    if slugs:
        return [projects.get_project(session, slug).id for slug in slugs]
    found = projects.list_projects(session)
    return [found[0].id] if len(found) == 1 else []


def list_users(options: Options) -> None:
    """Print the accounts with their projects."""
    with closing(database_for(options)) as database, database.reading() as session:
        mine = members.slugs_by_user(session)
        for user in accounts.list_users(session):
            state = "active" if user.active else "disabled"
            where = "all" if user.role == "admin" else ",".join(mine.get(user.id, []))
            print(harmless(f"{user.name}\t{user.role}\t{state}\t{where}"))


def change_user(options: Options) -> None:
    """Disable an account, or enable it again."""
    active = options.action == "enable"

    def change(session: Session) -> str:
        return accounts.set_active(session, options.name, active=active).name

    print(make_change(options, "enabled" if active else "disabled", change))


def change_role(options: Options) -> None:
    """Change what an account may do."""

    def change(session: Session) -> str:
        return accounts.set_role(session, options.name, options.role).name

    print(make_change(options, "role changed", change))


def list_links(options: Options) -> None:
    """Print the links that still work, without their secrets."""
    with closing(database_for(options)) as database, database.reading() as session:
        for link in accounts.open_links(session):
            until = f"until {link.expires_at:%Y-%m-%d %H:%M} UTC"
            row = f"{link.id[:12]}\t{link.name or '-'}\t{link.role}\t{until}"
            print(harmless(row))


def revoke_link(options: Options) -> None:
    """End a link before it is used."""

    def change(session: Session) -> str:
        ended = accounts.revoke_invitation(session, options.id)
        return ended.name or options.id

    print(make_change(options, "link ended", change))


def list_members(options: Options) -> None:
    """Print who works in a project."""
    with closing(database_for(options)) as database, database.reading() as session:
        project = projects.get_project(session, options.slug)
        for user in members.members_of(session, project.id):
            print(harmless(f"{user.name}\t{user.role}"))


def change_members(options: Options) -> None:
    """Let people work in a project, or take them out of it."""
    adds = options.action == "add"

    def change(session: Session) -> str:
        project = projects.get_project(session, options.slug)
        for name in options.names:
            user = accounts.get_user(session, name)
            if adds:
                members.add_members(session, [project.id], user.id)
            else:
                members.remove_member(session, project.id, user.id)
        return f"{project.slug}/{', '.join(options.names)}"

    print(make_change(options, "member added" if adds else "member removed", change))


def assign(options: Options) -> None:
    """Assign items to people, take them back, or print what is assigned."""
    if not options.to:
        return _list_assigned(options)
    if not options.batch:
        raise UserError("no batch is given", fix="name it with --batch")
    told: list[str] = []

    def change(session: Session) -> str:
        project = projects.get_project(session, options.slug)
        batch = projects.get_batch(session, project.id, options.batch)
        people = [one.id for one in members.named(session, project.id, options.to)]
        if options.take_back:
            told.append(f"taken back: {assigning.unassign(session, batch, people)}")
        else:
            keys = _lines(options.items) if options.items else None
            only, count = not options.first, options.count
            done = assigning.assign(session, batch, people, keys=keys, count=count, only=only)
            told.append(f"assigned: {done}")
        return f"{project.slug}/{batch.name}"

    make_change(options, "items taken back" if options.take_back else "items assigned", change)
    print(told[0])


def _list_assigned(options: Options) -> None:
    with closing(database_for(options)) as database, database.reading() as session:
        project = projects.get_project(session, options.slug)
        for one in assigning.count_assigned(session, project.id):
            print(harmless(f"{one.batch}\t{one.user}\t{one.done} of {one.assigned}"))


def _lines(path: str) -> list[str]:
    """The lines of a file that are not empty."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problem = f"this cannot be read: {getattr(error, 'strerror', error)}"
        raise UserError(problem, where=path, fix="name a text file in UTF-8") from error
    return [line.strip() for line in lines if line.strip()]
