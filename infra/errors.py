"""What a verb can end with besides success. The exit statuses are part of the command contract."""


class KibanError(Exception):
    """A one-line message for the user: what was given, what is accepted, what to do."""

    exit_status = 1


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
