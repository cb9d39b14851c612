"""What runs where, since when and by whose word, what is next and what blocks it: out of the records alone.

No cluster is asked, so what a gate asks a cluster for (drift) is said to be open.
"""

import dataclasses as dc
import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from infra.release import facts, gates, ladder, record, releases
from infra.release.entry import Begun, Ended, Entry, Hold, Lift, Ref, Verdict, written
from infra.release.ladder import Ladder, Rung

_OPEN = "drift"
"""The gate that only a cluster can answer."""


@dc.dataclass(frozen=True, kw_only=True)
class Standing:
    """An environment of the ladder.

    runs: None: nothing whole, or nothing yet. since: the entry since which. under_way: what has begun and not ended.
    next: the release that would come in next; None where there is none other. blocked_by: the gates that keep it out.
    """

    rung: Rung
    entries: tuple[Entry, ...]
    runs: Ref | None
    since: Entry | None
    under_way: Entry | None
    next: Ref | None
    blocked_by: tuple[Verdict, ...]

    @property
    def says(self) -> str:
        """How it stands, in one line."""
        if self.under_way:
            what = self.under_way.what
            assert isinstance(what, Begun)  # noqa: S101 - record.opened
            return f"{what.verb} of {what.release.id} under way, or cut off, since {written(self.under_way.at)}"
        if self.since is None:
            return "nothing was promoted yet" if not self.entries else "runs nothing whole: its last rollback failed"
        return f"since {written(self.since.at)}, by {self.since.by.name}"

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
        }


def standings(root: Path, found: Ladder, now: dt.datetime) -> tuple[Standing, ...]:
    """Every environment of the ladder, the lowest first. Raises Tampered for a record that is not as it was written."""
    records = {rung.environment: record.read(root, rung.environment) for rung in found.rungs}
    return tuple(_standing(root, rung, records, now) for rung in found.rungs)


def load(root: Path, environments: Sequence[str]) -> Ladder:
    """The repository's ladder."""
    return ladder.load(root / facts.LADDER, environments)


def line(entry: Entry) -> str:
    """An entry in one line."""
    match entry.what:
        case Begun() as what:
            bypassed = [f"{each.gate} bypassed ({each.reason})" for each in what.gates if each.outcome == "bypassed"]
            because = f", because of entry {what.because}" if what.because else ""
            over = what.base.id if what.base else "nothing"
            return "; ".join([f"{what.verb} {what.release.id} over {over}{because} begins", *bypassed])
        case Ended() as what:
            return f"entry {what.begun} ends: {what.outcome}; runs {what.runs.id if what.runs else 'nothing whole'}"
        case Hold() | Lift() as what:
            return f"{entry.kind}: {what.reason}"


def _standing(root: Path, rung: Rung, records: dict[str, tuple[Entry, ...]], now: dt.datetime) -> Standing:
    entries = records[rung.environment]
    runs = record.runs(entries)
    following = _next(root, rung, records)
    upcoming = following if following != runs else None
    return Standing(
        rung=rung,
        entries=entries,
        runs=runs,
        since=gates.since(entries, runs) if runs else None,
        under_way=record.opened(entries),
        next=upcoming,
        blocked_by=_blocking(root, rung, upcoming, now) if upcoming else (),
    )


def _next(root: Path, rung: Rung, records: dict[str, tuple[Entry, ...]]) -> Ref | None:
    """What the rung below runs; for the lowest one the release of the newest commit, which ids say to the day."""
    if rung.after:
        return record.runs(records[rung.after])
    ids = releases.ids(root)
    of_the_last_day = [releases.read(root, each) for each in ids if each.startswith(ids[-1].partition("-")[0])]
    newest = max(of_the_last_day, key=lambda each: releases.committed(root, each), default=None)
    return newest.ref if newest else None


def _blocking(root: Path, rung: Rung, upcoming: Ref, now: dt.datetime) -> tuple[Verdict, ...]:
    release = releases.read(root, upcoming.id)
    judged = gates.judge(rung, facts.gathered(root, rung, release, now, drift=None, bypasses={}))
    return tuple(each for each in judged if each.outcome == "failed" and each.gate != _OPEN)
