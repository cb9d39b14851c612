"""A real node without Docker: pods that run, talk, keep their data, and live through the death of what runs them."""

import http.client
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra import paths, status
from infra.clusters import Cluster, embedded
from infra.clusters.embedded import node, placement, processes, realnode
from infra.clusters.nodes import Nodes
from infra.clusters.waiting import until
from infra.errors import RunFailed
from infra.kubectl import Kubectl
from stacks._schema import SystemNodes
from tests.checkout import pod_processes
from tests.conftest import Record
from tests.integration.conftest import POOLS

Object = dict[str, Any]
ONE_NODE = Nodes(system=SystemNodes(count=1))
BUSYBOX = "busybox:1.35.0"
RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 65532,  # an image that was pulled may be root's
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
SERVE = "mkdir -p /tmp/www && echo served > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www"


@pytest.fixture(scope="module")
def cluster(cluster_home: Path) -> Iterator[Cluster]:
    """Return a cluster with a real node, for the tests of this file."""
    assert paths.home() == cluster_home
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIBAN_REAL_NODE", "1")
        yield embedded.up("real", POOLS, say=print)
        embedded.down("real", say=print)


@pytest.fixture(scope="module")
def real(cluster: Cluster) -> Kubectl:
    """Return kubectl on it, with a namespace `try` that has Pod Security."""
    kubectl = Kubectl(cluster.kubeconfig, cluster.context)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl.apply(
        [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "try", "labels": labels}}],
        field_manager="tests",
    )
    return kubectl


def pod(name: str, script: str, *, image: str = BUSYBOX, labels: dict[str, str] | None = None, **spec: Any) -> Object:  # noqa: ANN401
    """Return a pod of one container that runs a shell script; `container` in spec is over the container's own."""
    container = {
        "name": "main",
        "image": image,
        "command": ["sh", "-c", script],
        "securityContext": RESTRICTED,
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
    }
    container |= spec.pop("container", {})
    meta = {"name": name, "namespace": "try", "labels": labels or {"app": name}}
    base = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": base | spec}


def run(kubectl: Kubectl, *objects: Object) -> None:
    """Apply objects and wait until every pod among them is ready or done."""
    kubectl.apply(objects, field_manager="tests")
    for each in objects:
        if each["kind"] == "Pod":
            settled(kubectl, each["metadata"]["name"])


def settled(kubectl: Kubectl, name: str, seconds: float = 60) -> Object:
    """Wait until a pod is ready or done and return it."""

    def there() -> bool:
        now = kubectl.get("pod", name, namespace="try")[0]["status"]
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in now.get("conditions", ()))
        return ready or now["phase"] in {"Succeeded", "Failed"}

    until(there, seconds=seconds, what=f"pod {name}", every=0.2)
    return kubectl.get("pod", name, namespace="try")[0]


def delete(kubectl: Kubectl, *names: str) -> None:
    """Delete objects of the namespace `try` by KIND/NAME and wait until they are gone."""
    kubectl.run("delete", "--namespace=try", "--ignore-not-found", *names)


def inside(kubectl: Kubectl, name: str, *command: str) -> str:
    """Return what a command prints in a pod."""
    return kubectl.run("exec", "--namespace=try", name, "--", *command)


def reaches(kubectl: Kubectl, name: str, url: str) -> bool:
    """Whether a pod gets an answer from a URL."""
    try:
        return "served" in inside(kubectl, name, "timeout", "3", "wget", "-q", "-O", "-", url)
    except RunFailed:
        return False


