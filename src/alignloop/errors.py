"""The one exception that people see: what is wrong, where, and what to do."""


class UserError(Exception):
    """A problem that the user can mend; the command line prints it and exits with code 2.

    >>> print(UserError("the file is empty", where="pairs.jsonl", fix="give at least one pair"))
    pairs.jsonl: the file is empty. What to do: give at least one pair
    """

    def __init__(self, problem: str, *, where: str = "", fix: str = "") -> None:
        self.problem, self.where, self.fix = problem, where, fix
        message = f"{where}: {problem}" if where else problem
        super().__init__(f"{message}. What to do: {fix}" if fix else message)
