"""Releases: what a commit consists of, a file a commit in releases/, named after its digest.

A commit's contents are told by its own code, run as `rehearse` runs it; here is only how two of them compare, and how a
file is found to be true. Who may sign one is what stacks/signers of the working tree says, not of the commit.
"""

import dataclasses as dc
import datetime as dt
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra import git, versions
from infra.errors import BadInput, CouldNotRun, KibanError, RunFailed
from infra.release import canonical, signatures
from infra.release.entry import Ref
from infra.release.signatures import BadSignature
from infra.versions import RELEASES, SIGNERS, Say, Version

SCHEMA = "kiban/release/v1"
VERB = ("release", "contents")
"""The words by which a version tells its contents."""
_TOLD_BY = "infra/release/contents.py"
_ID = re.compile(r"r\d{8}-[0-9a-f]{12}")
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


@dc.dataclass(frozen=True, kw_only=True)
class Release:
    """A commit and what it consists of.

    id: rYYYYMMDD- and the first twelve digits of the digest; the day is the commit's (UTC). A name, not a proof: what
        is approved or recorded is the digest.
    contents: as `contents.contents` has them. digest: SHA-256, in hex, of the file without the id.
    """

    id: str
    commit: str
    contents: Mapping[str, Any]
    digest: str

    @property
    def ref(self) -> Ref:
        """The release as records name it."""
        return Ref(id=self.id, digest=self.digest)

    @property
    def document(self) -> dict[str, Any]:
        """What its file says."""
        return {"id": self.id, **_unnamed(self.commit, self.contents)}


@dc.dataclass(frozen=True, kw_only=True)
class Difference:
    """What one of two contents has otherwise. kind: `charts`, `images` … was, now: None where it is not there."""

    kind: str
    name: str
    was: Any
    now: Any

    @property
    def change(self) -> str:
        """Added, removed or changed."""
        if self.was is None:
            return "added"
        return "removed" if self.now is None else "changed"

    @property
    def before(self) -> str:
        """What was there, in short: of fields those that differ, of a digest its first twelve digits."""
        return _short(self.was, beside=self.now)

    @property
    def after(self) -> str:
        """What is there now, in short."""
        return _short(self.now, beside=self.was)


@dc.dataclass(frozen=True, kw_only=True)
class Finding:
    """Why a release is not to be trusted. what: a part of it."""

    what: str
    message: str


def cut(root: Path, ref: str, say: Say) -> Release:
    """Write the release of a commit; the same commit gives the same bytes, and one that is there is left as it is.

    Raises BadInput for a ref that is no commit of Kiban's, for one that is older than releases, and while the working
    tree has changes; RunFailed where the release's file was changed.
    """
    if changed := versions.changes(root):
        raise BadInput(
            f"release cut {ref}: the working tree has {len(changed)} uncommitted changes that would not be in the "
            f"release ({versions.few(changed)}); accepted: commit or stash them"
        )
    release = _of(root, ref, say)
    there = file(root, release.id)
    if not there.exists():
        canonical.write(there, release.document)
        say(f"release {release.id}: cut from {ref} ({release.commit[:12]})")
    elif there.read_bytes() == canonical.encode(release.document):
        say(f"release {release.id}: was cut before, and is the same")
    else:
        raise RunFailed(f"{RELEASES}/{there.name} is not what {release.commit[:12]} gives; remove it and cut again")
    return release


def file(root: Path, release_id: str) -> Path:
    """Where a release is."""
    return root / RELEASES / f"{release_id}.json"


def ids(root: Path) -> tuple[str, ...]:
    """The names of all releases, by the days of their commits, oldest first."""
    return tuple(sorted(path.stem for path in (root / RELEASES).glob("r*.json") if _ID.fullmatch(path.stem)))


def find(root: Path, name: str) -> str:
    """The id that a name means: an id, or a part that one id alone has. Raises BadInput for another name."""
    there = ids(root)
    if name in there:
        return name
    meant = [each for each in there if name and name in each]
    if len(meant) != 1:
        kept = f"one of {versions.few(meant)}" if meant else f"a release ({versions.few(there)}) or a part of its name"
        raise BadInput(f"release {name!r}; accepted: {kept}; see `kiban release list`")
    return meant[0]


def read(root: Path, name: str) -> Release:
    """The release of a name, as `find` takes it. Raises BadInput for another, RunFailed for a file that was changed."""
    found = find(root, name)
    try:
        return _decoded(found, file(root, found).read_bytes())
    except ValueError as error:
        raise RunFailed(f"{RELEASES}/{found}.json: {error}") from None


def known(root: Path) -> tuple[Release, ...]:
    """All releases, as `ids` has them. Raises RunFailed as `read` does."""
    return tuple(read(root, each) for each in ids(root))


def newest(root: Path) -> Release | None:
    """The release of the latest commit; None where there is none. Of one day's, the names do not say which is.

    Raises RunFailed as `read` does, and CouldNotRun as `committed` does.
    """
    there = ids(root)
    last = [read(root, each) for each in there if each.partition("-")[0] == there[-1].partition("-")[0]]
    return max(last, key=lambda each: committed(root, each)) if len(last) > 1 else next(iter(last), None)


def committed(root: Path, release: Release) -> dt.datetime:
    """The date of a release's commit, UTC. Raises CouldNotRun where this repository does not have it."""
    return _date(root, release.commit)


