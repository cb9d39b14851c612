"""What a run did, read from the engine's events: counts, changes, outputs, and what went wrong with which resource.

Nothing is displayed here (infra/engine/progress.py), and no secret is kept: the engine masks them in its events.
"""

import dataclasses as dc
import re
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pulumi.automation import EngineEvent, OpType
from pulumi.automation.events import DiagnosticEvent, StepEventMetadata

_STACK = "pulumi:pulumi:Stack"
_SECRET = "4dabf18193072939515e22adb298388d"  # noqa: S105  the key that marks a special value in Pulumi's wire format
_COLOR = re.compile(r"<\{%.*?%\}>")
# pkg/resource/deploy/deployment_executor.go, printPendingOperationsWarning (Pulumi 3.259)
_PENDING = re.compile(r"Attempting to deploy or update resources\s+with \d+ pending operations")
_CONFLICT = re.compile(r'Apply failed .*conflicts? with "(?P<manager>[^"]+)"[^:]*:(?P<fields>.*)', re.DOTALL)
# pkg/resource/deploy/step_generator.go and plan.go (Pulumi 3.259); each value that differs follows its property's name
_PLANNED = re.compile(r"violates plan: (?P<what>[^:]+)(?::(?P<differs>.*))?", re.DOTALL)
# says no more than the exit status, or than the error that ended the run while others were waiting
_EMPTY = re.compile(
    r"(update|preview|destroy|refresh) (failed|canceled)|.*grpc: the client connection is closing", re.DOTALL
)
# What users call it. Steps that are halves of another one (the deletion in a replacement) are not counted.
WORDS: Mapping[OpType, str] = {
    OpType.SAME: "unchanged",
    OpType.CREATE: "created",
    OpType.UPDATE: "updated",
    OpType.REPLACE: "replaced",
    OpType.CREATE_REPLACEMENT: "replaced",
    OpType.DELETE: "deleted",
    OpType.READ: "read",
    OpType.REFRESH: "refreshed",
    OpType.IMPORT: "imported",
}


@dc.dataclass(frozen=True, kw_only=True)
class Change:
    """One resource that was, or would be, changed. `keys`: the properties that differ."""

    done: str
    urn: str
    keys: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the resource is, shortly: `ConfigMap gpu-device-plugin`."""
        return short_name(self.urn)

    def as_item(self) -> dict[str, Any]:
        """The change in a verb's document."""
        return {"change": self.done, "resource": self.name, "properties": self.keys}


@dc.dataclass(frozen=True, kw_only=True)
class Problem:
    """An error or a warning of the engine or the program.

    urn: empty where it concerns no resource.
    conflict: whether it is about fields that another field manager has set.
    """

    severity: str
    urn: str
    message: str
    conflict: bool = False

    def __str__(self) -> str:
        return f"{short_name(self.urn)}: {self.message}" if self.urn else self.message

    def as_item(self) -> dict[str, Any]:
        """The problem in a verb's document."""
        return {"problem": self.message, "resource": short_name(self.urn) if self.urn else ""}


def short_name(urn: str) -> str:
    """Kind and name out of a URN: `urn:pulumi:local::kiban::a$kubernetes:core/v1:Namespace::x` is `Namespace x`."""
    *_, types, name = urn.split("::")
    return f"{types.rpartition(':')[2]} {name}"


