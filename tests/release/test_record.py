"""The record: what follows what, and that nothing is done to it unseen."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from infra.errors import BadInput, CouldNotRun
from infra.release import canonical, record
from infra.release.entry import Hold, Lift, Ref, Verdict, What
from infra.release.record import Tampered
from tests.release.place import (
    ONE,
    START,
    STORY,
    THREE,
    TWO,
    add,
    begun,
    commit,
    ended,
    entry,
    git,
    key,
    line,
    placed,
    repository,
)

DEV = "releases/record/dev"
HOUR = timedelta(hours=1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository without a record."""
    return repository(tmp_path / "work")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the story in dev, and the same a minute later in prod; nothing committed since."""
    root = repository(tmp_path_factory.mktemp("written") / "work")
    add(root, *STORY)
    add(root, *STORY, environment="prod", hours=2)
    return root


@pytest.fixture
def story(written: Path, tmp_path: Path) -> Path:
    """A copy of it, to be tampered with."""
    return Path(shutil.copytree(written, tmp_path / "work"))


def file(root: Path, number: int, environment: str = "dev") -> Path:
    """Where an entry is."""
    return root / "releases" / "record" / environment / f"{number:06}.json"


def told(root: Path, environment: str = "dev", anchor: tuple[int, str] | None = None) -> str:
    """All findings, a line each."""
    return "\n".join(f"{each.file}: {each.says}" for each in record.verify(root, environment, anchor))


def test_an_environment_without_a_record_has_no_entries(root: Path) -> None:
    """And that is no finding."""
    assert record.read(root, "dev") == ()
    assert record.verify(root, "dev") == []
    assert record.head(()) == ""
    assert record.environments(root) == ()


def test_entries_are_chained_from_the_environments_name(story: Path) -> None:
    """Each has the hash of the file before it."""
    entries = record.read(story, "dev")
    assert [each.what for each in entries] == list(STORY)
    assert [each.number for each in entries] == list(range(1, 9))
    before = subprocess.run(["sha256sum"], input=b"kiban/record/v1 dev", capture_output=True, check=True).stdout
    for each in entries:
        assert each.previous == before.split()[0].decode()
        before = subprocess.run(["sha256sum", file(story, each.number)], capture_output=True, check=True).stdout
    assert record.head(entries) == before.split()[0].decode()
    assert record.environments(story) == ("dev", "prod")


def test_the_record_says_what_runs_is_open_and_held(root: Path) -> None:
    """As of its last entry."""
    states: list[tuple[What, Ref | None, int | None, int | None]] = [
        (begun(ONE), None, 1, None),
        (ended(1, ONE), ONE, None, None),
        (Hold(reason="exhibition"), ONE, None, 3),
        (Lift(reason="over"), ONE, None, None),
        (begun(TWO, ONE), ONE, 5, None),
        (ended(5, None, "failed"), None, None, None),
    ]
    for what, runs, is_open, held in states:
        entries = add(root, what)
        opened, holding = record.opened(entries), record.held(entries)
        assert record.runs(entries) == runs
        assert (opened.number if opened else None) == is_open
        assert (holding.number if holding else None) == held


BYPASSED = Verdict(gate="hold", outcome="bypassed", says="held", reason="it burns")


@pytest.mark.parametrize(
    ("there", "what", "said"),
    [
        ([begun(ONE)], begun(TWO), "what began with entry 1 (2026-03-02T09:00:00Z) has not ended"),
        ([], ended(1, ONE), "it ends entry 1, and none is open"),
        ([begun(ONE)], ended(2, ONE), "it ends entry 2, and entry 1 is open"),
        ([begun(ONE), ended(1, ONE)], ended(1, ONE), "it ends entry 1, and none is open"),
        ([begun(ONE)], ended(1, TWO), "another release runs than entry 1 brought"),
        ([begun(ONE)], ended(1, None), "another release runs than entry 1 brought"),
        ([Hold(reason="a")], Hold(reason="b"), "is held since 2026-03-02T09:00:00Z (entry 1) by Ada"),
        ([], Lift(reason="a"), "nothing is held"),
        ([Hold(reason="a")], begun(ONE), "it begins during the hold of entry 1"),
        ([], begun(ONE, verb="rollback", because=1), "it takes back entry 1, which is no promotion"),
        (
            [begun(ONE), ended(1, None, "failed"), begun(TWO, verb="rollback", because=1), ended(3, TWO)],
            begun(ONE, verb="rollback", because=3),
            "it takes back entry 3, which is no promotion",
        ),
    ],
)
def test_what_cannot_follow_is_refused(root: Path, there: list[What], what: What, said: str) -> None:
    """Nothing is written."""
    entries = add(root, *there)
    with pytest.raises(BadInput, match="nothing was recorded") as refused:
        record.append(root, entry(what, timedelta(days=1)))
    assert said in str(refused.value)
    assert record.read(root, "dev") == entries


@pytest.mark.parametrize(
    "what", [begun(ONE, gates=(BYPASSED,)), begun(ONE, verb="rollback", because=1), Lift(reason="over")]
)
def test_a_hold_keeps_out_promotions_that_do_not_bypass_it(root: Path, what: What) -> None:
    """Not what goes back."""
    add(root, begun(TWO), ended(1, None, "failed"), Hold(reason="exhibition"), what)


def test_clocks_that_disagree_are_said(root: Path) -> None:
    """Both times and the difference; nothing is written."""
    record.append(root, entry(Hold(reason="a"), 2 * HOUR))
    with pytest.raises(BadInput) as refused:
        record.append(root, entry(Lift(reason="b"), HOUR))
    for words in ("2026-03-02T10:00:00Z", "2026-03-02T11:00:00Z", "by desk", "1:00:00 later", "clocks that disagree"):
        assert words in str(refused.value)
    assert refused.value.exit_status == 2
    assert len(record.read(root, "dev")) == 1


def writer(root: Path, rounds: int) -> list[str]:
    """The command of a process that holds and lifts, so many times, and retries while another one has it held."""
    program = (
        "import sys, datetime as dt, pathlib\n"
        "from infra.errors import BadInput\n"
        "from infra.release import record\n"
        "from infra.release.entry import By, Entry, Hold, Lift\n"
        "root, by = pathlib.Path(sys.argv[1]), By(name='a', email='a@b', host='h')\n"
        "def add(what):\n"
        "    at = dt.datetime.now(dt.UTC).replace(microsecond=0)\n"
        "    record.append(root, Entry(environment='dev', at=at, by=by, what=what))\n"
        "print('there', flush=True)\n"
        "for _ in range(int(sys.argv[2])):\n"
        "    while True:\n"
        "        try: add(Hold(reason='a')); break\n"
        "        except BadInput: pass\n"
        "    add(Lift(reason='b'))\n"
    )
    return [sys.executable, "-c", program, str(root), str(rounds)]


def test_processes_that_write_at_once_get_a_number_each(root: Path) -> None:
    """No entry is lost, and none is overwritten."""
    at = Path(record.__file__).parents[2]
    running = [subprocess.Popen(writer(root, 10), cwd=at, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0, 0]
    assert len(record.read(root, "dev")) == 80
    assert told(root) == ""
    assert not [name for name in os.listdir(root / DEV) if name.startswith(".")]  # noqa: PTH208 - glob hides them


def test_a_writer_that_is_killed_leaves_a_whole_record(root: Path) -> None:
    """At whatever time; the next one goes on from there."""
    at = Path(record.__file__).parents[2]
    for tenth in range(8):
        process = subprocess.Popen(writer(root, 10_000), cwd=at, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.05 + tenth / 100)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        entries = record.read(root, "dev")
        if record.held(entries):
            record.append(root, entry(Lift(reason="killed"), entries[-1].at - START))
    assert told(root) == ""


def test_every_byte_counts(story: Path, *, full: bool) -> None:
    """Each byte of each entry, one at a time, made another one; in the small run each thirteenth."""
    for number in range(1, 9):
        path = file(story, number)
        whole = path.read_bytes()
        anchor = (8, record.head(record.read(story, "dev")))
        for index in range(0 if full else number, len(whole), 1 if full else 13):
            path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
            findings = record._looked_at(story, "dev")[1] or record._anchor(story, "dev", anchor)  # noqa: SLF001
            assert findings, f"byte {index} of entry {number}"
        path.write_bytes(whole)
    assert told(story) == ""


@pytest.mark.parametrize("number", range(1, 8))
def test_a_change_that_keeps_the_form_is_found(story: Path, number: int) -> None:
    """Written as Kiban would write it, by somebody else."""
    path = file(story, number)
    path.write_text(path.read_text().replace('"Ada"', '"Eve"'))
    assert f"{DEV}/{number + 1:06}.json: it does not follow entry {number} as it is" in told(story)
    with pytest.raises(Tampered, match="does not follow"):
        record.read(story, "dev")


@pytest.mark.parametrize("number", range(1, 8))
def test_a_dropped_entry_is_found(story: Path, number: int) -> None:
    """Also where those after it take its place."""
    file(story, number).unlink()
    assert f"{DEV}/{number:06}.json: missing" in told(story)
    for after in range(number + 1, 9):
        file(story, after).rename(file(story, after - 1))
    assert f"{DEV}/{number:06}.json: it is entry {number + 1}, put in another's place" in told(story)
    for after in range(number, 8):
        document = json.loads(file(story, after).read_text()) | {"number": after}
        canonical.write(file(story, after), document)
    assert "does not follow" in told(story)


@pytest.mark.parametrize("first", range(1, 8))
def test_exchanged_entries_are_found(story: Path, first: int) -> None:
    """Each with each one after it."""
    for second in range(first + 1, 9):
        one, other = file(story, first).read_bytes(), file(story, second).read_bytes()
        file(story, first).write_bytes(other)
        file(story, second).write_bytes(one)
        said = told(story)
        assert f"{DEV}/{first:06}.json: it is entry {second}, put in another's place" in said
        assert f"{DEV}/{second:06}.json: it is entry {first}, put in another's place" in said
        file(story, first).write_bytes(one)
        file(story, second).write_bytes(other)


@pytest.mark.parametrize("number", range(1, 10))
def test_an_entry_of_another_environment_is_found(story: Path, number: int) -> None:
    """In the place of one, and behind the last."""
    add(story, Hold(reason="more"), environment="prod")
    shutil.copy(file(story, number, "prod"), file(story, number))
    assert f"{DEV}/{number:06}.json: copied from the record of prod" in told(story)


def test_a_record_of_another_environment_is_found(story: Path) -> None:
    """Also with its name exchanged: it begins otherwise."""
    shutil.rmtree(story / DEV)
    shutil.copytree(story / "releases/record/prod", story / DEV)
    assert told(story).count("copied from the record of prod") == 8
    for number in range(1, 9):
        canonical.write(file(story, number), json.loads(file(story, number).read_text()) | {"environment": "dev"})
    assert f"{DEV}/000001.json: it does not follow the beginning of this record" in told(story)


def test_a_file_that_is_no_entry_is_found(story: Path) -> None:
    """And a signature without its entry; a gap is one finding, however wide."""
    (story / DEV / "000009.txt").touch()
    (story / DEV / "000012.json.sig").touch()
    shutil.copy(file(story, 8), file(story, 999_999))
    assert told(story).splitlines()[
        0
    ] == f"{DEV}/000009.txt: no entry's name; accepted: 000001.json and so on, with " + (".sig for its signature")
    assert f"{DEV}/000012.json.sig: the signature of an entry that is not there" in told(story)
    assert f"{DEV}/000009.json: missing, as are all to 999998" in told(story)


def test_times_do_not_go_back(story: Path) -> None:
    """Where everything else was made to fit."""
    for number in range(3, 9):
        document = json.loads(file(story, number).read_text())
        before = canonical.file_digest(file(story, number - 1))
        at = "2026-03-02T08:00:00Z" if number == 3 else document["at"]
        canonical.write(file(story, number), document | {"previous": before, "at": at})
    assert told(story) == (f"{DEV}/000003.json: it is of 2026-03-02T08:00:00Z, before entry 2 (2026-03-02T10:00:00Z)")


def remove(root: Path, *numbers: int) -> None:
    """Delete entries of dev."""
    for number in numbers:
        file(root, number).unlink()


def rewrite(root: Path, number: int, **fields: object) -> None:
    """Write other fields into an entry of dev, as Kiban would."""
    canonical.write(file(root, number), json.loads(file(root, number).read_text()) | fields)


TAIL: dict[str, Callable[[Path], None]] = {
    "removed": lambda root: remove(root, 8),
    "removed with the one before": lambda root: remove(root, 7, 8),
    "the whole record removed": lambda root: shutil.rmtree(root / DEV),
    "altered": lambda root: rewrite(root, 8, outcome="failed", runs=None),
}


@pytest.mark.parametrize("how", TAIL)
def test_the_end_of_a_record_is_known_to_git(story: Path, how: str) -> None:
    """The chain does not show it, and the history of HEAD does: before and after a commit of the deed."""
    made = commit(story, "record")
    assert told(story) == ""
    TAIL[how](story)
    what = "altered" if how == "altered" else "removed"
    for _ in range(2):
        assert not record._looked_at(story, "dev")[1]  # noqa: SLF001
        assert f"{DEV}/000008.json: {what}: commit {made[:12]} had it" in told(story)
        commit(story, "nothing to see here")
    assert told(story, "prod") == ""


@pytest.mark.parametrize("how", TAIL)
def test_the_end_of_a_record_is_known_to_the_anchor(story: Path, how: str) -> None:
    """Which the environment keeps, also where git's history was made anew."""
    anchor = (8, record.head(record.read(story, "dev")))
    assert told(story, anchor=anchor) == ""
    TAIL[how](story)
    what = "altered: the environment remembers it with another hash" if how == "altered" else "removed: the environment"
    assert f"{DEV}/000008.json: {what}" in told(story, anchor=anchor)


