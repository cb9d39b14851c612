"""`kiban provision`: its words, its options and its result."""

from pathlib import Path

import click

from infra.console import say
from infra.errors import BadInput
from infra.report import Report
from infra.verbs import ENVIRONMENT, FILE, confirm, verb

VERBS = click.Group()
"""What the command line takes over from here."""


@verb(VERBS, "provision", "cluster context kubeconfig uid machines evidence |", "step what there |", "deleted context")
@ENVIRONMENT
@click.option(
    "--kubeconfig", metavar="FILE", type=FILE, required=True, help="Where its context is written, beside others there."
)
@click.option("--kind", is_flag=True, help="Managed by a kind cluster meanwhile: for providers with a cloud.")
@click.option("--timeout", metavar="SECONDS", default=3600, show_default=True, type=click.IntRange(min=1))
@click.option("--dry-run", is_flag=True, help="Say what would be made; change nothing.")
@click.option("--delete", is_flag=True, help="Delete the cluster instead, with its machines.")
@click.option("--yes", "-y", is_flag=True, help="With --delete: do not ask.")
def provision(
    environment: str, kubeconfig: Path, timeout: int, *, kind: bool, dry_run: bool, delete: bool, yes: bool
) -> Report:
    """Make an environment's cluster through Cluster API, or what is missing of it; `up` then brings the platform.

    For an environment whose data has a ProvisionedCluster. One that was cut off goes on.
    """
    from infra import target
    from infra.provision.provisioning import Provisioning

    wanted = Provisioning(target.environment(environment), kubeconfig, on_kind=kind, say=say)
    if dry_run and delete:
        raise BadInput("--dry-run with --delete; accepted: one of the two; nothing was changed")
    if dry_run:
        return Report(items=wanted.plan())
    if not delete:
        return Report(items=wanted.run(timeout))
    if not yes:
        confirm(f"Delete the cluster of {environment}, with all its machines and what is on them?")
    return Report(items=wanted.delete(timeout))
