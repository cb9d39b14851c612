"""The sequence of a rehearsal, and what is looked at after each of its steps."""

import contextlib
import dataclasses as dc
import datetime as dt
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from infra import target
from infra.clusters import embedded
from infra.clusters.embedded.api import Api
from infra.errors import BadInput, KibanError
from infra.metadata import Metadata
from infra.rehearsal import checks, flight, places, snapshot
from infra.rehearsal.faults import FAULTS
from infra.rehearsal.flight import Flight
from infra.rehearsal.look import Check, Finding, Look, Outcome
from infra.rehearsal.places import CLUSTER
from infra.rehearsal.result import Rehearsal, StepResult, mended, summarise
from infra.rehearsal.snapshot import Snapshot
from infra.rehearsal.steps import Ran, Verbs
from infra.versions import Version

Say = Callable[[str], None]
_SETTLED_WITHIN = 60.0
"""Seconds for what `up` does not wait for to become ready."""


@dc.dataclass(frozen=True, kw_only=True)
class Request:
    """What to rehearse. base: None for an environment that runs nothing yet. faults: names in FAULTS."""

    environment: str
    base: str | None
    candidate: str
    faults: Sequence[str] = ()


def rehearse(request: Request, say: Say) -> Rehearsal:
    """Rehearse. Raises BadInput for a ref or a base that cannot be used; a candidate that cannot is a finding."""
    for fault in request.faults:
        if fault not in FAULTS:
            raise BadInput(f"--fault {fault}; accepted: {', '.join(FAULTS)}")
    if request.candidate == places.WORKTREE:
        candidate = places.working_tree()
    else:
        places.refuse_changes(request.candidate)
        candidate = places.version(request.candidate, request.environment, say)
    base = places.version(request.base, request.environment, say) if request.base else None
    with places.home(request.environment, say) as home, places.within(home):
        return Play(request, base, candidate, home, say).run()


