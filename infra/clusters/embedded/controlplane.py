"""The control plane of an embedded cluster: what runs, and with which flags. Pure: nothing is started here."""

import hashlib
import ipaddress
from pathlib import Path

from infra.clusters.embedded.layout import Layout
from infra.clusters.embedded.processes import Process

NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")
STAGES = Path(__file__).with_name("stages.yaml").read_text()
"""How simulated nodes and pods live."""
STORE = ("etcd", "kube-apiserver")  # all others are clients of these
LEASE_SECONDS = 200  # each node's lease is renewed four times in it: 1,000 nodes make 20 requests a second
# Go's collector runs at its default of 100 where a platform is to live: with that one's kinds, at 30, it took 236 of
# the 359 s that the API server had of a processor in a rehearsal. On simulated nodes alone it runs more often: 473 MiB
# in all instead of 533, for a quarter more of the API server's time
_COLLECTOR, _COLLECTOR_OF_THE_LARGEST = {"GOGC": "50"}, {"GOGC": "30"}


def stages(at: Layout) -> Path:
    """Where kwok finds STAGES: of the same name for every checkout that has the same, so that none restarts it."""
    return at.folder / f"stages-{hashlib.sha256(STAGES.encode()).hexdigest()[:12]}.yaml"


def processes(layout: Layout, *, pods: bool) -> dict[str, Process]:
    """Name to process, in the order of starting. pods: whether there is a node that runs them."""
    arguments = {
        "etcd": _etcd(layout),
        "kube-apiserver": _apiserver(layout),
        "kube-controller-manager": _controller_manager(layout),
        "kube-scheduler": _scheduler(layout),
        "kwok": _kwok(layout),
    }
    return {
        name: Process(
            name=name,
            arguments=tuple(f"--{flag}={value}" for flag, value in arguments[name].items()),
            environment={} if pods else _COLLECTOR_OF_THE_LARGEST if name == "kube-apiserver" else _COLLECTOR,
        )
        for name in NAMES
    }


Flags = dict[str, object]


def _etcd(at: Layout) -> Flags:
    client, peer = (f"https://127.0.0.1:{at.network.ports[name]}" for name in ("etcd", "etcd-peer"))
    return {
        "name": "kiban",
        "data-dir": at.folder / "etcd",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"kiban={peer}",
        "cert-file": at.pki("etcd.crt"),
        "key-file": at.pki("etcd.key"),
        "trusted-ca-file": at.pki("etcd-ca.crt"),
        "client-cert-auth": "true",
        "peer-cert-file": at.pki("etcd.crt"),
        "peer-key-file": at.pki("etcd.key"),
        "peer-trusted-ca-file": at.pki("etcd-ca.crt"),
        "peer-client-cert-auth": "true",
        "unsafe-no-fsync": "true",  # what a process wrote survives its death; only the machine's loses it
        "heartbeat-interval": 20,  # milliseconds; the only member waits an election out before it serves
        "election-timeout": 100,
        "log-format": "console",
    }


def _apiserver(at: Layout) -> Flags:
    flags: Flags = {
        "bind-address": at.network.bind,
        "advertise-address": at.network.address,
        "secure-port": at.network.ports["kube-apiserver"],
        "etcd-servers": f"https://127.0.0.1:{at.network.ports['etcd']}",
        "etcd-cafile": at.pki("etcd-ca.crt"),
        "etcd-certfile": at.pki("etcd-client.crt"),
        "etcd-keyfile": at.pki("etcd-client.key"),
        "service-cluster-ip-range": at.services,
        "client-ca-file": at.pki("ca.crt"),
        "tls-cert-file": at.pki("apiserver.crt"),
        "tls-private-key-file": at.pki("apiserver.key"),
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": at.pki("service-accounts.pub"),
        "service-account-signing-key-file": at.pki("service-accounts.key"),
        "kubelet-certificate-authority": at.pki("ca.crt"),
        "kubelet-client-certificate": at.pki("kubelet-client.crt"),
        "kubelet-client-key": at.pki("kubelet-client.key"),
        "kubelet-preferred-address-types": "InternalIP",  # else logs and exec look the node's name up in DNS
        "authorization-mode": "Node,RBAC",
        "anonymous-auth": "false",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "enable-aggregator-routing": "true",  # the API server has no route to ClusterIPs
        "requestheader-client-ca-file": at.pki("front-proxy-ca.crt"),
        "proxy-client-cert-file": at.pki("front-proxy.crt"),
        "proxy-client-key-file": at.pki("front-proxy.key"),
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "profiling": "false",
    }
    if ipaddress.ip_address(at.network.address).is_loopback:
        flags["endpoint-reconciler-type"] = "none"  # an endpoint may not be a loopback address
    return flags


def _controller_manager(at: Layout) -> Flags:
    return {
        **_client(at, "kube-controller-manager"),
        "service-account-private-key-file": at.pki("service-accounts.key"),
        "root-ca-file": at.pki("ca.crt"),
        "cluster-signing-cert-file": at.pki("ca.crt"),
        "cluster-signing-key-file": at.pki("ca.key"),
        "use-service-account-credentials": "true",
        "allocate-node-cidrs": "false",  # a /16 holds only 256 nodes' ranges
        "node-monitor-grace-period": f"{LEASE_SECONDS}s",
        "secure-port": "0",
        "profiling": "false",
    }


def _scheduler(at: Layout) -> Flags:
    return {**_client(at, "kube-scheduler"), "secure-port": "0", "profiling": "false"}


def _client(at: Layout, name: str) -> Flags:
    return {
        "kubeconfig": at.pki(f"{name}.kubeconfig"),
        "master": at.server,
        "leader-elect": "false",
        "kube-api-qps": 300,  # by default 20, which is 8 pods a second
        "kube-api-burst": 600,
    }


def _kwok(at: Layout) -> Flags:
    return {
        "kubeconfig": at.pki("kwok.kubeconfig"),
        "master": at.server,
        "config": stages(at),
        "manage-nodes-with-annotation-selector": "kwok.x-k8s.io/node=fake",
        "cidr": at.simulated_pods,
        "node-lease-duration-seconds": LEASE_SECONDS,
    }
