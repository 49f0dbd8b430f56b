"""The events of the annotation application, for webhooks: `events_after(session, last_id)`.

`record` writes one in the transaction of its cause, so an event is there if and only if what it
tells of is.
"""

from alignloop.label.store.events import events_after, record

__all__ = ["events_after", "record"]
