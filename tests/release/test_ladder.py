"""stacks/ladder.yaml: read into rungs, refused with the line, and freezes by the clocks of their zone."""

from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

import stacks
from infra.errors import BadInput
from infra.release.ladder import Approvals, Dated, Freeze, Gates, Rung, Weekly, frozen, load, principals, thawed

NAMES = ("ci", "dev", "local", "prod", "staging")
BERLIN = ZoneInfo("Europe/Berlin")
SIGNERS = (
    "# nobody\n\nada@example.org ssh-ed25519 AAAA\nbob@example.org ssh-ed25519 BBBB\nada@example.org ssh-ed25519 C\n"
)
GOOD = """\
rungs:
  - environment: prod
    after: staging
    gates:
      soak: 72h
      rehearsed: true
      drift: none
      approvals: {count: 2, from: [ada@example.org, bob@example.org], not_author: true}
      freeze:
        - {days: [sun, fri, sat], from: 16:00, until: 08:00, zone: Europe/Berlin, why: weekend}
        - {from: 2026-12-20T00:00, until: 2027-01-04T00:00, zone: UTC, why: end of the year}
      max_age: 30d
      signed: true
    not_bypassable: [signed, below]
  - environment: dev
    gates: {}
  - environment: staging
    after: dev
    gates: {soak: 90m, rehearsed: false}
    watch: 30m
"""


def written(folder: Path, text: str) -> Path:
    """Return a ladder's file, with signers beside it."""
    folder = folder / "stacks"
    folder.mkdir()
    (folder / "signers").write_text(SIGNERS)
    file = folder / "ladder.yaml"
    file.write_text(text)
    return file


def test_a_ladder_is_read_from_the_lowest_rung_up(tmp_path: Path) -> None:
    """With all that can be said in it."""
    ladder = load(written(tmp_path, GOOD), NAMES)
    assert ladder.rungs == (
        Rung(environment="dev", after=None, gates=Gates()),
        Rung(
            environment="staging",
            after="dev",
            gates=Gates(soak=timedelta(minutes=90)),
            watch=timedelta(minutes=30),
        ),
        Rung(
            environment="prod",
            after="staging",
            gates=Gates(
                soak=timedelta(days=3),
                rehearsed=True,
                undrifted=True,
                approvals=Approvals(count=2, of=("ada@example.org", "bob@example.org"), not_author=True),
                freezes=(
                    Weekly(windows=((4, 3),), begins=time(16), ends=time(8), zone=BERLIN, why="weekend"),
                    Dated(
                        begins=datetime(2026, 12, 20),  # noqa: DTZ001 - the zone's own
                        ends=datetime(2027, 1, 4),  # noqa: DTZ001
                        zone=ZoneInfo("UTC"),
                        why="end of the year",
                    ),
                ),
                max_age=timedelta(days=30),
                signed=True,
            ),
            not_bypassable=("signed", "below"),
        ),
    )
    assert ladder.rung("prod") == ladder.rungs[2]
    assert ladder.rung("local") is None


