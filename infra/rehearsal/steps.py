"""A version's own verbs on the rehearsal's cluster, each a process of that version with its own locked dependencies."""

import dataclasses as dc
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from infra import tied
from infra.errors import CouldNotRun, Interrupted
from infra.rehearsal.places import CLUSTER, Version

Say = Callable[[str], None]
_FOREIGN = ("KIBAN_CLUSTER", "KIBAN_SHELL", "PULUMI_", "KUBECONFIG", "KUBECACHEDIR", "VIRTUAL_ENV")
"""What leads a verb to another cluster or backend than the rehearsal's."""
_TAIL = 5
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
        own = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        self._environ = {**own, "KIBAN_HOME": str(home)}

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
        command = tied.command([str(version.root / "kiban"), *words, "--json"], dies_by=signal.SIGTERM)
        with subprocess.Popen(
            command,
            cwd=version.root,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C in the terminal is for this process, which ends that one
        ) as process:
            last: list[str] = []
            reader = threading.Thread(target=self._pass_on, args=(process, last), daemon=True)
            reader.start()
            try:
                printed = process.stdout.read() if process.stdout else ""
                process.wait()
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
                process.wait()
                raise
            reader.join()
        if process.returncode == Interrupted.exit_status:
            raise Interrupted(f"`kiban {' '.join(words)}` was interrupted")
        try:
            return process.returncode, json.loads(printed)
        except ValueError:
            said = " | ".join(last) or "nothing"
            status = process.returncode or CouldNotRun.exit_status
            return status, {"items": [], "error": f"`kiban {words[0]}` of {version.title}: {said}"}

    def _pass_on(self, process: subprocess.Popen[str], last: list[str]) -> None:
        for line in process.stderr or ():
            last[:] = [*last, line.rstrip()][-_TAIL:]
            self._say(f"  {line.rstrip()}")
