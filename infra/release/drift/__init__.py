"""What is otherwise in an environment's cluster than its last `up` left it, and who did that.

Live objects against the stack's state, attributed by metadata.managedFields. Whether the state is what a release says
is for the program to tell (`kiban preview`), not for this.
"""

from infra import engine
from infra.errors import CouldNotRun
from infra.kubectl import Kubectl
from infra.release.drift import reading
from infra.release.drift.judging import Finding, findings
from infra.target import Target

__all__ = ["Finding", "find"]


def find(target: Target) -> tuple[Finding, ...]:
    """Every difference, by object. Raises CouldNotRun where nothing was ever brought up."""
    state = engine.export(target, secrets=True)
    known = reading.released(state)
    if not known:
        raise CouldNotRun(f"drift {target.command}: the state has no object; run `kiban up {target.command}` first")
    live = reading.live(Kubectl(target.cluster.kubeconfig, target.cluster.context), known)
    return findings(target.stack, state, known, live)
