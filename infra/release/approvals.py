"""Approvals: documents that people sign with their SSH keys, each for one release in one environment.

A file is never believed because it is there: `found` says of each whether it counts, and if not, why.
"""

import dataclasses as dc
import re
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from infra import git
from infra.errors import BadInput
from infra.release import canonical, signatures
from infra.release.entry import read_time, written
from infra.release.ladder import Approvals, principals
from infra.release.releases import Release
from infra.versions import SIGNERS

SCHEMA = "kiban/approval/v1"
_FOLDER = "releases/approvals"
_CO_AUTHOR = re.compile(r"<([^<>]+)>\s*$")


@dc.dataclass(frozen=True, kw_only=True)
class Approval:
    """A file among the approvals. file: from the root. why: it does not count; empty: it does."""

    file: str
    principal: str
    why: str = ""


def approve(
    root: Path, release: Release, environment: str, rule: Approvals, *, key: Path, principal: str, at: datetime
) -> Path:
    """Sign that a release may go to an environment, and return the document's file.

    Raises BadInput, and leaves nothing, where the approval would not count: a principal who is not on the list, the
    release's author, a key that is another's or has expired; and where the principal has approved already.
    """
    matter = _Matter(root=root, release=release, environment=environment, rule=rule)
    file = matter.folder / f"{principal}.json"
    if file.exists() and not matter.why_not(file, at):
        raise BadInput(f"{environment}: {principal} has approved {release.id} already ({file.relative_to(root)})")
    if principal not in (who := approvers(root, rule)):
        accepted = ", ".join(who) or f"nobody yet: add them to {SIGNERS}"
        raise BadInput(f"{environment}: {principal} is not among those who approve; accepted: {accepted}")
    with tempfile.TemporaryDirectory() as scratch:
        signed = Path(scratch) / file.name
        canonical.write(signed, matter.document(principal, at))
        signature = signatures.sign(signed, key, signatures.APPROVAL)
        if why := matter.why_not(signed, at):
            raise BadInput(f"{environment}: {release.id} by {principal} with {key}: {why}; nothing was approved")
        canonical.put(signatures.signature_of(file), signature.read_bytes())
        canonical.put(file, signed.read_bytes())
    return file


def found(root: Path, release: Release, environment: str, rule: Approvals, *, at: datetime) -> tuple[Approval, ...]:
    """Every file among a release's approvals for an environment, by name.

    at: of the promotion: a key has to count when it signs, and then.
    """
    matter = _Matter(root=root, release=release, environment=environment, rule=rule)
    return tuple(
        Approval(file=str(file.relative_to(root)), principal=file.stem, why=matter.why_not(file, at))
        for file in sorted(matter.folder.glob("[!.]*.json"))
    )


def authors(root: Path, commit: str) -> frozenset[str]:
    """The addresses, in lower case, of who wrote what a commit brings in: its author and co-authors.

    For a merge also those of the commits that it merged.
    """
    marks = "%aE%x00%(trailers:key=Co-authored-by,valueonly,separator=%x00)"
    parent = git.output(root, "rev-parse", "--revs-only", f"{commit}^1").strip()
    which = [commit, f"^{parent}"] if parent else [commit]
    said = git.output(root, "log", f"--format={marks}%x00", *which, "--")
    addresses = {each.strip() for line in said.splitlines() for each in line.split("\0") if each.strip()}
    return frozenset(match[1].lower() if (match := _CO_AUTHOR.search(each)) else each.lower() for each in addresses)


def approvers(root: Path, rule: Approvals) -> tuple[str, ...]:
    """Who may approve: those whom the rule names, or all of stacks/signers."""
    return rule.of or principals(root / SIGNERS)


@dc.dataclass(frozen=True, kw_only=True)
class _Matter:
    """What is to be approved: a release, for an environment, by those whom its rule names."""

    root: Path
    release: Release
    environment: str
    rule: Approvals

    @property
    def folder(self) -> Path:
        return self.root / _FOLDER / self.environment / self.release.id

    def document(self, principal: str, at: datetime) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "release": {"id": self.release.id, "digest": self.release.digest},
            "environment": self.environment,
            "by": principal,
            "at": written(at),
        }

    def why_not(self, file: Path, now: datetime) -> str:
        """Why a file does not count; empty where it does."""
        signers = self.root / SIGNERS
        try:
            document = canonical.decode(file.read_bytes())
            at = read_time(document.get("at"))
            signatures.signer(file, signers, signatures.APPROVAL, at)
            signer = signatures.signer(file, signers, signatures.APPROVAL, now)
        except (OSError, ValueError) as error:
            return str(error)
        if document.get("by") != signer:
            return f"forged: it says that it is by {document.get('by')}, and {signer} signed it"
        if at > now:
            return f"it is of {written(at)}, and this machine says {written(now)}: clocks that disagree"
        return self._other(document, self.document(signer, at)) or self._barred(file, signer)

    def _other(self, document: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
        """What it approves instead."""
        for field, value in expected.items():
            if document.get(field) != value:
                return f"it is for another {field}: {document.get(field)!r}"
        return "" if document == expected else f"it says more than an approval does; accepted: {', '.join(expected)}"

    def _barred(self, file: Path, principal: str) -> str:
        """Why this person, or this file of theirs, does not count."""
        if file.stem != principal:
            return f"it is {principal}'s, under another name: one of each person counts"
        if principal not in (who := approvers(self.root, self.rule)):
            return f"{principal} is not among those who approve ({', '.join(who)})"
        if self.rule.not_author and principal.lower() in authors(self.root, self.release.commit):
            return f"{principal} is the release's author; accepted: somebody else"
        return ""
