"""`kiban drift`: its words, its options and its result."""

import click

from infra import paths
from infra.console import say
from infra.report import Report
from infra.verbs import ENVIRONMENT, ON, verb

VERBS = click.Group()
"""What the command line takes over from here."""


@verb(VERBS, "drift", "object field released live manager at change")
@ENVIRONMENT
@ON
def drift(environment: str, on: str | None) -> Report:
    """Say what was changed by hand since the last `up`, and by whom; status 1 where there is anything.

    Where a release is in force, also what the state has otherwise than that release.
    """
    from infra import target
    from infra.release import drift as differing
    from infra.release.drift import unreleased

    where = target.resolve(environment, on)
    items = [finding.as_item() for finding in differing.find(where)]
    items += unreleased.items(paths.ROOT, environment, where.on, say)
    return Report(items=items, exit_status=1 if items else 0)
