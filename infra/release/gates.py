"""Whether a release may come into an environment: each gate of its rung, judged from facts that somebody else gathered.

Pure: no file, no clock, no cluster. What a gate asks for is in ladder.py, and in docs/reference/ladder.md.
"""

import dataclasses as dc
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from infra.errors import BadInput
from infra.release import record
from infra.release.approvals import Approval
from infra.release.entry import Begun, Ended, Entry, Ref, Verdict, written
from infra.release.ladder import GATES, Rung, frozen, thawed

FIRST = "first"
"""The base of a rehearsal for an environment that runs nothing yet."""


@dc.dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """A rehearsal that was kept. base: a release's id, or FIRST. digest: SHA-256 of its document. says: in one line."""

    base: str
    candidate: str
    ok: bool
    digest: str
    says: str


@dc.dataclass(frozen=True, kw_only=True)
class Facts:
    """What the gates are judged by.

    now: UTC, whole seconds. committed: the date of the release's commit.
    here, below: the records of the rung's environment and of that of the rung below.
    signer: who signed the release, validly; None: nobody, and `unsigned` says why.
    rehearsal: what releases/rehearsals has for this environment, from what it runs to the release; None: nothing.
    approvals: every file, also those that do not count. approvers: who may approve.
    drift: one line a finding; None: nobody has looked.
    bypasses: gate to reason.
    """

    now: datetime
    release: Ref
    committed: datetime
    here: Sequence[Entry]
    below: Sequence[Entry] = ()
    signer: str | None = None
    unsigned: str = "no signature"
    rehearsal: Rehearsed | None = None
    approvals: Sequence[Approval] = ()
    approvers: Sequence[str] = ()
    drift: Sequence[str] | None = None
    bypasses: Mapping[str, str] = dc.field(default_factory=dict)


def judge(rung: Rung, facts: Facts) -> list[Verdict]:
    """What each gate says, in the order of GATES. One that fails says what would let it pass, and when if time would.

    Raises BadInput for a bypass that is unknown, without a reason, not allowed on this rung, or of a gate that does
    not fail; and where this machine's clock is behind one of the records.
    """
    for entries in (facts.here, facts.below):
        record.refuse_clock(entries, facts.now)
    for gate, reason in facts.bypasses.items():
        if gate not in GATES:
            raise BadInput(f"--bypass {gate}; accepted: {', '.join(GATES)}")
        if not reason.strip():
            raise BadInput(f"--bypass {gate}: it has no reason; accepted: --reason TEXT, which is recorded")
        if gate in rung.not_bypassable:
            raise BadInput(
                f"--bypass {gate}: not allowed in {rung.environment} (stacks/ladder.yaml); accepted: what lets it pass"
            )
    judged = [_JUDGES[gate](rung, facts) for gate in GATES]
    return [_bypassed(each, facts.bypasses) for each in judged]


def since(entries: Sequence[Entry], release: Ref) -> Entry | None:
    """The entry since which an environment has run a release that is verified there; None: it does not now.

    Whatever else began there meanwhile interrupts it, also what failed and was taken back.
    """
    found: Entry | None = None
    for entry in entries:
        match entry.what:
            case Begun(release=other) if other != release:
                found = None
            case Ended(outcome="verified", runs=ref) if ref == release:
                found = found or entry
            case Ended():
                found = None
    return found


def _bypassed(verdict: Verdict, bypasses: Mapping[str, str]) -> Verdict:
    reason = bypasses.get(verdict.gate)
    if reason is None:
        return verdict
    if verdict.outcome != "failed":
        raise BadInput(f"--bypass {verdict.gate}: it is {verdict.outcome} ({verdict.says}); accepted: no bypass of it")
    return dc.replace(verdict, outcome="bypassed", reason=reason)


def _signed(rung: Rung, facts: Facts) -> Verdict:
    if not rung.gates.signed:
        return _off("signed")
    if facts.signer is None:
        return _failed(
            "signed", f"{facts.unsigned}; sign it: kiban release cut REF --key FILE", release=facts.release.id
        )
    return _passed("signed", f"signed by {facts.signer}", signer=facts.signer)


