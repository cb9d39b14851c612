"""`kiban credentials`: words, options and results. What is done is in infra/credentials.py."""

import os
import sys

import click

from infra.console import say
from infra.errors import BadInput
from infra.report import Report
from infra.verbs import ENVIRONMENT, ON, verb

VERBS = click.Group()
"""What the command line takes over from here."""


@VERBS.group()
def credentials() -> None:
    """Passwords and keys of an environment, none of which is ever printed."""


@verb(credentials, "list", "credential source generation handed_out", schema="credentials-list")
@ENVIRONMENT
@ON
def credentials_list(environment: str, on: str | None) -> Report:
    """List the credentials that an environment needs; status 1 where one is missing."""
    from infra import credentials as names
    from infra import engine, target

    where = target.resolve(environment, on)
    items = names.items(engine.configuration(where, "credentials list", say=say), where.environment)
    return Report(items=items, exit_status=1 if any(item["source"] == "missing" for item in items) else 0)


@verb(credentials, "generate", schema="credentials-generate")
@ENVIRONMENT
@ON
def credentials_generate(environment: str, on: str | None) -> Report:
    """Generate what is missing into the stack's encrypted configuration; on an embedded cluster `up` does it itself."""
    from infra import engine, target

    where = target.resolve(environment, on)
    if not engine.generate(where, asked=True, say=say):
        say(f"{where.command}: nothing is missing")
    return Report(items=[])


@verb(credentials, "rotate", "credential source generation", schema="credentials-rotate")
@ENVIRONMENT
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--team", metavar="T", help="The object-store key that this team's pods are handed.")
@ON
def credentials_rotate(environment: str, name: str | None, team: str | None, on: str | None) -> Report:
    """Renew a credential; the next `up` puts it into force."""
    from infra import credentials as names
    from infra import engine, target

    if (name is None) == (team is None):
        raise BadInput("accepted: the name of a credential, or --team T; see `kiban credentials list`")
    where = target.resolve(environment, on)
    stack = engine.configuration(where, "credentials rotate", say=say)
    if team:
        return Report(items=[names.rotate_team(stack, where.environment, team, say=say)])
    return Report(items=[names.rotate(stack, where.environment, str(name), say=say)])


@verb(credentials, "set", "credential source", schema="credentials-set")
@ENVIRONMENT
@click.argument("name")
@ON
def credentials_set(environment: str, name: str, on: str | None) -> Report:
    """Take a credential from standard input: what an external database or object store knows."""
    from infra import credentials as names
    from infra import engine, target

    where = target.resolve(environment, on)
    stack = engine.configuration(where, "credentials set", say=say)
    value: str = click.prompt(name, hide_input=True, err=True) if os.isatty(0) else sys.stdin.read()
    return Report(items=[names.give(stack, where.environment, name, value.strip(), say=say)])
