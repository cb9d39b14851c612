"""Executed: an API server judges Jobs and pods by the rules of environments, and says what to write instead."""

from collections.abc import Iterator
from typing import Any

import pytest

from components.gpu_node_pools import GpuPool
from components.tenancy import Queueing, Team, TenancyArgs, fitting
from infra.clusters import Cluster, embedded
from infra.clusters.embedded.api import Api, Refused
from infra.clusters.waiting import until
from tests import generated
from tests.generated import TEAMS, Object

POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
BIG = GpuPool(name="big", accelerator="NVIDIA-A100-SXM4-80GB", nodes=2, gpus_per_node=8, cpu=96, memory_gib=1024)
ONES = GpuPool(name="ones", accelerator="Tesla-T4", nodes=16, gpus_per_node=1, cpu=8, memory_gib=32)
ALPHA = Team(name="alpha", owner="tests", gpus={"big": 16, "ones": 16})
ARGS = TenancyArgs(teams=(ALPHA,), pools=(BIG, ONES), queueing=Queueing(cpu=8, memory_gib=32), system_nodes=2)
GPU = "nvidia.com/gpu"


class Judge:
    """An API server with namespaces of teams, which is asked what it would make of an object; nothing is made."""

    def __init__(self, api: Api) -> None:
        self._api = api
        for team in (*TEAMS, "stranger"):
            name = f"team-{team}"
            labels = {"kiban.dev/team": team}
            space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
            api.apply(f"/api/v1/namespaces/{name}", space)
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
            api.apply(f"/api/v1/namespaces/{name}/serviceaccounts/default", account)

    def put(self, rules: dict[str, dict[str, Any]], mark: str) -> None:
        """Put the rules into force, and wait until each says so of an object that is named after the mark."""
        for name, spec in rules.items():
            probe = {"expression": f"object.metadata.name != '{mark}'", "message": mark}
            kind = "ValidatingAdmissionPolicy"
            head = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
            marked = spec | {"validations": [*spec["validations"], probe]}
            self._api.apply(f"{POLICIES}/{name}", head | {"kind": kind, "spec": marked})
            binding = {"policyName": name, "validationActions": ["Deny"]}
            self._api.apply(f"{BINDINGS}/{name}", head | {"kind": f"{kind}Binding", "spec": binding})
        job = generated.job(mark, "team-alpha", {"cpu": "1m", "memory": "1Mi"})
        for each in (job, pod(job)):
            until(lambda each=each: mark in (self.said(each) or ""), seconds=30, what=f"rules of {mark}")  # type: ignore[misc]

    def said(self, manifest: Object) -> str | None:
        """Return why the object is refused, or None."""
        place = "/apis/batch/v1/namespaces/{}/jobs" if manifest["kind"] == "Job" else "/api/v1/namespaces/{}/pods"
        try:
            self._api.dry_run(place.format(manifest["metadata"]["namespace"]), manifest)
        except Refused as refusal:
            return str(refusal)
        return None

    def warnings(self) -> list[Any]:
        """Return what the API server's type checker says of the rules, once it has looked at them."""

        def ours() -> list[Object]:
            return [each for each in self._api.get(POLICIES)["items"] if "-fit-a-node" in each["metadata"]["name"]]

        def looked_at(policy: Object) -> bool:
            return bool(policy.get("status", {}).get("observedGeneration") == policy["metadata"]["generation"])

        until(lambda: all(map(looked_at, ours())), seconds=30, what="the type checker", every=0.5)
        checked = [each["status"].get("typeChecking", {}) for each in ours()]
        return [warning for each in checked for warning in each.get("expressionWarnings", ())]

    def clear(self) -> None:
        """Take the rules away."""
        self._api.delete(BINDINGS)
        self._api.delete(POLICIES)


