"""PodDisruptionBudgets: whether a node can be drained."""

from collections.abc import Iterator

from infra.rehearsal.look import Check, Finding, Look, Outcome, outcome
from infra.rehearsal.pods import pods
from infra.rehearsal.selectors import selects
from infra.rehearsal.snapshot import Object, Snapshot, name

_NEVER = ({"maxUnavailable": 0}, {"maxUnavailable": "0%"}, {"minAvailable": "100%"})


def _look(look: Look) -> Outcome:
    budgets = look.now.all("PodDisruptionBudget.policy")
    found = [Finding(object=name(one), message=text, remedy=remedy) for one in budgets for text, remedy in _stuck(one)]
    return outcome("executed", budgets, [*found, *_shared(look.now, budgets)])


def _stuck(budget: Object) -> Iterator[tuple[str, str]]:
    """Why no pod of it may ever be evicted: as many have to be healthy as there are (the controller's own count)."""
    spec, status = budget["spec"], budget.get("status", {})
    asked = {field: spec[field] for field in ("minAvailable", "maxUnavailable") if field in spec}
    given = ", ".join(f"{field}={value}" for field, value in asked.items())
    expected, desired = status.get("expectedPods", 0), status.get("desiredHealthy", 0)
    if asked in _NEVER or 0 < expected <= desired:
        yield (
            f"{given}: no pod may ever be evicted though all are healthy, so that draining their node never ends",
            "allow one: maxUnavailable 1; or run more replicas than minAvailable; or have no budget for a single pod",
        )


def _shared(now: Snapshot, budgets: list[Object]) -> Iterator[Finding]:
    """Pods that two budgets select: the eviction API refuses those always (policy/v1, Eviction)."""
    for pod in pods(now) if budgets else ():
        holding = sorted(
            budget["metadata"]["name"]
            for budget in budgets
            if budget["metadata"]["namespace"] == pod.namespace
            and budget["spec"].get("selector") is not None
            and selects(budget["spec"]["selector"], pod.labels)
        )
        if holding[1:]:
            yield Finding(
                object=name(pod.of),
                message=f"its pods are in several PodDisruptionBudgets ({', '.join(holding)}): none can be evicted",
                remedy="let one budget select a pod",
            )


CHECKS: tuple[Check, ...] = (
    Check(id="drain", title="no PodDisruptionBudget keeps a node from being drained", look=_look),
)
