"""An entry of an environment's record: what it can say, and as what it is written. How they chain: record.py.

Every class refuses with ValueError what no entry can say; docs/reference/record.md lists the fields.
"""

import dataclasses as dc
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from infra.release import canonical

SCHEMA = "kiban/record/v1"
Verb = Literal["promote", "rollback"]
Gated = Literal["passed", "failed", "bypassed", "off"]
Outcome = Literal["verified", "rolled-back", "failed", "interrupted"]
Evidence = Literal["executed", "simulated", "not-tested"]
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_RELEASE = re.compile(r"r\d{8}-[0-9a-f]{12}")


@dc.dataclass(frozen=True, kw_only=True)
class Ref:
    """A release as a record names it: `r20260105-3f2a9c1e04b7`, and the SHA-256 whose beginning the id has."""

    id: str
    digest: str

    def __post_init__(self) -> None:
        _digest("release.digest", self.digest)
        if not _RELEASE.fullmatch(_text("release.id", self.id)) or self.id[10:] != self.digest[:12]:
            raise ValueError(f"release.id={self.id!r}; accepted: rYYYYMMDD- and the first 12 digits of its digest")


@dc.dataclass(frozen=True, kw_only=True)
class By:
    """Who did it, as git knows them, and on which machine."""

    name: str
    email: str
    host: str

    def __post_init__(self) -> None:
        for field in dc.fields(self):
            _text(f"by.{field.name}", getattr(self, field.name))


@dc.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a gate said. says: its evidence in one line. ground: the facts that decided. reason: of its bypass."""

    gate: str
    outcome: Gated
    says: str
    ground: Mapping[str, Any] = dc.field(default_factory=dict)
    reason: str | None = None

    def __post_init__(self) -> None:
        _text("gate", self.gate)
        _one_of(f"{self.gate}.outcome", self.outcome, Gated)
        _text(f"{self.gate}.evidence", self.says)
        if not isinstance(self.ground, Mapping):
            raise ValueError(f"{self.gate}.ground={self.ground!r}; accepted: an object")  # noqa: TRY004 - as the others
        if (self.outcome == "bypassed") != (self.reason is not None):
            raise ValueError(f"{self.gate}.reason={self.reason!r}; accepted: one where it was bypassed, else none")
        if self.reason is not None:
            _text(f"{self.gate}.reason", self.reason)

    def document(self) -> dict[str, Any]:
        """As a record has it."""
        reason = {} if self.reason is None else {"reason": self.reason}
        named = {"gate": self.gate, "outcome": self.outcome, "evidence": self.says, "ground": dict(self.ground)}
        return named | reason


@dc.dataclass(frozen=True, kw_only=True)
class Check:
    """What was looked at after a release came in, or went back."""

    check: str
    outcome: Literal["passed", "failed", "not-tested"]
    evidence: Evidence
    says: str

    def __post_init__(self) -> None:
        _text("check", self.check)
        _one_of(f"{self.check}.outcome", self.outcome, Literal["passed", "failed", "not-tested"])
        _one_of(f"{self.check}.evidence", self.evidence, Evidence)
        _text(f"{self.check}.says", self.says)


@dc.dataclass(frozen=True, kw_only=True)
class Begun:
    """A release begins to come in, or to come back.

    base: what the environment ran before; None: nothing. plan, ladder: SHA-256 of the plan that is applied, and of
    stacks/ladder.yaml. because: for a rollback, and for it alone, the number of the promotion that it takes back.
    """

    verb: Verb
    release: Ref
    base: Ref | None
    gates: tuple[Verdict, ...]
    plan: str
    ladder: str
    because: int | None = None

    def __post_init__(self) -> None:
        _one_of("verb", self.verb, Verb)
        _digest("plan", self.plan)
        _digest("ladder", self.ladder)
        if (self.verb == "rollback") != (self.because is not None):
            raise ValueError(f"because={self.because!r}; accepted: for a rollback a promotion's number, else none")
        if self.because is not None:
            _number("because", self.because)


@dc.dataclass(frozen=True, kw_only=True)
class Ended:
    """What began has ended. begun: that entry's number. runs: what the environment runs now; None: nothing whole."""

    begun: int
    outcome: Outcome
    checks: tuple[Check, ...]
    runs: Ref | None

    def __post_init__(self) -> None:
        _number("begun", self.begun)
        _one_of("outcome", self.outcome, Outcome)


@dc.dataclass(frozen=True, kw_only=True)
class Hold:
    """Nothing is to be promoted there until further notice."""

    reason: str

    def __post_init__(self) -> None:
        _text("reason", self.reason)


@dc.dataclass(frozen=True, kw_only=True)
class Lift:
    """The notice."""

    reason: str

    def __post_init__(self) -> None:
        _text("reason", self.reason)


What = Begun | Ended | Hold | Lift
_KINDS: Mapping[type[What], str] = {Begun: "begun", Ended: "ended", Hold: "hold", Lift: "lift"}


