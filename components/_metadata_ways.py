"""Who reaches the metadata store, and what it reaches: NetworkPolicies of its namespace and of those with clients."""

from collections.abc import Sequence
from typing import Any

from components._databases import ExternalDatabase, InCluster
from components._labels import TEAM, selector
from components._metadata import KUBEFLOW, NAMESPACE, PORTS, MetadataStoreArgs, store_at
from components._network import tcp
from components._object_store import ExternalObjectStore


def own_policies(instance: str, outside: Sequence[int]) -> dict[str, dict[str, Any]]:
    """NetworkPolicies of the metadata namespace, by name: who comes in from other namespaces, and what goes out.

    outside: ports of what is not in the cluster.
    """
    teams = {"namespaceSelector": {"matchExpressions": [{"key": TEAM, "operator": "Exists"}]}}
    kubeflow = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": KUBEFLOW}}}
    clients = {"mlflow": [teams, kubeflow], "object-store": [teams, kubeflow], "mysql": [kubeflow]}
    opened: dict[str, dict[str, Any]] = {
        f"allow-clients-of-{component}": {
            "podSelector": {"matchLabels": selector(component, instance)},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": those, "ports": tcp(PORTS[component])}],
        }
        for component, those in clients.items()
    }
    if outside:
        ports = tcp(*sorted(set(outside)))
        opened["allow-outside"] = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": ports}]}
    return opened


def reach(args: MetadataStoreArgs, *, mysql: bool) -> dict[str, Any]:
    """Spec of the NetworkPolicy that lets a namespace's pods out to MLflow and the object store, and to MySQL."""
    parts = {"mlflow": InCluster(storage_gib=1), "object-store": args.object_store} | (
        {"mysql": args.mysql} if mysql else {}
    )
    there = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}}
    within = tcp(*(PORTS[name] for name, part in parts.items() if isinstance(part, InCluster)))
    beyond = [store_at(args).port] if isinstance(args.object_store, ExternalObjectStore) else []
    beyond += [args.mysql.port] if mysql and isinstance(args.mysql, ExternalDatabase) else []
    egress: list[dict[str, Any]] = [{"to": [there], "ports": within}]
    egress += [{"ports": tcp(*beyond)}] if beyond else []
    return {"podSelector": {}, "policyTypes": ["Egress"], "egress": egress}
