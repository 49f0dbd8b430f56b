"""A project's rules: how annotators are checked, how much they get, and what it is tested by."""

from typing import Literal, get_args

from pydantic import Field

from alignloop.label.store.tables import Project
from alignloop.label.store.tasks import Received

Check = Literal["gold", "accuracy", "side", "all", "speed"]
CHECKS: tuple[Check, ...] = get_args(Check)


class QueueRules(Received):
    """The rules of a project; the defaults are those of a new one.

    `gold_rate` is the share of gold questions, `gold_early` how many at least are among the first
    twenty, `gold_rate_in_doubt` the share until somebody's answers speak for them. Alarms:
    a share of gold questions below `gold_bar`, or of agreement with two others who agree below
    `peer_bar` (both are lowered to `margin` below the middle annotator), a share of choices of one
    side further from a half than `side_tolerance`, and more than `fast_tolerance` answers within
    `min_seconds`. `alarm` is the chance that one check ever raises a false alarm about somebody
    at the bar. `pause_on` names the alarms that also pause. `entry_items` questions of the entry
    test need a share of `entry_bar` right, in at most `entry_tries` tries; 0 is no test. `quota`
    is the most items per annotator, and `control_share` of ranked items are chosen at random.
    """

    gold_rate: float = Field(default=0.1, ge=0.0, le=0.5)
    gold_early: int = Field(default=6, ge=0, le=20)
    gold_rate_in_doubt: float = Field(default=0.6, ge=0.0, le=0.9)
    gold_bar: float = Field(default=0.85, gt=0.0, lt=1.0)
    peer_bar: float = Field(default=0.8, gt=0.0, lt=1.0)
    margin: float = Field(default=0.1, ge=0.0, lt=0.5)
    side_tolerance: float = Field(default=0.08, ge=0.0, lt=0.5)
    min_seconds: float = Field(default=1.5, ge=0.0, le=3600.0)
    fast_tolerance: float = Field(default=0.1, gt=0.0, lt=1.0)
    alarm: float = Field(default=0.03, gt=0.0, le=0.2)
    pause_on: tuple[Check, ...] = Field(default=("gold",), max_length=5)
    entry_items: int = Field(default=0, ge=0, le=200)
    entry_bar: float = Field(default=0.8, gt=0.0, le=1.0)
    entry_tries: int = Field(default=3, ge=1, le=100)
    quota: int | None = Field(default=None, ge=1, le=10**9)
    control_share: float = Field(default=0.1, ge=0.0, le=1.0)


def rules_of(project: Project) -> QueueRules:
    """The rules of a project; what was never set has its default."""
    return QueueRules.model_validate(project.rules or {})
