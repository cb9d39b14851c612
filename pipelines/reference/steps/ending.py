"""How a step ends: its exit status, and one line that says why.

The line goes to standard error and to the container's termination log, where Argo and the record find it.
"""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec

P = ParamSpec("P")

REFUSED = 1
"""What the step was given is not accepted: the same again ends the same."""
UNAVAILABLE = 75
"""A service did not answer for minutes: worth another try (EX_TEMPFAIL of sysexits.h; workflow.yaml retries on it)."""
TERMINATION_LOG = Path("/dev/termination-log")
"""Kubernetes' default terminationMessagePath."""

_LENGTH = 1024
_NETWORK = {
    "ConnectionError": "requests",
    "EndpointConnectionError": "botocore",
    "ConnectionClosedError": "botocore",
    "HTTPClientError": "botocore",
}
"""Exceptions of packages that a step may not have imported: class name to package."""


class Refused(Exception):
    """What the step was given is not accepted; the message is one line: what was given, and what is accepted."""


class Unavailable(Exception):
    """A service did not answer, or not in time."""


def step(command: Callable[P, None]) -> Callable[P, None]:
    """End the process by what the command raises: 1 with the reason for a refusal, 75 for a service that is away.

    Anything else is a fault of the step: its traceback is shown, the exit status is 1.
    """

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except Refused as refusal:
            _say(str(refusal))
            sys.exit(REFUSED)
        except Exception as error:
            _say(f"{type(error).__name__}: {error}")
            if unavailable(error):
                sys.exit(UNAVAILABLE)
            raise

    return run


def unavailable(error: BaseException) -> bool:
    """Whether an exception says that a service is away rather than refuses: by what it was first raised from."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    verdicts = (verdict for each in reversed(chain) if (verdict := _away(each)) is not None)
    return next(verdicts, False)


def _away(error: BaseException) -> bool | None:
    """Whether this exception alone says so; None where it says nothing of a service."""
    answer = getattr(error, "response", None)
    if isinstance(answer, dict) and "ResponseMetadata" in answer:  # botocore.exceptions.ClientError
        return bool(answer["ResponseMetadata"]["HTTPStatusCode"] >= 500)
    status = getattr(error, "get_http_status_code", None)  # mlflow.exceptions.MlflowException
    if status is not None:
        return bool(status() >= 500)
    if isinstance(error, Unavailable | ConnectionError | TimeoutError):
        return True
    kinds = ((kind.__name__, kind.__module__.partition(".")[0]) for kind in type(error).__mro__)
    return True if any(_NETWORK.get(name) == package for name, package in kinds) else None


def _say(reason: str) -> None:
    line = " ".join(reason.split())[:_LENGTH]
    print(line, file=sys.stderr)  # noqa: T201 - a program's word to who runs it
    try:
        with TERMINATION_LOG.open("w") as log:
            log.write(line)
    except OSError:  # not in a container
        return
