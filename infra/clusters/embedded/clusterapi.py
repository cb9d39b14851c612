"""Cluster API on an embedded cluster: upstream's core controllers, and a provider whose machines are simulated nodes.

Both are processes of the host. The core's webhooks are called at 127.0.0.1, where the API server is, too. What the
provider does is in provider.py; kinds of real providers come with their own controllers, as pods (clusterctl).
"""

import base64
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra import paths
from infra.clusters.embedded import rbac
from infra.clusters.embedded.api import Api, Object, Refused
from infra.clusters.embedded.layout import Layout
from infra.clusters.embedded.processes import Process
from infra.clusters.embedded.rbac import Rule

CORE, PROVIDER = NAMES = ("cluster-api", "simulated-provider")
"""The processes, in the order of starting."""
BOOTSTRAP, CONTROL_PLANE, INFRASTRUCTURE = (
    f"{part}.cluster.x-k8s.io" for part in ("bootstrap", "controlplane", "infrastructure")
)
VERSION = "v1alpha1"
"""Of the simulated kinds."""
_CONTRACT = "v1beta2"
_KINDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_EVERY = ["get", "list", "watch", "create", "update", "patch", "delete"]
_ROLE: list[Rule] = [
    ("cluster.x-k8s.io", ["clusters", "machines"], ["get", "list"]),
    *((group, ["*"], _EVERY) for group in (BOOTSTRAP, CONTROL_PLANE, INFRASTRUCTURE)),
    ("", ["secrets"], ["get", "create"]),
]


def processes(at: Layout) -> dict[str, Process]:
    """Name to process, in the order of starting."""
    core: dict[str, object] = {
        "kubeconfig": at.pki(f"{CORE}.kubeconfig"),
        "webhook-port": at.network.ports[CORE],
        "webhook-cert-dir": at.pki("."),
        "webhook-cert-name": f"{CORE}.crt",
        "webhook-key-name": f"{CORE}.key",
        "health-addr": "0",
        "diagnostics-address": "0",
        "insecure-diagnostics": "true",
        "kube-api-qps": 300,
        "kube-api-burst": 600,
        "clustercache-client-qps": 300,  # by default 20, of a Machine that has several requests to the cluster
        "clustercache-client-burst": 600,
        "feature-gates": "MachineTaintPropagation=true",
        "additional-sync-machine-labels": ".*",  # by default only those of three domains come to the node
        "v": 1,
    }
    source = hashlib.sha256(Path(__file__).with_name("provider.py").read_bytes()).hexdigest()[:12]
    provider = ("-P", "-m", "infra.clusters.embedded.provider", str(at.folder), at.server, source)
    return {
        CORE: Process(name=CORE, arguments=tuple(f"--{flag}={value}" for flag, value in core.items())),
        PROVIDER: Process(
            name=PROVIDER,
            arguments=provider,
            environment={"PYTHONPATH": str(paths.ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"},
            program=Path(sys.executable),
        ),
    }


def objects(at: Layout) -> dict[str, Object]:
    """Kinds, permissions and webhooks: the path to apply each to, in this order."""
    from infra import charts  # noqa: PLC0415 - loads Pulumi, which takes 1 s

    called = {
        "url": f"https://127.0.0.1:{at.network.ports[CORE]}",
        "caBundle": base64.b64encode(at.pki("ca.crt").read_bytes()).decode(),
    }
    converted = (_converting(each, called) for each in charts.crds(CORE).values())
    kinds = (*charts.crds("clusterctl").values(), *converted, *simulated_kinds())
    found = {f"{_KINDS}/{each['metadata']['name']}": each for each in kinds}
    found |= dict(
        [
            rbac.binding(f"kiban:{CORE}", role="cluster-admin", user=f"kiban:{CORE}"),
            rbac.role(f"kiban:{PROVIDER}", _ROLE),
            rbac.binding(f"kiban:{PROVIDER}", role=f"kiban:{PROVIDER}", user=f"kiban:{PROVIDER}"),
        ]
    )
    for each in charts.webhooks(CORE):
        found[f"/apis/admissionregistration.k8s.io/v1/{each['kind'].lower()}s/{CORE}"] = {
            **each,
            "metadata": {"name": CORE},
            "webhooks": [_called(webhook, called) for webhook in each["webhooks"]],
        }
    return found


def ready(api: Api) -> bool:
    """Whether the webhooks answer: they start last."""
    cluster = {
        "apiVersion": f"cluster.x-k8s.io/{_CONTRACT}",
        "kind": "Cluster",
        "metadata": {"name": "ready"},
        "spec": {"infrastructureRef": {"apiGroup": INFRASTRUCTURE, "kind": "SimulatedCluster", "name": "ready"}},
    }
    try:
        api.dry_run(f"/apis/cluster.x-k8s.io/{_CONTRACT}/namespaces/default/clusters", cluster)
    except Refused:
        return False
    return True


def _converting(kind: Object, called: dict[str, str]) -> Object:
    """Upstream's kind, converted between its versions by the core's webhook, and found by clusterctl."""
    labels = {"cluster.x-k8s.io/provider": CORE, "clusterctl.cluster.x-k8s.io": ""}
    webhook = {"conversionReviewVersions": ["v1"], "clientConfig": {**called, "url": f"{called['url']}/convert"}}
    meta = {**kind["metadata"], "labels": {**kind["metadata"].get("labels", {}), **labels}}
    spec = {**kind["spec"], "conversion": {"strategy": "Webhook", "webhook": webhook}}
    return {"apiVersion": kind["apiVersion"], "kind": kind["kind"], "metadata": meta, "spec": spec}


def _called(webhook: Object, called: dict[str, str]) -> Object:
    """One of upstream's webhooks, at the address instead of its service."""
    path = webhook["clientConfig"]["service"]["path"]
    return {**webhook, "clientConfig": {**called, "url": called["url"] + path}}


def simulated_kinds() -> Iterator[Object]:
    """The kinds of the provider, as Cluster API's contract v1beta2 asks for them.

    A machine has what is found out on a node: devices and their labels. Its configuration has what a kubelet is told.
    """
    text = {"type": "string"}
    texts = {"type": "object", "additionalProperties": text}
    taint = {
        "type": "object",
        "required": ["key", "effect"],
        "properties": dict.fromkeys(("key", "value", "effect"), text),
    }
    endpoint = _object(host=text, port={"type": "integer"})
    machine = _object(providerID=text, labels=texts, capacity=texts)
    config = _object(labels=texts, taints={"type": "array", "items": taint})
    yield _kind(INFRASTRUCTURE, "SimulatedCluster", _object(controlPlaneEndpoint=endpoint))
    yield _kind(CONTROL_PLANE, "SimulatedControlPlane", _object(version=text))
    for group, kind, spec in ((INFRASTRUCTURE, "SimulatedMachine", machine), (BOOTSTRAP, "SimulatedConfig", config)):
        yield _kind(group, kind, spec)
        template = _object(metadata=_object(labels=texts, annotations=texts), spec=spec)
        yield _kind(group, f"{kind}Template", _object(template=template))


def _object(**properties: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON schema
    return {"type": "object", "properties": properties}


def _kind(group: str, kind: str, spec: dict[str, Any]) -> Object:
    plural = f"{kind.lower()}s"
    status = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}  # only the provider writes it
    labels = {
        f"cluster.x-k8s.io/{_CONTRACT}": VERSION,
        "cluster.x-k8s.io/provider": f"{group.partition('.')[0]}-simulated",
        "clusterctl.cluster.x-k8s.io": "",
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}", "labels": labels},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": _object(spec=spec, status=status)},
                }
            ],
        },
    }
