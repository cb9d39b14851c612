"""The main job, as the README tells it: up, again, the plain command, jobs that wait, down, nothing left."""

import functools
import json
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from pyroute2 import IPRoute, netns

from tests.checkout import Checkout
from tests.conftest import Record

QUEUED = {"kueue.x-k8s.io/queue-name": "default"}


def leavings(checkout: Checkout) -> dict[str, set[str]]:
    """Return what a run could leave behind: processes, interfaces, namespaces, mounts, files outside the cache."""
    with IPRoute() as route:
        interfaces = {link.get_attr("IFLA_IFNAME") for link in route.get_links()}
    marker = str(checkout.root)
    processes = {
        " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] and marker in " ".join(process.info["cmdline"])
    }
    home = Path.home()
    files = {
        str(path)
        for path in [
            *(
                p
                for p in checkout.root.rglob("*")
                if not {".venv", "__pycache__"} & set(p.relative_to(checkout.root).parts)
            ),
            *home.glob(".pulumi/**/*"),
            *home.glob(".kube/**/*"),
            *Path("/run").glob("kiban/**/*"),
        ]
    }
    return {
        "processes": processes,
        "interfaces": interfaces,
        "namespaces": set(netns.listnetns()),
        "mounts": {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()},
        "files": files,
    }


@pytest.fixture(scope="module")
def before(checkout: Checkout) -> dict[str, set[str]]:
    """Return what there was before the first command."""
    checkout.run("--version")
    return leavings(checkout)


@pytest.fixture(scope="module")
def first_up(checkout: Checkout, before: dict[str, set[str]]) -> tuple[float, str]:
    """Return how long the README's first command took, and what it printed."""
    assert not (checkout.root / ".kiban").exists(), before
    start = time.monotonic()
    printed = checkout.run("up", "local").stdout
    return time.monotonic() - start, printed


def test_first_command_brings_the_platform_up(first_up: tuple[float, str], record: Record) -> None:
    """`./kiban up local` on a clean checkout ends with the platform up and a summary of nodes and pools."""
    seconds, printed = first_up
    for pool in ("a100", "a100-mig", "l4-shared", "system"):
        assert pool in printed
    assert "nvidia.com/mig-1g.10gb" in printed
    record(
        line="2 warm up local from no cluster",
        evidence="executed",
        figure=f"{seconds:.1f} s",
        goal="≤ 30 s",
        command="./kiban up local",
    )


@pytest.mark.usefixtures("first_up")
def test_second_up_has_nothing_to_do(checkout: Checkout, record: Record) -> None:
    """The same command again changes no resource."""
    start = time.monotonic()
    document = checkout.json("up", "local")
    seconds = time.monotonic() - start
    changes = next(item for item in document["items"] if "changes" in item)["changes"]
    assert set(changes) == {"unchanged"}
    record(
        line="2 up local with nothing to do",
        evidence="executed",
        figure=f"{seconds:.1f} s",
        goal="≤ 6 s",
        command="./kiban up local",
    )


@pytest.mark.usefixtures("first_up")
def test_plain_pulumi_and_kiban_agree(checkout: Checkout, record: Record) -> None:
    """The real CLI finds everything unchanged after `kiban up`, and `kiban up` after the real CLI."""
    plain = checkout.shell('eval "$(./kiban env local)"; pulumi up -s local --yes --non-interactive')
    assert "unchanged" in plain.stdout
    assert not any(word in plain.stdout for word in (" created", " updated", " deleted", " replaced"))
    checkout.shell('eval "$(./kiban env local)"; pulumi preview -s local --expect-no-changes --non-interactive')
    document = checkout.json("up", "local")
    assert set(next(item for item in document["items"] if "changes" in item)["changes"]) == {"unchanged"}
    record(
        line="3 plain pulumi and kiban agree",
        evidence="executed",
        figure="unchanged both ways",
        goal="unchanged both ways",
        command="pulumi up -s local --yes; ./kiban up local",
    )


