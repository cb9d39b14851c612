"""NetworkPolicies as Kubernetes reads them: whether one end of a connection lets it out, or in (networking/v1).

Any network plugin has to come to the same answer; nothing is sent here.
"""

import dataclasses as dc
import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal

from infra.rehearsal.selectors import selects
from infra.rehearsal.snapshot import Object

Direction = Literal["Ingress", "Egress"]


@dc.dataclass(frozen=True, kw_only=True)
class End:
    """One end of a connection: a pod; or, without a namespace, an address that is no pod's.

    space: the labels of its namespace. ports: a pod's, by name. host: whether it is on its node's own network, where
    policies do not reach.
    """

    address: str | None = None
    namespace: str = ""
    labels: Mapping[str, str] = dc.field(default_factory=dict)
    space: Mapping[str, str] = dc.field(default_factory=dict)
    ports: Mapping[str, int] = dc.field(default_factory=dict)
    host: bool = False


class Policies:
    """The NetworkPolicies of a cluster."""

    def __init__(self, policies: Iterable[Object]) -> None:
        self._of: dict[str, list[Object]] = defaultdict(list)
        for each in policies:
            self._of[each["metadata"]["namespace"]].append(each)

    def shut(self, source: End, target: End, port: int, protocol: str = "TCP") -> str | None:
        """Who keeps the source from the port of the target: in words, with the policies' names; None: nobody does."""
        ends: tuple[tuple[Direction, End, End], ...] = (("Egress", source, target), ("Ingress", target, source))
        for direction, own, other in ends:
            closing = self._selecting(own, direction)
            rules = [rule for each in closing for rule in each["spec"].get(direction.lower()) or ()]
            named = target.ports
            if closing and not any(_allows(rule, own, other, (port, protocol), named) for rule in rules):
                names = ", ".join(sorted(each["metadata"]["name"] for each in closing))
                way = "out of" if direction == "Egress" else "into"
                return f"NetworkPolicies let it not {way} {own.namespace}: {names}"
        return None

    def _selecting(self, end: End, direction: Direction) -> list[Object]:
        if end.host:
            return []
        return [
            each
            for each in self._of.get(end.namespace, ())
            if direction in _types(each["spec"]) and selects(each["spec"].get("podSelector"), end.labels)
        ]


def _types(spec: Object) -> list[str]:
    """What a policy closes; where it does not say, what comes in, and what goes out if it has rules for that."""
    return spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]


def _allows(rule: Object, own: End, other: End, port: tuple[int, str], named: Mapping[str, int]) -> bool:
    peers = rule.get("to") or rule.get("from")
    ports = rule.get("ports")
    return (not ports or any(_covers(each, *port, named) for each in ports)) and (
        not peers or any(_is(peer, own, other) for peer in peers)
    )


def _covers(wanted: Object, port: int, protocol: str, named: Mapping[str, int]) -> bool:
    if wanted.get("protocol", "TCP") != protocol:
        return False
    first = wanted.get("port")
    if first is None:
        return True
    if isinstance(first, str):
        return named.get(first) == port
    return int(first) <= port <= int(wanted.get("endPort") or first)


def _is(peer: Object, own: End, other: End) -> bool:
    block = peer.get("ipBlock")
    if block is not None:
        return other.address is not None and _within(other.address, block)
    if not other.namespace:
        return False
    if "namespaceSelector" in peer:
        there = selects(peer["namespaceSelector"], other.space)
    else:
        there = other.namespace == own.namespace
    return there and selects(peer.get("podSelector"), other.labels)


def _within(address: str, block: Object) -> bool:
    ranges = [ipaddress.ip_network(each) for each in (block["cidr"], *block.get("except", ()))]
    of = ipaddress.ip_address(address)
    return of in ranges[0] and not any(of in each for each in ranges[1:])
