"""`kiban promote`, `rollback`, `diff`: their words, options and results; what they do is in the modules beside."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra import paths
from infra.console import say
from infra.errors import BadInput
from infra.report import Report
from infra.verbs import ENVIRONMENT, FILE, ON, verb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from infra.release.promote import Done, Review
    from infra.release.releases import Release

VERBS = click.Group()
"""What the command line takes over from here."""


@verb(
    VERBS,
    "promote",
    "gate gate_outcome says reason |",
    "promoted from to |",
    "different below here |",
    "change resource properties |",
    "permanent |",
    "plan counts release |",
    "check outcome evidence says |",
    "promotion runs",
)
@click.argument("release", metavar="RELEASE")
@ENVIRONMENT
@ON
@click.option("--dry-run", is_flag=True, help="Say what each gate says and what would change; change nothing.")
@click.option("--save-plan", metavar="FILE", type=FILE, help="With --dry-run: keep the plan for review.")
@click.option("--plan", metavar="FILE", type=FILE, help="Apply this plan, which was reviewed.")
@click.option("--reviewed", metavar="SHA256", help="With --plan: what the review said that it is.")
@click.option("--bypass", "gates", multiple=True, metavar="GATE", help="Let the release past a gate; it is recorded.")
@click.option("--reason", metavar="TEXT", default="", help="Why a gate is bypassed.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def promote(
    release: str,
    environment: str,
    on: str | None,
    gates: tuple[str, ...],
    reason: str,
    *,
    dry_run: bool,
    save_plan: Path | None,
    plan: Path | None,
    reviewed: str | None,
    yes: bool,
) -> Report:
    """Bring a release into an environment, through its gates; back to the last good one where it does not do well.

    A promotion that was cut off goes on. Status 1 where a gate keeps the release out, or where it was taken back;
    2 where it has skipped a rung.
    """
    from infra.release.promote import Promoter, Request

    if bool(plan) != bool(reviewed):
        raise BadInput("--plan and --reviewed; accepted: both, the second as `promote --dry-run` has said it, or none")
    if save_plan and not dry_run:
        raise BadInput("--save-plan; accepted: with --dry-run")
    if bool(gates) != bool(reason):
        raise BadInput("--bypass and --reason; accepted: both, or none")
    request = Request(
        release=release,
        environment=environment,
        on=on,
        bypasses=dict.fromkeys(gates, reason),
        plan=(plan, reviewed) if plan and reviewed else None,
    )
    promoter = Promoter(paths.ROOT, environment, on, say)
    if dry_run:
        review = promoter.review(request, save_plan)
        return Report(items=review.items(), exit_status=1 if review.failed else 0)
    seen, done = promoter.promote(request, lambda review: yes or _asked(_told(review), environment))
    return _ended(done, seen.items() if seen else (), meant=("verified", "in force"))


@verb(VERBS, "rollback", "check outcome evidence says |", "promotion runs")
@ENVIRONMENT
@ON
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def rollback(environment: str, on: str | None, *, yes: bool) -> Report:
    """Bring the last release back that was verified in an environment before the one that runs there now."""
    from infra.release.promote import Promoter

    agreed: Callable[[Release], bool] = lambda to: yes or _asked(f"Bring {to.id} back", environment)  # noqa: E731
    return _ended(Promoter(paths.ROOT, environment, on, say).roll_back(agreed), (), meant=("rolled-back",))


@verb(VERBS, "diff", "value")
@click.argument("left", metavar="ENV")
@click.argument("right", metavar="ENV")
def diff(left: str, right: str) -> Report:
    """Say which values two environments have otherwise: what is intentionally different."""
    from infra import target
    from infra.release import values

    found = values.differences(target.environment(left), target.environment(right))
    items = [each.as_item(left, right) for each in found]
    lines = [f"{each['value']}: {each[left]!r} | {each[right]!r}" for each in items]
    return Report(items=items, text="\n".join(lines))


def _told(review: "Review") -> str:
    plan = review.plan
    counts = ", ".join(f"{count} {word}" for word, count in plan.counts.items()) if plan else ""
    for each in plan.permanent if plan else ():
        say(f"permanent: {each}")
    return f"Apply plan {plan.digest[:12] if plan else ''} of {review.release.id} ({counts})"


def _asked(question: str, environment: str) -> bool:
    if not sys.stdin.isatty():
        raise BadInput(f"{environment}: nobody can be asked; accepted: --yes")
    return click.confirm(f"{question} in {environment}?", err=True)


def _ended(done: "Done", review: "Sequence[dict[str, Any]]", *, meant: "Sequence[str]") -> Report:
    """The report of how it ended. meant: the outcomes that were asked for; another is status 1."""
    checks = [
        {"check": each.check, "outcome": each.outcome, "evidence": each.evidence, "says": each.says}
        for each in done.checks
    ]
    ended = {"promotion": done.outcome, "runs": done.runs.id if done.runs else None}
    say(f"{done.outcome}; runs {ended['runs'] or 'nothing whole'}; commit what releases/record has now")
    return Report(items=[*review, *checks, ended], exit_status=0 if done.outcome in meant else 1)