def test_an_anchor_of_an_earlier_entry_is_enough(story: Path) -> None:
    """Entries come before the environment hears of them."""
    assert told(story, anchor=(5, record.read(story, "dev")[4].hash)) == ""


def test_a_merge_that_throws_entries_away_is_seen(story: Path) -> None:
    """By `-s ours`, which git's own log would not show for these files."""
    commit(story, "record")
    git(story, "checkout", "-q", "-b", "more")
    add(story, Hold(reason="exhibition"))
    made = commit(story, "hold")
    git(story, "checkout", "-q", "main")
    git(story, "merge", "-q", "-s", "ours", "-m", "merge", "more")
    assert told(story) == f"{DEV}/000009.json: removed: commit {made[:12]} had it"


def test_what_only_a_merge_had_is_seen(story: Path) -> None:
    """An entry that the merge itself altered, and that the next commit put right."""
    commit(story, "record")
    git(story, "checkout", "-q", "-b", "more")
    add(story, Hold(reason="exhibition"))
    commit(story, "hold")
    git(story, "checkout", "-q", "main")
    git(story, "merge", "-q", "--no-ff", "--no-commit", "more")
    whole = file(story, 9).read_bytes()
    rewrite(story, 9, reason="none")
    made = commit(story, "merge")
    file(story, 9).write_bytes(whole)
    commit(story, "as it was")
    assert told(story) == f"{DEV}/000009.json: altered: commit {made[:12]} had it with other bytes"


