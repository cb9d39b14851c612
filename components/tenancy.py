"""Teams: each has a namespace of its own, closed to the others, and through a queue its part of the pools."""

import dataclasses as dc
import functools
import re
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components._admission import enforce
from components._labels import OWNER, TEAM, labels, restricted
from components._network import closed_namespace
from components._node_fit import rules
from components._pools import SYSTEM_POOL, GpuPool, Share, shares
from components._quantities import count, mebibytes, millicores
from components._shapes import JobShape, Place, check, place, system
from components.foundation import Foundation
from components.gpu_node_pools import KUEUE, GpuNodePools

COHORT = "kiban"
LOCAL_QUEUE = "default"
"""The name of every team's LocalQueue. Kueue also takes it for Jobs that name no queue."""
_RECLAIM = ("Never", "LowerPriority", "Any")
_WITHIN = ("Never", "LowerPriority", "LowerOrNewerEqualPriority")
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")


@dc.dataclass(frozen=True, kw_only=True)
class Team:
    """A team of the platform.

    name: also its namespace's, behind the prefix `team-`.
    owner: a mail address or a chat channel, for the label kiban.dev/owner; letters, digits, '-', '_' and '.'.
    gpus: pool name to how much of that pool's resource the team is promised. Of a pool that offers several the name is
        POOL/PROFILE, such as a100-mixed/3g.40gb.
    borrows: the same names, to how much more the team may take while others leave it idle; nothing of all else.
    jobs: what the team must be able to run, each by itself.
    """

    name: str
    owner: str
    gpus: Mapping[str, int] = dc.field(default_factory=dict)
    borrows: Mapping[str, int] = dc.field(default_factory=dict)
    jobs: tuple[JobShape, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"team {self.name!r}: accepted: a name of lower-case letters, digits and '-', at most 40 characters"
            )
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", self.owner):
            raise ValueError(f"team {self.name!r}: owner={self.owner!r}; accepted: a Kubernetes label value")
        twice = [name for name, count in Counter(job.name for job in self.jobs).items() if count > 1]
        if twice:
            raise ValueError(f"team {self.name!r}: {twice[0]!r} is the name of two jobs; accepted: one job a name")

    @property
    def namespace(self) -> str:
        """Where the team works."""
        return f"team-{self.name}"

    def most(self, share: str) -> int:
        """The most that the team may ever have of what a pool offers under this name."""
        return self.gpus.get(share, 0) + self.borrows.get(share, 0)


@dc.dataclass(frozen=True, kw_only=True)
class Queueing:
    """How Kueue hands out what the teams share.

    cpu, memory_gib: of the nodes without GPUs, what Jobs may take together: an equal part is promised to each team, and
        what one leaves idle the others borrow.
    reclaim: whose workloads a team may end to get back what it was promised and another has borrowed
        (reclaimWithinCohort).
    within_team: which of its own workloads a team's workload may end to start (withinClusterQueue).
    jobsets: whether there is JobSet's controller (jobset.x-k8s.io): Jobs on many nodes that start, end and are queued
        as one.
    requeue_minutes: how long an admitted workload may wait for its pods to be ready, at its start and after a node was
        lost, before it gives back its place and is queued again, behind who waits (waitForPodsReady). More than a
        node takes to come and its largest image to arrive. None: it keeps its place.
    Priorities are those of the pods' PriorityClass. Raises ValueError for a value that is not Kueue's.
    """

    cpu: int = 8
    memory_gib: int = 32
    reclaim: str = "Any"
    within_team: str = "LowerPriority"
    jobsets: bool = False
    requeue_minutes: int | None = None

    def __post_init__(self) -> None:
        for field, accepted in (("reclaim", _RECLAIM), ("within_team", _WITHIN)):
            if getattr(self, field) not in accepted:
                raise ValueError(f"queueing: {field}={getattr(self, field)!r}; accepted: {', '.join(accepted)}")
        for field in ("cpu", "memory_gib", "requeue_minutes"):
            given = getattr(self, field)
            if given is not None and given < 1:
                raise ValueError(f"queueing: {field}={given!r}; accepted: 1 or more")


