"""What a verb can end with besides success. The exit statuses are part of the command contract."""

from collections.abc import Mapping, Sequence
from typing import Any


class KibanError(Exception):
    """A one-line message for the user: what was given, what is accepted, what to do.

    items: of the verb's document, where more is known than the line says.
    """

    exit_status = 1

    def __init__(self, message: str = "", *, items: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.items = items


class RunFailed(KibanError):
    """The run was made and failed, or a check has findings."""

    exit_status = 1


class BadInput(KibanError):
    """What the user gave cannot be used; nothing was changed."""

    exit_status = 2


class CouldNotRun(KibanError):
    """Something that the run needs is not there (a tool, the network, disk space); nothing was changed."""

    exit_status = 3


class Interrupted(KibanError):
    """The user stopped the run; the message says what is done and how to go on."""

    exit_status = 130
