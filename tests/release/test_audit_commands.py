"""`kiban audit`, `approve`, `hold`, `lift` as a user calls them, in a repository of their own."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from infra import paths
from infra.cli import main
from infra.release import canonical
from infra.release.entry import Verdict
from tests.release.place import ONE, STORY, TWO, add, begun, commit, ended, git, key, line, repository

LADDER = """\
rungs:
  - {environment: dev, gates: {}}
  - {environment: prod, after: dev, gates: {approvals: {count: 1, not_author: true}}}
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a ladder, a release and Ada's commit; whoever calls is Ada."""
    root = repository(tmp_path / "work")
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setenv("KIBAN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for name in [name for name in os.environ if name.startswith(("GIT_AUTHOR", "GIT_COMMITTER", "EMAIL"))]:
        monkeypatch.delenv(name)
    (root / "stacks" / "ladder.yaml").write_text(LADDER)
    commit(root, "ladder")
    return root


def kiban(*words: str, expect: int = 0) -> Any:  # noqa: ANN401 - a document
    """Run a verb, and return its document."""
    done = CliRunner().invoke(main, [*words, "--json"])
    assert done.exit_code == expect, done.output
    return json.loads(done.stdout)


def test_a_hold_is_put_shown_and_lifted(root: Path) -> None:
    """Each is an entry by whom git names, a moment ago."""
    (made,) = kiban("hold", "prod", "--reason", "exhibition")["items"]
    assert (made["number"], made["who"], made["what"]) == (1, "Ada", "hold: exhibition")
    assert datetime.now(UTC) - datetime.fromisoformat(made["at"]) < timedelta(minutes=2)
    assert kiban("hold", "prod", "--reason", "more", expect=2)["error"].startswith("prod: it holds, and is held since")
    kiban("lift", "prod", "--reason", "over")
    assert "nothing is held" in kiban("lift", "prod", "--reason", "over", expect=2)["error"]
    assert [item["what"] for item in kiban("audit", "show", "prod")["items"]] == ["hold: exhibition", "lift: over"]
    assert len(list((root / "releases/record/prod").iterdir())) == 2


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("hold", "local", "--reason", "a"), "local: it is on no rung of stacks/ladder.yaml; accepted: dev, prod"),
        (("hold", "prod", "--reason", " "), "--reason is empty"),
        (("audit", "show", "qa"), "environment 'qa'; accepted: ci, dev, local, prod, staging"),
        (("audit", "verify", "qa"), "environment 'qa'"),
        (("approve", "r1", "dev", "--key", "k"), "dev: it asks for no approvals"),
        (("approve", "r1", "prod", "--key", "k"), "release 'r1'"),
    ],
)
def test_what_cannot_be_used_is_refused(words: tuple[str, ...], said: str) -> None:
    """In one line, with status 2."""
    assert said in kiban(*words, expect=2)["error"]


def test_a_record_is_shown_in_words(root: Path) -> None:
    """Bypasses and what runs now are seen at once; the document has all."""
    bypass = Verdict(gate="freeze", outcome="bypassed", says="frozen", reason="it burns")
    add(root, begun(ONE), ended(1, ONE), begun(TWO, ONE, gates=(bypass,)), ended(3, None, "failed"))
    add(root, begun(ONE, verb="rollback", because=3), ended(5, ONE))
    items = kiban("audit", "show", "dev")["items"]
    assert [item["what"] for item in items] == [
        f"promote {ONE.id} over nothing begins",
        f"entry 1 ends: verified; runs {ONE.id}",
        f"promote {TWO.id} over {ONE.id} begins; freeze bypassed (it burns)",
        "entry 3 ends: failed; runs nothing whole",
        f"rollback {ONE.id} over nothing, because of entry 3 begins",
        f"entry 5 ends: verified; runs {ONE.id}",
    ]
    assert items[2]["gates"] == [bypass.document()]
    assert kiban("audit", "show", "staging")["items"] == []


def test_a_whole_record_verifies_and_another_does_not(root: Path) -> None:
    """Status 1 with each finding, its file and what is wrong; the other environments' are whole."""
    add(root, *STORY)
    add(root, *STORY, environment="prod")
    commit(root, "record")
    items = kiban("audit", "verify")["items"]
    assert [(item["environment"], item["entries"], item["findings"]) for item in items] == [
        ("dev", 8, 0),
        ("prod", 8, 0),
    ]
    head = canonical.file_digest(root / "releases/record/dev/000008.json")
    assert items[0]["head"] == head
    (root / "releases/record/prod/000008.json").unlink()
    document = kiban("audit", "verify", expect=1)
    assert document["items"][:2] == [items[0], {"environment": "prod", "findings": 1}]
    (finding,) = document["items"][2:]
    assert finding["file"] == "releases/record/prod/000008.json"
    assert finding["finding"].startswith("removed: commit")
    assert kiban("audit", "verify", "dev")["ok"]
    shown = CliRunner().invoke(main, ["audit", "verify", "prod"])
    assert shown.exit_code == 1
    assert "releases/record/prod/000008.json" in shown.stdout


def test_a_broken_record_is_not_shown_as_if_it_were_whole(root: Path) -> None:
    """Status 1, and where to look."""
    add(root, *STORY)
    (root / "releases/record/dev/000002.json").unlink()
    assert "000002.json: missing; see `kiban audit verify dev`" in kiban("audit", "show", "dev", expect=1)["error"]


def test_an_approval_is_by_whom_git_names(root: Path, tmp_path: Path) -> None:
    """With their own key; the author's is refused."""
    head = git(root, "rev-parse", "HEAD").strip()
    document = {"schema": "kiban/release/v1", "commit": head, "contents": {}}
    digest = canonical.digest(document)
    name = f"r20260302-{digest[:12]}"
    canonical.write(root / "releases" / f"{name}.json", {**document, "id": name})
    ada, bob = key(tmp_path, "ada"), key(tmp_path, "bob")
    (root / "stacks" / "signers").write_text(line("ada@example.org", ada) + line("bob@example.org", bob))
    assert "is the release's author" in kiban("approve", name, "prod", "--key", str(ada), expect=2)["error"]
    git(root, "config", "user.email", "bob@example.org")
    assert "forged" in kiban("approve", name, "prod", "--key", str(ada), expect=2)["error"]
    assert not (root / "releases" / "approvals").exists()
    (item,) = kiban("approve", name[:14], "prod", "--key", str(bob))["items"]
    assert item == {
        "approval": f"releases/approvals/prod/{name}/bob@example.org.json",
        "release": name,
        "by": "bob@example.org",
    }
