"""Whether Kueue hands the pools out as promised: each team's part can be had, and all parts together are there.

That a part can be had Kueue and the scheduler decide, hence `executed`: what asks is a real Job, whose pod is bound to
a simulated node. Where others hold all that a team may have at that moment it only waits: then nothing was shown of
that pool, and it is not counted.
"""

from collections.abc import Iterator
from fractions import Fraction

from components._labels import TEAM
from infra.quantities import amount
from infra.rehearsal import asking
from infra.rehearsal.asking import Asked, guarantees
from infra.rehearsal.look import Check, Finding, Look, Outcome, outcome
from infra.rehearsal.snapshot import Snapshot, name

_WAITS, _OVERTAKEN, _ELSEWHERE = "insufficient unused quota", "another workload", "doesn't match node affinity"
"""In Kueue's messages (0.19): on a workload that would fit if others held less, where one that never fits is told
otherwise; that another one was let in first; and on a flavor that the workload does not name."""


def pools_admit(look: Look) -> Outcome:
    """Which team does not get what it may have, in Kueue's or the scheduler's words."""
    parts = list(asking.parts(look.now))
    versions = {str(queue["apiVersion"]) for queue in look.now.all("LocalQueue.kueue.x-k8s.io")}
    asked = [each for version in versions for each in asking.ask(look.api, parts, f"/apis/{version}/workloads")]
    shown = [each for each in asked if not _waits(each)]
    return outcome("executed", shown, [*map(_finding, (one for one in shown if not one.bound)), *unqueued(look.now)])


def unqueued(snapshot: Snapshot) -> Iterator[Finding]:
    """Teams whose Jobs wait for ever, where there is Kueue."""
    queues = snapshot.all("LocalQueue.kueue.x-k8s.io")
    served = {queue["metadata"]["name"] for queue in snapshot.all("ClusterQueue.kueue.x-k8s.io")}
    remedy = "let components/tenancy.py declare a ClusterQueue and a LocalQueue for each team"
    for queue in queues:
        leads_to = queue["spec"]["clusterQueue"]
        if leads_to not in served:
            message = f"leads to ClusterQueue {leads_to!r}; there are: {', '.join(sorted(served)) or 'none'}"
            yield Finding(object=name(queue), message=message, remedy=remedy)
    have = {queue["metadata"]["namespace"] for queue in queues}
    for space in snapshot.all("Namespace") if served else ():
        if TEAM in space["metadata"].get("labels", {}) and space["metadata"]["name"] not in have:
            yield Finding(object=name(space), message="a team's, and has no LocalQueue: its Jobs wait", remedy=remedy)


def quota(look: Look) -> Outcome:
    """Which flavor's guarantees are more than its nodes have."""
    promised = guarantees(look.now)
    found = [_over(look.now, *of, units) for of, units in promised.items()]
    return outcome("simulated", promised, [finding for finding in found if finding])


def _over(snapshot: Snapshot, flavor: str, resource: str, promised: Fraction) -> Finding | None:
    spec = (snapshot.find("ResourceFlavor.kueue.x-k8s.io", flavor) or {}).get("spec", {})
    labels = spec.get("nodeLabels", {}).items()
    nodes = [node for node in snapshot.all("Node") if labels <= node["metadata"]["labels"].items()]
    there = sum((amount(node["status"]["allocatable"].get(resource, "0")) for node in nodes), Fraction())
    if promised <= there:
        return None
    return Finding(
        object=f"ResourceFlavor {flavor}",
        message=f"guarantees of {resource} add up to {_shown(promised)}; accepted: up to {_shown(there)}, "
        f"what its {len(nodes)} nodes have together",
        remedy="promise the teams less (gpus and queueing in the environment's data), or give the pool more nodes",
    )


def _shown(units: Fraction) -> str:
    whole = units.denominator == 1
    gibi = units / 1024**3
    if gibi >= 1:
        return f"{float(gibi):g}Gi"
    return str(units) if whole else f"{float(units):g}"


def _waits(asked: Asked) -> bool:
    """Whether Kueue lets it wait for others, or has just said nothing of the flavor that it names.

    A workload that was overtaken is looked at again from the next flavor on, and what is said then is of those alone.
    """
    flavor = asked.part.flavor
    said = (asked.refusal or "").rpartition(": ")[2].split(", ")
    of_it = any(_WAITS in each and each.endswith(f" in flavor {flavor}") for each in said)
    elsewhere = all(each.endswith(_ELSEWHERE) and each != f"flavor {flavor} {_ELSEWHERE}" for each in said)
    return of_it or elsewhere or _OVERTAKEN in said[0]


def _finding(asked: Asked) -> Finding:
    part = asked.part
    why = asked.refusal or f"no node has its pod within {asking.SECONDS:g} s, and nobody says why"
    return Finding(
        object=f"LocalQueue {part.namespace}/{part.queue}",
        message=f"a Job that asks for 1 {part.resource} of {part.flavor}: {why}",
        remedy=f"see ClusterQueue {part.cluster_queue}, ResourceFlavor {part.flavor}, and its nodes' labels and taints",
    )


CHECKS = (
    Check(
        id="pools-admit",
        title="each team gets a typical workload admitted and placed in each pool that it has a quota in",
        look=pools_admit,
        executes=True,
    ),
    Check(id="quota", title="the sum of guarantees is within the capacity of the nodes", look=quota),
)
