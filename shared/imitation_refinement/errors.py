"""The one exception that a user is meant to read."""

from __future__ import annotations

import re

_CREDENTIALS = re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]*@")  # of an address
MOST_SHOWN = 2000  # characters of each part of a message; what a file holds may be endless


class InputError(Exception):
    """What was given can't be used.

    The message names the file, the row or field, and the remedy. Command lines print it as it is and
    exit with status 2. It is one line of printable characters, whatever stood in the file; see :func:`shown`.
    """

    def __init__(self, where: object, problem: str, remedy: str = "") -> None:
        self.where, self.problem, self.remedy = shown(where), shown(problem), shown(remedy)
        super().__init__(f"{self.where}: {self.problem}" + (f" {self.remedy}" if self.remedy else ""))

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        """To be raised in one process and read in another."""
        return type(self), (self.where, self.problem, self.remedy)


def shown(text: object, most: int = MOST_SHOWN) -> str:
    """Text as one line of printable characters, without passwords in addresses, its middle left out if it is too long.

    >>> shown("a\\nb\\x1b[31mc"), shown("x" * 99, 9)
    ('a b\\\\x1b[31mc', 'xxxx…xxxx')
    """
    line = _CREDENTIALS.sub("…@", str(text))
    if len(line) > most:
        line = f"{line[: most // 2]}…{line[-(most // 2) :]}"
    if line.isprintable():
        return line
    line = " ".join(part.strip(" ") for part in re.split(r"[^\S ]+", line))
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
