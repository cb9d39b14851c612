"""Environments and Jobs made by chance from a seed, and a small model of who admits and who holds them.

The model reads Kubernetes' objects (ClusterQueues, flavors, nodes), and knows of Kueue what decides alone: labels,
taints, topology and sums. It is what tests compare the API server, Kueue and the scheduler with.
"""

import dataclasses as dc
import random
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from components._labels import POOL
from components.gpu_node_pools import GpuPool, flavors
from components.tenancy import Queueing, Team
from infra.capacity.preemption import lacking
from infra.capacity.reading import empty
from infra.capacity.usage import Usage
from infra.clusters.nodes import Nodes, manifests
from infra.quantities import amount
from stacks._schema import THROWAWAY, EmbeddedCluster, Environment, SystemNodes

Object = dict[str, Any]
NAME = "generated"
TEAMS = ("alpha", "beta", "gamma")
_WHOLE = ("Tesla-T4", "NVIDIA-L4", "NVIDIA-A100-SXM4-80GB", "NVIDIA-H100-80GB-HBM3")
_SHARED: tuple[dict[str, Any], ...] = (
    {"accelerator": "NVIDIA-A100-SXM4-80GB", "mig_profile": "3g.40gb"},
    {"accelerator": "NVIDIA-A100-SXM4-80GB", "mig_profile": "1g.10gb"},
    {"accelerator": "NVIDIA-A100-SXM4-80GB", "mig": {"3g.40gb": 1, "1g.10gb": 3}},
    {"accelerator": "Tesla-T4", "time_slices": 4},
)
_TOPOLOGY = {"kueue.x-k8s.io/podset-unconstrained-topology": "true"}


def environment(seed: int) -> Environment:
    """Return an environment with queues and nothing else: the same for the same seed.

    Pools of whole devices offer one resource, with 1 to 8 on a node, so that a pod may be sent to the wrong one. Nobody
    takes anything back: a Job that was let in stays.
    """
    rng = random.Random(seed)  # noqa: S311 - the same for the same seed
    pools = tuple(_pool(rng, f"p{seed}-{number}") for number in range(rng.randint(1, 4)))
    count, cpu, memory = rng.randint(1, 3), rng.choice((4, 8, 16)), rng.choice((16, 64))
    return Environment(
        name=NAME,
        cluster=EmbeddedCluster(name=NAME),
        state=THROWAWAY,
        system_nodes=SystemNodes(count=count, cpu=cpu, memory_gib=memory),
        gpu_pools=pools,
        teams=_teams(rng, pools),
        queueing=Queueing(
            cpu=rng.randint(count, count * cpu),
            memory_gib=rng.randint(count, count * memory),
            reclaim="Never",
            within_team="Never",
        ),
        certificates=False,
    )


def _pool(rng: random.Random, name: str) -> GpuPool:
    kind = {"accelerator": rng.choice(_WHOLE)} if rng.random() < 0.7 else rng.choice(_SHARED)
    most = rng.randint(1, 3)
    grows = rng.random() < 0.3
    size: dict[str, Any] = {"min_nodes": 0, "max_nodes": most} if grows else {"nodes": most}
    return GpuPool(
        name=name,
        gpus_per_node=rng.choice((1, 2, 4, 8)),
        cpu=rng.choice((4, 16, 96)),
        memory_gib=rng.choice((16, 64, 512)),
        spot=rng.random() < 0.2,
        labels={"kiban.dev/purpose": "batch"} if rng.random() < 0.3 else {},
        topology=("kubernetes.io/hostname",) if not grows and rng.random() < 0.2 else (),
        **kind,
        **size,
    )


def _teams(rng: random.Random, pools: Sequence[GpuPool]) -> tuple[Team, ...]:
    gpus: dict[str, dict[str, int]] = {name: {} for name in TEAMS}
    borrows: dict[str, dict[str, int]] = {name: {} for name in TEAMS}
    for share in (share for pool in pools for share in pool.shares):
        left = share.units
        for name in rng.sample(TEAMS, len(TEAMS)):
            own = rng.randint(0, left)
            left -= own
            gpus[name][share.name] = own
            borrows[name][share.name] = rng.randint(0, share.units - own)
        if not any(gpus[name][share.name] or borrows[name][share.name] for name in TEAMS):
            borrows[rng.choice(TEAMS)][share.name] = share.units
    return tuple(Team(name=name, owner="tests", gpus=gpus[name], borrows=borrows[name]) for name in TEAMS)


