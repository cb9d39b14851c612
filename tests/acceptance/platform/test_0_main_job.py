"""The main job, as the README tells it: up, again, the plain command, jobs that wait; its end is in test_9_end.py."""

import functools
import json
import time
from typing import Any

import pytest

from infra.clusters.waiting import until
from tests import generated
from tests.checkout import Checkout
from tests.conftest import Record

QUEUED = {"kueue.x-k8s.io/queue-name": "default"}


def test_first_command_brings_the_platform_up(first_up: tuple[float, str], record: Record) -> None:
    """`./kiban up local` on a clean checkout ends with the platform up and a summary of nodes and pools."""
    seconds, printed = first_up
    for pool in ("a100", "a100-mig", "host", "l4-shared", "system"):
        assert pool in printed
    assert "nvidia.com/mig-1g.10gb" in printed
    record(
        line="3 warm up local from no cluster",
        evidence="executed",
        figure=f"{seconds:.1f} s",
        goal="≤ 60 s",
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
        line="3 up local with nothing to do",
        evidence="executed",
        figure=f"{seconds:.1f} s",
        goal="≤ 6 s",
        command="./kiban up local",
    )


@pytest.mark.full
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
        line="7 plain pulumi and kiban agree",
        evidence="executed",
        figure="unchanged both ways",
        goal="unchanged both ways",
        command="pulumi up -s local --yes; ./kiban up local",
    )


def job(name: str, team: str, gpus: int, **pod_spec: Any) -> str:  # noqa: ANN401
    """Return a Job of one pod that asks for GPUs of the pool a100, as a team's member writes it."""
    asked = {"nvidia.com/gpu": str(gpus), "cpu": "1", "memory": "1Gi"}
    made = generated.job(name, f"team-{team}", asked, selector={"kiban.dev/pool": "a100"}, lasts="600s")
    del made["spec"]["suspend"]  # Kueue's to say
    made["spec"]["template"]["spec"] |= pod_spec
    return json.dumps(made)


def cpu_job(name: str, team: str) -> str:
    """Return a Job of one pod that asks for a CPU and says what it did."""
    made = json.loads(job(name, team, 0))
    spec = made["spec"]["template"]["spec"]
    del spec["nodeSelector"], spec["tolerations"]
    requests = {"cpu": "1", "memory": "64Mi"}
    spec["containers"][0] |= {
        "image": "busybox:1.35.0",
        "command": ["echo", f"{team} was here"],
        "resources": {"requests": requests},
    }
    return json.dumps(made)


@pytest.mark.usefixtures("first_up")
def test_a_cpu_job_of_every_team_is_admitted_and_runs(checkout: Checkout, record: Record) -> None:
    """Executed: Kueue's webhook suspends it, Kueue admits it, a real pod runs it, and its output is read."""
    kubectl = functools.partial(checkout.kubectl, "local")
    for team in ("vision", "language"):
        there = ("-n", f"team-{team}")
        kubectl("apply", "-f", "-", stdin=cpu_job("hello", team))
        kubectl(*there, "wait", "job/hello", "--for=condition=Complete", "--timeout=60s")
        assert kubectl(*there, "logs", "job/hello") == f"{team} was here\n"
        (workload,) = json.loads(kubectl(*there, "get", "workloads", "-o", "json"))["items"]
        states = {each["type"] for each in workload["status"]["conditions"] if each["status"] == "True"}
        assert {"QuotaReserved", "Admitted", "Finished"} <= states
        suspended = kubectl(*there, "get", "events", "--field-selector=reason=Suspended", "-o", "name")
        assert suspended
        kubectl(*there, "delete", "job", "hello", "--wait=true")
    record(
        line="1 a CPU Job admitted by Kueue runs in a real pod",
        evidence="executed",
        figure="both teams",
        goal="any team's namespace",
        command="kubectl logs job/hello",
    )