def test_the_shipped_ladder_can_be_used() -> None:
    """With the shipped signers, who are nobody."""
    folder = Path(stacks.__file__).parent
    assert [rung.environment for rung in load(folder / "ladder.yaml", stacks.names()).rungs] == [
        "dev",
        "staging",
        "prod",
    ]
    assert principals(folder / "signers") == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rungs:", "steps:", "ladder.yaml:1: the ladder: steps; accepted: rungs"),
        (GOOD, "", "ladder.yaml:1: it is empty"),
        (GOOD, "rungs: []", "ladder.yaml:1: rungs; accepted: a list with something in it"),
        (GOOD, "rungs: [dev]", "ladder.yaml:1: a rung; accepted: {environment, gates, after, not_bypassable, watch}"),
        ("after: dev", "afetr: dev", "ladder.yaml:18: a rung: afetr; accepted: environment, gates, after, not_byp"),
        ("soak: 72h", "sock: 72h", "ladder.yaml:5: prod: gates: sock; accepted: soak, rehearsed, drift, approvals"),
        ("soak: 72h", "rehearsed: true", "ladder.yaml:6: prod: gates: rehearsed for the second time"),
        ("    gates: {}\n", "", "ladder.yaml:15: a rung: gates is missing"),
        ("gates: {}", "gates:", "ladder.yaml:16: dev: gates is empty; accepted: {} where there are to be none"),
        ("environment: dev", "environment: devel", "ladder.yaml:15: environment: 'devel'; accepted: ci, dev, local"),
        ("environment: dev", "environment: staging", "ladder.yaml:17: staging for the second time"),
        ("after: dev", "after: de", "ladder.yaml:17: staging: after 'de'; accepted: a rung (prod, dev, staging)"),
        ("environment: dev\n", "environment: dev\n    after: staging\n", "staging → dev → staging; accepted"),
        ("environment: dev\n", "environment: dev\n    after: dev\n", "dev → dev; accepted"),
        ("    after: dev\n", "", "ladder.yaml:17: dev, staging: each without `after`; accepted: one lowest rung"),
        ("soak: 72h", "soak: 72", "ladder.yaml:5: prod: soak: '72'; accepted: a number from 1 with m, h or d (24h)"),
        ("soak: 72h", "soak: 0h", "prod: soak: '0h'"),
        ("max_age: 30d", "max_age: -1d", "ladder.yaml:12: prod: max_age: '-1d'"),
        ("max_age: 30d", "max_age: [30d]", "ladder.yaml:12: prod: max_age: "),
        ("rehearsed: true", "rehearsed: yes", "ladder.yaml:6: rehearsed: 'yes'; accepted: true, false"),
        ("drift: none", "drift: some", "ladder.yaml:7: prod: drift: 'some'; accepted: none"),
        ("Europe/Berlin", "Europe/Bonn", "ladder.yaml:10: prod: freeze: zone 'Europe/Bonn'; accepted: one that"),
        ("Europe/Berlin", "Europe", "ladder.yaml:10: prod: freeze: zone 'Europe'"),
        ("Europe/Berlin", "../etc/passwd", "ladder.yaml:10: prod: freeze: zone '../etc/passwd'"),
        ("[sun, fri, sat]", "[sunday]", "ladder.yaml:10: prod: freeze: days: 'sunday'; accepted: mon, tue"),
        ("[sun, fri, sat]", "[]", "ladder.yaml:10: prod: freeze: days; accepted: a list"),
        ("16:00", "24:00", "ladder.yaml:10: prod: freeze: from: '24:00'; accepted: HH:MM, as 16:00"),
        ("until: 08:00, ", "", "ladder.yaml:10: prod: freeze: until is missing"),
        (", why: weekend", "", "ladder.yaml:10: prod: freeze: why is missing"),
        ("why: weekend", "why: ''", "ladder.yaml:10: prod: freeze: why: ''"),
        ("2027-01-04T00:00", "2026-12-20T00:00", "ladder.yaml:11: prod: freeze: it ends before it begins"),
        ("2027-01-04T00:00", "2027-02-30T00:00", "ladder.yaml:11: prod: freeze: until: '2027-02-30T00:00'"),
        ("2027-01-04T00:00", "08:00", "ladder.yaml:11: prod: freeze: until: '08:00'; accepted: 2026-12-20T00:00, or"),
        ("[sun, fri, sat]", "[mon, tue, wed, thu, fri, sat, sun]", "ladder.yaml:10: prod: freeze that never ends"),
        ("count: 2", "count: 3", "ladder.yaml:8: prod: approvals: count=3 of 2; accepted: no more than"),
        ("count: 2", "count: 0", "ladder.yaml:8: prod: approvals: count: '0'; accepted: a number from 1"),
        (
            "from: [ada@example.org, ",
            "from: [eve@example.org, ",
            "eve@example.org is not in stacks/signers; accepted: ada",
        ),
        (
            "[signed, below]",
            "[signed, max_age]",
            "ladder.yaml:14: prod: not_bypassable: 'max_age'; accepted: signed, age",
        ),
        ("gates: {}", "gates: {{}", "ladder.yaml:17: expected ',' or '}'"),
        ("soak: 72h", "soak:\t72h: 3", "ladder.yaml:5: "),
    ],
)
def test_what_is_no_ladder_is_refused_with_the_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    """In one line, as bad input."""
    assert old in GOOD
    with pytest.raises(BadInput, match="stacks/ladder") as refused:
        load(written(tmp_path, GOOD.replace(old, new)), NAMES)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_status == 2


