"""Addresses and ports of embedded clusters: apart from each other and from what the host uses."""

import socket
from pathlib import Path

from infra.clusters.embedded import network


def test_a_place_gets_the_same_addresses_again(tmp_path: Path) -> None:
    """Addresses follow from the folder, so a cluster that is made again is found where it was."""
    assert network.namespace(tmp_path / "one") == network.namespace(tmp_path / "one")
    assert network.namespace(tmp_path / "one").link != network.namespace(tmp_path / "two").link
    assert len(network.namespace(tmp_path / "one").link) < 16


def test_chosen_ports_are_free_and_not_the_clients() -> None:
    """Ports of a loopback cluster differ, are free, and lie below those that the system hands to clients."""
    ports = network.loopback().ports
    assert len(set(ports.values())) == len(ports) == len(network.PORTS)
    assert all(network.is_free(port) and port < 30000 for port in ports.values())


def test_a_port_that_listens_is_not_free() -> None:
    """A port that another program listens on is seen as taken."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not network.is_free(server.getsockname()[1])
