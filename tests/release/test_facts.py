"""What is gathered for the gates is what the repository has: signature, date, rehearsal, approvals, both records."""

from datetime import timedelta
from pathlib import Path

import pytest

from infra.release import approvals, facts, rehearsals, signatures
from infra.release.gates import Facts
from infra.release.ladder import Approvals, Gates, Rung
from infra.release.releases import Release, file
from infra.versions import RELEASES
from tests.release.history import released
from tests.release.place import START, add, begun, ended, key, line, repository
from tests.release.test_rehearsals import CLEAN

NOW = START + timedelta(days=3)
RULE = Approvals(count=1)
PROD = Rung(environment="prod", after="staging", gates=Gates(approvals=RULE))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository in which Ada may sign."""
    root = repository(tmp_path / "work")
    (root / "stacks" / "signers").write_text(line("ada@example.org", key(tmp_path, "ada")))
    return root


@pytest.fixture
def release(root: Path) -> Release:
    """A release in it, of an hour before START."""
    return released(root, START - timedelta(hours=1))


def gathered(root: Path, release: Release, rung: Rung = PROD) -> Facts:
    """What is gathered about it, after a look for drift."""
    return facts.gathered(root, rung, release, NOW, drift=("a label",), bypasses={"soak": "it burns"})


def test_nothing_is_there(root: Path, release: Release) -> None:
    """And that is what is said; what the caller knows is handed on."""
    found = gathered(root, release)
    assert (found.release, found.now, found.committed) == (release.ref, NOW, START - timedelta(hours=1))
    assert (found.here, found.below, found.signer, found.unsigned) == ((), (), None, "nobody has signed it")
    assert (found.rehearsal, found.approvals, found.approvers) == (None, (), ("ada@example.org",))
    assert (found.drift, found.bypasses) == (("a label",), {"soak": "it burns"})


def test_who_signed(root: Path, release: Release, tmp_path: Path) -> None:
    """Or why the signature does not count."""
    signatures.sign(file(root, release.id), tmp_path / "ada", signatures.RELEASE)
    assert gathered(root, release).signer == "ada@example.org"
    signatures.sign(file(root, release.id), key(tmp_path, "eve"), signatures.RELEASE)
    found = gathered(root, release)
    assert found.signer is None
    assert "is not in signers" in found.unsigned
    assert (root / RELEASES / f"{release.id}.json.sig").exists()


def test_the_records_of_both_rungs(root: Path, release: Release) -> None:
    """Of no other; the lowest rung has none below."""
    whats = (begun(release.ref), ended(1, release.ref))
    here, below = (add(root, *whats, environment=name) for name in ("prod", "staging"))
    add(root, *whats, environment="dev")
    found = gathered(root, release)
    assert (found.here, found.below) == (here, below)
    lowest = gathered(root, release, Rung(environment="dev", after=None, gates=Gates()))
    assert ([each.environment for each in lowest.here], lowest.below) == (["dev", "dev"], ())


def test_records_that_were_read_already_are_not_read_again(root: Path, release: Release) -> None:
    """So that a page is of one moment."""
    here = add(root, begun(release.ref), ended(1, release.ref), environment="prod")
    records = {"prod": here[:1], "staging": ()}
    found = facts.gathered(root, PROD, release, NOW, drift=None, bypasses={}, records=records)
    assert (found.here, found.below) == (here[:1], ())


def test_the_rehearsal_from_what_runs(root: Path, release: Release) -> None:
    """Not the one of a first install, once something runs."""
    rehearsals.keep(root, CLEAN, None, release)
    first = gathered(root, release).rehearsal
    assert first is not None
    assert first.base == "first"
    old = released(root, START)
    add(root, begun(old.ref), ended(1, old.ref), environment="prod")
    assert gathered(root, release).rehearsal is None
    rehearsals.keep(root, CLEAN, old, release)
    upgrade = gathered(root, release).rehearsal
    assert upgrade is not None
    assert upgrade.base == old.id


def test_the_approvals_where_the_rung_asks_for_some(root: Path, release: Release, tmp_path: Path) -> None:
    """Each, with why it does not count."""
    approvals.approve(root, release, "prod", RULE, key=tmp_path / "ada", principal="ada@example.org", at=START)
    (one,) = gathered(root, release).approvals
    assert (one.principal, one.why) == ("ada@example.org", "")
    free = gathered(root, release, Rung(environment="prod", after="staging", gates=Gates()))
    assert (free.approvals, free.approvers) == ((), ())
