"""`kiban release`: words, options and results. What a verb does is beside, in the modules that it imports."""

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click

from infra import paths
from infra.console import say
from infra.report import Report
from infra.verbs import verb

if TYPE_CHECKING:
    from infra.release.releases import Release

RELEASE = click.argument("name", metavar="RELEASE")


VERBS = click.Group()
"""What the command line takes over from here."""


@VERBS.group()
def release() -> None:
    """Cut releases, see and compare them, and find out whether one is what its commit is.

    RELEASE is an id, or a part that one id alone has.
    """


@verb(release, "cut", "release commit digest signed_by", schema="release-cut")
@click.argument("ref", metavar="[REF]", default="HEAD")
@click.option("--key", metavar="FILE", help="Sign it with this SSH key.")
def cut(ref: str, key: str | None) -> Report:
    """Write down what a commit consists of, as releases/ID.json; the same commit gives the same file."""
    from infra.release import releases, signatures

    made = releases.cut(paths.ROOT, ref, say)
    if key:
        signatures.sign(releases.file(paths.ROOT, made.id), Path(key).expanduser(), signatures.RELEASE)
    return Report(items=[_item(made)])


@verb(release, "list", "release commit digest signed_by", schema="release-list")
def list_verb() -> Report:
    """List the releases, oldest first."""
    from infra.release import releases

    return Report(items=[_item(each) for each in releases.known(paths.ROOT)])


@verb(release, "show", "release commit digest signed_by |", "kind name value", schema="release-show")
@RELEASE
def show(name: str) -> Report:
    """Show all that a release consists of."""
    from infra.release import releases

    found = releases.read(paths.ROOT, name)
    parts = releases.differences({}, found.contents)
    items = [{"kind": part.kind, "name": part.name, "value": part.after, "is": part.now} for part in parts]
    return Report(items=[_item(found), *items])


@verb(release, "diff", "change kind name before after", schema="release-diff")
@click.argument("a", metavar="RELEASE")
@click.argument("b", metavar="RELEASE")
def diff(a: str, b: str) -> Report:
    """Say what the second release has otherwise than the first."""
    from infra.release import releases

    first, second = releases.read(paths.ROOT, a), releases.read(paths.ROOT, b)
    return Report(
        items=[
            {
                "change": each.change,
                "kind": each.kind,
                "name": each.name,
                "before": None if each.was is None else each.before,
                "after": None if each.now is None else each.after,
                "was": each.was,
                "now": each.now,
            }
            for each in releases.differences(first.contents, second.contents)
        ]
    )


@verb(release, "verify", "verified evidence |", "finding message", schema="release-verify")
@RELEASE
@click.option("--signed", is_flag=True, help="It has to be signed by somebody whom stacks/signers names.")
def verify(name: str, *, signed: bool) -> Report:
    """Recompute a release from its commit; status 1 where it, or its signature, is not what it should be."""
    from infra.release import releases

    found = releases.verify(paths.ROOT, name, say, at=dt.datetime.now(dt.UTC), signed=signed)
    if not found:
        return Report(items=[{"verified": releases.find(paths.ROOT, name), "evidence": "executed"}])
    items = [{"finding": each.what, "message": each.message, "evidence": "executed"} for each in found]
    return Report(items=items, exit_status=1)


@verb(release, "contents", schema="release-contents")
def contents() -> Report:
    """Print what this tree consists of: the answer that `release cut` asks of a commit's own code."""
    from infra.release import canonical
    from infra.release.contents import contents as read

    found = read(paths.ROOT)
    return Report(items=[found], text=canonical.encode(found).decode().rstrip("\n"))


contents.hidden = True


def _item(made: "Release") -> dict[str, str | None]:
    return {"release": made.id, "commit": made.commit, "digest": made.digest, "signed_by": _signed_by(made)}


def _signed_by(made: "Release") -> str | None:
    """Who has signed it, as of now; why that does not count; None where nobody has."""
    from infra.release import releases, signatures

    try:
        return releases.signer(paths.ROOT, made, dt.datetime.now(dt.UTC))
    except signatures.BadSignature as error:
        return f"not valid: {error}"
