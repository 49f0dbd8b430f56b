"""What the store refuses, as errors for people; the web application gives each its status."""

from alignloop.errors import UserError


class NotFound(UserError):
    """There is no such thing, or not for this person: 404."""


class Conflict(UserError):
    """The state of things does not allow it any more, or the name is taken: 409."""


class Invalid(UserError):
    """What was sent cannot be right whatever the state of things is: 422."""


class Forbidden(UserError):
    """Signed in, but not allowed: 403."""


class SignInRefused(UserError):
    """Wrong name or password, or no session: 401; the same words for every cause."""


class TooManyAttempts(UserError):
    """Too many tries to log in from this address or for this account: 429."""


class Contradiction(Conflict):
    """The ratings say otherwise than the choice; `better` is rated higher than `chosen`.

    Both are public ids. Sent again with `confirmed`, the judgement is taken as it is.
    """

    def __init__(self, problem: str, *, chosen: str, better: str) -> None:
        super().__init__(problem, fix="correct the ratings or the choice, or confirm it")
        self.chosen, self.better = chosen, better
