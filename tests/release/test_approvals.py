"""Approvals: signed by people, judged one by one."""

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.errors import BadInput
from infra.release import approvals, canonical, signatures
from infra.release.ladder import Approvals
from infra.release.releases import Release
from tests.release.place import START, commit, git, key, line, repository

ADA, BOB, CY = "ada@example.org", "bob@example.org", "cy@example.org"
TWO = Approvals(count=2, not_author=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository whose commit is Ada's, and in which Ada, Bob and Cy may sign."""
    root = repository(tmp_path / "work")
    names = (ADA, BOB, CY)
    (root / "stacks" / "signers").write_text("".join(line(name, key(tmp_path, name)) for name in names))
    return root


def release(root: Path, letter: str = "1") -> Release:
    """A release of the repository's commit."""
    commit = git(root, "rev-parse", "HEAD").strip()
    return Release(id=f"r20260302-{letter * 12}", commit=commit, contents={}, digest=letter * 64)


def approve(root: Path, who: str, rule: Approvals = TWO, *, by: str | None = None, at: datetime = START) -> Path:
    """An approval of the release for prod. by: whose key signs it."""
    return approvals.approve(root, release(root), "prod", rule, key=root.parent / (by or who), principal=who, at=at)


def told(root: Path, rule: Approvals = TWO, at: datetime = START, of: Release | None = None) -> dict[str, str]:
    """Why each does not count, by the file's name."""
    found = approvals.found(root, of or release(root), "prod", rule, at=at)
    return {Path(each.file).name: each.why for each in found}


def test_an_approval_is_a_signed_document(root: Path) -> None:
    """Of the release's digest, for one environment."""
    file = approve(root, BOB)
    assert file == root / "releases" / "approvals" / "prod" / "r20260302-111111111111" / f"{BOB}.json"
    assert canonical.decode(file.read_bytes()) == {
        "schema": "kiban/approval/v1",
        "release": {"id": "r20260302-111111111111", "digest": "1" * 64},
        "environment": "prod",
        "by": BOB,
        "at": "2026-03-02T09:00:00Z",
    }
    approve(root, CY)
    assert told(root) == {f"{BOB}.json": "", f"{CY}.json": ""}
    assert sorted(path.name for path in file.parent.iterdir()) == sorted(
        f"{who}.json{end}" for who in (BOB, CY) for end in ("", ".sig")
    )
    assert approvals.found(root, release(root), "staging", TWO, at=START) == ()


def test_nobody_approves_twice(root: Path) -> None:
    """The first one stays."""
    before = approve(root, BOB).read_bytes()
    with pytest.raises(BadInput, match=r"bob@example\.org has approved r20260302-111111111111 already"):
        approve(root, BOB, at=START + timedelta(hours=1))
    assert approve_file(root, BOB).read_bytes() == before


def approve_file(root: Path, who: str) -> Path:
    """Where somebody's approval is."""
    return root / "releases" / "approvals" / "prod" / release(root).id / f"{who}.json"


def test_one_that_does_not_count_is_made_anew(root: Path) -> None:
    """By its owner."""
    approve(root, BOB).write_text("{}\n")
    assert told(root)[f"{BOB}.json"]
    approve(root, BOB)
    assert told(root) == {f"{BOB}.json": ""}


@pytest.mark.parametrize(
    ("who", "by", "rule", "said"),
    [
        ("eve@example.org", BOB, TWO, f"eve@example.org is not among those who approve; accepted: {ADA}, {BOB}, {CY}"),
        (CY, CY, Approvals(count=1, of=(BOB,)), f"{CY} is not among those who approve; accepted: {BOB}"),
        (CY, BOB, TWO, f"forged: it says that it is by {CY}, and {BOB} signed it"),
        (ADA, ADA, TWO, f"{ADA} is the release's author; accepted: somebody else"),
    ],
)
def test_who_may_not_approve_is_told_so(root: Path, who: str, by: str, rule: Approvals, said: str) -> None:
    """And leaves nothing."""
    with pytest.raises(BadInput) as refused:
        approve(root, who, rule, by=by)
    assert said in str(refused.value)
    assert refused.value.exit_status == 2
    assert not (root / "releases").exists()


def test_an_author_may_where_the_rule_allows_it(root: Path) -> None:
    """It does not say not_author."""
    approve(root, ADA, Approvals(count=1))
    assert told(root, Approvals(count=1)) == {f"{ADA}.json": ""}
    assert "is the release's author" in told(root)[f"{ADA}.json"]


def test_with_nobody_in_the_list_nobody_may(root: Path) -> None:
    """It is said how one gets there."""
    (root / "stacks" / "signers").write_text("# nobody\n")
    with pytest.raises(BadInput, match="accepted: nobody yet: add them to stacks/signers"):
        approve(root, BOB)


def test_a_key_counts_when_it_signs_and_when_it_is_asked(root: Path, tmp_path: Path) -> None:
    """One that has expired since does not; neither does one that was not yet valid."""
    approve(root, BOB)
    signers = root / "stacks" / "signers"
    signers.write_text(line(BOB, tmp_path / BOB, 'valid-before="20260401Z"'))
    assert told(root, at=datetime(2026, 3, 31, tzinfo=UTC)) == {f"{BOB}.json": ""}
    assert "key has expired" in told(root, at=datetime(2026, 4, 2, tzinfo=UTC))[f"{BOB}.json"]
    signers.write_text(line(BOB, tmp_path / BOB, 'valid-after="20260303Z"'))
    assert "key is not yet valid" in told(root, at=datetime(2026, 3, 31, tzinfo=UTC))[f"{BOB}.json"]
    signers.write_text(line(BOB, tmp_path / BOB, 'namespaces="kiban-release"'))
    assert told(root)[f"{BOB}.json"]


def test_an_expired_key_does_not_approve(root: Path, tmp_path: Path) -> None:
    """Bad input, and nothing is left."""
    (root / "stacks" / "signers").write_text(line(BOB, tmp_path / BOB, 'valid-before="20260101Z"'))
    with pytest.raises(BadInput, match=r"key has expired.*; nothing was approved"):
        approve(root, BOB)
    assert not (root / "releases").exists()


def forged(root: Path, signer: str, /, **fields: object) -> Path:
    """A copy of Bob's approval with other fields, signed by somebody in his place."""
    file = approve_file(root, BOB)
    canonical.write(file, json.loads(file.read_text()) | fields)
    signatures.sign(file, root.parent / signer, signatures.APPROVAL)
    return file


@pytest.mark.parametrize(
    ("by", "fields", "said"),
    [
        (BOB, {"release": {"id": "r20260302-111111111111", "digest": "2" * 64}}, "it is for another release"),
        (BOB, {"environment": "staging"}, "it is for another environment: 'staging'"),
        (BOB, {"schema": "kiban/record/v1"}, "it is for another schema"),
        (BOB, {"more": 1}, "it says more than an approval does"),
        (BOB, {"at": "2026-03-02T10:00:00Z"}, "clocks that disagree"),
        (BOB, {"at": "today"}, "at='today'"),
        (BOB, {"by": CY}, f"forged: it says that it is by {CY}, and {BOB} signed it"),
        (CY, {}, f"forged: it says that it is by {BOB}, and {CY} signed it"),
    ],
)
def test_a_forged_one_does_not_count(root: Path, by: str, fields: dict[str, object], said: str) -> None:
    """Whatever was forged."""
    approve(root, BOB)
    forged(root, by, **fields)
    assert said in told(root)[f"{BOB}.json"]


def test_every_byte_is_signed(root: Path) -> None:
    """Each made another one; also a signature of another file, and none."""
    file = approve(root, BOB)
    whole = file.read_bytes()
    for index in range(0, len(whole), 5):
        file.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        assert told(root)[f"{BOB}.json"], index
    file.write_bytes(whole)
    other = approve(root, CY)
    shutil.copy(signatures.signature_of(other), signatures.signature_of(file))
    assert told(root)[f"{BOB}.json"]
    signatures.signature_of(file).unlink()
    assert "there is no signature" in told(root)[f"{BOB}.json"]
    file.unlink()
    file.mkdir()
    assert told(root)[f"{BOB}.json"]


def test_a_stranger_does_not_count(root: Path, tmp_path: Path) -> None:
    """Whose key is in nobody's line."""
    approve(root, BOB)
    key(tmp_path, "eve")
    forged(root, "eve")
    assert "is not in signers" in told(root)[f"{BOB}.json"]


def test_an_approval_is_not_another_releases_or_environments(root: Path) -> None:
    """Copied into its place."""
    file = approve(root, BOB)
    other = release(root, "2")
    folder = file.parent.with_name(other.id)
    shutil.copytree(file.parent, folder)
    assert "it is for another release" in told(root, of=other)[f"{BOB}.json"]
    shutil.copytree(file.parents[1], file.parents[2] / "staging")
    (found,) = approvals.found(root, release(root), "staging", TWO, at=START)
    assert found.why == "it is for another environment: 'prod'"


def test_one_of_each_person_counts(root: Path) -> None:
    """A copy under another name is nobody's, and a key in two lines is its first's."""
    file = approve(root, BOB)
    for name in (f"{CY}.json", "another.json"):
        shutil.copy(file, file.with_name(name))
        shutil.copy(signatures.signature_of(file), signatures.signature_of(file.with_name(name)))
    assert told(root) == {
        f"{BOB}.json": "",
        f"{CY}.json": f"it is {BOB}'s, under another name: one of each person counts",
        "another.json": f"it is {BOB}'s, under another name: one of each person counts",
    }
    with (root / "stacks" / "signers").open("a") as signers:
        signers.write(line("bobby@example.org", root.parent / BOB))
    with pytest.raises(BadInput, match="forged"):
        approve(root, "bobby@example.org", by=BOB)


def test_authors_are_those_of_what_the_commit_brings_in(root: Path) -> None:
    """The author and co-authors; of a merge also who wrote what was merged, and nobody who wrote before."""
    assert approvals.authors(root, "HEAD") == {ADA}
    git(root, "checkout", "-q", "-b", "more")
    git(root, "commit", "-q", "--allow-empty", "--author", "Bob <Bob@example.org>", "-m", "one")
    assert approvals.authors(root, "HEAD") == {BOB}
    git(
        root,
        "commit",
        "-q",
        "--allow-empty",
        "--author",
        "Bob <bob@example.org>",
        "-m",
        f"two\n\nCo-authored-by: C <{CY}>",
    )
    assert approvals.authors(root, "HEAD") == {BOB, CY}
    git(root, "checkout", "-q", "main")
    commit(root, "meanwhile")
    git(root, "merge", "-q", "--no-ff", "-m", "merge", "more")
    assert approvals.authors(root, "HEAD") == {ADA, BOB, CY}


def test_what_a_killed_process_was_writing_is_not_looked_at(root: Path) -> None:
    """Its name begins with a dot."""
    folder = approve(root, BOB).parent
    (folder / f".{CY}.json").touch()
    assert min(os.listdir(folder)).startswith(".")  # noqa: PTH208 - glob hides it
    assert told(root) == {f"{BOB}.json": ""}
