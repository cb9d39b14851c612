"""Which cluster was provisioned for an environment: the UID of its kube-system, in a file that is committed."""

from pathlib import Path

from infra import paths
from infra.clusters import Cluster, kubeconfig
from infra.errors import CouldNotRun
from stacks._schema import ProvisionedCluster


def file(environment: str) -> Path:
    """stacks/clusters/ENV.uid, whether it is there or not."""
    return paths.ROOT / "stacks" / "clusters" / f"{environment}.uid"


def uid(environment: str) -> str | None:
    """The UID; None where no cluster is provisioned."""
    try:
        return file(environment).read_text().strip()
    except FileNotFoundError:
        return None


def keep(environment: str, found: str) -> None:
    """Write it down."""
    file(environment).parent.mkdir(exist_ok=True)
    file(environment).write_text(f"{found}\n")


def forget(environment: str) -> None:
    """There is no such cluster any more."""
    file(environment).unlink(missing_ok=True)


def locate(environment: str, cluster: ProvisionedCluster) -> Cluster:
    """The cluster, by its context in the user's kubeconfig. Raises as kubeconfig.locate, and where there is none."""
    known = uid(environment)
    if known is None:
        raise CouldNotRun(
            f"{environment}: its cluster is not provisioned ({file(environment).name} is not in stacks/clusters); run: "
            f"kiban provision {environment} --kubeconfig FILE"
        )
    return kubeconfig.locate(cluster.context, known)