def test_a_pod_runs_and_is_talked_to(real: Kubectl, cluster: Cluster) -> None:
    """Output through `kubectl logs`, a command through exec, a port through port-forward, as an unprivileged user."""
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    run(real, pod("talk", f"echo hello; {SERVE}", container={"readinessProbe": probe, "livenessProbe": probe}))
    found = real.get("pod", "talk", namespace="try")[0]
    assert found["spec"]["nodeName"] == node.NAME
    assert real.run("logs", "--namespace=try", "talk") == "hello\n"
    assert inside(real, "talk", "id", "-u").strip() == "65532"
    forwarding = subprocess.Popen(
        [
            *(str(embedded_kubectl()), f"--kubeconfig={cluster.kubeconfig}", "--namespace=try"),
            *("port-forward", "pod/talk", ":8080"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert forwarding.stdout is not None
    port = int(forwarding.stdout.readline().split(":")[1].split()[0])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"served\n"
    forwarding.terminate()
    forwarding.wait()


def embedded_kubectl() -> Path:
    """Return the pinned kubectl."""
    from infra import toolchain  # noqa: PLC0415 - for this one test

    return toolchain.resolve("kubectl")["kubectl"]


def test_a_failing_probe_restarts_its_container(real: Kubectl) -> None:
    """A liveness probe that fails has the kubelet start the container again."""
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    real.apply(
        [pod("sick", "sleep 1000", restartPolicy="Always", container={"livenessProbe": probe})], field_manager="tests"
    )
    until(
        lambda: any(
            each["restartCount"]
            for each in real.get("pod", "sick", namespace="try")[0]["status"].get("containerStatuses", ())
        ),
        seconds=30,
        what="a restart",
        every=0.3,
    )
    delete(real, "pod/sick")


def test_a_service_is_found_by_its_name(real: Kubectl) -> None:
    """DNS gives a Service's ClusterIP, and that reaches the pod behind it; a name that is not has no address."""
    service = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}
    meta = {"name": "web", "namespace": "try"}
    run(
        real,
        pod("web", SERVE, container={"readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}}),
        pod("asks", "sleep 1000"),
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service},
    )
    until(lambda: reaches(real, "asks", "http://web"), seconds=20, what="the Service", every=0.3)
    assert reaches(real, "asks", "http://web.try.svc.cluster.local")
    with pytest.raises(RunFailed):
        inside(real, "asks", "nslookup", "nothing.try.svc.cluster.local")
    delete(real, "pod/web", "pod/asks", "service/web")


def claim(name: str) -> Object:
    """Return a claim on the default storage class."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    meta = {"name": name, "namespace": "try"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}


def keeper(name: str, script: str) -> Object:
    """Return a pod with the claim `kept` at /kept."""
    volumes = [{"name": "kept", "persistentVolumeClaim": {"claimName": "kept"}}]
    return pod(name, script, volumes=volumes, container={"volumeMounts": [{"name": "kept", "mountPath": "/kept"}]})


def test_a_volume_survives_its_pod(real: Kubectl) -> None:
    """What one pod wrote another reads; with the claim goes the volume, and what was in it."""
    run(real, claim("kept"), keeper("writes", "echo remembered > /kept/file"))
    delete(real, "pod/writes")
    run(real, keeper("reads", "cat /kept/file"))
    assert real.run("logs", "--namespace=try", "reads") == "remembered\n"
    folder = embedded.folder("real") / "node" / "lib" / "volumes"
    assert list(folder.iterdir())
    delete(real, "pod/reads", "pvc/kept")
    until(lambda: not list(folder.iterdir()), seconds=30, what="the volume's end", every=0.2)


def test_a_network_policy_cuts_and_lets_through(real: Kubectl) -> None:
    """A pod with a policy is reached from those alone that it names."""
    allowed = [{"from": [{"podSelector": {"matchLabels": {"friend": "yes"}}}]}]
    spec = {"podSelector": {"matchLabels": {"app": "shy"}}, "policyTypes": ["Ingress"], "ingress": allowed}
    meta = {"name": "shy", "namespace": "try"}
    run(
        real,
        pod("shy", SERVE, container={"readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}}),
        pod("friend", "sleep 1000", labels={"friend": "yes"}),
        pod("stranger", "sleep 1000"),
    )
    url = f"http://{real.get('pod', 'shy', namespace='try')[0]['status']['podIP']}:8080"
    assert reaches(real, "stranger", url)
    real.apply(
        [{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}],
        field_manager="tests",
    )
    until(lambda: not reaches(real, "stranger", url), seconds=30, what="the cut", every=0.3)
    assert reaches(real, "friend", url)
    delete(real, "networkpolicy/shy")
    until(lambda: reaches(real, "stranger", url), seconds=30, what="the way back", every=0.3)
    delete(real, "pod/shy", "pod/friend", "pod/stranger")


def test_which_pods_are_real(real: Kubectl) -> None:
    """An image that is not here or a device: simulated, as it asked; else real, with the requests cut and kept."""
    device = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
    tolerations = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    spread = {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname"}]}
    run(
        real,
        pod("absent", "x", image="example.test/absent:1"),
        pod("device", "x", container=device, tolerations=tolerations),
        pod("picky", "sleep 1000", nodeSelector={"kiban.dev/pool": "system"}, affinity={"podAntiAffinity": spread}),
    )
    found = {each["metadata"]["name"]: each for each in real.get("pods", namespace="try")}
    assert found["absent"]["spec"]["nodeName"].startswith("system-")
    assert found["device"]["spec"]["nodeName"].startswith("a100-")
    picky = found["picky"]
    assert picky["spec"]["nodeName"] == node.NAME
    assert picky["metadata"]["annotations"][placement.REQUESTS] in {"main cpu=1,memory=1Gi", "main memory=1Gi,cpu=1"}
    assert picky["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "5m", "memory": "8Mi"}
    assert found["absent"]["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}
    delete(real, "pod/absent", "pod/device", "pod/picky")


def test_a_container_that_would_run_as_root_says_why_it_does_not(real: Kubectl) -> None:
    """Under runAsNonRoot what would run as root is not started, and the status tells the kubelet's reason."""
    would = pod("root", "id", container={"securityContext": {"runAsNonRoot": True, "runAsUser": 0}})
    would["metadata"]["namespace"] = "default"
    real.apply([would], field_manager="tests")

    def why() -> str:
        found = status.failing_items(real.get("pods", namespace="default"))
        return next((str(each["why"]) for each in found if each["failing"] == "default/root"), "")

    until(lambda: "non-root" in why(), seconds=30, what="the reason", every=0.3)
    real.run("delete", "--namespace=default", "pod/root")


def test_the_images_and_how_they_came(real: Kubectl) -> None:
    """Those that every cluster has are built; one that a pod names in vain is absent."""
    run(real, pod("absent", "x", image="example.test/absent:1"))
    found = embedded.images("real")
    assert {found[name] for name in realnode.BASE} == {"built"}
    assert found["example.test/absent:1"] == "absent"
    delete(real, "pod/absent")


def started(kubectl: Kubectl, name: str) -> tuple[str, int]:
    """Return when a pod's container was started, and how often again."""
    (container,) = kubectl.get("pod", name, namespace="try")[0]["status"]["containerStatuses"]
    return container["state"]["running"]["startedAt"], container["restartCount"]


@pytest.mark.parametrize("victim", node.NAMES)
def test_a_killed_process_of_the_node_leaves_pods_alone(real: Kubectl, victim: str) -> None:
    """One killed: the status says so; `up` starts it alone; a pod that ran runs on, and a new one starts."""
    run(real, pod("lives", SERVE, container={"readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}}))
    before = started(real, "lives")
    address = real.get("pod", "lives", namespace="try")[0]["status"]["podIP"]
    (process,) = [each for each in embedded.status("real").processes if each.name == victim]
    assert process.pid is not None
    killed = psutil.Process(process.pid)
    killed.kill()
    until(lambda: not processes.alive(killed), seconds=10, what="its end")
    dead = [each.name for each in embedded.status("real").processes if each.state != "running"]
    assert dead == [victim]
    said: list[str] = []
    embedded.up("real", say=said.append)
    assert any(f"starting {victim} ({victim} had ended)" in line for line in said)
    assert embedded.status("real").ready
    run(real, pod("new", "sleep 1000"))
    until(lambda: reaches(real, "new", f"http://{address}:8080"), seconds=20, what="an answer", every=0.3)
    assert started(real, "lives") == before
    delete(real, "pod/lives", "pod/new")


def test_a_killed_container_is_started_again(real: Kubectl) -> None:
    """CoreDNS killed: the kubelet starts it again, and names are found once more."""
    run(real, pod("asks", "sleep 1000"))
    (dns,) = real.get("pods", namespace="kube-system", selector="k8s-app=kube-dns")
    (victim,) = pod_processes(embedded.folder("real"), "coredns")
    victim.kill()

    def again() -> bool:
        (found,) = real.get("pods", namespace="kube-system", selector="k8s-app=kube-dns")
        (container,) = found["status"]["containerStatuses"]
        same = found["metadata"]["uid"] == dns["metadata"]["uid"]
        return bool(same and container["restartCount"] and container["ready"])

    until(again, seconds=60, what="CoreDNS again", every=0.3)
    assert "10.96.0.1" in inside(real, "asks", "nslookup", "kubernetes.default.svc.cluster.local")
    delete(real, "pod/asks")


def test_the_loss_of_every_process_is_made_good(real: Kubectl, cluster: Cluster) -> None:
    """As after a restart of the machine: all gone, pods too; `up` brings them back with their volumes."""
    run(real, claim("kept"), keeper("writes", "echo remembered > /kept/file; sleep 1000"))
    where = embedded.folder("real")
    realnode.end(where)
    processes.kill(processes.everything(where))
    assert embedded.up("real", say=print).uid == cluster.uid
    run(real, keeper("reads", "cat /kept/file"))
    assert real.run("logs", "--namespace=try", "reads") == "remembered\n"
    delete(real, "pod/reads", "pod/writes", "pvc/kept")


def test_without_a_real_node_one_line_says_so(cluster_home: Path) -> None:
    """Where there is to be none, or can be none, the cluster comes up all the same and says why in a line."""
    assert paths.home() == cluster_home
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIBAN_REAL_NODE", "0")
        embedded.up("without", ONE_NODE, say=said.append)
        assert embedded.status("without").ready
        assert "kubelet" not in [process.name for process in embedded.status("without").processes]
        embedded.down("without", say=said.append)
    (line,) = [line for line in said if "simulated nodes only" in line]
    assert "KIBAN_REAL_NODE=0" in line


def leavings(*clusters: str) -> dict[str, set[str]]:
    """Return what these clusters could leave on the machine."""
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    return {
        "processes": {name for each in clusters for name in processes.everything(embedded.folder(each)).values()},
        "mounts": set(Path("/proc/self/mounts").read_text().splitlines()),
        "interfaces": {path.name for path in Path("/sys/class/net").iterdir()},
        "namespaces": {str(path) for place in ("/run/kiban", "/run/netns") for path in Path(place).glob("*")},
        "cgroups": {str(path) for path in Path("/sys/fs/cgroup").glob("**/kiban-*")},
        "tables": set(tables.splitlines()),
        "files": {str(p) for place in ("/var/lib", "/var/log", "/run", "/etc/cni") for p in Path(place).glob("*")},
    }


@pytest.mark.full
def test_two_side_by_side_with_one_address(cluster_home: Path, record: Record) -> None:
    """Each has a Service on the same ClusterIP with its own pod behind it; the end of one leaves nothing of it."""
    assert paths.home() == cluster_home
    before = leavings("left", "right")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIBAN_REAL_NODE", "1")
        began = time.monotonic()
        clusters = {name: embedded.up(name, ONE_NODE, say=print) for name in ("left", "right")}
        record(
            line="5 two clusters with real nodes",
            evidence="executed",
            figure=f"{time.monotonic() - began:.1f} s",
            goal="both ready",
            command="./kiban cluster up left; ./kiban cluster up right",
        )
        for name, cluster in clusters.items():
            kubectl = Kubectl(cluster.kubeconfig, cluster.context)
            kubectl.run("create", "namespace", "try")
            spec = {
                "clusterIP": "10.96.7.7",
                "selector": {"app": "web"},
                "ports": [{"port": 80, "targetPort": 8080}],
            }
            meta = {"name": "web", "namespace": "try"}
            ready = {"readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}}
            run(
                kubectl,
                pod("web", SERVE.replace("served", f"served by {name}"), container=ready),
                pod("asks", "sleep 1000"),
                {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec},
            )
            until(lambda: reaches(kubectl, "asks", "http://10.96.7.7"), seconds=20, what="the Service", every=0.3)  # noqa: B023
            said = inside(kubectl, "asks", "wget", "-q", "-O", "-", "http://10.96.7.7")
            assert said == f"served by {name}\n"
        for name in clusters:
            embedded.down(name, say=print)
    assert leavings("left", "right") == before
