"""What the server leaves in the database for the command line."""

from sqlalchemy.orm import Session

from alignloop.label.store.people_tables import Setting

ADDRESS = "address"  # the address of the page, with which links begin


def keep(session: Session, name: str, value: str) -> None:
    """Set a value."""
    session.merge(Setting(name=name, value=value))


def kept(session: Session, name: str, default: str) -> str:
    """A value, or `default` if there is none."""
    found = session.get(Setting, name)
    return default if found is None else found.value