def signer(root: Path, release: Release, at: dt.datetime) -> str | None:
    """Who has signed a release, None where nobody has. Raises BadSignature for a signature that does not count."""
    signed = file(root, release.id)
    if not signatures.signature_of(signed).exists():
        return None
    return signatures.signer(signed, root / SIGNERS, signatures.RELEASE, at)


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """What contents b have otherwise than contents a, by kind and name."""
    kinds = {kind: (a.get(kind, {}), b.get(kind, {})) for kind in sorted({*a, *b})}
    return [
        Difference(kind=kind, name=name, was=was.get(name), now=now.get(name))
        for kind, (was, now) in kinds.items()
        for name in sorted({*was, *now})
        if was.get(name) != now.get(name)
    ]


def verify(root: Path, name: str, say: Say, *, at: dt.datetime, signed: bool = False) -> list[Finding]:
    """Recompute a release from its commit and say what is not so; nothing where all is.

    at: when its signature has to count. signed: whether it has to have one. Raises BadInput for an unknown release, and
    CouldNotRun where its commit cannot be run.
    """
    release_id = find(root, name)
    try:
        release = _decoded(release_id, file(root, release_id).read_bytes())
    except ValueError as error:
        return [Finding(what="file", message=str(error))]
    return [*_signature(root, release, at, signed=signed), *_recomputed(root, release, say)]


def _signature(root: Path, release: Release, at: dt.datetime, *, signed: bool) -> list[Finding]:
    try:
        if signer(root, release, at) is None and signed:
            return [Finding(what="signature", message="nobody has signed it")]
    except BadSignature as error:
        return [Finding(what="signature", message=str(error))]
    return []


def _recomputed(root: Path, release: Release, say: Say) -> list[Finding]:
    try:
        actual = _of(root, release.commit, say)
    except CouldNotRun:
        raise
    except KibanError as error:
        return [Finding(what="commit", message=str(error))]
    found = [
        Finding(what=f"{each.kind}/{each.name}", message=f"released {each.before}, commit has {each.after}")
        for each in differences(release.contents, actual.contents)
    ]
    if not found and release.id != actual.id:  # of another day
        found.append(Finding(what="id", message=f"released as {release.id}, commit gives {actual.id}"))
    return found


def _of(root: Path, ref: str, say: Say) -> Release:
    """The release that a commit gives, told by its own code."""
    commit = versions.commit(root, ref)
    if not versions.has(root, commit, _TOLD_BY):
        raise BadInput(f"{ref!r} ({commit[:12]}) is older than `kiban release`; accepted: a commit that has it")
    return _named(commit, _told(versions.at(root, ref, say), say), _date(root, commit))


def _date(root: Path, commit: str) -> dt.datetime:
    at = git.answer(root, "show", "--no-patch", "--format=%ct", commit)
    if at is None:
        raise CouldNotRun(f"git cannot say of when {commit[:12]} is")
    return dt.datetime.fromtimestamp(int(at), dt.UTC)


def _told(version: Version, say: Say) -> dict[str, Any]:
    status, document = versions.run(version, *VERB, environ=versions.environ(), say=say)
    if status:
        refused = BadInput if status == BadInput.exit_status else CouldNotRun
        raise refused(f"{version.title}: {document.get('error', f'exit status {status}')}")
    told: dict[str, Any] = document["items"][0]
    return told


def _named(commit: str, contents: Mapping[str, Any], at: dt.datetime) -> Release:
    digest = canonical.digest(_unnamed(commit, contents))
    return Release(id=f"r{at:%Y%m%d}-{digest[:12]}", commit=commit, contents=contents, digest=digest)


def _unnamed(commit: str, contents: Mapping[str, Any]) -> dict[str, Any]:
    """What the digest is of."""
    return {"schema": SCHEMA, "commit": commit, "contents": dict(contents)}


def _decoded(release_id: str, data: bytes) -> Release:
    """The release of a file. Raises ValueError, in one line, where it is not what was cut under that name."""
    document = canonical.decode(data)
    keys = {"schema", "id", "commit", "contents"}
    if document.get("schema") != SCHEMA or set(document) != keys:
        raise ValueError(f"schema={document.get('schema')!r}; accepted: {SCHEMA} with {', '.join(sorted(keys))}")
    commit, contents = str(document["commit"]), document["contents"]
    if not _COMMIT.fullmatch(commit):
        raise ValueError(f"commit={commit!r}; accepted: the whole hash of a commit")
    if not isinstance(contents, dict) or not all(isinstance(kind, dict) for kind in contents.values()):
        raise ValueError("contents; accepted: kinds of names")
    digest = canonical.digest(_unnamed(commit, contents))
    if document["id"] != release_id or not release_id.endswith(f"-{digest[:12]}"):
        raise ValueError(f"id={document['id']!r} in {release_id}.json, whose digest is {digest[:12]}…: it was changed")
    return Release(id=release_id, commit=commit, contents=contents, digest=digest)


def _short(value: object, *, beside: object = None) -> str:
    match value:
        case None:
            return "none"
        case str() if canonical.SHA256.fullmatch(value):
            return value[:12]
        case Mapping():
            other = beside if isinstance(beside, Mapping) else {}
            return ", ".join(f"{key} {_short(each)}" for key, each in value.items() if (key, each) not in other.items())
        case list():
            return " ".join(map(str, value))
        case _:
            return str(value)
