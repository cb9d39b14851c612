"""Which connections a pod needs, as far as its objects say: to Services that it is told of, DNS, and the API server.

What counts as told: `scheme://host:port` or `host:port` in an environment variable, a command, an argument or a
ConfigMap that is mounted; and a pair of variables such as PGHOST and PGPORT. A name without a port may be anything (a
name in a certificate), and is left out; so is what is in Secrets, which a rehearsal does not read.
"""

import dataclasses as dc
import re
from collections.abc import Iterator, Mapping

from infra.rehearsal.snapshot import Object, Snapshot

_URL = re.compile(
    r"(?:(?P<scheme>https?)://(?:[^\s/@]*@)?)?(?<![\w.-])"
    r"(?P<host>[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)\.?(?::(?P<port>\d{1,5}))?"
    r"(?![\w-]|[.:]\w)"  # a tag or a time goes on after it
)
_PORTS = {"http": 80, "https": 443}
_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
_API_SERVER, _DNS = ("default", "kubernetes"), ("kube-system", "kube-dns")
_DNS_PORT = 53


@dc.dataclass(frozen=True, kw_only=True)
class Flow:
    """A connection to a Service's port. said: where the pod is told of it."""

    namespace: str
    service: str
    port: int
    protocol: str = "TCP"
    said: str


class Told:
    """What a cluster's pods are told of."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._services = {_key(each): each for each in snapshot.all("Service")}
        self._configs = {_key(each): each.get("data") or {} for each in snapshot.all("ConfigMap")}
        bindings = snapshot.all("RoleBinding.rbac.authorization.k8s.io", "ClusterRoleBinding.rbac.authorization.k8s.io")
        subjects = (one for each in bindings for one in each.get("subjects") or ())
        self._bound = {(one.get("namespace", ""), one["name"]) for one in subjects if one["kind"] == "ServiceAccount"}

    def flows(self, namespace: str, spec: Object) -> list[Flow]:
        """The connections of a pod of that spec, each once."""
        found: dict[tuple[str, str, int, str], Flow] = {}
        for flow in (
            *self._of_cluster(namespace, spec),
            *self._of_text(namespace, spec),
            *self._of_pairs(namespace, spec),
        ):
            found.setdefault((flow.namespace, flow.service, flow.port, flow.protocol), flow)
        return list(found.values())

    def _of_cluster(self, namespace: str, spec: Object) -> Iterator[Flow]:
        if spec.get("dnsPolicy", "ClusterFirst") == "ClusterFirst" and _DNS in self._services:
            for protocol in ("UDP", "TCP"):
                yield _flow(_DNS, _DNS_PORT, "DNS", protocol)
        mounts = (mount["mountPath"] for each in _containers(spec) for mount in each.get("volumeMounts") or ())
        account = spec.get("serviceAccountName", "default")
        if _API_SERVER in self._services and (namespace, account) in self._bound and _TOKEN in mounts:
            yield _flow(_API_SERVER, 443, f"the token of ServiceAccount {account}, which has rights")

    def _of_text(self, namespace: str, spec: Object) -> Iterator[Flow]:
        for said, text in self._texts(namespace, spec):
            for match in _URL.finditer(text):
                port = match["port"] or _PORTS.get(match["scheme"] or "")
                if port:
                    yield from self._resolved(namespace, match["host"], int(port), said)

    def _of_pairs(self, namespace: str, spec: Object) -> Iterator[Flow]:
        for container in _containers(spec):
            env = dict(self._env(namespace, container))
            for variable, host in env.items():
                for other in (f"{variable}_PORT", f"{variable.removesuffix('HOST')}PORT"):
                    if other != variable and env.get(other, "").isdecimal():
                        yield from self._resolved(namespace, host, int(env[other]), f"{variable} and {other}")

    def _resolved(self, namespace: str, host: str, port: int, said: str) -> Iterator[Flow]:
        """The Service that a host name means to a pod of the namespace, if there is one with that port."""
        match host.removesuffix(".").removesuffix(".cluster.local").split("."):
            case [service]:
                at = namespace, service
            case [service, space] | [service, space, "svc"]:
                at = space, service
            case _:
                return
        ports = (self._services.get(at) or {"spec": {}})["spec"].get("ports") or ()
        if any(each["port"] == port and each.get("protocol", "TCP") == "TCP" for each in ports):
            yield _flow(at, port, said)

    def _texts(self, namespace: str, spec: Object) -> Iterator[tuple[str, str]]:
        for container in _containers(spec):
            yield from self._env(namespace, container)
            for field in ("command", "args"):
                yield from ((f"{field} of {container['name']}", text) for text in container.get(field) or ())
        mounted = [mount["name"] for each in _containers(spec) for mount in each.get("volumeMounts") or ()]
        for volume in spec.get("volumes") or ():
            sources = [volume, *(volume.get("projected", {}).get("sources") or ())]
            for source in sources if volume["name"] in mounted else ():
                of = source.get("configMap") or {}
                yield from self._files(namespace, of)

    def _files(self, namespace: str, of: Object) -> Iterator[tuple[str, str]]:
        config = of.get("name", "")
        keys = {item["key"] for item in of.get("items") or ()}
        for key, text in self._configs.get((namespace, config), {}).items():
            if not keys or key in keys:
                yield f"{key} of ConfigMap {config}", text

    def _env(self, namespace: str, container: Object) -> Iterator[tuple[str, str]]:
        for each in container.get("envFrom") or ():
            config = self._configs.get((namespace, each.get("configMapRef", {}).get("name", "")), {})
            yield from ((f"{each.get('prefix', '')}{key}", text) for key, text in config.items())
        for each in container.get("env") or ():
            source: Mapping[str, str] = (each.get("valueFrom") or {}).get("configMapKeyRef") or {}
            config = self._configs.get((namespace, source.get("name", "")), {})
            yield each["name"], each.get("value") or config.get(source.get("key", ""), "")


def _flow(at: tuple[str, str], port: int, said: str, protocol: str = "TCP") -> Flow:
    return Flow(namespace=at[0], service=at[1], port=port, protocol=protocol, said=said)


def _containers(spec: Object) -> list[Object]:
    return [*(spec.get("initContainers") or ()), *spec["containers"]]


def _key(each: Object) -> tuple[str, str]:
    return each["metadata"]["namespace"], each["metadata"]["name"]
