"""`kiban drift` as a user runs it: twelve kinds of manual change are found and attributed, and nothing else is.

On simulated nodes, with the monitoring stack for its Deployments, roles, Secrets and definitions; no pod of it runs.
With every controller of the platform running: tests/acceptance/platform/test_1_drift.py.
"""

import base64
import dataclasses as dc
import datetime as dt
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.checkout import Checkout
from tests.conftest import Record

pytestmark = pytest.mark.full  # the small run looks at the platform itself
SPACE = "kiban-monitoring"
SECRET = "receivers: [{name: hunter2}]"  # noqa: S105 - what must not be seen
WIDE = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
OPEN = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-preserve-unknown-fields"
ARGS = "/spec/template/spec/containers/0/args/-"


def patch(kind: str, *changes: dict[str, Any]) -> tuple[str, ...]:
    """Return words of kubectl for a JSON patch."""
    return "patch", kind, "--type=json", f"--patch={json.dumps(changes)}"


@dc.dataclass(frozen=True)
class Manual:
    """A change by hand, and what is to be found of it."""

    words: tuple[str, ...]
    object: str
    field: str
    manager: str
    change: str
    stdin: str | None = None


CHANGES = {
    "image": Manual(
        ("set", "image", "deployment/kube-state-metrics", "kube-state-metrics=example.test/other:1"),
        f"Deployment {SPACE}/kube-state-metrics",
        "spec.template.spec.containers[name=kube-state-metrics].image",
        "kubectl-set",
        "image",
    ),
    "RBAC widened": Manual(
        (*patch("role/prometheus-operator", {"op": "replace", "path": "/rules", "value": WIDE}), "--field-manager=eve"),
        f"Role {SPACE}/prometheus-operator",
        "rules",
        "eve",
        "rbac",
    ),
    "secret replaced": Manual(
        ("patch", "secret/alertmanager-configuration", "--type=merge", "--patch-file=/dev/stdin"),
        f"Secret {SPACE}/alertmanager-configuration",
        'data["alertmanager.yaml"]',
        "kubectl-patch",
        "secret",
        json.dumps({"stringData": {"alertmanager.yaml": SECRET}}),
    ),
    "scaled": Manual(
        ("scale", "deployment/prometheus-operator", "--replicas=3"),
        f"Deployment {SPACE}/prometheus-operator",
        "spec.replicas",
        "kubectl",
        "scaled",
    ),
    "edited": Manual(
        (*patch("deployment/prometheus-operator", {"op": "add", "path": ARGS, "value": "--x"}), "--field-manager=k9s"),
        f"Deployment {SPACE}/prometheus-operator",
        "spec.template.spec.containers[name=prometheus-operator].args",
        "k9s",
        "edited",
    ),
    "deleted": Manual(
        ("delete", "configmap/dashboard-gpus"), f"ConfigMap {SPACE}/dashboard-gpus", "", "not recorded", "deleted"
    ),
    "added": Manual(
        ("create", "deployment", "miner", "--image=example.test/miner:1"),
        f"Deployment {SPACE}/miner",
        "",
        "kubectl-create",
        "added",
    ),
    "label": Manual(
        ("label", "namespace/team-vision", "kiban.dev/owner=mallory", "--overwrite"),
        "Namespace team-vision",
        'metadata.labels["kiban.dev/owner"]',
        "kubectl-label",
        "label",
    ),
    "NetworkPolicy removed": Manual(
        ("delete", "networkpolicy/default-deny", "--namespace=team-vision"),
        "NetworkPolicy team-vision/default-deny",
        "",
        "not recorded",
        "deleted",
    ),
    "quota raised": Manual(
        ("edit", "resourcequota/devices", "--namespace=team-vision"),
        "ResourceQuota team-vision/devices",
        'spec.hard["requests.nvidia.com/gpu"]',
        "kubectl-edit",
        "quota",
    ),
    "CRD changed": Manual(
        (
            *patch("crd/probes.monitoring.coreos.com", {"op": "add", "path": OPEN, "value": True}),
            "--field-manager=argocd-controller",
        ),
        "CustomResourceDefinition probes.monitoring.coreos.com",
        "spec.versions[0].schema.openAPIV3Schema.properties.spec.x-kubernetes-preserve-unknown-fields",
        "argocd-controller",
        "definition",
    ),
    "finalizer": Manual(
        ("patch", "service/prometheus", "--type=merge", '--patch={"metadata":{"finalizers":["example.test/stuck"]}}'),
        f"Service {SPACE}/prometheus",
        'metadata.finalizers["example.test/stuck"]',
        "kubectl-patch",
        "finalizer",
    ),
}


