"""The one exception that a user is meant to read."""

from __future__ import annotations


class InputError(Exception):
    """What was given can't be used.

    The message names the file, the row or field, and the remedy. Command lines print it as it is and
    exit with status 2.
    """

    def __init__(self, where: object, problem: str, remedy: str = "") -> None:
        self.where, self.problem, self.remedy = str(where), problem, remedy
        super().__init__(f"{where}: {problem}" + (f" {remedy}" if remedy else ""))

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        """To be raised in one process and read in another."""
        return type(self), (self.where, self.problem, self.remedy)
