"""The record of an environment: append-only files, each with the hash of the one before it.

What an entry says: entry.py. The chain alone cannot show that its last entries are gone; git's history and the anchor,
which the environment's own cluster keeps, can.
"""

import contextlib
import dataclasses as dc
import hashlib
import os
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from infra import git
from infra.errors import BadInput, CouldNotRun, RunFailed
from infra.release import canonical, history, signatures
from infra.release.entry import SCHEMA, Begun, By, Ended, Entry, Hold, Lift, Ref, Verdict, parse, written
from infra.versions import SIGNERS

_FOLDER = "releases/record"
_NAME = re.compile(r"(\d{6})\.json(\.sig)?")


class Tampered(RunFailed):
    """A record is not as it was written, so nothing may be concluded from it."""


@dc.dataclass(frozen=True, kw_only=True)
class Finding:
    """What is wrong with an entry. number: 0 where the file is none. file: from the root."""

    environment: str
    number: int
    file: str
    says: str

    @property
    def item(self) -> dict[str, object]:
        """As a report has it."""
        return {"finding": self.says, "file": self.file, "number": self.number, "record": self.environment}


def environments(root: Path) -> tuple[str, ...]:
    """Those that have a record."""
    return tuple(sorted(path.name for path in (root / _FOLDER).glob("[!.]*") if path.is_dir()))


def read(root: Path, environment: str) -> tuple[Entry, ...]:
    """The environment's entries, oldest first. Raises Tampered where they are no whole chain."""
    entries, findings = _looked_at(root, environment)
    if findings:
        first = findings[0]
        more = f" and {len(findings) - 1} more" if len(findings) > 1 else ""
        raise Tampered(
            f"{first.file}: {first.says}{more}; see `kiban audit verify {environment}`, and restore it from git",
            items=[each.item for each in findings],
        )
    return tuple(entries)


def append(root: Path, entry: Entry, key: Path | None = None) -> Entry:
    """Write an entry behind the last one, and return it with its number.

    key: an SSH key that signs it. Of processes that write at once each gets a number of its own.
    Raises BadInput where this machine's clock is behind the last entry, or where the entry cannot follow those there
    are: a second promotion while one is open, a lift without a hold. Raises Tampered for a broken chain.
    """
    while True:
        entries = read(root, entry.environment)
        refuse_clock(entries, entry.at)
        previous = head(entries) or origin(entry.environment)
        placed = dc.replace(entry, number=len(entries) + 1, previous=previous)
        if unfit := next(_unfit(entries, placed), ""):
            raise BadInput(f"{entry.environment}: {unfit}; nothing was recorded")
        if _written(root, placed, key):
            return placed


def file(root: Path, environment: str, number: int) -> Path:
    """Where an entry is."""
    return root / _FOLDER / environment / _name(number)


def head(entries: Sequence[Entry]) -> str:
    """The hash of the last entry; empty where there is none."""
    return entries[-1].hash if entries else ""


def origin(environment: str) -> str:
    """What an environment's first entry has as `previous`."""
    return hashlib.sha256(f"{SCHEMA} {environment}".encode()).hexdigest()


def opened(entries: Sequence[Entry]) -> Entry | None:
    """What has begun and not ended: under way, or cut off."""
    last = next((each for each in reversed(entries) if isinstance(each.what, Begun | Ended)), None)
    return last if last and isinstance(last.what, Begun) else None


def runs(entries: Sequence[Entry]) -> Ref | None:
    """What the environment runs, as of the last thing that ended; None: nothing whole."""
    return next((each.what.runs for each in reversed(entries) if isinstance(each.what, Ended)), None)


def good(entries: Sequence[Entry], other_than: Ref) -> Ref | None:
    """The last release that was verified in an environment and not taken back since, but for one; None: no other."""
    found: list[Ref] = []
    for entry in entries:
        match entry.what:
            case Begun(because=int(number)):
                promotion = entries[number - 1].what
                found = [each for each in found if not isinstance(promotion, Begun) or each != promotion.release]
            case Ended(runs=Ref() as ran):
                found = [*(each for each in found if each != ran), ran]
    return next((each for each in reversed(found) if each != other_than), None)


def unanswered(entries: Sequence[Entry]) -> Entry | None:
    """The promotion that failed last, where no rollback has begun since: its run was cut off between the two."""
    last = next((each for each in reversed(entries) if isinstance(each.what, Begun | Ended)), None)
    if last is None or not isinstance(last.what, Ended) or last.what.outcome != "failed":
        return None
    begun = entries[last.what.begun - 1]
    return begun if isinstance(begun.what, Begun) and begun.what.verb == "promote" else None