def jobs(env: Environment, seed: int, count: int) -> list[Object]:
    """Return Jobs of all teams: of every size from small to larger than any node, naming pools, labels or nothing."""
    rng = random.Random(seed)  # noqa: S311 - the same for the same seed
    return [_job(rng, rng.choice(env.teams), env.gpu_pools, f"job-{number}") for number in range(count)]


def _job(rng: random.Random, team: Team, pools: Sequence[GpuPool], name: str) -> Object:
    offered = [share for pool in pools for share in pool.shares]
    had = [share for share in offered if team.most(share.name)]
    share = rng.choice(had if had and rng.random() < 0.9 else offered)
    pool = share.pool
    near = (1, 1, 2, max(1, share.units_per_node - 1), share.units_per_node, share.units_per_node + 1, 8)
    devices = rng.choice(near) if rng.random() < 0.8 else 0
    cores = rng.choice(("100m", "100m", "1", "1", "3", str(pool.cpu), str(pool.cpu + 1)))
    memory = rng.choice(("64Mi", "64Mi", "1Gi", "1Gi", "5Gi", f"{pool.memory_gib}Gi"))
    selectors: list[dict[str, str]] = [{}, {}, {}, {POOL: pool.name}, {POOL: pool.name}, {POOL: "system"}]
    selectors += [{"nvidia.com/gpu.product": pool.accelerator}, {"kiban.dev/capacity": "on-demand"}, dict(pool.labels)]
    selector = rng.choice(selectors)
    wants, bears = ("nvidia.com/gpu",), ("nvidia.com/gpu", "kiban.dev/spot")
    keys = rng.choice((wants, wants, wants, bears, bears, ()))
    pods = rng.choice((1, 1, 1, 1, 2, 3, 7))
    asked = {"cpu": cores, "memory": memory} | ({share.resource: str(devices)} if devices else {})
    return job(
        name,
        team.namespace,
        asked,
        pods=pods,
        selector=selector,
        tolerates=keys,
        close=bool(pool.topology) and rng.random() < 0.9,
    )


def job(
    name: str,
    namespace: str,
    asked: Mapping[str, str],
    *,
    pods: int = 1,
    selector: Mapping[str, str] | None = None,
    tolerates: Sequence[str] = ("nvidia.com/gpu",),
    close: bool = False,
    lasts: str = "1s",
) -> Object:
    """Return a Job of a team's queue. asked: by each pod. lasts: how long a simulated pod runs."""
    container = {
        "name": "main",
        "image": "registry.example/train:1",
        "resources": {"requests": dict(asked), "limits": dict(asked)},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "nodeSelector": dict(selector or {}),
        "tolerations": [{"key": key, "operator": "Exists"} for key in tolerates],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    annotations = {"simulation.kiban.dev/duration": lasts} | (_TOPOLOGY if close else {})
    template = {"metadata": {"annotations": annotations}, "spec": pod}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "labels": {"kueue.x-k8s.io/queue-name": "default"}},
        "spec": {
            "suspend": True,
            "backoffLimit": 0,
            "parallelism": pods,
            "completions": pods,
            "template": template,
        },
    }


