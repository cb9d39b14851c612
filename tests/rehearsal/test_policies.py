"""NetworkPolicies read as Kubernetes reads them."""

from typing import Any

import pytest

from infra.rehearsal.policies import End, Policies

WEB = End(namespace="web", labels={"app": "web"}, space={"team": "a"}, ports={"http": 8080}, address="10.0.0.1")
DB = End(namespace="db", labels={"app": "db"}, space={"team": "b"}, ports={"sql": 5432}, address="10.0.1.1")


def policy(namespace: str, **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of a policy
    """Return a policy for all pods of a namespace, unless it says otherwise."""
    return {"metadata": {"name": "own", "namespace": namespace}, "spec": {"podSelector": {}} | spec}


def open_with(*policies: dict[str, Any], port: int = 5432, protocol: str = "TCP") -> bool:
    """Whether web reaches a port of db."""
    return Policies(policies).shut(WEB, DB, port, protocol) is None


def test_without_policies_all_is_open() -> None:
    """Also where others' namespaces and other pods have some."""
    other = policy("db", podSelector={"matchLabels": {"app": "cache"}}, policyTypes=["Ingress"])
    assert open_with()
    assert open_with(policy("elsewhere", policyTypes=["Ingress", "Egress"]), other)


@pytest.mark.parametrize(
    ("closed", "direction", "way"), [("web", "Egress", "out of web"), ("db", "Ingress", "into db")]
)
def test_either_end_may_close(closed: str, direction: str, way: str) -> None:
    """It is told which, and by which policies; the other direction does not matter."""
    why = Policies([policy(closed, policyTypes=[direction])]).shut(WEB, DB, 5432)
    assert why == f"NetworkPolicies let it not {way}: own"
    assert open_with(policy("web", policyTypes=["Ingress"]), policy("db", policyTypes=["Egress"]))


def test_what_a_policy_closes_without_saying() -> None:
    """What comes in always, what goes out where it has rules for that."""
    assert not open_with(policy("db"))
    assert open_with(policy("web"))
    assert not open_with(policy("web", egress=[{"to": [{"podSelector": {}}]}]))


def test_policies_add_up() -> None:
    """One that opens is enough beside one that closes."""
    assert open_with(policy("db", policyTypes=["Ingress"]), policy("db", ingress=[{}]))


@pytest.mark.parametrize(
    ("peer", "open_"),
    [
        ({"podSelector": {}}, False),  # of its own namespace
        ({"namespaceSelector": {}}, True),
        ({"namespaceSelector": {"matchLabels": {"team": "a"}}}, True),
        ({"namespaceSelector": {"matchLabels": {"team": "b"}}}, False),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}}, True),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "db"}}}, False),
        ({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}, True),
        ({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]}}, False),
        ({"ipBlock": {"cidr": "10.0.0.0/24"}}, True),
        ({"ipBlock": {"cidr": "10.0.0.0/24", "except": ["10.0.0.0/28"]}}, False),
    ],
)
def test_who_comes_in(peer: dict[str, Any], *, open_: bool) -> None:
    """By namespace, by pod, by both at once, by address."""
    assert open_with(policy("db", ingress=[{"from": [peer]}])) is open_


@pytest.mark.parametrize(
    ("port", "open_"),
    [
        ({"port": 5432}, True),
        ({"port": 5433}, False),
        ({"port": 5432, "protocol": "UDP"}, False),
        ({"port": 5000, "endPort": 6000}, True),
        ({"port": 5000, "endPort": 5400}, False),
        ({"port": "sql"}, True),
        ({"port": "http"}, False),
        ({"protocol": "TCP"}, True),
    ],
)
def test_on_which_ports(port: dict[str, Any], *, open_: bool) -> None:
    """By number, range, the receiving pod's name of it, or any of a protocol; the same at both ends."""
    assert open_with(policy("db", ingress=[{"ports": [port]}])) is open_
    assert open_with(policy("web", policyTypes=["Egress"], egress=[{"ports": [port]}])) is open_


def test_what_is_no_pod_is_found_by_its_address_or_not_at_all() -> None:
    """A selector of namespaces finds no address; a pod on its node's network is beyond policies."""
    server = End(address="198.19.0.2")
    by_selector = policy("web", policyTypes=["Egress"], egress=[{"to": [{"namespaceSelector": {}}]}])
    by_address = policy("web", policyTypes=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": "198.19.0.0/16"}}]}])
    assert Policies([by_selector]).shut(WEB, server, 443)
    assert Policies([by_address]).shut(WEB, server, 443) is None
    assert Policies([policy("db")]).shut(WEB, End(namespace="db", host=True), 9100) is None
