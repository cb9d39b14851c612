"""PodDisruptionBudgets that block a drain."""

from typing import Any

import pytest

from infra.rehearsal.checks.budgets import CHECKS
from infra.rehearsal.snapshot import Object
from tests.rehearsal.checks.clusters import deployment, made, outcome, said, snapshot


def budget(name: str = "model", app: str = "model", *, expected: int = 3, desired: int = 2, **spec: Any) -> Object:  # noqa: ANN401 - its fields
    """Return a budget as the disruption controller has counted it."""
    status = {"expectedPods": expected, "desiredHealthy": desired, "disruptionsAllowed": max(0, expected - desired)}
    spec["selector"] = {"matchLabels": {"app": app}}
    return made("policy/v1", "PodDisruptionBudget", name, "kiban-metadata", spec=spec, status=status)


@pytest.mark.parametrize(
    "one",
    [
        budget(maxUnavailable=1),
        budget(minAvailable="50%"),
        budget(maxUnavailable=1, expected=1, desired=0),
        budget(minAvailable=1, expected=0, desired=1),
    ],
)
def test_a_budget_that_lets_one_go_is_fine(one: Object) -> None:
    """Also one that has no pods yet."""
    found = outcome(CHECKS, "drain", snapshot(one, deployment("model")))
    assert (found.evidence, found.looked_at, found.findings) == ("executed", 1, ())


@pytest.mark.parametrize(
    ("one", "given"),
    [
        (budget(minAvailable=1, expected=1, desired=1), "minAvailable=1"),
        (budget(minAvailable=3, expected=2, desired=3), "minAvailable=3"),
        (budget(minAvailable="100%", expected=0, desired=0), "minAvailable=100%"),
        (budget(maxUnavailable=0, expected=3, desired=3), "maxUnavailable=0"),
        (budget(maxUnavailable="0%", expected=0, desired=0), "maxUnavailable=0%"),
    ],
)
def test_a_budget_that_lets_none_go_is_found(one: Object, given: str) -> None:
    """By what was given."""
    assert said(CHECKS, "drain", snapshot(one, deployment("model"))) == [
        (
            f"PodDisruptionBudget kiban-metadata/model: {given}: no pod may ever be evicted though all are healthy, "
            "so that draining their node never ends"
        )
    ]


def test_pods_of_two_budgets_are_found() -> None:
    """The eviction API refuses them, whatever the budgets say."""
    now = snapshot(budget("a", maxUnavailable=1), budget("b", maxUnavailable=1), deployment("model"))
    assert said(CHECKS, "drain", now) == [
        "Deployment kiban-metadata/model: its pods are in several PodDisruptionBudgets (a, b): none can be evicted"
    ]
    apart = snapshot(budget("a", maxUnavailable=1), budget("b", "other", maxUnavailable=1), deployment("model"))
    assert not said(CHECKS, "drain", apart)
