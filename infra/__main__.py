"""What `pulumi up -s ENV` runs: load the environment, check its cluster, declare the platform on it.

KIBAN_PATIENCE: seconds that each resource is given to become ready, in place of Pulumi's ten minutes.
"""

import os

import pulumi
import pulumi_kubernetes as k8s

from infra import models, preflight, steps, target, wiring
from infra.clusters import Cluster
from infra.economy import economise, settled
from infra.errors import KibanError
from infra.kubectl import Kubectl
from infra.release import guard
from stacks._schema import EmbeddedCluster, Environment


def program() -> None:
    """Declare the stack's environment. What the user can mend is said in one line, before any resource is touched."""
    economise()
    try:
        environment = target.environment(pulumi.get_stack(), os.environ.get("KIBAN_CLUSTER"))
        cluster = target.locate(environment)
        target.refuse_second(environment, cluster.kubeconfig.parent / "stack")
        if not pulumi.runtime.is_dry_run():  # what an unreleased change would do may be seen
            guard.refuse_unpromoted(environment, cluster)
        preflight.check(environment, Kubectl(cluster.kubeconfig, cluster.context))
        steps.check(environment)
        models.check(environment, cluster)
    except KibanError as error:
        raise pulumi.RunError(str(error)) from None
    wiring.mark(environment, os.environ.get("KIBAN_PATIENCE"))
    kube = provider(environment, cluster)
    wiring.wire(environment, pulumi.ResourceOptions(providers=[kube]))
    pulumi.run(settled)


def provider(environment: Environment, cluster: Cluster) -> k8s.Provider:
    """The one provider that every resource goes through."""
    own = isinstance(environment.cluster, EmbeddedCluster)
    return k8s.Provider(
        "kube",
        # An embedded cluster's file holds its keys and moves with its port. Elsewhere the state must not depend on
        # where a user keeps kubeconfigs: an empty string makes the provider look where kubectl would.
        kubeconfig=pulumi.Output.secret(cluster.kubeconfig.read_text()) if own else "",
        context=cluster.context,
        cluster_identifier=cluster.uid,  # without it, a changed address or CA replaces every resource
        enable_server_side_apply=True,
        enable_secret_mutable=True,  # else a changed one is deleted and made again, while pods read it
        enable_config_map_mutable=True,
        kube_client_settings=k8s.KubeClientSettingsArgs(burst=1000, qps=500),
        suppress_helm_hook_warnings=True,  # the charts' hooks are left out knowingly
    )


if __name__ == "__main__":
    program()
