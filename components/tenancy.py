"""Teams: each has a namespace of its own, closed to the others, and through a queue its part of the pools."""

import dataclasses as dc
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components._labels import OWNER, TEAM, labels, restricted
from components._network import closed_namespace
from components._quantities import count, mebibytes, millicores
from components.foundation import Foundation
from components.gpu_node_pools import KUEUE, SYSTEM_POOL, GpuNodePools, GpuPool

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
    gpus: pool name to how much of that pool's resource the team is promised.
    borrows: pool name to how much more of it the team may take while others leave it idle; nothing of other pools.
    """

    name: str
    owner: str
    gpus: Mapping[str, int] = dc.field(default_factory=dict)
    borrows: Mapping[str, int] = dc.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"team {self.name!r}: accepted: a name of lower-case letters, digits and '-', at most 40 characters"
            )
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", self.owner):
            raise ValueError(f"team {self.name!r}: owner={self.owner!r}; accepted: a Kubernetes label value")

    @property
    def namespace(self) -> str:
        """Where the team works."""
        return f"team-{self.name}"

    def most(self, pool: str) -> int:
        """The most that the team may ever have of the pool's resource."""
        return self.gpus.get(pool, 0) + self.borrows.get(pool, 0)


@dc.dataclass(frozen=True, kw_only=True)
class Queueing:
    """How Kueue hands out what the teams share.

    cpu, memory_gib: of the nodes without GPUs, what Jobs may take together: an equal part is promised to each team, and
        what one leaves idle the others borrow.
    reclaim: whose workloads a team may end to get back what it was promised and another has borrowed
        (reclaimWithinCohort).
    within_team: which of its own workloads a team's workload may end to start (withinClusterQueue).
    Priorities are those of the pods' PriorityClass. Raises ValueError for a value that is not Kueue's.
    """

    cpu: int = 8
    memory_gib: int = 32
    reclaim: str = "Any"
    within_team: str = "LowerPriority"

    def __post_init__(self) -> None:
        for field, accepted in (("reclaim", _RECLAIM), ("within_team", _WITHIN)):
            if getattr(self, field) not in accepted:
                raise ValueError(f"queueing: {field}={getattr(self, field)!r}; accepted: {', '.join(accepted)}")
        for field in ("cpu", "memory_gib"):
            if getattr(self, field) < 1:
                raise ValueError(f"queueing: {field}={getattr(self, field)!r}; accepted: 1 or more")


@dc.dataclass(frozen=True, kw_only=True)
class TenancyArgs:
    """The teams, each name once, and the pools that they share.

    queueing: None for a cluster without Kueue: what a team is promised is then the most that it may request.
    """

    teams: tuple[Team, ...] = ()
    pools: tuple[GpuPool, ...] = ()
    queueing: Queueing | None = None

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(t.name for t in self.teams).items() if count > 1]
        if twice:
            raise ValueError(f"teams: {twice[0]!r} is the name of two teams; accepted: one team a name")
        pools = {pool.name: pool for pool in self.pools}
        for team in self.teams:
            for field in ("gpus", "borrows"):
                for name, units in getattr(team, field).items():
                    if name not in pools:
                        accepted = ", ".join(pools) or "no pool"
                        raise ValueError(f"team {team.name!r}: {field}[{name!r}]; accepted: {accepted}")
                    left = pools[name].units - (team.gpus.get(name, 0) if field == "borrows" else 0)
                    if not 0 <= units <= left:
                        raise ValueError(
                            f"team {team.name!r}: {field}[{name!r}]={units}; accepted: 0 to {left}, "
                            f"the {pools[name].resource} that the pool has at its largest"
                            f"{' beyond gpus' if field == 'borrows' else ''}"
                        )
        if self.queueing is not None:
            self._check_promises()

    def _check_promises(self) -> None:
        for pool in self.pools:
            if self.unpromised(pool) < 0:
                promised = pool.units - self.unpromised(pool)
                raise ValueError(
                    f"teams: gpus[{pool.name!r}] add up to {promised}; accepted: up to {pool.units}, the "
                    f"{pool.resource} that the pool has at its largest (what is left idle can be borrowed)"
                )

    def unpromised(self, pool: GpuPool) -> int:
        """How much of the pool's resource is no team's own."""
        return pool.units - sum(team.gpus.get(pool.name, 0) for team in self.teams)


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
        """Declare the Cohort, and a ClusterQueue and a LocalQueue a team."""
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


def quota(team: Team, args: TenancyArgs) -> dict[str, str]:
    """The most that the team may request of every resource that any pool offers: 0 of what it was not given.

    Kueue never admits as much as that would refuse; it holds for pods that pass Kueue by.
    """
    hard = {f"requests.{pool.resource}": 0 for pool in args.pools}
    for pool in args.pools:
        hard[f"requests.{pool.resource}"] += team.most(pool.name) if args.queueing else team.gpus.get(pool.name, 0)
    return {resource: str(units) for resource, units in sorted(hard.items())}


def cluster_queue(team: Team, args: TenancyArgs, queueing: Queueing) -> dict[str, Any]:
    """Spec of the team's ClusterQueue: its part of each flavor, what it may borrow, and whom it may end for that."""
    quotas = {
        SYSTEM_POOL: _plain(queueing.cpu * 1000 // len(args.teams), queueing.memory_gib * 1024 // len(args.teams))
    }
    for pool in args.pools:
        if team.most(pool.name):
            quotas[pool.name] = _part(pool, team.gpus.get(pool.name, 0))
            quotas[pool.name][pool.resource]["borrowingLimit"] = count(team.borrows.get(pool.name, 0))
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
    parts = {pool.name: _part(pool, args.unpromised(pool)) for pool in args.pools}
    return {"resourceGroups": [_group(args.pools, {SYSTEM_POOL: plain} | parts)]}


_Quotas = dict[str, dict[str, str]]


def _group(pools: tuple[GpuPool, ...], quotas: Mapping[str, _Quotas]) -> dict[str, Any]:
    """One group of all resources, since a pod takes its cores and its devices from one flavor.

    Kueue wants every flavor to name every resource of its group, in one order.
    """
    covered = ["cpu", "memory", *dict.fromkeys(pool.resource for pool in pools)]
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


def _part(pool: GpuPool, units: int) -> _Quotas:
    """So much of the pool's resource, and as much of its nodes' cores and memory as belongs to that."""
    plain = _plain(
        pool.cpu * 1000 * units // pool.units_per_node, pool.memory_gib * 1024 * units // pool.units_per_node
    )
    return plain | {pool.resource: {"nominalQuota": count(units)}}


def _plain(milli: int, mebi: int) -> _Quotas:
    return {"cpu": {"nominalQuota": millicores(milli)}, "memory": {"nominalQuota": mebibytes(mebi)}}