@pytest.mark.parametrize(("zone", "ends"), [("Europe/Berlin", False), ("Etc/GMT-1", True)])
def test_freezes_that_never_end_together_are_refused(tmp_path: Path, zone: str, *, ends: bool) -> None:
    """At the one that closes the week. Where one is by clocks that are not changed, there is an hour in summer."""
    rows = (
        "{days: [mon, tue, wed, thu], from: 16:00, until: 16:00, zone: Europe/Berlin, why: a}",
        "{days: [mon], from: 10:00, until: 16:00, zone: Europe/Berlin, why: b}",
        f"{{days: [mon], from: 08:00, until: 11:00, zone: {zone}, why: c}}",
    )
    more = "".join(f"        - {row}\n" for row in rows)
    text = GOOD.replace("      max_age", f"{more}      max_age")
    if ends:
        load(written(tmp_path, text), NAMES)
    else:
        with pytest.raises(BadInput, match=r"ladder\.yaml:14: prod: freeze that never ends"):
            load(written(tmp_path, text), NAMES)


def test_a_ladder_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Which file."""
    with pytest.raises(BadInput, match=r"stacks/ladder\.yaml is not there"):
        load(tmp_path / "stacks" / "ladder.yaml", NAMES)


@pytest.mark.parametrize("principal", ["*@example.org", "ada@example.org,bob@example.org", "../ada"])
def test_signers_are_addresses(tmp_path: Path, principal: str) -> None:
    """A signature by a pattern would not say by whom it is; an address is a file's name, too."""
    (tmp_path / "signers").write_text(f"# them\n{principal} ssh-ed25519 AAAA\n")
    with pytest.raises(BadInput, match=r"signers:2: .*accepted: one address"):
        principals(tmp_path / "signers")


def weekly(tmp_path: Path, row: str) -> tuple[Freeze, ...]:
    """The freezes of a ladder with one row."""
    text = f"rungs: [{{environment: dev, gates: {{freeze: [{{{row}, zone: Europe/Berlin, why: w}}]}}}}]\n"
    rung = load(written(tmp_path, text), NAMES).rung("dev")
    assert rung is not None
    return rung.gates.freezes