def _age(rung: Rung, facts: Facts) -> Verdict:
    limit = rung.gates.max_age
    if limit is None:
        return _off("age")
    ground = {"committed": written(facts.committed), "max_age": _length(limit)}
    if facts.committed > facts.now:
        ahead = f"its commit is of {_when(facts.committed, rung.zone)}, which is not yet; it passes from then on"
        return _failed("age", ahead, **ground)
    age = facts.now - facts.committed
    says = f"its commit is {_length(age)} old, of {_length(limit)} at most"
    if age > limit:
        return _failed("age", f"{says}; cut a release of a newer commit", **ground)
    return _passed("age", f"{says}: until {_when(facts.committed + limit, rung.zone)}", **ground)


def _below(rung: Rung, facts: Facts) -> Verdict:
    if rung.after is None:
        return _off("below", "no rung is below")
    if (is_open := record.opened(facts.below)) is not None:
        what = f"{rung.after}: what began on {_when(is_open.at, rung.zone)} (entry {is_open.number}) has not ended"
        return _failed("below", f"{what}; let it end, or run it again where it was cut off", entry=is_open.number)
    entry = since(facts.below, facts.release)
    if entry is not None:
        says = f"verified in {rung.after} since {_when(entry.at, rung.zone)}, entry {entry.number}, and runs there"
        return _passed("below", says, environment=rung.after, entry=entry.number, hash=entry.hash)
    ran = record.runs(facts.below)
    runs = ran.id if ran else "no release"
    unverified = f"{rung.after} runs it, but its last look there did not end as verified"
    says = unverified if ran == facts.release else f"{rung.after} runs {runs}"
    return _failed(
        "below",
        f"{says}; promote it there first: kiban promote {facts.release.id} {rung.after}",
        environment=rung.after,
        runs=runs,
    )


def _soak(rung: Rung, facts: Facts) -> Verdict:
    needed = rung.gates.soak
    if needed is None or rung.after is None:
        return _off("soak")
    entry = since(facts.below, facts.release)
    if entry is None or record.opened(facts.below) is not None:
        says = f"it does not run in {rung.after}, where it has to for {_length(needed)}, verified and uninterrupted"
        return _failed("soak", f"{says}; promote it there first", soak=_length(needed))
    passes = entry.at + needed
    ground = {"since": written(entry.at), "entry": entry.number, "soak": _length(needed), "passes": written(passes)}
    says = f"it runs in {rung.after} for {_length(facts.now - entry.at)} of {_length(needed)}"
    if facts.now < passes:
        return _failed(
            "soak", f"{says}; it passes on {_when(passes, rung.zone)}, if nothing else comes in there", **ground
        )
    return _passed("soak", says, **ground)


def _rehearsed(rung: Rung, facts: Facts) -> Verdict:
    if not rung.gates.rehearsed:
        return _off("rehearsed")
    ran = record.runs(facts.here)
    base = ran.id if ran else FIRST
    found = facts.rehearsal
    words = f"from {base} to {facts.release.id}"
    given = f"--from {ran.id}" if ran else "--first"
    again = f"kiban rehearse {rung.environment} {given} --to {facts.release.id}"
    if found is None:
        return _failed("rehearsed", f"not rehearsed {words}; rehearse it: {again}", base=base)
    ground = {"base": found.base, "candidate": found.candidate, "digest": found.digest}
    if (found.base, found.candidate) != (base, facts.release.id):
        other = f"rehearsed from {found.base} to {found.candidate}, not {words}"
        return _failed("rehearsed", f"{other}; rehearse it: {again}", **ground)
    if not found.ok:
        return _failed("rehearsed", f"rehearsed {words}: {found.says}; mend what it found in another release", **ground)
    return _passed("rehearsed", f"rehearsed {words}: {found.says} ({found.digest[:12]})", **ground)


