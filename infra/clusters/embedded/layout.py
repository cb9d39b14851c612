"""Where an embedded cluster's files are, and what its addresses are."""

import dataclasses as dc
import ipaddress
from pathlib import Path

from infra.clusters.embedded.network import Network
from infra.clusters.embedded.record import Record


@dc.dataclass(frozen=True, kw_only=True)
class Layout:
    """Where a cluster's files are and what its addresses are.

    services, pods: the ranges of ClusterIPs and of pod addresses, as CIDR.
    """

    folder: Path
    network: Network
    services: str
    pods: str

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.network.address}:{self.network.ports['kube-apiserver']}"

    @property
    def first_service(self) -> str:
        """The ClusterIP of the Service `kubernetes`."""
        return str(ipaddress.IPv4Network(self.services)[1])

    @property
    def dns(self) -> str:
        """The ClusterIP of the cluster's DNS."""
        return str(ipaddress.IPv4Network(self.services)[10])

    @property
    def simulated_pods(self) -> str:
        """The half of the pod range whose addresses nothing answers at."""
        return str(next(ipaddress.IPv4Network(self.pods).subnets()))

    @property
    def real_pods(self) -> str:
        """The half of the pod range that the real node has."""
        return str(list(ipaddress.IPv4Network(self.pods).subnets())[1])

    def pki(self, file: str) -> Path:
        """A file of the cluster's certificates, keys and kubeconfigs."""
        return self.folder / "pki" / file


def layout(folder: Path, known: Record) -> Layout:
    """The layout of the cluster in the folder."""
    return Layout(folder=folder, network=known.network, services=known.services, pods=known.pods)
