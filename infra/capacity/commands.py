"""`kiban capacity`: words, options and results. What it says is computed beside this file."""

from typing import TYPE_CHECKING

import click

from infra.console import say
from infra.errors import BadInput, KibanError, RunFailed
from infra.report import Report
from infra.verbs import ENVIRONMENT, ON, verb

if TYPE_CHECKING:
    from infra.capacity.usage import Usage
    from stacks._schema import Environment

VERBS = click.Group()
"""What the command line takes over from here."""
_KINDS = "clusterqueues.kueue.x-k8s.io,cohorts.kueue.x-k8s.io,localqueues.kueue.x-k8s.io,workloads.kueue.x-k8s.io"


@verb(
    VERBS,
    "capacity",
    "pool resource nodes per_node capacity promised used lent idle cost_least cost_most cost_idle |",
    "team share resource guaranteed at_most used borrowed pending cost_guaranteed |",
    "job of ever now into why",
)
@ENVIRONMENT
@ON
@click.option("--job", "text", metavar="SHAPE", help="What would become of a Job: gpus=8,pods=4,cpu=4,memory=16Gi.")
@click.option("--team", metavar="T", help="Of this team alone.")
def capacity(environment: str, text: str | None, team: str | None, on: str | None) -> Report:
    """Say what each team can get of the pools, what is in use and idle, and what a Job would wait for and why.

    SHAPE: any of pods, gpus, cpu, memory (of a pod), pool, resource, topology, and priority (a PriorityClass). What is
    in use is said where the environment's cluster answers. Status 1 where the Job would
    be refused, of every team in question.
    """
    from infra import target
    from infra.capacity import jobs, parts, reading

    found = target.data(environment, target.meant(environment, on))
    names = [each.name for each in found.teams]
    if team is not None and team not in names:
        raise BadInput(f"--team {team}; accepted: {', '.join(names) or f'none, {environment} has no team'}")
    teams = names if team is None else [team]
    shape, priority = jobs.parse(text) if text else (None, None)
    classes = dict(found.foundation.priorities)
    if priority is not None and priority not in classes:
        raise BadInput(f"--job {text!r}: priority={priority!r}; accepted: {', '.join(classes)}")
    usage = reading.empty(found)
    try:
        usage = _live(found)
    except KibanError as error:
        say(f"capacity: {error}; what follows is what the data say")
    items = [*parts.pool_items(found, usage), *parts.team_items(found, usage, teams)]
    if shape is None:
        return Report(items=items)
    value = classes[priority] if priority else 0
    asked = jobs.job_items(found, usage, shape, teams=teams, priority=value)
    return Report(items=[*items, *asked], exit_status=int(all(each["now"] == "refused" for each in asked)))


def _live(found: "Environment") -> "Usage":
    """What the environment's cluster has of it now."""
    from infra import status, target
    from infra.capacity import reading
    from infra.kubectl import Kubectl

    cluster = target.locate(found)
    objects = Kubectl(cluster.kubeconfig, cluster.context).get(_KINDS, everywhere=True)
    nodes, pods, _ = status.read(cluster)
    usage = reading.live(objects, nodes, pods)
    missing = [team.name for team in found.teams if team.name not in usage.queues]
    if missing:
        raise RunFailed(f"cluster {cluster.name} has no queue of team {missing[0]!r} yet")
    return usage