@dc.dataclass(frozen=True, kw_only=True)
class TenancyArgs:
    """The teams, each name once, and the pools that they share.

    queueing: None for a cluster without Kueue: what a team is promised is then the most that it may request.
    system_nodes: how many nodes without GPUs there are, over which `queueing` spreads what Jobs may take of them.
    """

    teams: tuple[Team, ...] = ()
    pools: tuple[GpuPool, ...] = ()
    queueing: Queueing | None = None
    system_nodes: int = 3

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(t.name for t in self.teams).items() if count > 1]
        if twice:
            raise ValueError(f"teams: {twice[0]!r} is the name of two teams; accepted: one team a name")
        offered = shares(self.pools)
        for team in self.teams:
            for field in ("gpus", "borrows"):
                for name, units in getattr(team, field).items():
                    if name not in offered:
                        accepted = ", ".join(offered) or "no pool"
                        raise ValueError(f"team {team.name!r}: {field}[{name!r}]; accepted: {accepted}")
                    left = offered[name].units - (team.gpus.get(name, 0) if field == "borrows" else 0)
                    if not 0 <= units <= left:
                        raise ValueError(
                            f"team {team.name!r}: {field}[{name!r}]={units}; accepted: 0 to {left}, "
                            f"the {offered[name].resource} that the pool has at its largest"
                            f"{' beyond gpus' if field == 'borrows' else ''}"
                        )
        if self.queueing is not None:
            self._check_promises()
            for team in self.teams:
                for job in team.jobs:
                    check(job, self.places(team), who=f"team {team.name!r}: job {job.name!r}")

    def _check_promises(self) -> None:
        for share in shares(self.pools).values():
            if self.unpromised(share) < 0:
                promised = share.units - self.unpromised(share)
                raise ValueError(
                    f"teams: gpus[{share.name!r}] add up to {promised}; accepted: up to {share.units}, the "
                    f"{share.resource} that the pool has at its largest (what is left idle can be borrowed)"
                )

    def places(self, team: Team) -> tuple[Place, ...]:
        """Where Kueue may send the team's workloads, in the order in which it tries; none without Kueue."""
        if self.queueing is None:
            return ()
        had = {name: team.most(name) for name in shares(self.pools)}
        cpu, memory = _equal_part(self, self.queueing)
        found = [system(self.system_nodes, cpu * len(self.teams), memory * len(self.teams))]
        for pool, cores, mebi in self._plain_parts:
            if any(had[share.name] for share in pool.shares):
                found.append(place(pool, had, cpu=cores, memory=mebi))
        return tuple(found)

    @functools.cached_property
    def _plain_parts(self) -> list[tuple[GpuPool, int, int]]:
        """Each pool with what all quotas of it together have of its nodes' cores and memory."""
        left = {name: self.unpromised(share) for name, share in shares(self.pools).items()}
        quotas = [*(team.gpus for team in self.teams), left]
        parts = [[_plain_part(pool, units) for units in quotas] for pool in self.pools]
        sums = [tuple(map(sum, zip(*of_pool, strict=True))) for of_pool in parts]
        return [(pool, cores, memory) for pool, (cores, memory) in zip(self.pools, sums, strict=True)]

    def unpromised(self, share: Share) -> int:
        """How much of what a pool offers is no team's own."""
        return share.units - sum(team.gpus.get(share.name, 0) for team in self.teams)


