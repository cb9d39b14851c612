"""A version's own verbs on the rehearsal's cluster, each a process of that version with its own locked dependencies."""

import dataclasses as dc
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra import versions
from infra.errors import CouldNotRun
from infra.rehearsal.places import CLUSTER
from infra.versions import Say, Version

_FIRST, _PATIENCE = "300", "120"
"""Seconds for a resource to become ready: an embedded cluster has its images, and nobody waits for ten minutes."""


@dc.dataclass(frozen=True, kw_only=True)
class Change:
    """A resource that a step changed. done: created, updated, replaced or deleted. properties: that differ."""

    done: str
    resource: str
    properties: tuple[str, ...] = ()


@dc.dataclass(frozen=True, kw_only=True)
class Problem:
    """What the engine says went wrong. resource: `Deployment argo:mlflow`, as Pulumi names it; empty: none."""

    resource: str
    message: str


@dc.dataclass(frozen=True, kw_only=True)
class Ran:
    """A verb that has ended. step: in which it ran. status: its exit status. error: its last word, in one line."""

    step: str
    status: int
    error: str
    seconds: float
    counts: Mapping[str, int]
    changes: tuple[Change, ...]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether it did what it was asked for."""
        return self.status == 0


class Verbs:
    """Runs verbs of versions; home is their KIBAN_HOME."""

    def __init__(self, environment: str, home: Path, say: Say) -> None:
        self.environment, self._say = environment, say
        self._environ = {**versions.environ(), "KIBAN_HOME": str(home)}

    def up(self, version: Version, step: str) -> Ran:
        """`kiban up` of a version. The first one has the most to wait for, and is not expected to wait in vain."""
        patience = _FIRST if step == "install" else os.environ.get("KIBAN_PATIENCE", _PATIENCE)
        self._environ["KIBAN_PATIENCE"] = patience
        return self._ran(version, step, "up", self.environment, "--on", CLUSTER)

    def destroy(self, version: Version, step: str) -> Ran:
        """`kiban destroy` of a version."""
        return self._ran(version, step, "destroy", self.environment, "--on", CLUSTER, "--yes")

    def items(self, version: Version, *words: str) -> list[dict[str, Any]]:
        """The items of a verb that only tells. Raises CouldNotRun where it fails."""
        status, document = self.run(version, *words)
        if status:
            raise CouldNotRun(f"{version.title}: `kiban {' '.join(words)}`: {document.get('error', status)}")
        return list(document["items"])

    def _ran(self, version: Version, step: str, *words: str) -> Ran:
        began = time.monotonic()
        status, document = self.run(version, *words)
        items = document["items"]
        return Ran(
            step=step,
            status=status,
            error=document.get("error", ""),
            seconds=time.monotonic() - began,
            counts=next((item["changes"] for item in items if "done" in item), {}),
            changes=tuple(
                Change(done=item["change"], resource=item["resource"], properties=tuple(item["properties"] or ()))
                for item in items
                if "change" in item
            ),
            problems=tuple(
                Problem(resource=item["resource"], message=item["problem"]) for item in items if "problem" in item
            ),
        )

    def run(self, version: Version, *words: str) -> tuple[int, dict[str, Any]]:
        """Run a verb and return its exit status and document. It ends where this process does."""
        return versions.run(version, *words, environ=self._environ, say=self._say)