@pytest.fixture(scope="module")
def monitored(checkout: Checkout) -> Iterator[Checkout]:
    """Yield the checkout with `ci` up on simulated nodes, where only monitoring is left of what needs controllers."""
    file = checkout.root / "stacks" / "_schema.py"
    text = file.read_text()
    assert text.count("monitoring=None,\n") == 1
    file.write_text(text.replace("monitoring=None,\n", "\n"))
    checkout.environ["KIBAN_REAL_NODE"] = "0"
    checkout.run("up", "ci")
    yield checkout
    checkout.run("cluster", "down", "ci")


def drift(checkout: Checkout, *, expect: int) -> list[dict[str, str]]:
    """Return the items of the verb."""
    items: list[dict[str, str]] = checkout.json("drift", "ci", expect=expect)["items"]
    return items


def test_an_untouched_environment_has_no_drift(monitored: Checkout, record: Record) -> None:
    """Also while a team works and Kubernetes' controllers do, for five minutes."""
    job = ("create", "job", "work", "--image=example.test/work:1", "--namespace=team-vision")
    monitored.kubectl("ci", *job)
    monitored.kubectl("ci", "create", "configmap", "notes", "--namespace=team-vision")
    began = time.monotonic()
    looks = 0
    while time.monotonic() - began < 300:  # seconds
        assert drift(monitored, expect=0) == []
        looks += 1
        time.sleep(20)
    record(
        line="9.4 drift of an untouched environment",
        evidence="simulated",
        figure=f"no finding in {looks} looks over {time.monotonic() - began:.0f} s",
        goal="no false finding",
        command="./kiban drift ci",
    )


def test_manual_changes_are_found_and_attributed(monitored: Checkout, record: Record) -> None:
    """Each with its field, manager and time, and nothing is found but them; of a Secret no value is shown."""
    began = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    for change in CHANGES.values():
        where = () if any(word.startswith("--namespace") for word in change.words) else (f"--namespace={SPACE}",)
        by_hand(monitored, *change.words, *where, stdin=change.stdin)
    items = drift(monitored, expect=1)
    found = {(item["object"], item["field"], item["manager"], item["change"]) for item in items}
    asked = {(one.object, one.field, one.manager, one.change) for one in CHANGES.values()}
    record(
        line="9.4 manual changes",
        evidence="executed",
        figure=f"{len(asked & found)} of {len(asked)} kinds found and attributed, {len(found - asked)} other findings",
        goal="12 of 12 kinds, nothing else",
        command="./kiban drift ci",
    )
    assert found == asked
    for item in items:
        if item["change"] not in ("deleted", "scaled"):  # of these the API server keeps no time
            assert began <= dt.datetime.fromisoformat(item["at"]) <= dt.datetime.now(dt.UTC)
        if item["field"]:
            assert item["released"] != item["live"]
    said = monitored.run("drift", "ci", expect=1).stdout + json.dumps(items)
    assert SECRET not in said
    assert base64.b64encode(SECRET.encode()).decode() not in said


def by_hand(checkout: Checkout, *words: str, stdin: str | None) -> None:
    """Run kubectl, with an editor that raises a quota where one is asked for."""
    if words[0] != "edit":
        checkout.kubectl("ci", *words, stdin=stdin)
        return
    quoted = " ".join(words)
    checkout.shell(f"""
        eval "$(./kiban env ci)"
        EDITOR='sed -i s,gpu:.\\"12\\",gpu:\\ \\"99\\",' "$(./kiban tools path kubectl)" {quoted}
    """)
