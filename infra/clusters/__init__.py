"""Where an environment lives: an embedded control plane, kind on Docker, or a cluster of the user's kubeconfig.

What runs on a cluster is the program's matter (infra/wiring.py), not this package's.
"""

import dataclasses as dc
from pathlib import Path


@dc.dataclass(frozen=True, kw_only=True)
class Cluster:
    """A live cluster.

    kubeconfig: a file in which `context` reaches it.
    uid: of the namespace kube-system, which stays the same for as long as the cluster's data does.
    """

    name: str
    kubeconfig: Path
    context: str
    uid: str