@pytest.mark.usefixtures("first_up")
def test_a_certificate_is_issued(checkout: Checkout, record: Record) -> None:
    """Executed: cert-manager's webhook is trusted (the CA injector has been there), and its controller issues."""
    team = {"namespace": "team-vision"}
    of = {"apiVersion": "cert-manager.io/v1"}
    issuer = of | {"kind": "Issuer", "metadata": {"name": "own"} | team, "spec": {"selfSigned": {}}}
    spec = {"secretName": "issued", "dnsNames": ["issued.example.com"], "issuerRef": {"name": "own"}}
    certificate = of | {"kind": "Certificate", "metadata": {"name": "issued"} | team, "spec": spec}
    kubectl = functools.partial(checkout.kubectl, "local")
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [issuer, certificate]}))
    kubectl("-n", "team-vision", "wait", "certificate/issued", "--for=condition=Ready", "--timeout=60s")
    assert "tls.crt" in kubectl("-n", "team-vision", "get", "secret", "issued", "-o", "jsonpath={.data}")
    kubectl("-n", "team-vision", "delete", "certificate/issued", "issuer/own", "secret/issued")
    record(
        line="a certificate is issued",
        evidence="executed",
        figure="Ready",
        goal="Ready",
        command="kubectl wait certificate/issued --for=condition=Ready",
    )


def admitted(checkout: Checkout, team: str, name: str) -> bool:
    """Whether Kueue lets a team's Job run now."""
    suspended = checkout.kubectl("local", "-n", f"team-{team}", "get", "job", name, "-o", "jsonpath={.spec.suspend}")
    return suspended == "false"


@pytest.mark.usefixtures("first_up")
def test_a_job_lands_on_its_pool_and_others_say_why_they_wait(checkout: Checkout, record: Record) -> None:
    """Simulated: 8 GPUs land on a node of the pool asked for, 8 more are borrowed; beyond, Kueue's reason is told.

    Who was promised what is borrowed gets it back, and a higher priority goes first: as the environment's data says.
    """
    kubectl = functools.partial(checkout.kubectl, "local")
    soon = functools.partial(until, seconds=60, every=0.5)
    try:
        for name in ("fits", "borrows"):
            kubectl("apply", "-f", "-", stdin=job(name, "vision", 8))
            soon(functools.partial(admitted, checkout, "vision", name), what=f"Job {name}")
        ready = ("wait", "pod", "-l", "job-name=fits", "--for=condition=Ready", "--timeout=60s")
        kubectl("-n", "team-vision", *ready)
        where = ("get", "pod", "-l", "job-name=fits", "-o", "jsonpath={.items[0].spec.nodeName}")
        landed = kubectl("-n", "team-vision", *where)
        assert kubectl("get", "node", landed, "-o", r"jsonpath={.metadata.labels.kiban\.dev/pool}") == "a100"
        kubectl("apply", "-f", "-", stdin=job("too-much", "vision", 8))
        soon(lambda: "insufficient" in told(checkout, "Job team-vision/too-much"), what="Kueue's reason")
        items = checkout.json("status", "local")["items"]
        assert next(item for item in items if item.get("pool") == "a100")["requested"] == 16
        assert next(item["source"] for item in items if item.get("pending") == "Job team-vision/too-much") == "Kueue"
        assert "too-much" in checkout.run("status", "local").stdout

        kubectl("apply", "-f", "-", stdin=job("promised", "language", 8))
        soon(lambda: admitted(checkout, "language", "promised"), what="what was promised")
        # Kueue takes back from the Job admitted last, or from either when both were within the same second.
        (left,) = [name for name in ("fits", "borrows") if admitted(checkout, "vision", name)]

        kubectl("apply", "-f", "-", stdin=job("urgent", "vision", 8, priorityClassName="kiban-serving"))
        soon(lambda: admitted(checkout, "vision", "urgent"), what="the urgent Job")
        assert not admitted(checkout, "vision", left)
    finally:
        for team in ("vision", "language"):
            kubectl("-n", f"team-{team}", "delete", "jobs", "--all", "--wait=true")
    record(
        line="2 a Job lands on its pool, borrowing, reclaiming, priority, and why one waits",
        evidence="simulated",
        figure="all",
        goal="all",
        command="./kiban status local",
    )