def held(entries: Sequence[Entry]) -> Entry | None:
    """The hold that nobody has lifted."""
    last = next((each for each in reversed(entries) if isinstance(each.what, Hold | Lift)), None)
    return last if last and isinstance(last.what, Hold) else None


def by(root: Path) -> By:
    """Who calls, as git would write it into a commit. Raises BadInput where git does not know."""
    try:
        said = git.output(root, "var", "GIT_COMMITTER_IDENT")
    except CouldNotRun as error:
        raise BadInput(
            f"git does not know who you are ({error}); accepted: git config user.name and user.email"
        ) from None
    name, email = said.rsplit(">", 1)[0].split(" <")
    return By(name=name, email=email, host=socket.gethostname())


def refuse_clock(entries: Sequence[Entry], now: datetime) -> None:
    """Raise BadInput where the last entry is later than now."""
    if entries and now < entries[-1].at:
        last = entries[-1]
        raise BadInput(
            f"{last.environment}: clocks that disagree: this machine says {written(now)}, and entry {last.number}, by "
            f"{last.by.host}, is of {written(last.at)}, {last.at - now} later; accepted: clocks set by NTP; "
            "nothing was recorded"
        )


def verify(root: Path, environment: str, anchor: tuple[int, str] | None = None) -> list[Finding]:
    """What was done to the record besides adding to it, by number; empty where nothing was.

    anchor: number and hash of an entry that somebody outside the repository remembers. Signatures count where there
    are some. Raises CouldNotRun where git's history is not whole.
    """
    entries, findings = _looked_at(root, environment)
    findings += _signatures(root, environment, entries)
    findings += _history(root, environment)
    if anchor:
        findings += _anchor(root, environment, anchor)
    return sorted(findings, key=lambda each: each.number)


def _looked_at(root: Path, environment: str) -> tuple[list[Entry], list[Finding]]:
    """Every entry that is one, and what is wrong with the files and their order."""
    found = _Findings(environment)
    numbers = _numbers(root, environment, found)
    entries: list[Entry] = []
    previous: str | None = origin(environment)
    for number, before in zip(numbers, [0, *numbers], strict=False):
        if number > before + 1:
            found.add(before + 1, "missing" if number == before + 2 else f"missing, as are all to {number - 1:06}")
            previous = None
        try:
            data = file(root, environment, number).read_bytes()
            entry = parse(canonical.decode(data))
        except (OSError, ValueError) as error:
            found.add(number, f"altered: {' '.join(str(error).split())}")
            previous = None
            continue
        for wrong in _misplaced(environment, number, entry, previous):
            found.add(number, wrong)
        if not found.findings:  # else it need not fit
            for wrong in _unfit(entries, entry):
                found.add(number, wrong)
        entries.append(entry)
        previous = hashlib.sha256(data).hexdigest()
    return entries, found.findings


class _Findings:
    """Collects findings of one record."""

    def __init__(self, environment: str) -> None:
        self.findings: list[Finding] = []
        self._environment = environment

    def add(self, number: int, says: str, name: str | None = None) -> None:
        file = f"{_FOLDER}/{self._environment}/{name or _name(number)}"
        self.findings.append(Finding(environment=self._environment, number=number, file=file, says=says))


def _numbers(root: Path, environment: str, found: _Findings) -> list[int]:
    """The numbers of the entries that there are; what else is there is a finding."""
    numbers = []
    for name in _names(root, environment):
        match = _NAME.fullmatch(name)
        if not match:
            found.add(0, "no entry's name; accepted: 000001.json and so on, with .sig for its signature", name)
        elif not match[2]:
            numbers.append(int(match[1]))
        elif not (root / _FOLDER / environment / name.removesuffix(".sig")).exists():
            found.add(int(match[1]), "the signature of an entry that is not there", name)
    return numbers


def _misplaced(environment: str, number: int, entry: Entry, previous: str | None) -> Iterator[str]:
    """What says that the entry was not written here. previous: None where what was before is not known."""
    if entry.environment != environment:
        yield f"copied from the record of {entry.environment}"
    if entry.number != number:
        yield f"it is entry {entry.number}, put in another's place"
    if previous not in {None, entry.previous}:
        before = f"entry {number - 1} as it is" if number > 1 else "the beginning of this record"
        yield f"it does not follow {before}: one of the two was altered or exchanged"


