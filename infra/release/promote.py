"""A release comes into an environment, or goes back: judged, planned, agreed to, applied, looked at, recorded.

What is cut off goes on with the next run. The record says what has begun; the cluster (marker.py) which release its
program has to be from then on, and the last entry that it has seen: a checkout that lacks it is refused.
"""

import contextlib
import dataclasses as dc
import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import stacks
from infra import paths, target, versions
from infra.errors import BadInput, CouldNotRun, RunFailed
from infra.kubectl import Kubectl
from infra.release import canonical, drift, facts, gates, ladder, marker, plans, record, releases, running, verification
from infra.release.contents import applied
from infra.release.entry import Begun, Check, Ended, Entry, Ref, Verdict, now
from infra.release.marker import Marker
from infra.release.plans import Plan
from infra.release.releases import Release
from infra.target import Target
from infra.versions import LADDER, Version

Say = Callable[[str], None]
_AHEAD = dt.timedelta(seconds=60)
_REFUSED, _NOT_RUN = BadInput.exit_status, CouldNotRun.exit_status


@dc.dataclass(frozen=True, kw_only=True)
class Review:
    """What is to be agreed to.

    promoted: what the release has otherwise than the one that runs. different: the values that the environment has
    otherwise than the rung below, which stay so. plan: None where a gate keeps the release out.
    """

    release: Release
    verdicts: tuple[Verdict, ...]
    promoted: tuple[Mapping[str, Any], ...]
    different: tuple[Mapping[str, Any], ...]
    plan: Plan | None

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """The gates that keep the release out."""
        return tuple(each for each in self.verdicts if each.outcome == "failed")

    def items(self) -> list[dict[str, Any]]:
        """The review in a verb's document."""
        items: list[dict[str, Any]] = [
            {"gate": each.gate, "gate_outcome": each.outcome, "says": each.says, "reason": each.reason}
            for each in self.verdicts
        ]
        items += [dict(each) for each in (*self.promoted, *self.different)]
        if self.plan:
            items += [dict(each) for each in self.plan.changes]
            items += [{"permanent": each} for each in self.plan.permanent]
            items.append({"plan": self.plan.digest, "counts": dict(self.plan.counts), "release": self.release.id})
        return items