class Run:
    """Collects one run's events, which arrive in a thread of the Automation API's own.

    That API turns what a listener raises into a warning, so it is kept in `broken` for the caller to raise.
    """

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.done: dict[str, Change] = {}  # by URN: of a resource that is refreshed, then updated, the last counts
        self.failed: set[str] = set()
        self.problems: list[Problem] = []
        self.running: dict[str, float] = {}
        self.outputs: dict[str, Any] = {}
        self.broken: Exception | None = None
        self.pending = False  # whether the state tells of operations that were begun and not ended
        self._diffs: dict[str, tuple[str, ...]] = {}

    def __call__(self, event: EngineEvent) -> None:
        """Take one event."""
        try:
            self._take(event)
        except Exception as error:  # noqa: BLE001  raised by the caller
            self.broken = self.broken or error

    def _take(self, event: EngineEvent) -> None:
        if event.resource_pre_event:
            self._begin(event.resource_pre_event.metadata)
        elif event.res_outputs_event:
            self._end(event.res_outputs_event.metadata)
        elif event.res_op_failed_event:
            urn = event.res_op_failed_event.metadata.urn
            self.running.pop(urn, None)
            self.failed.add(urn)
        elif event.diagnostic_event:
            self._diagnose(event.diagnostic_event)

    def _begin(self, step: StepEventMetadata) -> None:
        self._diffs[step.urn] = tuple(step.detailed_diff or step.diffs or ())
        state = step.new or step.old
        if step.op != OpType.SAME and state is not None and state.custom:
            self.running[step.urn] = time.monotonic()

    def _end(self, step: StepEventMetadata) -> None:
        self.running.pop(step.urn, None)
        if step.type == _STACK:
            self.outputs = {key: masked(value) for key, value in ((step.new and step.new.outputs) or {}).items()}
            return
        done = WORDS.get(step.op)
        # A replacement is told in three steps; "replace" itself is the logical one.
        if done is None or step.op == OpType.REPLACE:
            return
        self.done[step.urn] = Change(done=done, urn=step.urn, keys=self._diffs.get(step.urn, ()))

    def _diagnose(self, event: DiagnosticEvent) -> None:
        if event.severity not in ("error", "warning"):
            return
        message = _COLOR.sub("", event.message or "").strip()
        if _PENDING.match(message):
            self.pending = True
        elif not _EMPTY.fullmatch(message):
            conflict = bool(_CONFLICT.search(message))
            problem = Problem(severity=event.severity, urn=event.urn or "", message=plain(message), conflict=conflict)
            self.problems.append(problem)

    @property
    def counts(self) -> Counter[str]:
        """How many resources were created, updated and so on."""
        counts = Counter(change.done for change in self.done.copy().values())
        if self.failed:
            counts["failed"] = len(self.failed)
        return counts

    @property
    def changes(self) -> list[Change]:
        """What is, or would be, different after the run."""
        return [change for change in self.done.values() if change.done not in ("unchanged", "read")]

    @property
    def errors(self) -> list[Problem]:
        """What went wrong, in the order in which it did."""
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def conflicts(self) -> bool:
        """Whether somebody else has set what Kiban sets too."""
        return any(error.conflict for error in self.errors)

    @property
    def seconds(self) -> float:
        """How long the run has taken so far."""
        return time.monotonic() - self.started


def plain(message: str) -> str:
    """An error without the shape that Go gives to lists of errors, and without the URN that stands before it anyway.

    Where another field manager has set what Kiban sets too, only that is said; where a plan was given that says
    otherwise, which properties differ.
    """
    conflict = _CONFLICT.search(message)
    if conflict:
        fields = ", ".join(re.findall(r"\.\S+", conflict["fields"]))
        return f"{conflict['manager']!r} has set {fields or 'fields of it'} since"
    planned = _PLANNED.search(message)
    if planned:
        fields = ", ".join(re.findall(r"[-+=]~?(\w+)\[", planned["differs"] or ""))
        return f"is not as planned: {planned['what']}{fields and f': {fields}'}"
    without = re.sub(r"\d+ errors? occurred:\s*(\* )?", "", message)
    return re.sub(r'^resource "?urn:\S+?"? (was|:)', r"\1", without)


def masked(value: Any) -> Any:  # noqa: ANN401  JSON
    """An output as it may be shown: secrets, also those inside of lists and maps, become `[secret]`."""
    if isinstance(value, dict):
        if _SECRET in value:
            return "[secret]"
        return {key: masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return value
