"""Teams: a namespace each, closed to the others by default.

How much of the GPUs a team gets is the matter of components/gpu_node_pools.py.
"""

import dataclasses as dc
import re
from collections import Counter
from collections.abc import Mapping

import pulumi
import pulumi_kubernetes as k8s

from components._labels import OWNER, TEAM, labels
from components._network import closed_namespace
from components.foundation import Foundation, restricted

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")


@dc.dataclass(frozen=True, kw_only=True)
class Team:
    """A team of the platform.

    name: also its namespace's, behind the prefix `team-`.
    owner: a mail address or a chat channel, for the label kiban.dev/owner; letters, digits, '-', '_' and '.'.
    gpus: pool name to how much of that pool's resource the team may request at once.
    """

    name: str
    owner: str
    gpus: Mapping[str, int] = dc.field(default_factory=dict)

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


@dc.dataclass(frozen=True, kw_only=True)
class TenancyArgs:
    """The teams, each name once."""

    teams: tuple[Team, ...] = ()

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(t.name for t in self.teams).items() if count > 1]
        if twice:
            raise ValueError(f"teams: {twice[0]!r} is the name of two teams; accepted: one team a name")


class Tenancy(pulumi.ComponentResource):
    """A namespace and its default NetworkPolicies a team. `namespaces` maps a team's name to its namespace."""

    namespaces: dict[str, pulumi.Output[str]]

    def __init__(
        self,
        name: str,
        args: TenancyArgs,
        *,
        foundation: Foundation,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("kiban:components:Tenancy", name, None, opts)
        own = pulumi.ResourceOptions(parent=self, depends_on=[foundation])
        tags = labels("tenancy", name)
        self.namespaces = {}
        for team in args.teams:
            namespace = k8s.core.v1.Namespace(
                f"{name}-{team.name}",
                metadata={
                    "name": team.namespace,
                    "labels": tags | restricted() | {TEAM: team.name, OWNER: team.owner},
                },
                opts=own,
            )
            closed_namespace(f"{name}-{team.name}", namespace, tags, parent=self)
            self.namespaces[team.name] = namespace.metadata["name"]
        self.register_outputs({"namespaces": self.namespaces})
