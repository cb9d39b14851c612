"""Gathers from the repository what the gates are judged by (gates.py)."""

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.release import approvals, record, rehearsals, releases
from infra.release.entry import Entry
from infra.release.gates import Facts
from infra.release.ladder import Rung
from infra.release.releases import Release
from infra.release.signatures import BadSignature


def gathered(
    root: Path,
    rung: Rung,
    release: Release,
    now: dt.datetime,
    *,
    drift: Sequence[str] | None,
    bypasses: Mapping[str, str],
    records: Mapping[str, Sequence[Entry]] | None = None,
) -> Facts:
    """The facts about a release at a rung.

    drift: what the cluster has otherwise; None: nobody has looked. records: by environment, where they were read
    already.
    """
    read = records or {each: record.read(root, each) for each in (rung.environment, rung.after) if each}
    here = read[rung.environment]
    rule = rung.gates.approvals
    signer, unsigned = None, "nobody has signed it"
    try:
        signer = releases.signer(root, release, now)
    except BadSignature as error:
        unsigned = str(error)
    return Facts(
        now=now,
        release=release.ref,
        committed=releases.committed(root, release),
        here=here,
        below=read[rung.after] if rung.after else (),
        signer=signer,
        unsigned=unsigned,
        rehearsal=rehearsals.kept(root, rung.environment, record.runs(here), release.ref),
        approvals=approvals.found(root, release, rung.environment, rule, at=now) if rule else (),
        approvers=approvals.approvers(root, rule) if rule else (),
        drift=drift,
        bypasses=bypasses,
    )