def _unfit(before: Sequence[Entry], entry: Entry) -> Iterator[str]:
    """Why the entry cannot follow those before it; nothing where it can."""
    if before and entry.at < before[-1].at:
        yield f"it is of {written(entry.at)}, before entry {before[-1].number} ({written(before[-1].at)})"
    is_open, hold = opened(before), held(before)
    match entry.what:
        case Begun() if is_open:
            yield f"it begins, and what began with entry {is_open.number} ({written(is_open.at)}) has not ended"
        case Begun(verb="promote", gates=gates) if hold and not _bypasses(gates, "hold"):
            yield f"it begins during the hold of entry {hold.number}, which it does not bypass"
        case Begun(because=int(number)) if not _promotion(before, number):
            yield f"it takes back entry {number}, which is no promotion"
        case Ended(begun=number) if not is_open or is_open.number != number:
            yield f"it ends entry {number}, and {f'entry {is_open.number}' if is_open else 'none'} is open"
        case Ended(outcome="verified", runs=runs_now) if is_open and _release(is_open) != runs_now:
            yield f"it says verified, and that another release runs than entry {is_open.number} brought"
        case Hold() if hold:
            yield f"it holds, and is held since {written(hold.at)} (entry {hold.number}) by {hold.by.name}"
        case Lift() if not hold:
            yield "it lifts, and nothing is held"


def _bypasses(gates: Iterable[Verdict], name: str) -> bool:
    return any(each.gate == name and each.outcome == "bypassed" for each in gates)


def _promotion(entries: Iterable[Entry], number: int) -> bool:
    return any(
        each.number == number and isinstance(each.what, Begun) and each.what.verb == "promote" for each in entries
    )


def _release(entry: Entry) -> Ref | None:
    return entry.what.release if isinstance(entry.what, Begun) else None


def _written(root: Path, entry: Entry, key: Path | None) -> bool:
    """Write the entry's file and signature; False where another process has written that number.

    A link is made to a file that is whole: it is there or not, and never in place of another.
    """
    target = file(root, entry.environment, entry.number)
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    canonical.write(scratch, entry.document())
    signature = None
    try:
        signature = signatures.sign(scratch, key, signatures.RECORD) if key else None
        try:
            os.link(scratch, target)
        except FileExistsError:
            return False
        if signature:
            signature.replace(signatures.signature_of(target))
    finally:
        scratch.unlink()
        if signature:
            signature.unlink(missing_ok=True)
    canonical.synced(target.parent)
    return True


def _signatures(root: Path, environment: str, entries: Iterable[Entry]) -> list[Finding]:
    found = _Findings(environment)
    for entry in entries:
        signed = file(root, environment, entry.number)
        if signatures.signature_of(signed).exists():
            try:
                signatures.signer(signed, root / SIGNERS, signatures.RECORD, entry.at)
            except signatures.BadSignature as error:
                found.add(entry.number, f"its signature does not count: {error}")
    return found.findings


def _history(root: Path, environment: str) -> list[Finding]:
    """What some commit of HEAD's history had, and the tree has not, or has with other bytes."""
    found = _Findings(environment)
    known = history.entered(root, f"{_FOLDER}/{environment}")
    there = history.blobs(root, [path for path in known if (root / path).is_file()])
    for path, committed in sorted(known.items()):
        match = _NAME.fullmatch(path.rsplit("/", 1)[-1])
        if match:
            number, what = int(match[1]), "its signature" if match[2] else "it"
            if path not in there:
                commit = next(iter(committed.values()))
                found.add(number, f"removed: commit {commit[:12]} had {what}", path.rsplit("/", 1)[-1])
            for blob, commit in committed.items():
                if path in there and there[path] != blob:
                    found.add(number, f"altered: commit {commit[:12]} had {what} with other bytes", match[0])
    return found.findings


def _anchor(root: Path, environment: str, anchor: tuple[int, str]) -> list[Finding]:
    number, expected = anchor
    found = _Findings(environment)
    with contextlib.suppress(FileNotFoundError):
        if canonical.file_digest(file(root, environment, number)) != expected:
            found.add(number, "altered: the environment remembers it with another hash")
        return found.findings
    found.add(number, "removed: the environment remembers it")
    return found.findings


def _names(root: Path, environment: str) -> list[str]:
    """All but what a process is about to write, or was when it was killed."""
    folder = root / _FOLDER / environment
    return sorted(path.name for path in folder.glob("[!.]*"))


def _name(number: int) -> str:
    return f"{number:06}.json"