class Play:
    """One rehearsal, in a home. outcomes: by step, what each check says; of a step that is taken again, the last."""

    def __init__(self, request: Request, base: Version | None, candidate: Version, home: Path, say: Say) -> None:
        self._request, self._base, self._candidate = request, base, candidate
        self._say: Say = lambda line: say(f"rehearse {request.environment}: {line}")
        self._verbs = Verbs(request.environment, home, say)
        self._checks: tuple[Check, ...] = (*checks.ALL, flight.check(None))
        self.outcomes: dict[str, dict[str, Outcome]] = {}
        self._steps: list[StepResult] = []
        self._flight: Flight | None = None
        self._last = base or candidate
        self._before: Snapshot | None = None
        self._installed: Snapshot | None = None
        self._images: dict[Version, frozenset[str]] = {}
        self._faults: tuple[str, ...] = ()
        self._objects = 0
        self._memory = 0

    def run(self) -> Rehearsal:
        """Take all steps."""
        started, began = dt.datetime.now(dt.UTC), time.monotonic()
        first = self._base or self._candidate
        self.begin(first)
        self.install(first)
        if self._base:
            self._upgrade(self._base)
        else:
            self.step("second up", self._candidate, judged=False)
        if self._flight:
            self._flight.end()
        self.destroy()
        return Rehearsal(
            environment=self._request.environment,
            base=self._base.title if self._base else None,
            candidate=self._candidate.title,
            evidence="executed" if embedded.runs_pods(CLUSTER) else "simulated",
            started=started.isoformat(timespec="seconds"),
            seconds=time.monotonic() - began,
            steps=tuple(self._steps),
            checks=summarise(self._checks, self.outcomes, first=self._base is None),
            faults=self._faults,
            mended=mended(self._checks, self.outcomes),
            peak_memory_mib=self._memory,
            objects=self._objects,
        )

    def begin(self, version: Version) -> None:
        """Start the cluster, with the nodes of a version's environment."""
        status, document = self._verbs.run(version, "cluster", "up", CLUSTER, "--env", self._request.environment)
        if status:
            refused = BadInput if status == BadInput.exit_status else KibanError
            raise refused(f"{version.title}: {document.get('error', 'its cluster does not start')}")
        self._before = snapshot.take(self._api, "before", None)

    @functools.cached_property
    def _api(self) -> Api:
        return embedded.api(CLUSTER)

    def install(self, version: Version) -> None:
        """Install a version, and where it is the base put workloads in flight."""
        ran = self.step("install", version, quiet=self._base is not None)
        if not ran.ok and self._base:
            raise BadInput(f"the base {version.title} cannot be installed: {ran.error}")
        if ran.ok and self._base:
            self._say("workloads in flight")
            cluster = embedded.get(CLUSTER)
            real = embedded.runs_pods(CLUSTER)
            self._flight = Flight(self._api, self._verbs, version, Metadata(cluster), real=real)
            self._checks = (*checks.ALL, flight.check(self._flight))
            assert self._installed is not None  # noqa: S101 - taken after the step
            for line in self._flight.launch(self._installed):
                self._say(f"  not in flight: {line}")

    def _upgrade(self, base: Version) -> None:
        if self._request.faults:
            self._under_fault()
        ran = self.step("upgrade", self._candidate)
        if ran.ok:
            self.step("second up", self._candidate, judged=False)
        self.step("rollback", base)
        self.step("upgrade again", self._candidate)

    def _under_fault(self) -> None:
        """Upgrade while the faults last; what they stop, the upgrade that follows has to mend."""
        with contextlib.ExitStack() as faults:
            for fault in self._request.faults:
                faults.enter_context(FAULTS[fault](self._api, self._say))
            ran = self._verbs.up(self._candidate, "upgrade")
        told = "came through" if ran.ok else f"failed ({ran.error})"
        self._faults = tuple(f"{fault}: the upgrade {told}" for fault in self._request.faults)
        for each in self._faults:
            self._say(each)

    def destroy(self) -> None:
        """Delete the platform, with the verb of the version that was installed last."""
        self._say("destroy")
        ran = self._verbs.destroy(self._last, "destroy")
        self._note(ran)
        self._judge(snapshot.take(self._api, "destroy", None), ran, self._before, checks.STEPS, self._last)

    def step(self, step: str, version: Version, *, judged: bool = True, quiet: bool = False) -> Ran:
        """`up` of a version, then a look. judged: by all checks, not just those of what `up` said itself."""
        self._say(f"{step}: {version.title}")
        ran = self._verbs.up(version, step)
        self._note(ran)
        self._last = version if ran.ok else self._last
        if judged and ran.ok:
            self._settle()
        now = self._take(step) if judged else None
        if step == "install":
            self._installed = now
            self._objects = len(now.declared) if now else 0
        those = self._checks if judged else checks.STEPS
        found = self._judge(
            now or self._empty(step), ran, self._installed if step != "install" else None, those, version
        )
        for check, finding in found if not (quiet and ran.ok) else ():
            self._say(f"  {check}: {finding.object}: {finding.message}")
        return ran

    def _note(self, ran: Ran) -> None:
        self._steps.append(StepResult(name=ran.step, ok=ran.ok, seconds=ran.seconds, counts=ran.counts))
        self._memory = max(self._memory, embedded.status(CLUSTER).memory)

    def _take(self, step: str) -> Snapshot:
        states = target.states(embedded.folder(CLUSTER) / "stack")
        return snapshot.take(self._api, step, states.get(self._request.environment))

    def _empty(self, step: str) -> Snapshot:
        return Snapshot(step=step, objects={}, declared=())

    def _settle(self) -> None:
        """Wait until every Deployment, StatefulSet and DaemonSet is as it is to be."""
        deadline = time.monotonic() + _SETTLED_WITHIN
        while time.monotonic() < deadline and snapshot.unready(self._api):
            time.sleep(0.5)

    def _judge(
        self, now: Snapshot, ran: Ran, base: Snapshot | None, those: Sequence[Check], version: Version
    ) -> list[tuple[str, Finding]]:
        look = Look(now=now, base=base, api=self._api, images=self._images_of(version), ran=ran)
        outcomes = self.outcomes.setdefault(ran.step, {})
        for check in those:
            found = check.look(look)
            # whether a base can be brought back, say, is asked in one step alone
            if found.looked_at or found.findings or check not in checks.STEPS:
                outcomes[check.id] = found
        return [(check, finding) for check, found in outcomes.items() for finding in found.findings]

    def _images_of(self, version: Version) -> frozenset[str]:
        if version not in self._images:
            words = ("images", self._request.environment, "--on", CLUSTER)
            status, document = self._verbs.run(version, *words)
            listed = () if status else document["items"]  # a base may be older than the verb
            self._images[version] = frozenset(item["image"] for item in listed)
        return self._images[version]
