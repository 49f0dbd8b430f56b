"""Refusals of the store as errors for users; the web application maps each to a status."""

from typing import Literal

from alignloop.errors import UserError


class NotFound(UserError):
    """It does not exist, or not for this user: 404."""


class Conflict(UserError):
    """The current state does not allow it, or the name is taken: 409."""


class Invalid(UserError):
    """The request is invalid in any state: 422."""


class Forbidden(UserError):
    """Signed in, but not allowed: 403."""


class SignInRefused(UserError):
    """Wrong name or password, or no session: 401, with the same words for every cause."""


class TooManyAttempts(UserError):
    """Too many login attempts from this address or for this account: 429."""


class Contradiction(Conflict):
    """Ratings or scores contradict the choice: `better` is rated higher than `chosen`.

    Both are public ids; `over` is "ratings" or "criteria". Sent again with `confirmed`, the
    judgement is accepted unchanged.
    """

    def __init__(
        self,
        problem: str,
        *,
        chosen: str,
        better: str,
        over: Literal["ratings", "criteria"] = "ratings",
    ) -> None:
        super().__init__(problem, fix="correct the ratings or the choice, or confirm it")
        self.chosen, self.better = chosen, better
        self.over: Literal["ratings", "criteria"] = over
