"""What runs where, since when and by whose word, what is next and what blocks it: out of the records alone.

No cluster is asked, so what a gate asks a cluster for (drift) is said to be open.
"""

import dataclasses as dc
import datetime as dt
from collections.abc import Collection, Mapping
from pathlib import Path

from infra.release import facts, gates, ladder, record, releases
from infra.release.entry import Begun, Ended, Entry, Hold, Lift, Ref, Verdict, read_time, written
from infra.release.gates import Facts
from infra.release.ladder import Rung
from infra.versions import LADDER

_OPEN = "drift"
"""The gate that only a cluster can answer."""
_TURNS = 10
"""So often at most it is asked when something passes that does not when its time has come."""


@dc.dataclass(frozen=True, kw_only=True)
class Standing:
    """An environment of the ladder.

    runs: None: nothing whole, or nothing yet. since: the entry since which, and None where it was not verified.
    under_way: what has begun and not ended. held: the hold that nobody has lifted.
    next: the release that would come in next; None where there is none other. blocked_by: the gates that keep it out.
    passes: when all of them will have passed by waiting; None where that alone will not do.
    failed: the entry with which that release has failed here before.
    """

    rung: Rung
    entries: tuple[Entry, ...]
    runs: Ref | None
    since: Entry | None
    under_way: Entry | None
    held: Entry | None
    next: Ref | None
    blocked_by: tuple[Verdict, ...]
    passes: dt.datetime | None
    failed: Entry | None

    @property
    def says(self) -> str:
        """How it stands, in one line."""
        held = f"; {line(self.held)}" if self.held else ""
        return f"{self.stands}{held}"

    def as_item(self) -> dict[str, object]:
        """The standing in a verb's document."""
        return {
            "environment": self.rung.environment,
            "runs": self.runs and self.runs.id,
            "since": self.since and written(self.since.at),
            "by": self.since and self.since.by.name,
            "says": self.says,
            "next": self.next and self.next.id,
            "blocked_by": [f"{each.gate}: {each.says}" for each in self.blocked_by],
            "passes": self.passes and written(self.passes),
        }

    @property
    def stands(self) -> str:
        """The same without a hold."""
        match self.under_way:
            case Entry(what=Begun() as what, at=at):
                return f"{what.verb} of {what.release.id} under way, or cut off, since {written(at)}"
        if self.since:
            return f"since {written(self.since.at)}, by {self.since.by.name}"
        last = next((each for each in reversed(self.entries) if isinstance(each.what, Ended)), None)
        if last is None:
            return "nothing was promoted yet"
        return f"{'not verified' if self.runs else 'runs nothing whole'} since {written(last.at)} (entry {last.number})"


def standings(root: Path, environments: Collection[str], now: dt.datetime) -> tuple[Standing, ...]:
    """Every environment of the repository's ladder, the lowest first. environments: those that there are.

    Raises BadInput for what is no ladder, and Tampered for a record that is not as it was written.
    """
    found = ladder.load(root / LADDER, environments)
    records = {rung.environment: record.read(root, rung.environment) for rung in found.rungs}
    return tuple(_standing(root, rung, records, now) for rung in found.rungs)


def line(entry: Entry) -> str:
    """An entry in one line."""
    match entry.what:
        case Begun() as what:
            bypassed = [f"{each.gate} bypassed ({each.reason})" for each in what.gates if each.outcome == "bypassed"]
            because = f", because of entry {what.because}" if what.because else ""
            over = what.base.id if what.base else "nothing"
            return "; ".join([f"{what.verb} {what.release.id} over {over}{because} begins", *bypassed])
        case Ended() as what:
            failed = [f"{each.check}: {each.says}" for each in what.checks if each.outcome == "failed"]
            runs = what.runs.id if what.runs else "nothing whole"
            return "; ".join([f"entry {what.begun} ends: {what.outcome}", *failed, f"runs {runs}"])
        case Hold() | Lift() as what:
            return f"{entry.kind}: {what.reason}"


def _standing(root: Path, rung: Rung, records: Mapping[str, tuple[Entry, ...]], now: dt.datetime) -> Standing:
    entries = records[rung.environment]
    runs = record.runs(entries)
    following = _next(root, rung, records)
    upcoming = following if following != runs else None
    known = upcoming and facts.gathered(
        root, rung, releases.read(root, upcoming.id), now, drift=None, bypasses={}, records=records
    )
    blocked_by = _blocking(rung, known) if known else ()
    return Standing(
        rung=rung,
        entries=entries,
        runs=runs,
        since=gates.since(entries, runs) if runs else None,
        under_way=record.opened(entries),
        held=record.held(entries),
        next=upcoming,
        blocked_by=blocked_by,
        passes=_passes(rung, known) if known and blocked_by else None,
        failed=_failed(entries, upcoming) if upcoming else None,
    )


def _next(root: Path, rung: Rung, records: Mapping[str, tuple[Entry, ...]]) -> Ref | None:
    """What the rung below runs; for the lowest one the newest release."""
    if rung.after:
        return record.runs(records[rung.after])
    newest = releases.newest(root)
    return newest.ref if newest else None


def _blocking(rung: Rung, known: Facts) -> tuple[Verdict, ...]:
    return tuple(each for each in gates.judge(rung, known) if each.outcome == "failed" and each.gate != _OPEN)


def _passes(rung: Rung, known: Facts) -> dt.datetime | None:
    """When nothing blocks any more, if only time goes by; when one gate opens another may have shut."""
    at = known.now
    for _ in range(_TURNS):
        blocking = _blocking(rung, dc.replace(known, now=at))
        times = [each.ground.get("passes") for each in blocking]
        if not all(times):
            return None
        if not times:
            return at
        at = max(map(read_time, times))
    return None


def _failed(entries: tuple[Entry, ...], release: Ref) -> Entry | None:
    """The last entry with which a promotion of the release ended as failed."""
    for entry in reversed(entries):
        match entry.what:
            case Ended(outcome="failed", begun=number):
                began = entries[number - 1].what
                if isinstance(began, Begun) and began.verb == "promote" and began.release == release:
                    return entry
    return None
