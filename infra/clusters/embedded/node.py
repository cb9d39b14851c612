"""The real node of an embedded cluster: what runs on it, with which flags and files. Pure: nothing is started here.

Its programs find their usual places (/var/lib/kubelet, /run/containerd, ...) because they share a mount namespace that
enclosure.sh makes; where that is entered is enclosure.py's matter.
"""

import hashlib
import json
import os
from pathlib import Path

import jinja2
import yaml

from components._labels import POOL
from infra import system
from infra.clusters.embedded.layout import Layout
from infra.clusters.embedded.processes import Process

NAME = "host"
"""The Node object's name."""
NAMES = ("containerd", "kubelet", "kube-proxy", "local-path", "kube-router")
"""What runs for it, in the order of starting: the first makes the mount namespace that all share."""
TOOLS = ("containerd", "containerd-shim-runc-v2", "ctr", "kubelet", "kube-proxy", "kube-router", "local-path")
SOCKET = "/run/containerd/containerd.sock"
VOLUMES = "/var/lib/volumes"
PAUSE = "registry.k8s.io/pause:3.10"
_PODS = 110


def processes(at: Layout) -> dict[str, Process]:
    """Name to process, in the order of starting."""
    flags: dict[str, dict[str, object]] = {
        "containerd": {"config": config(at, "containerd.toml")},
        "kubelet": {
            "config": config(at, "kubelet.yaml"),
            "kubeconfig": at.pki("kubelet.kubeconfig"),
            "hostname-override": NAME,
            "node-ip": at.network.address,
            "node-labels": f"{POOL}={NAME}",
        },
        "kube-proxy": {"config": config(at, "kube-proxy.yaml"), "hostname-override": NAME},
        "kube-router": {
            "kubeconfig": at.pki("kube-router.kubeconfig"),
            "master": at.server,
            "hostname-override": NAME,
            "run-firewall": "true",
            "run-router": "false",
            "run-service-proxy": "false",
            "run-loadbalancer": "false",
            "service-cluster-ip-range": at.services,
            "health-port": 0,
            "metrics-port": 0,
        },
        "local-path": {"kubeconfig": at.pki("local-path.kubeconfig"), "directory": VOLUMES, "node": NAME},
    }
    return {
        name: Process(
            name=name,
            arguments=tuple(f"--{flag}={value}" for flag, value in flags[name].items()),
            environment={"PATH": f"{programs(at)}:{system.PATH}"},
        )
        for name in NAMES
    }


def files(at: Layout, plugins: Path, *, measured: bool) -> dict[Path, str]:
    """Path to content of the files that the processes read.

    plugins: the folder of the CNI plugins. measured: whether the kubelet can say how much space is left.
    """
    containerd = jinja2.Template(
        Path(__file__).with_name("containerd.toml.j2").read_text(),
        variable_start_string="<<",
        variable_end_string=">>",
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    return {
        config(at, "containerd.toml"): containerd.render(
            socket=SOCKET,
            pause=PAUSE,
            plugins=plugins,
            networks=config(at, "net.d"),
        ),
        config(at, "net.d/10-kiban.conflist"): json.dumps(_network(at), indent=2),
        config(at, "resolv.conf"): "",  # the node has no route outside; its pods' own has the cluster's DNS
        config(at, "kubelet.yaml"): yaml.safe_dump(_kubelet(at, measured=measured), sort_keys=False),
        config(at, "kube-proxy.yaml"): yaml.safe_dump(_proxy(at), sort_keys=False),
    }


def folder(at: Layout) -> Path:
    """What the node keeps: images, containers, volumes, logs of pods, and its configuration."""
    return at.folder / "node"


def programs(at: Layout) -> Path:
    """A folder of links to tools that other tools look for by name: containerd its shim, also of pods from before."""
    return folder(at) / "bin"


def cgroup(cluster: Path) -> str:
    """The name of the cgroup under which all pods of the cluster in the folder are, in every hierarchy."""
    return f"kiban-{hashlib.sha256(os.fsencode(cluster)).hexdigest()[:12]}"


def config(at: Layout, name: str) -> Path:
    """A configuration file of the node."""
    return folder(at) / "etc" / name


def _network(at: Layout) -> dict[str, object]:
    return {
        "cniVersion": "1.0.0",
        "name": "kiban",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "kiban0",
                "isGateway": True,
                "ipMasq": False,  # there is nothing beyond the cluster's namespace
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/var/lib/cni/networks",
                    "ranges": [[{"subnet": at.real_pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _kubelet(at: Layout, *, measured: bool) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(at.pki("ca.crt"))},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(at.pki("kubelet.crt")),
        "tlsPrivateKeyFile": str(at.pki("kubelet.key")),
        "clusterDNS": [at.dns],
        "clusterDomain": "cluster.local",
        "resolvConf": str(config(at, "resolv.conf")),
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup(at.folder)}",
        "enforceNodeAllocatable": [],  # it shares the machine: nothing is reserved, pods are not capped as a whole
        "localStorageCapacityIsolation": measured,  # without, it has no figures of volumes, and evicts nothing
        "failSwapOn": False,
        "evictionHard": {"memory.available": "100Mi"},  # not for space, which begins with images: as below
        "imageGCHighThresholdPercent": 100,  # never: an image built here cannot be pulled again
        "imageGCLowThresholdPercent": 99,
        "syncFrequency": "2s",  # how soon a changed Secret is seen in a pod; by default up to two minutes
        "maxPods": _PODS,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "eventRecordQPS": 0,
        "healthzPort": 10248,
    }


def _proxy(at: Layout) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(at.pki("kube-proxy.kubeconfig")), "qps": 100, "burst": 200},
        "clusterCIDR": at.real_pods,
        "nftables": {"minSyncPeriod": "100ms"},
        # the table of connections is the machine's; its bounds cannot be set from the cluster's network namespace
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
            "udpTimeout": "0s",
            "udpStreamTimeout": "0s",
        },
    }