def job(name: str, team: str, gpus: int) -> str:
    """Return a Job of one pod that asks for GPUs of the pool a100, as a team's member writes it."""
    resource = {"nvidia.com/gpu": str(gpus), "cpu": "1", "memory": "1Gi"}
    pod = {
        "metadata": {
            "labels": QUEUED,
            "annotations": {"simulation.kiban.dev/duration": "600s"},
        },
        "spec": {
            "restartPolicy": "Never",
            "nodeSelector": {"kiban.dev/pool": "a100"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "train",
                    "image": "registry.example/train:1",
                    "resources": {"limits": resource},
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": f"team-{team}"},
        "spec": {"backoffLimit": 0, "template": pod},
    }
    return json.dumps(manifest)


@pytest.mark.usefixtures("first_up")
def test_a_job_lands_on_its_pool_and_others_say_why_they_wait(checkout: Checkout, record: Record) -> None:
    """Simulated: 8 GPUs land on a node of the pool asked for; 9 on one node wait, and status says why."""
    kubectl = functools.partial(checkout.kubectl, "local")
    try:
        kubectl("apply", "-f", "-", stdin=job("fits", "vision", 8))
        kubectl("apply", "-f", "-", stdin=job("too-large", "language", 9))
        ready = ("wait", "pod", "-l", "job-name=fits", "--for=condition=Ready", "--timeout=60s")
        kubectl("-n", "team-vision", *ready)
        kubectl("apply", "-f", "-", stdin=job("over-quota", "vision", 1))
        refused = ("wait", "event", "--field-selector=reason=FailedCreate", "--for=create", "--timeout=60s")
        kubectl("-n", "team-vision", *refused)
        where = ("get", "pod", "-l", "job-name=fits", "-o", "jsonpath={.items[0].spec.nodeName}")
        node = kubectl("-n", "team-vision", *where)
        assert kubectl("get", "node", node, "-o", r"jsonpath={.metadata.labels.kiban\.dev/pool}") == "a100"
        items = checkout.json("status", "local")["items"]
        why = "asks for 9 nvidia.com/gpu on one node; the largest, in pool a100, has 8"
        assert [item["why"] for item in items if "pending" in item] == [why]
        assert ["exceeded quota" in item["why"] for item in items if "refused" in item] == [True]
        assert next(item for item in items if item.get("pool") == "a100")["requested"] == 8
        assert {item["evidence"] for item in items if "pool" in item} == {"simulated"}
        assert "asks for 9 nvidia.com/gpu" in checkout.run("status", "local").stdout
    finally:
        for team in ("vision", "language"):
            kubectl("-n", f"team-{team}", "delete", "jobs", "--all", "--wait=true")
    record(
        line="4 a Job lands on its pool, one too large says why",
        evidence="simulated",
        figure="both",
        goal="both",
        command="./kiban status local",
    )


@pytest.mark.parametrize(
    ("container", "labels", "refusal"),
    [
        ({}, QUEUED, None),
        ({"image": "registry.example/train:latest"}, QUEUED, "needs a tag other than latest"),
        ({"image": "registry.example:5000/train"}, QUEUED, "needs a tag other than latest"),
        ({}, {}, "needs the label kueue.x-k8s.io/queue-name"),
        ({"resources": {"limits": {"nvidia.com/gpu": "17"}}}, QUEUED, "exceeded quota"),
        ({"securityContext": {"privileged": True}}, QUEUED, 'violates PodSecurity "restricted'),
    ],
    ids=["good", "latest", "no-tag", "no-queue", "over-quota", "privileged"],
)
@pytest.mark.usefixtures("first_up")
def test_the_rules_hold_for_everyone(
    checkout: Checkout, container: dict[str, Any], labels: dict[str, str], refusal: str | None
) -> None:
    """The API server refuses a floating tag, a GPU pod without a queue, GPUs beyond the quota, a privileged pod."""
    pod = json.loads(job("pod", "language", 1))["spec"]["template"] | {"apiVersion": "v1", "kind": "Pod"}
    pod["metadata"] |= {"name": "pod", "namespace": "team-language", "labels": labels}
    pod["spec"]["containers"][0] |= container
    done = checkout.try_kubectl("local", "create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    assert (done.returncode == 0) is (refusal is None)
    assert (refusal or "") in done.stderr


def test_destroy_and_down_leave_nothing(
    checkout: Checkout, before: dict[str, set[str]], first_up: tuple[float, str], record: Record
) -> None:
    """After `destroy` and `cluster down` there is no process, interface, mount or file outside the cache."""
    assert first_up
    checkout.run("destroy", "local", "--yes")
    assert (
        checkout.kubectl("local", "get", "namespaces", "-l", "app.kubernetes.io/managed-by=kiban", "-o", "name") == ""
    )
    checkout.run("cluster", "down", "local")
    after = leavings(checkout)
    left = {kind: sorted(after[kind] - before[kind]) for kind in after}
    assert left == {kind: [] for kind in after}
    record(
        line="2 destroy and cluster down leave nothing",
        evidence="executed",
        figure="nothing left",
        goal="no process, interface, mount or file",
        command="./kiban destroy local; ./kiban cluster down local",
    )
