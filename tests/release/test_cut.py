"""The release of this bundle by its own `./kiban`: a virtual environment for the checkout, one for the commit."""

import time
from pathlib import Path

import pytest

from tests.checkout import copy_to
from tests.conftest import Record
from tests.release.bundle import commit, git


@pytest.mark.full
def test_this_bundle_is_cut_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record) -> None:
    """As a user does it, in a repository of one commit; the second cut and the check write nothing."""
    monkeypatch.setenv("KIBAN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "checkout").mkdir()
    checkout = copy_to(tmp_path / "checkout")
    git(checkout.root, "init", "--quiet")
    head = commit(checkout.root)
    (item,) = checkout.json("release", "cut")["items"]
    assert item["commit"] == head
    file = checkout.root / "releases" / f"{item['release']}.json"
    before = file.read_bytes()
    began = time.monotonic()
    assert checkout.json("release", "cut", head)["items"] == [item]
    assert checkout.json("release", "verify", item["release"])["items"] == [
        {"verified": item["release"], "evidence": "executed"}
    ]
    seconds = (time.monotonic() - began) / 2
    assert file.read_bytes() == before
    assert git(checkout.root, "status", "--porcelain") == "?? releases/"
    record(
        line="release cut and verify",
        evidence="executed",
        figure=f"{seconds:.1f} s each, once the commit is unpacked",
        goal="same bytes; nothing but the file is left",
        command="kiban release cut; kiban release verify",
    )