def pod(job: Object) -> Object:
    """Return one of a Job's pods as it would be made."""
    template = job["spec"]["template"]
    metadata = template["metadata"] | {"name": job["metadata"]["name"], "namespace": job["metadata"]["namespace"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


@pytest.fixture(scope="module")
def judge(shared_cluster: Cluster) -> Iterator[Judge]:
    """Yield an API server; the rules are gone afterwards."""
    made = Judge(embedded.api(shared_cluster.name))
    yield made
    made.clear()


@pytest.fixture(scope="module")
def of_two_pools(judge: Judge) -> Judge:
    """Return it with the rules of two pools of the same resource, of 8 and 1 on a node."""
    judge.put(fitting(ARGS), "of-two-pools")
    return judge


def asking(count: int, **more: Any) -> Object:  # noqa: ANN401
    """Return a Job of the team whose pods ask for so many GPUs, with other arguments of `generated.job`."""
    asked = {"cpu": "1", "memory": "1Gi"} | ({GPU: str(count)} if count else {}) | more.pop("asked", {})
    return generated.job("train", more.pop("namespace", "team-alpha"), asked, **more)


@pytest.mark.parametrize(
    "job",
    [
        asking(1),
        asking(1, pods=16),
        asking(8, selector={"kiban.dev/pool": "big"}),
        asking(8, pods=2, selector={"kiban.dev/pool": "big"}, asked={"cpu": "96", "memory": "1Ti"}),
        asking(8, selector={"nvidia.com/gpu.product": BIG.accelerator}),
        asking(0, asked={"cpu": "4", "memory": "16Gi"}, tolerates=()),
        asking(17),  # more than the team can have: Kueue says so, and never lets it in
        asking(8, tolerates=()),  # and here, that nothing tolerates the taint
        asking(0, selector={"kubernetes.io/arch": "arm64"}),  # of which the data say nothing
    ],
    ids=["one", "all-ones", "named", "all-of-it", "product", "plain", "beyond-quota", "untolerated", "unknown-label"],
)
def test_what_fits_wherever_it_may_go_is_let_in(of_two_pools: Judge, job: Object) -> None:
    """As a Job, and one of its pods by itself."""
    assert of_two_pools.said(job) is None
    assert of_two_pools.said(pod(job)) is None


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (asking(8), "the queue may choose the 16 nodes of pool 'ones' (1 nvidia.com/gpu, 8 cores, 32Gi each), which"),
        (asking(8), "accepted: nodeSelector kiban.dev/pool: big, and tolerations of its taints"),
        (asking(12), "1 pods at once of 1 cores, 1024 MiB, 12 nvidia.com/gpu: the queue may choose the 2 nodes of"),
        (asking(12), "accepted: less, since no pool that team alpha has a part of does"),
        (asking(8, selector={"kiban.dev/pool": "ones"}), "accepted: nodeSelector kiban.dev/pool: big, and"),
        (asking(1, selector={"kiban.dev/pool": "ones"}, asked={"cpu": "9"}), "which do not hold that"),
        (asking(0, asked={"cpu": "5"}, tolerates=()), "the 2 nodes of pool 'system' (4 cores, 16Gi each)"),
        (asking(0, selector={"kiban.dev/capacity": "on-demand"}, tolerates=()), "nodes of pool 'system'"),
        (asking(0, asked={"cpu": "3"}, namespace="team-stranger"), None),
        (asking(0, asked={"cpu": "5"}, namespace="team-stranger"), "nodes of pool 'system'"),
        (asking(0, asked={"cpu": "5"}, namespace="default"), None),
    ],
)
def test_what_does_not_fit_somewhere_is_refused(of_two_pools: Judge, job: Object, said: str | None) -> None:
    """With what was asked, whose nodes do not hold it, and what to write; elsewhere than at the teams' nothing is."""
    for each in (job, pod(job)):
        found = of_two_pools.said(each)
        assert (found is None) == (said is None), found
        assert (said or "") in (found or "")


def test_pods_that_do_not_fit_at_once_are_refused(of_two_pools: Judge) -> None:
    """Three of five GPUs are fifteen of sixteen, and two nodes hold two; a pod by itself fits."""
    job = asking(5, pods=3, selector={"kiban.dev/pool": "big"})
    assert "3 pods at once of 1 cores, 1024 MiB, 5 nvidia.com/gpu" in (of_two_pools.said(job) or "")
    assert of_two_pools.said(pod(job)) is None
    job["spec"] |= {"parallelism": 2, "completions": 3}
    assert of_two_pools.said(job) is None


def with_containers(job: Object, *initial: Object, **pod_spec: Any) -> Object:  # noqa: ANN401
    """Return the Job with init containers like its own but for what they say, and other fields of its pods."""
    spec = job["spec"]["template"]["spec"]
    made = [spec["containers"][0] | {"name": f"init-{n}"} | each for n, each in enumerate(initial)]
    spec |= {"initContainers": made, **pod_spec}
    return job


@pytest.mark.parametrize(
    ("job", "refused"),
    [
        (with_containers(asking(0, asked={"cpu": "3"}), {}), False),
        (with_containers(asking(0, asked={"cpu": "3"}), {"restartPolicy": "Always"}), True),
        (with_containers(asking(0), {"resources": {"requests": {"cpu": "5"}}}), True),
        (with_containers(asking(0, asked={"cpu": "3"}), resources={"requests": {"cpu": "4"}}), False),
        (with_containers(asking(0), resources={"requests": {"cpu": "5"}}), True),
        (with_containers(asking(0, asked={"cpu": "1"}), resources={"limits": {"cpu": "5"}}), True),
    ],
    ids=["before", "beside", "larger-before", "whole-pod", "whole-pod-too-large", "whole-pod-limits"],
)
def test_a_pod_is_counted_as_the_scheduler_does(of_two_pools: Judge, job: Object, *, refused: bool) -> None:
    """Containers together, those before them by the largest, sidecars beside them; or what the pod says as a whole."""
    for container in job["spec"]["template"]["spec"]["containers"]:
        if "resources" in job["spec"]["template"]["spec"]:
            del container["resources"]["limits"]
            container["resources"]["requests"] = {"cpu": "1m"}
    job["spec"]["template"]["spec"]["tolerations"] = []
    assert (of_two_pools.said(job) is not None) is refused, of_two_pools.said(job)


def test_a_limit_without_a_request_is_one(of_two_pools: Judge) -> None:
    """In a Job's template nothing has filled it in yet."""
    job = asking(12)
    del job["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    assert "12 nvidia.com/gpu" in (of_two_pools.said(job) or "")


def test_the_rules_are_well_typed(of_two_pools: Judge) -> None:
    """The API server's type checker has no warning."""
    assert of_two_pools.warnings() == []


def test_generated_jobs_are_judged_as_the_model_does(judge: Judge, *, full: bool) -> None:
    """In CEL as in Python: what the model proves of generated environments holds of the API server too."""
    for seed in range(40 if full else 6):
        env = generated.environment(seed)
        judge.put(fitting(env.tenancy), f"seed-{seed}")
        for job in generated.jobs(env, seed, 40):
            said = judge.said(job)
            assert (said is not None) is generated.refused(job, env), (seed, said, job)