def told(checkout: Checkout, pending: str) -> str:
    """Return why a workload waits, as `kiban status` tells it."""
    items = checkout.json("status", "local")["items"]
    return next((str(item["why"]) for item in items if item.get("pending") == pending), "")


@pytest.mark.full
@pytest.mark.usefixtures("first_up")
def test_kueue_killed_comes_back_and_nothing_else_waited_for_it(checkout: Checkout, record: Record) -> None:
    """Kill -9 of its process: the kubelet starts it again, and it admits once more. Meanwhile other pods start."""
    kubectl = functools.partial(checkout.kubectl, "local")
    managers = checkout.pod_processes("local", "manager")  # KServe calls its own so too
    (manager,) = [each for each in managers if any("controller_manager_config" in word for word in each.cmdline())]
    manager.kill()
    kubectl("-n", "cert-manager", "delete", "pod", "-l", "app.kubernetes.io/name=webhook", "--wait=true")
    kubectl("-n", "cert-manager", "rollout", "status", "deployment/cert-manager-webhook", "--timeout=60s")
    kubectl("-n", "kueue-system", "rollout", "status", "deployment", "--timeout=120s")
    until(functools.partial(submitted, checkout), seconds=60, what="Kueue's webhook", every=1)
    kubectl("-n", "team-vision", "wait", "job/again", "--for=condition=Complete", "--timeout=60s")
    kubectl("-n", "team-vision", "delete", "job", "again", "--wait=true")
    record(
        line="4 kill -9 of Kueue",
        evidence="executed",
        figure="started again, admits",
        goal="restarted",
        command="kill -9 of /manager",
    )


def submitted(checkout: Checkout) -> bool:
    """Whether a Job could be made: Kueue's webhook has to answer."""
    done = checkout.try_kubectl("local", "apply", "-f", "-", stdin=cpu_job("again", "vision"))
    return done.returncode == 0


@pytest.mark.parametrize(
    ("container", "labels", "refusal"),
    [
        ({}, QUEUED, None),
        ({"image": "registry.example/train:latest"}, QUEUED, "needs a tag other than latest"),
        ({"image": "registry.example:5000/train"}, QUEUED, "needs a tag other than latest"),
        ({}, {}, None),  # Kueue puts it into the team's default queue
        ({"resources": {"limits": {"nvidia.com/gpu": "17"}}}, QUEUED, "exceeded quota"),
        ({"securityContext": {"privileged": True}}, QUEUED, 'violates PodSecurity "restricted'),
    ],
    ids=["good", "latest", "no-tag", "no-queue", "over-quota", "privileged"],
)
@pytest.mark.usefixtures("first_up")
def test_the_rules_hold_for_everyone(
    checkout: Checkout, container: dict[str, Any], labels: dict[str, str], refusal: str | None
) -> None:
    """The API server refuses floating tags, GPUs beyond the quota, privileged pods; a GPU pod is always in a queue."""
    pod = json.loads(job("pod", "language", 1))["spec"]["template"] | {"apiVersion": "v1", "kind": "Pod"}
    pod["metadata"] |= {"name": "pod", "namespace": "team-language", "labels": labels}
    pod["spec"]["containers"][0] |= container
    create = ("create", "--dry-run=server", "-o", "jsonpath={.metadata.labels}", "-f", "-")
    done = checkout.try_kubectl("local", *create, stdin=json.dumps(pod))
    assert (done.returncode == 0) is (refusal is None)
    assert refusal is not None or json.loads(done.stdout).items() >= QUEUED.items()
    assert (refusal or "") in done.stderr
