"""The one exception that a command prints as a single line, and what goes into that line."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """Something the user can mend: a missing file, a bad flag, bad data.

    The message is one line that says what was expected, what came and what to do. Commands print it on
    stderr without a traceback and exit with status 2. Any other exception is a defect of this package
    and keeps its traceback.
    """


class UserErrors(UserError):
    """Several things the user can mend, found in one run. Commands print a line each.

    Attributes:
        problems: one line each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        """Joins the problems; of one, the message is that of a plain UserError."""
        self.problems = tuple(problems)
        super().__init__(" | ".join(self.problems))

    def __reduce__(self) -> tuple[type[UserErrors], tuple[tuple[str, ...]]]:
        """Goes to other processes with all its problems."""
        return type(self), (self.problems,)


class ItemError(UserError):
    """What is wrong with one of many items, such as a name too long to write; the others can go on."""


# A library may quote the bytes it stumbled over, all of them.
_MOST_CHARACTERS = 300


def in_short(error: Exception) -> str:
    """Returns what a library says of a file, as a part of one line; what kind of error it is, if it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."