@dc.dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for. bypasses: gate to reason. plan: what a dry run has kept, and its SHA-256 as reviewed."""

    release: str
    environment: str
    on: str | None = None
    bypasses: Mapping[str, str] = dc.field(default_factory=dict)
    plan: tuple[Path, str] | None = None


@dc.dataclass(frozen=True, kw_only=True)
class Done:
    """How it ended. outcome: verified, rolled-back, failed, or `in force` where there was nothing to do."""

    outcome: str
    runs: Ref | None
    checks: tuple[Check, ...]


class Promoter:
    """Promotes to one environment, of one repository."""

    def __init__(self, root: Path, environment: str, on: str | None, say: Say) -> None:
        self._root, self._name, self._on, self._say = root, environment, on, say
        self._rung = ladder.rung_of(root, environment, stacks.names())
        self._where: Target = target.resolve(environment, on)
        self._kubectl = Kubectl(self._where.cluster.kubeconfig, self._where.cluster.context)

    def review(self, request: Request, kept: Path | None = None) -> Review:
        """Judge a release and say what it would change; change nothing. kept: where the plan is kept."""
        release = self._true(request.release)
        self._agreed(write=False)
        return self._review(release, request, kept or self._folder() / "plan.json")

    def promote(self, request: Request, agreed: Callable[[Review], bool]) -> tuple[Review | None, Done]:
        """Bring a release in; where it does not do what it is for, bring the last good one back.

        agreed: asked with the review before anything changes. Raises RunFailed where a gate keeps the release out.
        """
        release = self._true(request.release)
        with self._alone():
            entries = self._agreed(write=True)
            if opened := record.opened(entries):
                return None, self._go_on(entries, opened, release)
            if (failed := record.unanswered(entries)) and (to := record.good(entries, _begun(failed).release)):
                return None, self._back(failed, to, ())
            review = self._review(release, request, self._folder() / "plan.json")
            plan = self._let_in(review, request)
            if not plan.changes and record.runs(entries) == release.ref:
                return review, Done(outcome="in force", runs=release.ref, checks=())
            if not agreed(review):
                raise BadInput(f"{self._name}: not agreed to; nothing was changed")
            what = Begun(
                verb="promote",
                release=release.ref,
                base=record.runs(entries),
                gates=review.verdicts,
                plan=plan.digest,
                ladder=canonical.file_digest(self._root / LADDER),
            )
            begun = self._append(what, release)
            return review, self._bring_in(begun, release, plan)

    def roll_back(self, agreed: Callable[[Release], bool]) -> Done:
        """Bring back the release that ran before the one that runs, or that failed, was verified there."""
        with self._alone():
            entries = self._agreed(write=True)
            last = next((each for each in reversed(entries) if isinstance(each.what, Begun)), None)
            if last is None:
                raise BadInput(f"{self._name}: nothing was promoted there yet; accepted: an environment with a record")
            if record.opened(entries) == last and _begun(last).verb == "rollback":
                return self._go_on(entries, last, None)
            promotion = _promotion(entries)
            to = record.good(entries, _begun(promotion).release)
            if to is None:
                raise BadInput(f"{self._name}: no other release was ever verified there; promote one that is good")
            if not agreed(releases.read(self._root, to.id)):
                raise BadInput(f"{self._name}: not agreed to; nothing was changed")
            if record.opened(entries):
                self._end(last, "interrupted", (), None)
            return self._back(promotion, to, ())

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While it lasts nobody else promotes to the environment; nothing is recorded once that is no longer so."""
        with marker.held(self._kubectl, self._say) as held:
            _refuse_ahead(self._where, held.ahead)
            self._still = held.still
            yield

    def _true(self, name: str) -> Release:
        """The release of that name, if it is what its commit is."""
        release = releases.read(self._root, name)
        findings = releases.verify(self._root, release.id, self._say, at=now())
        wrong = [f"{each.what}: {each.message}" for each in findings if each.what != "signature"]
        if wrong:
            raise RunFailed(
                f"release {release.id} is not what its commit is ({'; '.join(wrong)}); nothing was changed",
                items=[{"finding": each} for each in wrong],
            )
        return release

    def _agreed(self, *, write: bool) -> tuple[Entry, ...]:
        """The record, where it and the cluster tell the same; of a run that was cut off the cluster may lack the last.

        write: let the cluster catch up.
        """
        entries = record.read(self._root, self._name)
        seen = marker.read(self._kubectl)
        if seen is None and not entries:
            return entries
        number, head = (seen.number, seen.head) if seen else (0, "")
        if number > len(entries):
            raise BadInput(
                f"{self._name}: the cluster has seen entry {number} of the record, and this checkout has "
                f"{len(entries)}; accepted: the newest record (git pull); nothing was changed"
            )
        if number and entries[number - 1].hash != head:
            raise RunFailed(
                f"{self._name}: entry {number} of the record is another than the cluster has seen: one of the two was "
                "altered, or two checkouts have promoted; see `kiban audit verify`; nothing was changed"
            )
        unseen = [each for each in entries[number:] if isinstance(each.what, Begun | Ended)]
        if len(unseen) > 1:
            raise RunFailed(
                f"{self._name}: the cluster has not seen entries {', '.join(str(each.number) for each in unseen)} of "
                "the record; accepted: a record that was written by promotions to this cluster; nothing was changed"
            )
        if write and seen and len(entries) > number:
            marker.write(self._kubectl, dc.replace(seen, number=len(entries), head=record.head(entries)))
        return entries

    def _review(self, release: Release, request: Request, kept: Path) -> Review:
        known = self._facts(release, request.bypasses)
        verdicts = tuple(gates.judge(self._rung, known))
        for each in verdicts:
            self._say(f"{self._name}: gate {each.gate}: {each.outcome}: {each.says}")
        ran = record.runs(known.here)
        before = releases.read(self._root, ran.id).contents if ran else {}
        version = self._version(release)
        given = request.plan
        return Review(
            release=release,
            verdicts=verdicts,
            promoted=tuple(
                {"promoted": f"{each.kind}/{each.name}", "from": each.before, "to": each.after}
                for each in (releases.differences(before, release.contents) if before else ())
                if each.kind != "environments" or each.name == self._name
            ),
            different=tuple(self._different(version)),
            plan=None if any(each.outcome == "failed" for each in verdicts) else self._plan(version, kept, given),
        )

    def _facts(self, release: Release, bypasses: Mapping[str, str]) -> gates.Facts:
        rungs = (self._name, self._rung.after)
        records = {each: record.read(self._root, each) for each in rungs if each}
        ran = record.runs(records[self._name])
        told = None
        if self._rung.gates.undrifted and ran:
            try:
                told = [str(each) for each in drift.find(self._where)]
            except CouldNotRun as error:  # the state has nothing: of another cluster, say
                told = [str(error)]
        return facts.gathered(self._root, self._rung, release, now(), drift=told, bypasses=bypasses, records=records)

    def _let_in(self, review: Review, request: Request) -> Plan:
        """The plan, where every gate is open. Raises RunFailed where one is shut, BadInput where a rung is skipped."""
        for name, reason in request.bypasses.items():
            self._say(f"{self._name}: BYPASS of gate {name}, which is recorded: {reason}")
        if review.plan is None:
            told = "; ".join(f"{each.gate}: {each.says}" for each in review.failed)
            skipped = any(each.gate == "below" for each in review.failed)
            raise (BadInput if skipped else RunFailed)(
                f"{review.release.id} does not come into {self._name}: {told}; nothing was changed",
                items=review.items(),
            )
        return review.plan

    def _bring_in(self, begun: Entry, release: Release, plan: Plan) -> Done:
        """Apply and look; on failure take it back."""
        checks = self._applied(release, plan)
        if all(each.outcome != "failed" for each in checks):
            self._end(begun, "verified", checks, release.ref)
            return Done(outcome="verified", runs=release.ref, checks=checks)
        to = record.good(record.read(self._root, self._name), release.ref)
        self._end(begun, "failed", checks, None)
        if to is None:
            self._say(f"{self._name}: no other release was ever verified there, so there is nothing to go back to")
            return Done(outcome="failed", runs=None, checks=checks)
        return self._back(begun, to, checks)

    def _back(self, promotion: Entry, to: Ref, before: tuple[Check, ...]) -> Done:
        """Bring a good release back, and look; what then fails is left for people."""
        release = self._true(to.id)
        self._say(f"{self._name}: rolling back to {to.id}")
        plan = self._plan(self._version(release), self._folder() / "plan.json", None)
        what = Begun(
            verb="rollback",
            release=to,
            base=None,
            gates=(),
            plan=plan.digest,
            ladder=canonical.file_digest(self._root / LADDER),
            because=promotion.number,
        )
        return self._taken_back(self._append(what, release), release, plan, before)

    def _taken_back(self, begun: Entry, release: Release, plan: Plan, before: tuple[Check, ...]) -> Done:
        checks = self._applied(release, plan)
        good = all(each.outcome != "failed" for each in checks)
        runs = release.ref if good else None
        self._end(begun, "verified" if good else "failed", checks, runs)
        return Done(outcome="rolled-back" if good else "failed", runs=runs, checks=(*before, *checks))

    def _go_on(self, entries: Sequence[Entry], opened: Entry, asked: Release | None) -> Done:
        """Finish what was cut off, with a new plan: part of the one that was agreed to is done."""
        what = _begun(opened)
        if what.verb == "promote" and asked is not None and asked.ref != what.release:
            raise BadInput(
                f"{self._name}: the promotion of {what.release.id} (entry {opened.number}) was cut off; accepted: "
                f"`kiban promote {what.release.id} {self._name}` to finish it, or `kiban rollback {self._name}`"
            )
        self._say(
            f"{self._name}: the {what.verb} of entry {opened.number} was cut off; going on with {what.release.id}"
        )
        release = asked if asked and asked.ref == what.release else self._true(what.release.id)
        marker.write(self._kubectl, self._marker(release, entries))
        plan = self._plan(self._version(release), self._folder() / "plan.json", None)
        if what.verb == "promote":
            return self._bring_in(opened, release, plan)
        return self._taken_back(opened, release, plan, ())

    def _applied(self, release: Release, plan: Plan) -> tuple[Check, ...]:
        """Apply a plan and look at the environment. Raises what kept it from beginning; the record stays open then."""
        before = verification.alerts(self._where)
        if canonical.file_digest(plan.file) != plan.digest:
            raise RunFailed(f"{plan.file} is not the plan that was agreed to; nothing was changed")
        status, document = self._run(self._version(release), "up", "--plan", str(plan.file))
        if status == _NOT_RUN:
            raise CouldNotRun(str(document.get("error")))
        if status:
            return (Check(check="up", outcome="failed", evidence="executed", says=str(document["error"])),)
        if beyond := plan.lacks(document["items"]):
            names = ", ".join(f"{each['resource']} {each['change']}" for each in beyond)
            return (Check(check="plan", outcome="failed", evidence="executed", says=f"not planned: {names}"),)
        done = f"changed as planned: {len(plan.changes)}" if plan.changes else "nothing was to be changed"
        up = Check(check="up", outcome="passed", evidence="executed", says=done)
        looked = verification.verify(self._where, before, self._rung.watch.total_seconds(), self._say)
        return (up, *looked)

    def _plan(self, version: Version, file: Path, given: tuple[Path, str] | None) -> Plan:
        """The plan of a version, kept in a file; or one that was kept and reviewed before."""
        if given:
            return plans.reviewed(*given)
        configuration = f"stacks/Pulumi.{self._name}.yaml"
        if self._where.folder is None and not (version.root / configuration).exists():
            raise BadInput(
                f"{version.title} has no {configuration}, where credentials are; accepted: a release that has it: "
                f"`kiban credentials generate {self._name}`, commit, cut; nothing was changed"
            )
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        status, document = self._run(version, "preview", "--save-plan", str(file))
        if status:
            refused = BadInput if status == _REFUSED else CouldNotRun
            raise refused(f"{version.title}: cannot be planned: {document.get('error')}; nothing was changed")
        return plans.kept(file, document["items"])

    def _different(self, version: Version) -> list[dict[str, Any]]:
        if self._rung.after is None:
            return []
        status, document = running.run(version, "diff", self._rung.after, self._name, on=None, say=_silent)
        if status:
            raise CouldNotRun(str(document.get("error")))
        return [
            {"different": each["value"], "below": each[self._rung.after], "here": each[self._name]}
            for each in document["items"]
        ]

    def _run(self, version: Version, verb: str, *options: str) -> tuple[int, dict[str, Any]]:
        return running.run(version, verb, self._name, *options, on=self._on, say=self._say)

    def _version(self, release: Release) -> Version:
        return versions.at(self._root, release.commit, self._say)

    def _folder(self) -> Path:
        return paths.home() / "promotions" / (self._on or self._name)

    def _append(self, what: Begun, release: Release) -> Entry:
        """Record that something begins, then let the cluster take the release's program and no other."""
        entry = self._recorded(what)
        marker.write(self._kubectl, self._marker(release, record.read(self._root, self._name)))
        return entry

    def _end(self, begun: Entry, outcome: Any, checks: tuple[Check, ...], runs: Ref | None) -> None:  # noqa: ANN401
        self._recorded(Ended(begun=begun.number, outcome=outcome, checks=checks, runs=runs))
        self._agreed(write=True)

    def _recorded(self, what: Begun | Ended) -> Entry:
        self._still()
        entry = Entry(environment=self._name, at=now(), by=record.by(self._root), what=what)
        return record.append(self._root, entry)

    def _marker(self, release: Release, entries: Sequence[Entry]) -> Marker:
        return Marker(
            release=release.id,
            applied=applied(release.contents, self._name),
            number=len(entries),
            head=record.head(entries),
        )


def _begun(entry: Entry) -> Begun:
    """What an entry says that tells of a beginning."""
    assert isinstance(entry.what, Begun)  # noqa: S101 - asked by the caller
    return entry.what


def _promotion(entries: Sequence[Entry]) -> Entry:
    """The last promotion that began."""
    return next(each for each in reversed(entries) if isinstance(each.what, Begun) and each.what.verb == "promote")


def _refuse_ahead(where: Target, ahead: dt.timedelta) -> None:
    if abs(ahead) > _AHEAD:
        raise BadInput(
            f"{where.command}: clocks that disagree: this machine's is {ahead.total_seconds():+.0f} s of the API "
            "server's; accepted: clocks set by NTP; nothing was changed"
        )


def _silent(_: str) -> None:
    """Say nothing."""
