"""The simulated provider of Cluster API: a process that makes a simulated node for every machine (contract v1beta2).

The cluster that it makes machines for is the one that the secret CLUSTER-kubeconfig leads to; where there is none it
writes one that leads to the API server it runs beside. So a cluster can be its own machines' cluster, or another's.
A machine's node stays gone once it is lost: replacing machines is Cluster API's matter.
"""

import base64
import binascii
import datetime as dt
import hashlib
import http.client
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from infra.clusters.embedded.api import Api, Object, Refused, Unanswered
from infra.clusters.embedded.clusterapi import BOOTSTRAP, CONTROL_PLANE, INFRASTRUCTURE, PROVIDER, VERSION
from infra.clusters.simulated_node import ZONES, manifest
from infra.console import say

_CLUSTER = "cluster.x-k8s.io/cluster-name"
_PAUSED = "cluster.x-k8s.io/paused"
_FINALIZER = "simulatedmachine.infrastructure.cluster.x-k8s.io"
_CORE = "/apis/cluster.x-k8s.io/v1beta2"
_EVERY = 0.5  # seconds between two looks
_ADDRESSES = range(16_000, 32_000)


class Provider:
    """One provider. api: of the cluster that has the objects; kubeconfig: a file that leads there."""

    def __init__(self, api: Api, kubeconfig: Path, say: Callable[[str], None]) -> None:
        self._api = api
        self._kubeconfig = kubeconfig
        self._say = say
        self._workloads: dict[str, Api] = {}

    def work(self) -> None:
        """Do what the objects ask for, once; what cannot be done now is tried at the next look."""
        for group, plural, do in (
            (INFRASTRUCTURE, "simulatedclusters", self._cluster),
            (CONTROL_PLANE, "simulatedcontrolplanes", self._control_plane),
            (BOOTSTRAP, "simulatedconfigs", self._config),
            (INFRASTRUCTURE, "simulatedmachines", self._machine),
        ):
            for each in self._api.get(f"/apis/{group}/{VERSION}/{plural}")["items"]:
                if _is_done(each):
                    continue
                name, namespace = each["metadata"]["name"], each["metadata"]["namespace"]
                try:
                    if not self._waits(each):
                        do(each, f"/apis/{group}/{VERSION}/namespaces/{namespace}/{plural}/{name}")
                except (Refused, Unanswered) as error:
                    self._say(f"{plural} {namespace}/{name}: {error}")

    def _waits(self, each: Object) -> bool:
        """Whether it has no cluster yet, or is paused (while it is moved to another management cluster)."""
        meta = each["metadata"]
        cluster = meta.get("labels", {}).get(_CLUSTER)
        if cluster is None or _PAUSED in meta.get("annotations", {}):
            return True
        found = self._found(f"{_CORE}/namespaces/{meta['namespace']}/clusters/{cluster}")
        return found is None or bool(found["spec"].get("paused"))

    def _cluster(self, each: Object, path: str) -> None:
        if "controlPlaneEndpoint" not in each.get("spec", {}):
            at = urlsplit(self._server())
            self._api.merge(path, {"spec": {"controlPlaneEndpoint": {"host": at.hostname, "port": at.port}}})
        domains = [{"name": zone, "controlPlane": False} for zone in ZONES]
        self._status(path, {"initialization": {"provisioned": True}, "failureDomains": domains}, "Ready", "Provisioned")

    def _control_plane(self, each: Object, path: str) -> None:
        meta = each["metadata"]
        cluster, namespace = meta["labels"][_CLUSTER], meta["namespace"]
        secret = f"/api/v1/namespaces/{namespace}/secrets"
        if self._found(f"{secret}/{cluster}-kubeconfig") is None:
            self._api.create(secret, self._secret(cluster, each))
        workload = self._workload(namespace, cluster)
        if workload is None:
            return
        version = workload.get("/version")["gitVersion"]
        asked = each.get("spec", {}).get("version", version)
        if asked != version:
            problem = f"spec.version is {asked}; accepted: {version}, which the API server has"
            if all(one["message"] != problem for one in each.get("status", {}).get("conditions", ())):
                self._status(path, {}, "Available", "OtherVersion", problem)
            return
        status = {"initialization": {"controlPlaneInitialized": True}, "externalManagedControlPlane": True}
        self._status(path, {**status, "version": version}, "Available", "Running")

    def _config(self, each: Object, path: str) -> None:
        """A machine needs nothing to become a node: the secret is named only."""
        status = {"initialization": {"dataSecretCreated": True}, "dataSecretName": each["metadata"]["name"]}
        self._status(path, status, "Ready", "Made")

    def _machine(self, each: Object, path: str) -> None:
        meta = each["metadata"]
        name, namespace, cluster = meta["name"], meta["namespace"], meta["labels"][_CLUSTER]
        workload, finalizers = self._workload(namespace, cluster), meta.get("finalizers", [])
        if meta.get("deletionTimestamp"):
            if workload:
                workload.delete(f"/api/v1/nodes/{name}")
            left = [one for one in finalizers if one != _FINALIZER]
            self._api.merge(path, {"metadata": {"finalizers": left, "resourceVersion": meta["resourceVersion"]}})
            return
        owner = next((one["name"] for one in meta.get("ownerReferences", ()) if one["kind"] == "Machine"), None)
        machine = self._found(f"{_CORE}/namespaces/{namespace}/machines/{owner}") if owner else None
        if workload is None or machine is None or "dataSecretName" not in machine["spec"].get("bootstrap", {}):
            return
        identity = f"simulated://{namespace}/{name}"
        held = [*finalizers, *({_FINALIZER} - {*finalizers})]
        self._api.merge(path, {"metadata": {"finalizers": held}, "spec": {"providerID": identity}})
        number = int(hashlib.sha256(name.encode()).hexdigest(), 16)
        zone = machine["spec"].get("failureDomain") or ZONES[number % len(ZONES)]
        spec, registered = each.get("spec", {}), self._registered(machine, namespace)
        node = manifest(
            name,
            labels={**spec.get("labels", {}), **registered.get("labels", {})},
            taints=registered.get("taints", ()),
            resources=spec.get("capacity", {}),
            number=_ADDRESSES[number % len(_ADDRESSES)],
            zone=zone,
            provider_id=identity,
        )
        workload.apply(f"/api/v1/nodes/{name}", _timed(node))
        status = {
            "initialization": {"provisioned": True},
            "addresses": node["status"]["addresses"],
            "failureDomain": zone,
        }
        self._status(path, status, "Ready", "Running")

    def _registered(self, machine: Object, namespace: str) -> Object:
        """What a kubelet registers its node with: the labels and taints of the machine's bootstrap configuration."""
        name = machine["spec"]["bootstrap"].get("configRef", {}).get("name")
        path = f"/apis/{BOOTSTRAP}/{VERSION}/namespaces/{namespace}/simulatedconfigs/{name}"
        found = self._found(path) if name else None
        return found.get("spec", {}) if found else {}

    def _status(self, path: str, status: Mapping[str, Any], condition: str, reason: str, problem: str = "") -> None:
        state = "False" if problem else "True"
        one = {"type": condition, "status": state, "reason": reason, "message": problem, "lastTransitionTime": _now()}
        self._api.merge(f"{path}/status", {"status": {**status, "conditions": [one]}})

    def _found(self, path: str) -> Object | None:
        try:
            return self._api.get(path)
        except Refused as refused:
            if refused.status != http.client.NOT_FOUND:
                raise
            return None

    def _server(self) -> str:
        server: str = yaml.safe_load(self._kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        return server

    def _secret(self, cluster: str, owner: Object) -> Object:
        meta = owner["metadata"]
        reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"]}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "cluster.x-k8s.io/secret",
            "metadata": {
                "name": f"{cluster}-kubeconfig",
                "labels": {_CLUSTER: cluster},
                "ownerReferences": [reference | {"controller": True, "blockOwnerDeletion": True}],
            },
            "data": {"value": base64.b64encode(self._kubeconfig.read_bytes()).decode()},
        }

    def _workload(self, namespace: str, cluster: str) -> Api | None:
        """The API of the cluster that the machines are for; None before it has one, and once it is gone."""
        secret = self._found(f"/api/v1/namespaces/{namespace}/secrets/{cluster}-kubeconfig")
        if secret is None:
            return None
        value: str = secret["data"]["value"]
        if value not in self._workloads:
            self._workloads[value] = _connected(yaml.safe_load(base64.b64decode(value)))
        return self._workloads[value]