@dc.dataclass(frozen=True, kw_only=True)
class Entry:
    """What happened to an environment, when and by whom.

    at: UTC, whole seconds. number, previous: its place in the chain, given by `record.append`.
    """

    environment: str
    at: datetime
    by: By
    what: What
    number: int = 1
    previous: str = "0" * 64

    def __post_init__(self) -> None:
        _text("environment", self.environment)
        _number("number", self.number)
        _digest("previous", self.previous)
        if self.at.tzinfo != UTC or self.at.microsecond:
            raise ValueError(f"at={self.at.isoformat()}; accepted: UTC, whole seconds")

    @property
    def kind(self) -> str:
        """What it is called: begun, ended, hold, lift."""
        return _KINDS[type(self.what)]

    def document(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "schema": SCHEMA,
            "environment": self.environment,
            "number": self.number,
            "previous": self.previous,
            "at": written(self.at),
            "by": dc.asdict(self.by),
            "kind": self.kind,
            **_said(self.what),
        }

    @property
    def hash(self) -> str:
        """SHA-256 of its file."""
        return canonical.digest(self.document())


def parse(document: Mapping[str, Any]) -> Entry:
    """The entry that a document is. Raises ValueError for a field that is missing, unknown, or says what none can."""
    if document.get("schema") != SCHEMA:
        raise ValueError(f"schema={document.get('schema')!r}; accepted: {SCHEMA}")
    try:
        entry = Entry(
            environment=document["environment"],
            number=document["number"],
            previous=document["previous"],
            at=read_time(document["at"]),
            by=By(**document["by"]),
            what=_what(document),
        )
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing") from None
    except (AttributeError, TypeError) as error:  # another type of value than the field's
        raise ValueError(str(error)) from None
    if entry.document() != document:
        unknown = sorted(set(document) - set(entry.document()))
        raise ValueError(f"{', '.join(unknown) or 'a part of it'}; accepted: the fields of {entry.kind!r}")
    return entry


def now() -> datetime:
    """This moment as records have it: UTC, whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def written(at: datetime) -> str:
    """A time as records and approvals have it: RFC 3339, UTC, whole seconds."""
    return at.astimezone(UTC).strftime(_TIME)


def read_time(text: object) -> datetime:
    """The time of such a text. Raises ValueError for another one."""
    try:
        return datetime.strptime(_text("at", text), _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"at={text!r}; accepted: RFC 3339 in UTC, 2026-01-05T10:00:00Z") from None


def _said(what: What) -> dict[str, Any]:
    match what:
        case Begun():
            because = {} if what.because is None else {"because": what.because}
            return {
                "verb": what.verb,
                "release": dc.asdict(what.release),
                "from": what.base and dc.asdict(what.base),
                "gates": [each.document() for each in what.gates],
                "plan": what.plan,
                "ladder": what.ladder,
                **because,
            }
        case Ended():
            return {
                "begun": what.begun,
                "outcome": what.outcome,
                "checks": [dc.asdict(each) for each in what.checks],
                "runs": what.runs and dc.asdict(what.runs),
            }
        case _:
            return {"reason": what.reason}


def _what(document: Mapping[str, Any]) -> What:
    match document["kind"]:
        case "begun":
            return Begun(
                verb=document["verb"],
                release=Ref(**document["release"]),
                base=_ref(document["from"]),
                gates=tuple(_verdict(each) for each in document["gates"]),
                plan=document["plan"],
                ladder=document["ladder"],
                because=document.get("because"),
            )
        case "ended":
            return Ended(
                begun=document["begun"],
                outcome=document["outcome"],
                checks=tuple(Check(**each) for each in document["checks"]),
                runs=_ref(document["runs"]),
            )
        case "hold":
            return Hold(reason=document["reason"])
        case "lift":
            return Lift(reason=document["reason"])
        case kind:
            raise ValueError(f"kind={kind!r}; accepted: {', '.join(_KINDS.values())}")


def _verdict(given: Mapping[str, Any]) -> Verdict:
    return Verdict(
        gate=given["gate"],
        outcome=given["outcome"],
        says=given["evidence"],
        ground=given["ground"],
        reason=given.get("reason"),
    )


def _ref(given: Mapping[str, Any] | None) -> Ref | None:
    return None if given is None else Ref(**given)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name}={value!r}; accepted: a text")
    return value


def _digest(name: str, value: object) -> None:
    if not isinstance(value, str) or not canonical.SHA256.fullmatch(value):
        raise ValueError(f"{name}={value!r}; accepted: SHA-256, 64 hexadecimal digits")


def _number(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name}={value!r}; accepted: an entry's number, from 1")


def _one_of(name: str, value: object, accepted: Any) -> None:  # noqa: ANN401 - a Literal
    if value not in get_args(accepted):
        raise ValueError(f"{name}={value!r}; accepted: {', '.join(get_args(accepted))}")