def _drift(rung: Rung, facts: Facts) -> Verdict:
    if not rung.gates.undrifted:
        return _off("drift")
    ran = record.runs(facts.here)
    if facts.drift is None and ran is None:
        return _passed("drift", f"{rung.environment} runs no release that it could differ from")
    if facts.drift is None:
        return _failed("drift", f"nobody has looked; look: kiban drift {rung.environment}")
    if facts.drift:
        more = f" and {len(facts.drift) - 1} more" if len(facts.drift) > 1 else ""
        says = f"{facts.drift[0]}{more}; see kiban drift {rung.environment}, and take it back or into a release"
        return _failed("drift", says, findings=list(facts.drift))
    return _passed("drift", f"{rung.environment} is as released" + (f" in {ran.id}" if ran else ""), findings=[])


def _approvals(rung: Rung, facts: Facts) -> Verdict:
    rule = rung.gates.approvals
    if rule is None:
        return _off("approvals")
    valid = sorted({each.principal for each in facts.approvals if not each.why})
    rejected = [f"{each.file}: {each.why}" for each in facts.approvals if each.why]
    ground = {"count": rule.count, "by": valid, "rejected": rejected}
    who = f"by {', '.join(valid)}" if valid else "by nobody"
    says = f"{len(valid)} of {rule.count}: {who}"
    if len(valid) >= rule.count:
        return _passed("approvals", says, **ground)
    if rejected:
        says += f"; not counted: {'; '.join(rejected)}"
    if len(facts.approvers) < rule.count:
        few = f"stacks/signers has {len(facts.approvers)} who could; add a line for each: ADDRESS ssh-ed25519 KEY"
        return _failed("approvals", f"{says}; {few}", **ground)
    others = ", ".join(sorted(set(facts.approvers) - set(valid)))
    how = f"kiban approve {facts.release.id} {rung.environment} --key FILE"
    return _failed("approvals", f"{says}; {how}, by {rule.count - len(valid)} of {others}", **ground)


def _freeze(rung: Rung, facts: Facts) -> Verdict:
    if not rung.gates.freezes:
        return _off("freeze")
    found = frozen(rung.gates.freezes, facts.now)
    if found is None:
        return _passed("freeze", f"none at {_when(facts.now, rung.zone)}")
    freeze, begins, ends = found
    passes = thawed(rung.gates.freezes, facts.now)
    ground = {"begins": written(begins), "ends": written(ends), "why": freeze.why}
    says = f"{freeze.why}: from {_when(begins, freeze.zone)} until {_when(ends, freeze.zone)}"
    if passes is None:
        return _failed("freeze", f"{says}, and then other freezes; change stacks/ladder.yaml", **ground)
    return _failed("freeze", f"{says}; it passes on {_when(passes, rung.zone)}", **ground, passes=written(passes))


def _hold(rung: Rung, facts: Facts) -> Verdict:
    found = record.held(facts.here)
    if found is None:
        return _passed("hold", "none")
    reason = getattr(found.what, "reason", "")
    says = f"held by {found.by.name} since {_when(found.at, rung.zone)} (entry {found.number}): {reason}"
    return _failed("hold", f"{says}; it passes when lifted: kiban lift {rung.environment}", entry=found.number)


_JUDGES = {
    "signed": _signed,
    "age": _age,
    "below": _below,
    "soak": _soak,
    "rehearsed": _rehearsed,
    "drift": _drift,
    "approvals": _approvals,
    "freeze": _freeze,
    "hold": _hold,
}


def _passed(gate: str, says: str, **ground: Any) -> Verdict:  # noqa: ANN401 - JSON
    return Verdict(gate=gate, outcome="passed", says=says, ground=ground)


def _failed(gate: str, says: str, **ground: Any) -> Verdict:  # noqa: ANN401 - JSON
    return Verdict(gate=gate, outcome="failed", says=says, ground=ground)


def _off(gate: str, says: str = "not asked for") -> Verdict:
    return Verdict(gate=gate, outcome="off", says=says)


def _when(at: datetime, zone: ZoneInfo) -> str:
    """`2026-01-05T10:00:00Z (Mon 11:00 Europe/Berlin)`."""
    utc = written(at.astimezone(UTC))
    return utc if zone.key == "UTC" else f"{utc} ({at.astimezone(zone):%a %H:%M} {zone.key})"


def _length(span: timedelta) -> str:
    """`3 d 4 h`, to the minute, down."""
    minutes = int(span.total_seconds()) // 60
    parts = ((minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "m"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 m"