@dc.dataclass(frozen=True)
class Model:
    """An environment's flavors, queues and nodes."""

    usage: Usage
    flavors: Mapping[str, Object]
    nodes: Mapping[str, Sequence[Object]]

    @classmethod
    def of(cls, env: Environment) -> "Model":
        """Return the model of an environment; a pool that grows is at its largest."""
        nodes: dict[str, list[Object]] = {}
        for node in manifests(Nodes(system=env.system_nodes, gpu_pools=env.gpu_pools)):
            nodes.setdefault(node["metadata"]["labels"][POOL], []).append(node)
        return cls(empty(env), flavors(env.gpu_pools), nodes)

    def chosen(self, job: Object) -> list[str]:
        """Return the flavors that Kueue may assign to the Job, nothing being in use, in the order in which it tries."""
        team = job["metadata"]["namespace"].removeprefix("team-")
        return [
            name
            for name in self.usage.queues[team].flavors
            if self._matches(job["spec"]["template"], self.flavors[name])
            and not lacking(self.usage, team, self.asked(job, name))
        ]

    @staticmethod
    def asked(job: Object, flavor: str) -> dict[tuple[str, str], Fraction]:
        """Return what the Job's pods ask for together."""
        scale = {"cpu": Fraction(1000), "memory": Fraction(1, 1 << 20)}
        each = _requests(job)
        return {
            (flavor, name): amount(of) * scale.get(name, 1) * job["spec"]["parallelism"] for name, of in each.items()
        }

    @staticmethod
    def _matches(template: Object, flavor: Object) -> bool:
        spec = template["spec"]
        tolerated = {each["key"] for each in spec["tolerations"]} | {
            each["key"] for each in flavor.get("tolerations", ())
        }
        labels = flavor["nodeLabels"]
        return (
            all(spec["nodeSelector"].get(key, value) == value for key, value in labels.items())
            and {taint["key"] for taint in flavor.get("nodeTaints", ())} <= tolerated
            and ("topologyName" in flavor) == any("podset" in key for key in template["metadata"]["annotations"])
        )

    def held(self, job: Object, flavor: str) -> bool:
        """Whether the flavor's nodes, all empty, take all pods at once: each goes to the first that has room."""
        selector = job["spec"]["template"]["spec"]["nodeSelector"]
        free = [
            {name: amount(value) for name, value in node["status"]["allocatable"].items()}
            for node in self.nodes[flavor]
            if all(node["metadata"]["labels"].get(key) == value for key, value in selector.items())
        ]
        one = {name: amount(of) for name, of in _requests(job).items()} | {"pods": Fraction(1)}
        for _ in range(job["spec"]["parallelism"]):
            there = next((each for each in free if all(each.get(name, 0) >= of for name, of in one.items())), None)
            if there is None:
                return False
            for name, of in one.items():
                there[name] -= of
        return True

    def losing(self, job: Object) -> list[str]:
        """Return the flavors that Kueue may choose and whose nodes do not hold the Job: it would wait for ever."""
        return [name for name in self.chosen(job) if not self.held(job, name)]

    def beyond(self) -> Iterator[str]:
        """Yield a line a flavor and resource of which more is promised than its nodes have."""
        for pool, nodes in self.nodes.items():
            for resource in {name for node in nodes for name in node["status"]["allocatable"]}:
                scale = {"cpu": Fraction(1000), "memory": Fraction(1, 1 << 20)}.get(resource, Fraction(1))
                there = sum(amount(node["status"]["allocatable"][resource]) for node in nodes) * scale
                key = pool, resource
                own = sum(queue.own.get(key, Fraction(0)) for queue in self.usage.queues.values())
                if own + self.usage.shared.get(key, Fraction(0)) > there:
                    yield f"{pool}: {resource}"


def refused(job: Object, env: Environment) -> bool:
    """Return whether the rules of the environment refuse the Job: in Python what components/_node_fit.py has in CEL."""
    template = job["spec"]["template"]
    spec, pods = template["spec"], job["spec"]["parallelism"]
    close = any("podset" in key for key in template["metadata"]["annotations"])
    keys = {each["key"] for each in spec["tolerations"]}
    places = {team.namespace: env.tenancy.places(team) for team in env.teams}
    known = {key for of_team in places.values() for each in of_team for key in each.known}
    for each in places[job["metadata"]["namespace"]]:
        asked = {name: int(value) for (_, name), value in Model.asked(job, each.name).items()}
        one = {name: value // pods for name, value in asked.items()}
        if bool(each.levels) != close or not each.allows(one, pods):
            continue
        if any(spec["nodeSelector"].get(key, value) != value for key, value in each.labels.items()):
            continue
        if not {taint.key for taint in each.taints} <= keys:
            continue
        there = all(each.known.get(key) == value for key, value in spec["nodeSelector"].items() if key in known)
        if not there or not each.holds(one, pods):
            return True
    return False


def _requests(job: Object) -> dict[str, str]:
    requests: dict[str, str] = job["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    return requests
