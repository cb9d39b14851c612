"""What a cluster with a real node has from the start: DNS, a storage class, who may do what, where pods go.

Pure: path to manifest, applied by the caller in this order.
"""

from collections.abc import Iterable

from infra.clusters.embedded import placement, rbac
from infra.clusters.embedded.api import Object
from infra.clusters.embedded.layout import Layout
from infra.clusters.embedded.rbac import Rule

COREDNS = "registry.k8s.io/coredns/coredns:v1.12.4"
IMAGES = "/api/v1/namespaces/kube-system/configmaps/" + placement.NAME
PROVISIONER = "kiban.dev/local-path"
_WATCH = ["get", "list", "watch"]
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_ROLES: dict[str, list[Rule]] = {
    "kiban:kube-router": [
        ("", ["namespaces", "nodes", "pods", "services", "endpoints"], _WATCH),
        ("discovery.k8s.io", ["endpointslices"], _WATCH),
        ("networking.k8s.io", ["networkpolicies"], _WATCH),
    ],
    "kiban:local-path": [
        ("", ["persistentvolumes"], [*_WATCH, "create", "delete", "patch"]),
        ("", ["persistentvolumeclaims"], [*_WATCH, "update"]),
        ("", ["nodes"], _WATCH),
        ("", ["events"], ["create", "patch", "update"]),
        ("storage.k8s.io", ["storageclasses"], _WATCH),
    ],
    "kiban:coredns": [
        ("", ["namespaces", "services"], ["list", "watch"]),
        ("discovery.k8s.io", ["endpointslices"], ["list", "watch"]),
    ],
}
_COREDNS_USER = "system:serviceaccount:kube-system:coredns"
_COREFILE = """.:53 {
    errors
    health {
        lameduck 1s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
    }
    cache 30
    reload
    loadbalance
}
"""


def permissions() -> dict[str, Object]:
    """What the node's own processes and its DNS may do."""
    users = {name: name for name in _ROLES} | {"kiban:coredns": _COREDNS_USER}
    roles = (rbac.role(name, rules) for name, rules in _ROLES.items())
    return dict(roles) | dict(rbac.binding(name, role=name, user=user) for name, user in users.items())


def rules(images: Iterable[str]) -> dict[str, Object]:
    """Where pods go. images: the references that the real node has."""
    return {
        IMAGES: placement.images(images),
        f"{_ADMISSION}/mutatingadmissionpolicies/{placement.NAME}": placement.policy(),
        f"{_ADMISSION}/mutatingadmissionpolicybindings/{placement.NAME}": placement.binding(),
        f"{_ADMISSION}/mutatingadmissionpolicies/{placement.KEEPING}": placement.keeping(),
        f"{_ADMISSION}/mutatingadmissionpolicybindings/{placement.KEEPING}": placement.keeping_binding(),
    }


def workloads(at: Layout) -> dict[str, Object]:
    """What is there from the start, once the rules hold."""
    found: dict[str, Object] = {}
    found["/apis/storage.k8s.io/v1/storageclasses/local-path"] = _storage_class()
    core = "/api/v1/namespaces/kube-system"
    found[f"{core}/serviceaccounts/coredns"] = _named("v1", "ServiceAccount")
    found[f"{core}/configmaps/coredns"] = _named("v1", "ConfigMap") | {"data": {"Corefile": _COREFILE}}
    found["/apis/apps/v1/namespaces/kube-system/deployments/coredns"] = _coredns()
    found[f"{core}/services/kube-dns"] = _dns(at.dns)
    return found


def _named(version: str, kind: str, name: str = "coredns") -> Object:
    labels = {"k8s-app": "kube-dns"}
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": "kube-system", "labels": labels},
    }


def _storage_class() -> Object:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "local-path",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": PROVISIONER,
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
    }


def _coredns() -> Object:
    def probe(path: str, port: int) -> Object:
        return {"httpGet": {"path": path, "port": port}, "periodSeconds": 2}

    container = {
        "name": "coredns",
        "image": COREDNS,
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}, {"name": "dns-tcp", "containerPort": 53}],
        "livenessProbe": probe("/health", 8080),
        "readinessProbe": probe("/ready", 8181),
        "resources": {"requests": {"cpu": "100m", "memory": "70Mi"}, "limits": {"memory": "170Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
    }
    return _named("apps/v1", "Deployment") | {
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"k8s-app": "kube-dns"}},
            "template": {
                "metadata": {"labels": {"k8s-app": "kube-dns"}},
                "spec": {
                    "serviceAccountName": "coredns",
                    "priorityClassName": "system-cluster-critical",
                    "dnsPolicy": "Default",
                    "containers": [container],
                    "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
                },
            },
        }
    }


def _dns(address: str) -> Object:
    ports = [{"name": f"dns-{protocol.lower()}", "port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    return _named("v1", "Service", "kube-dns") | {
        "spec": {"clusterIP": address, "selector": {"k8s-app": "kube-dns"}, "ports": ports}
    }
