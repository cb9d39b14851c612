"""Runs the verbs of a release's own version on an environment, with the state and the clusters of this checkout."""

from collections.abc import Callable
from typing import Any

from infra import paths, target, versions
from infra.versions import Version

Say = Callable[[str], None]


def run(version: Version, verb: str, environment: str, *options: str, on: str | None, say: Say) -> tuple[int, Any]:
    """Run `kiban VERB ENV OPTIONS` of a version; return its exit status and document."""
    environ = {**target.user_environ(environment, on), "KIBAN_HOME": str(paths.home())}
    there = ("--on", on) if on else ()
    return versions.run(version, verb, environment, *there, *options, environ=environ, say=say)