def test_a_bundle_below_the_repositorys_root_is_seen_too(tmp_path: Path) -> None:
    """Kiban may be a folder of another repository."""
    root = tmp_path / "all" / "platform"
    repository(tmp_path / "all")
    add(root, *STORY)
    made = commit(root, "record")
    file(root, 8).unlink()
    assert told(root) == f"{DEV}/000008.json: removed: commit {made[:12]} had it"


def test_a_shallow_clone_is_not_called_whole(story: Path, tmp_path: Path) -> None:
    """What was removed cannot be seen in it."""
    commit(story, "record")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{story}", "shallow")
    with pytest.raises(CouldNotRun, match=r"shallow.*git fetch --unshallow"):
        record.verify(tmp_path / "shallow", "dev")


def test_without_a_commit_or_a_repository(tmp_path: Path) -> None:
    """The first has no history that could differ; the second cannot be asked."""
    git(tmp_path, "init", "-q")
    add(tmp_path, *STORY)
    assert told(tmp_path) == ""
    shutil.rmtree(tmp_path / ".git")
    with pytest.raises(CouldNotRun, match="is no git repository"):
        record.verify(tmp_path, "dev")


def test_a_signature_counts_where_there_is_one(root: Path, tmp_path: Path) -> None:
    """One that is not Ada's of that time is a finding; so is one that is gone."""
    ada, eve = key(tmp_path, "ada"), key(tmp_path, "eve")
    (root / "stacks" / "signers").write_text(line("ada@example.org", ada))
    record.append(root, entry(Hold(reason="a")), ada)
    record.append(root, entry(Lift(reason="b")), eve)
    record.append(root, entry(Hold(reason="c")))
    assert "000001" not in told(root)
    assert f"{DEV}/000002.json: its signature does not count: " in told(root)
    (root / "stacks" / "signers").write_text(line("ada@example.org", ada) + line("eve@example.org", eve))
    assert told(root) == ""
    ending = 'valid-before="20260101Z"'
    (root / "stacks" / "signers").write_text(line("ada@example.org", ada, ending) + line("eve@example.org", eve))
    assert "key has expired" in told(root)
    (root / "stacks" / "signers").write_text(line("ada@example.org", ada) + line("eve@example.org", eve))
    made = commit(root, "record")
    (root / DEV / "000002.json.sig").unlink()
    assert told(root) == f"{DEV}/000002.json.sig: removed: commit {made[:12]} had its signature"


