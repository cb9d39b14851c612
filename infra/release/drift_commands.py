"""`kiban drift`: its words, its options and its result."""

import click

from infra.report import Report
from infra.verbs import ENVIRONMENT, ON, verb

VERBS = click.Group()
"""What the command line takes over from here."""


@verb(VERBS, "drift", "object field released live manager at change")
@ENVIRONMENT
@ON
def drift(environment: str, on: str | None) -> Report:
    """Say what was changed by hand since the last `up`, and by whom; status 1 where there is anything."""
    from infra import target
    from infra.release import drift as differing

    items = [finding.as_item() for finding in differing.find(target.resolve(environment, on))]
    return Report(items=items, exit_status=1 if items else 0)
