"""What a check is, what it looks at, and what it says. The checks themselves are in infra/rehearsal/checks/."""

import dataclasses as dc
from collections.abc import Callable, Iterable
from typing import Any, Literal

from infra.clusters.embedded.api import Api
from infra.rehearsal.snapshot import Snapshot
from infra.rehearsal.steps import Ran

Evidence = Literal["executed", "simulated", "not-tested"]


@dc.dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that would hit the environment.

    object: `Deployment kiban-metadata/mlflow`, or `ClusterRole kiban-view` (infra/rehearsal/snapshot.py, name).
    message: what is wrong, in one line, with what was given and what is accepted.
    remedy: what to do about it, in one line.
    """

    object: str
    message: str
    remedy: str


@dc.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a check says of the cluster after a step.

    evidence: `executed` where a real program decided (API server, webhook, scheduler, Kueue, a real pod), `simulated`
        where Kiban reasoned over objects or a simulated pod stood in.
    looked_at: how many things were looked at; a check that saw none is `not-tested`, whatever it says.
    """

    evidence: Evidence
    looked_at: int
    findings: tuple[Finding, ...] = ()


@dc.dataclass(frozen=True, kw_only=True)
class Look:
    """What a check may look at.

    now: the cluster after the step.
    base: the cluster after the base was installed; None where there is no base, and for the base itself.
    api: the cluster's API server. A check that makes objects there removes them, also where it fails.
    images: what the version that is installed now says its pods name (`kiban images ENV`).
    ran: the verb of the step.
    """

    now: Snapshot
    base: Snapshot | None
    api: Api
    images: frozenset[str]
    ran: Ran | None = None


@dc.dataclass(frozen=True, kw_only=True)
class Check:
    """One check. id: stable, in reports and in the corpus. executes: nothing but execution can show that it passes."""

    id: str
    title: str
    look: Callable[[Look], Outcome]
    executes: bool = False


def outcome(evidence: Evidence, looked_at: Iterable[Any], findings: Iterable[Finding]) -> Outcome:
    """An outcome of what was looked at, as a list, and the findings, each once, in the order of their objects."""
    once = dict.fromkeys(findings)
    return Outcome(
        evidence=evidence,
        looked_at=len(list(looked_at)),
        findings=tuple(sorted(once, key=lambda finding: (finding.object, finding.message))),
    )
