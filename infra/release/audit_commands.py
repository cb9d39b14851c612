"""`kiban audit`, `approve`, `hold`, `lift`: their words, options and results; what they do is in the modules beside."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from infra import paths
from infra.console import say
from infra.errors import BadInput
from infra.report import Report
from infra.verbs import ENVIRONMENT, verb

if TYPE_CHECKING:
    from infra.release.entry import Entry, Hold, Lift
    from infra.release.ladder import Rung

REASON = click.option("--reason", required=True, metavar="TEXT", help="Why; it is recorded.")
KEY = click.option("--key", metavar="FILE", help="Sign the entry with this SSH key.")


VERBS = click.Group()
"""What the command line takes over from here."""


@VERBS.group()
def audit() -> None:
    """See what was done to an environment, and whether its record is whole."""


@verb(audit, "verify", "environment entries findings head |", "finding file", schema="audit-verify")
@click.argument("environment", metavar="[ENV]", required=False)
def verify(environment: str | None) -> Report:
    """Find every entry of the record that was altered, removed, moved or copied; status 1 where there is one."""
    from infra.release import record

    names = (_known(environment),) if environment else record.environments(paths.ROOT)
    items: list[dict[str, object]] = []
    found: list[dict[str, object]] = []
    for name in names:
        findings = record.verify(paths.ROOT, name)
        entries = () if findings else record.read(paths.ROOT, name)
        whole = {"entries": len(entries), "head": record.head(entries)} if not findings else {}
        items.append({"environment": name, **whole, "findings": len(findings)})
        found += [each.item for each in findings]
    return Report(items=[*items, *found], exit_status=1 if found else 0)


@verb(audit, "show", "number at who what", schema="audit-show")
@ENVIRONMENT
def show(environment: str) -> Report:
    """Show what was done to an environment, by whom and why, oldest first."""
    from infra.release import record

    return Report(items=[_item(entry) for entry in record.read(paths.ROOT, _known(environment))])


@verb(VERBS, "approve", "approval release by")
@click.argument("release", metavar="RELEASE")
@ENVIRONMENT
@click.option("--key", required=True, metavar="FILE", help="Your SSH key; its public half is in stacks/signers.")
def approve(release: str, environment: str, key: str) -> Report:
    """Sign that a release may go to an environment, as the person that git's user.email names."""
    from infra.release import approvals, record, releases
    from infra.release.entry import now

    rule = _rung(environment).gates.approvals
    if rule is None:
        raise BadInput(f"{environment}: it asks for no approvals; accepted: a rung with the gate `approvals`")
    found = releases.read(paths.ROOT, release)
    who = record.by(paths.ROOT).email
    file = approvals.approve(paths.ROOT, found, environment, rule, key=Path(key).expanduser(), principal=who, at=now())
    say(f"approved; commit {file.relative_to(paths.ROOT)} and its .sig")
    return Report(items=[{"approval": str(file.relative_to(paths.ROOT)), "release": found.id, "by": who}])


@verb(VERBS, "hold", "number at who what")
@ENVIRONMENT
@REASON
@KEY
def hold(environment: str, reason: str, key: str | None) -> Report:
    """Let no release into an environment until it is lifted."""
    from infra.release.entry import Hold

    return _recorded(environment, Hold, reason, key)


@verb(VERBS, "lift", "number at who what")
@ENVIRONMENT
@REASON
@KEY
def lift(environment: str, reason: str, key: str | None) -> Report:
    """End a hold."""
    from infra.release.entry import Lift

    return _recorded(environment, Lift, reason, key)


def _recorded(environment: str, kind: "type[Hold | Lift]", reason: str, key: str | None) -> Report:
    from infra.release import record
    from infra.release.entry import Entry, now

    _rung(environment)
    if not reason.strip():
        raise BadInput("--reason is empty; accepted: a text, which is recorded")
    entry = Entry(environment=environment, at=now(), by=record.by(paths.ROOT), what=kind(reason=reason))
    made = record.append(paths.ROOT, entry, Path(key).expanduser() if key else None)
    say(f"recorded; commit {record.file(paths.ROOT, environment, made.number).relative_to(paths.ROOT)}")
    return Report(items=[_item(made)])


def _item(entry: "Entry") -> dict[str, object]:
    from infra.release import view

    return {**entry.document(), "who": entry.by.name, "what": view.line(entry)}


def _known(environment: str) -> str:
    """The environment, if there is one of that name or a record of one that was."""
    import stacks
    from infra.release import record

    names = sorted({*stacks.names(), *record.environments(paths.ROOT)})
    if environment not in names:
        raise BadInput(f"environment {environment!r}; accepted: {', '.join(names)}")
    return environment


def _rung(environment: str) -> "Rung":
    import stacks
    from infra.release import ladder

    return ladder.rung_of(paths.ROOT, environment, stacks.names())