def test_a_key_that_cannot_sign_writes_nothing(root: Path, tmp_path: Path) -> None:
    """Not half an entry."""
    (tmp_path / "key").write_text("no key\n")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(BadInput, match="key"):
        record.append(root, entry(Hold(reason="a")), tmp_path / "key")
    assert list((root / DEV).iterdir()) == []


def test_who_calls_is_whom_git_names(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And who is nobody to git is told so."""
    for name in list(os.environ):
        if name.startswith("GIT_") or name == "EMAIL":
            monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    found = record.by(root)
    assert (found.name, found.email) == ("Ada", "ada@example.org")
    git(root, "config", "--unset", "user.email")
    git(root, "config", "user.useConfigOnly", "true")
    with pytest.raises(BadInput, match=r"accepted: git config user\.name and user\.email"):
        record.by(root)


def test_a_broken_record_is_not_added_to(story: Path) -> None:
    """What is wrong is in the message, and every finding in the items."""
    file(story, 3).unlink()
    with pytest.raises(Tampered, match=r"000003\.json: missing; see `kiban audit verify dev`") as refused:
        record.append(story, entry(Hold(reason="a"), timedelta(days=9)))
    assert [item["number"] for item in refused.value.items] == [3]


def test_what_is_gone_back_to_was_verified_and_not_taken_back() -> None:
    """Not to what failed, nor to what people have taken back since it was verified."""
    first = placed(begun(ONE), ended(1, ONE))
    assert record.good(first, ONE) is None
    both = placed(begun(ONE), ended(1, ONE), begun(TWO, ONE), ended(3, TWO))
    assert record.good(both, TWO) == ONE
    back = (begun(ONE, None, verb="rollback", because=3), ended(5, ONE))
    story = placed(begun(ONE), ended(1, ONE), begun(TWO, ONE), ended(3, TWO), *back)
    assert record.good(story, ONE) is None
    assert record.good(placed(*(each.what for each in story), begun(THREE, ONE), ended(7, THREE)), THREE) == ONE


def test_a_promotion_that_failed_asks_for_a_rollback_until_one_began() -> None:
    """A rollback that failed asks for nothing."""
    failed = (begun(ONE), ended(1, ONE), begun(TWO, ONE), ended(3, None, "failed"))
    found = record.unanswered(placed(*failed))
    assert found
    assert found.number == 3
    back = (begun(ONE, None, verb="rollback", because=3), ended(5, None, "failed"))
    assert record.unanswered(placed(*failed, back[0])) is None
    assert record.unanswered(placed(*failed, *back)) is None
    assert record.unanswered(placed(begun(ONE), ended(1, ONE))) is None
    assert record.unanswered(()) is None