def _connected(kubeconfig: Object) -> Api:
    """The API server of a kubeconfig with one cluster and one user, which has a certificate."""
    cluster, user = kubeconfig["clusters"][0]["cluster"], kubeconfig["users"][0]["user"]
    try:
        parts = {
            "ca.crt": cluster["certificate-authority-data"],
            "admin.crt": user["client-certificate-data"],
            "admin.key": user["client-key-data"],
        }
        with tempfile.TemporaryDirectory(prefix="kiban-") as folder:
            for name, content in parts.items():
                Path(folder, name).write_bytes(base64.b64decode(content))
            return Api(cluster["server"], pki=Path(folder))
    except (KeyError, binascii.Error, OSError) as error:
        raise Unanswered(f"the kubeconfig of its secret has no usable certificate ({error})") from error


def _is_done(each: Object) -> bool:
    """Whether nothing is left to do: it is there, or it goes and holds nothing."""
    meta = each["metadata"]
    if meta.get("deletionTimestamp"):
        return _FINALIZER not in meta.get("finalizers", ())
    return bool(each.get("status", {}).get("initialization"))


def _timed(node: Object) -> Object:
    times = {"lastHeartbeatTime": _now(), "lastTransitionTime": _now()}
    return {**node, "status": {**node["status"], "conditions": [one | times for one in node["status"]["conditions"]]}}


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def main(folder: str, server: str) -> None:
    """Work until the process is ended."""
    where = Path(folder)
    provider = Provider(Api(server, pki=where / "pki", user=PROVIDER), where / "kubeconfig", say)
    while True:
        try:
            provider.work()
        except (Refused, Unanswered) as error:
            say(str(error))
        time.sleep(_EVERY)


if __name__ == "__main__":
    main(*sys.argv[1:3])