class Tenancy(pulumi.ComponentResource):
    """A namespace with its NetworkPolicies a team; of the pools a quota, and where there is Kueue a queue.

    `namespaces` maps a team's name to its namespace.
    """

    namespaces: dict[str, pulumi.Output[str]]

    def __init__(
        self,
        name: str,
        args: TenancyArgs,
        *,
        foundation: Foundation,
        pools: GpuNodePools | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("kiban:components:Tenancy", name, None, opts)
        tags = labels("tenancy", name)
        # Namespaces too: they go before Kueue, which alone can let go of the workloads that are in them.
        after: list[pulumi.Resource] = [foundation, *([pools] if pools else [])]
        self.namespaces = {}
        for team in args.teams:
            namespace = k8s.core.v1.Namespace(
                f"{name}-{team.name}",
                metadata={
                    "name": team.namespace,
                    "labels": tags | restricted() | {TEAM: team.name, OWNER: team.owner},
                },
                opts=pulumi.ResourceOptions(parent=self, depends_on=after),
            )
            closed_namespace(f"{name}-{team.name}", namespace, tags, parent=self)
            self.namespaces[team.name] = namespace.metadata["name"]
            if args.pools:  # a quota of nothing never becomes ready
                k8s.core.v1.ResourceQuota(
                    f"{name}-quota-{team.name}",
                    metadata={"name": "devices", "namespace": namespace.metadata["name"], "labels": tags},
                    spec={"hard": quota(team, args)},
                    opts=pulumi.ResourceOptions(parent=self),
                )
        if args.queueing is not None:
            self._queue(name, args, args.queueing, tags, after)
        self.register_outputs({"namespaces": self.namespaces})

    def _queue(
        self, name: str, args: TenancyArgs, queueing: Queueing, tags: dict[str, str], after: list[pulumi.Resource]
    ) -> None:
        """Declare the Cohort, a ClusterQueue and a LocalQueue a team, and the rules of what may come into them."""
        if args.teams:
            enforce(name, fitting(args), tags, parent=self)
        k8s.apiextensions.CustomResource(
            f"{name}-cohort",
            api_version=KUEUE,
            kind="Cohort",
            metadata={"name": COHORT, "labels": tags},
            spec=cohort(args, queueing),
            opts=pulumi.ResourceOptions(parent=self, depends_on=after),
        )
        for team in args.teams:
            cluster = k8s.apiextensions.CustomResource(
                f"{name}-cluster-queue-{team.name}",
                api_version=KUEUE,
                kind="ClusterQueue",
                metadata={"name": team.name, "labels": tags},
                spec=cluster_queue(team, args, queueing),
                opts=pulumi.ResourceOptions(parent=self, depends_on=after),
            )
            k8s.apiextensions.CustomResource(
                f"{name}-local-queue-{team.name}",
                api_version=KUEUE,
                kind="LocalQueue",
                metadata={"name": LOCAL_QUEUE, "namespace": self.namespaces[team.name], "labels": tags},
                spec={"clusterQueue": team.name},
                opts=pulumi.ResourceOptions(parent=self, depends_on=[cluster]),
            )


def fitting(args: TenancyArgs) -> dict[str, dict[str, Any]]:
    """The rules that keep out of the queues what no node would hold: ValidatingAdmissionPolicy name to spec."""
    return rules({team.name: args.places(team) for team in args.teams})


def quota(team: Team, args: TenancyArgs) -> dict[str, str]:
    """The most that the team may request of every resource that any pool offers: 0 of what it was not given.

    Kueue never admits as much as that would refuse; it holds for pods that pass Kueue by.
    """
    hard: Counter[str] = Counter()
    for name, share in shares(args.pools).items():
        hard[f"requests.{share.resource}"] += team.most(name) if args.queueing else team.gpus.get(name, 0)
    return {resource: str(units) for resource, units in sorted(hard.items())}


def cluster_queue(team: Team, args: TenancyArgs, queueing: Queueing) -> dict[str, Any]:
    """Spec of the team's ClusterQueue: its part of each flavor, what it may borrow, and whom it may end for that."""
    quotas = {SYSTEM_POOL: _plain(*_equal_part(args, queueing))}
    for pool in args.pools:
        if any(team.most(share.name) for share in pool.shares):
            quotas[pool.name] = _part(pool, team.gpus)
            for share in pool.shares:  # without a limit it is all that others leave idle
                quotas[pool.name][share.resource]["borrowingLimit"] = count(team.borrows.get(share.name, 0))
    return {
        "cohortName": COHORT,
        "namespaceSelector": {"matchLabels": {TEAM: team.name}},
        "resourceGroups": [_group(args.pools, quotas)],
        "preemption": {
            "reclaimWithinCohort": queueing.reclaim,
            "withinClusterQueue": queueing.within_team,
        },
    }


def cohort(args: TenancyArgs, queueing: Queueing) -> dict[str, Any]:
    """Spec of the Cohort that the teams borrow in; it has itself what no team was promised."""
    plain = _plain(0, 0) if args.teams else _plain(queueing.cpu * 1000, queueing.memory_gib * 1024)
    left = {name: args.unpromised(share) for name, share in shares(args.pools).items()}
    parts = {pool.name: _part(pool, left) for pool in args.pools}
    return {"resourceGroups": [_group(args.pools, {SYSTEM_POOL: plain} | parts)]}


_Quotas = dict[str, dict[str, str]]


def _group(pools: tuple[GpuPool, ...], quotas: Mapping[str, _Quotas]) -> dict[str, Any]:
    """One group of all resources, since a pod takes its cores and its devices from one flavor.

    Kueue wants every flavor to name every resource of its group, in one order.
    """
    covered = ["cpu", "memory", *dict.fromkeys(share.resource for share in shares(pools).values())]
    return {
        "coveredResources": covered,
        "flavors": [
            {
                "name": flavor,
                "resources": [{"name": resource, **of.get(resource, {"nominalQuota": "0"})} for resource in covered],
            }
            for flavor, of in quotas.items()
        ],
    }


def _part(pool: GpuPool, units: Mapping[str, int]) -> _Quotas:
    """So much of what the pool offers, by name, and as much of its nodes' cores and memory as belongs to that."""
    devices = {share.resource: {"nominalQuota": count(units.get(share.name, 0))} for share in pool.shares}
    return _plain(*_plain_part(pool, units)) | devices


def _plain_part(pool: GpuPool, units: Mapping[str, int]) -> tuple[int, int]:
    """What of its nodes' cores, in thousandths, and of their memory, in MiB, belongs to so much of what it offers."""
    nodes = sum((units.get(share.name, 0) * share.part for share in pool.shares), Fraction())
    return int(pool.cpu * 1000 * nodes), int(pool.memory_gib * 1024 * nodes)


def _equal_part(args: TenancyArgs, queueing: Queueing) -> tuple[int, int]:
    """What a team is promised of the nodes without GPUs: cores, in thousandths, and memory, in MiB."""
    return queueing.cpu * 1000 // len(args.teams), queueing.memory_gib * 1024 // len(args.teams)


def _plain(milli: int, mebi: int) -> _Quotas:
    return {"cpu": {"nominalQuota": millicores(milli)}, "memory": {"nominalQuota": mebibytes(mebi)}}