def berlin(text: str) -> datetime:
    """The time that clocks in Berlin show then; what they show twice is the first."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("row", "open_at", "frozen_at"),
    [
        (  # over two midnights and the week's end
            "days: [fri, sat, sun], from: 16:00, until: 08:00",
            ["2026-03-06T15:59", "2026-03-09T08:00", "2026-03-11T03:00"],
            ["2026-03-06T16:00", "2026-03-07T12:00", "2026-03-08T23:00", "2026-03-09T07:59"],
        ),
        (  # one night; Sunday's ends on Monday
            "days: [sun], from: 22:00, until: 06:00",
            ["2026-03-08T21:59", "2026-03-09T06:00", "2026-03-10T01:00"],
            ["2026-03-08T22:00", "2026-03-09T00:00", "2026-03-09T05:59"],
        ),
        (  # within days: each for itself
            "days: [mon, tue], from: 09:00, until: 17:00",
            ["2026-03-09T08:59", "2026-03-09T17:00", "2026-03-10T08:00", "2026-03-11T12:00"],
            ["2026-03-09T09:00", "2026-03-10T16:59"],
        ),
        (  # days that do not follow each other: each night for itself
            "days: [mon, wed], from: 20:00, until: 04:00",
            ["2026-03-10T12:00", "2026-03-11T19:00"],
            ["2026-03-10T03:59", "2026-03-11T20:00", "2026-03-12T03:00"],
        ),
        (  # the day whole
            "days: [sat], from: 00:00, until: 00:00",
            ["2026-03-06T23:59", "2026-03-08T00:00"],
            ["2026-03-07T00:00", "2026-03-07T23:59"],
        ),
        (
            "from: 2026-12-20T00:00, until: 2027-01-04T00:00:00",
            ["2026-12-19T23:59", "2027-01-04T00:00", "2027-12-24T00:00"],
            ["2026-12-20T00:00", "2027-01-03T23:59"],
        ),
    ],
    ids=("weekend", "a night", "office hours", "two nights", "a day", "dated"),
)
def test_a_freeze_holds_from_when_until_when_it_says(
    tmp_path: Path, row: str, open_at: list[str], frozen_at: list[str]
) -> None:
    """On the clocks of its zone; at its end it does not."""
    freezes = weekly(tmp_path, row)
    assert [at for at in [*open_at, *frozen_at] if frozen(freezes, berlin(at))] == frozen_at


@pytest.mark.parametrize(
    ("row", "begins", "ends"),
    [
        # 2026-03-29 02:00 becomes 03:00: the weekend is an hour shorter
        ("days: [fri, sat, sun], from: 16:00, until: 08:00", "2026-03-27T15:00Z", "2026-03-30T06:00Z"),
        # 2026-10-25 03:00 becomes 02:00: and an hour longer
        ("days: [fri, sat, sun], from: 16:00, until: 08:00", "2026-10-23T14:00Z", "2026-10-26T07:00Z"),
        # 02:30 is never on that day: it begins at what would have been that before, and ends so after the change
        ("days: [sun], from: 02:30, until: 05:00", "2026-03-29T00:30Z", "2026-03-29T03:00Z"),
        ("days: [sun], from: 00:00, until: 02:30", "2026-03-28T23:00Z", "2026-03-29T01:30Z"),
        # 02:30 is twice: it begins with the first, and ends with the second
        ("days: [sun], from: 02:30, until: 05:00", "2026-10-25T00:30Z", "2026-10-25T04:00Z"),
        ("days: [sun], from: 00:00, until: 02:30", "2026-10-24T22:00Z", "2026-10-25T01:30Z"),
        ("from: 2026-10-25T02:30, until: 2026-10-25T02:31", "2026-10-25T00:30Z", "2026-10-25T01:31Z"),
    ],
    ids=lambda value: value.replace("days: ", ""),
)
def test_clocks_that_are_changed_are_right(tmp_path: Path, row: str, begins: str, ends: str) -> None:
    """By UTC to the second; in doubt it is frozen."""
    freezes = weekly(tmp_path, row)
    begin, end = datetime.fromisoformat(begins), datetime.fromisoformat(ends)
    second = timedelta(seconds=1)
    found = frozen(freezes, begin)
    assert found is not None
    assert found[1:] == (begin, end)
    assert not frozen(freezes, begin - second)
    assert frozen(freezes, end - second)
    assert not frozen(freezes, end)
    assert thawed(freezes, begin) == end


def test_a_freeze_that_adjoins_another_goes_on(tmp_path: Path) -> None:
    """What is told is when none holds."""
    row = "from: 2026-12-20T00:00, until: 2027-01-04T00:00, zone: Europe/Berlin, why: a}, {"
    freezes = weekly(tmp_path, f"{row}days: [mon], from: 00:00, until: 12:00")
    assert thawed(freezes, berlin("2026-12-24T00:00")) == berlin("2027-01-04T12:00")
    assert thawed(freezes, berlin("2027-01-05T00:00")) == berlin("2027-01-05T00:00").astimezone(UTC)
