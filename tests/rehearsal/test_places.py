"""Where a rehearsal gets its versions from, which refs it refuses, and what a killed one leaves to the next command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra import paths
from infra.errors import BadInput, CouldNotRun
from infra.rehearsal import places


def say(_: str) -> None:
    """Take a line of progress."""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the checkout a repository of its own: a commit without a bundle, then v1 with the environment prod."""
    root = tmp_path / "checkout"
    root.mkdir()
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setenv("KIBAN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KIBAN_CACHE", str(tmp_path / "cache"))

    def git(*words: str) -> None:
        own = {
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@b",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@b",
        }
        subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, env={**os.environ, **own})

    git("init", "--quiet")
    (root / "README.md").write_text("nothing yet\n")
    git("add", ".")
    git("commit", "-qm", "empty")
    (root / "kiban").write_text("#!/bin/sh\n")
    (root / "kiban").chmod(0o755)
    (root / "stacks").mkdir()
    (root / "stacks" / "prod.py").write_text("one\n")
    git("add", ".")
    git("commit", "-qm", "one")
    git("tag", "-a", "v1", "-m", "the first release")
    return root


def test_a_version_is_the_commit_and_not_what_was_changed_since(repository: Path) -> None:
    """Its files come from git, once, and can be run."""
    (repository / "stacks" / "prod.py").write_text("two\n")
    found = places.version("v1", "prod", say)
    assert (found.root / "stacks" / "prod.py").read_text() == "one\n"
    assert os.access(found.root / "kiban", os.X_OK)
    assert found.commit is not None
    assert found.title == f"v1 ({found.commit[:12]})"
    (found.root / "made-later").touch()
    assert (places.version("v1", "prod", say).root / "made-later").exists()
    assert places.working_tree().root == repository


@pytest.mark.parametrize("path", ["stacks/prod.py", "stacks/more.py"])
@pytest.mark.usefixtures("repository")
def test_a_version_that_was_changed_in_the_cache_is_refused(path: str) -> None:
    """A file that differs, and one that the commit has not: either would run in the commit's name."""
    found = places.version("v1", "prod", say)
    (found.root / path).write_text("two\n")
    with pytest.raises(CouldNotRun, match=rf"{found.root} is no longer what [0-9a-f]{{12}} has \({path}\); remove"):
        places.version("v1", "prod", say)


def test_the_cache_keeps_the_versions_that_were_last_used(repository: Path) -> None:
    """Six of them."""
    used = [places.version("v1", "prod", say).root]
    others = []
    for number in range(6):
        other = used[0].with_name(f"{number:040x}")
        other.mkdir()
        os.utime(other, (number, number))
        others.append(other)
    assert places.version("v1", "prod", say).root == used[0]
    assert [other.exists() for other in others] == [False, True, True, True, True, True]
    assert used[0].exists()
    assert repository.exists()


@pytest.mark.parametrize(
    ("ref", "environment", "words"),
    [
        ("v2", "prod", "'v2' is no commit of this repository; accepted: a tag (v1)"),
        ("--all", "prod", "'--all' is no commit"),
        ("v1^", "prod", "has no Kiban in it"),
        ("v1", "qa", "has no such environment; accepted: prod, or --first"),
    ],
)
@pytest.mark.usefixtures("repository")
def test_a_ref_that_cannot_be_used_is_refused(ref: str, environment: str, words: str) -> None:
    """In one line, with what is accepted, and with the exit status of bad input."""
    with pytest.raises(BadInput) as refused:
        places.version(ref, environment, say)
    assert words in str(refused.value)
    assert refused.value.exit_status == 2


def test_changes_that_a_ref_has_not_are_refused(repository: Path) -> None:
    """Who gives `--to REF` and has changes would think that they were rehearsed; records are no part of it."""
    (repository / "releases").mkdir()
    (repository / "releases" / "r1.json").touch()
    (repository / "stacks" / "ladder.yaml").touch()
    places.refuse_changes("v1")
    (repository / "stacks" / "prod.py").write_text("two\n")
    (repository / "new").touch()
    with pytest.raises(BadInput, match=r"2 uncommitted changes .*stacks/prod.py, new.*--to worktree"):
        places.refuse_changes("v1")


def test_without_a_repository_nothing_can_be_rehearsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, and is not the user's input."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    with pytest.raises(CouldNotRun, match="no git repository"):
        places.version("v1", "prod", say)


@pytest.mark.usefixtures("repository")
def test_a_home_is_gone_afterwards_and_is_one_processes() -> None:
    """KIBAN_HOME is set within it; a second one for the environment is refused; another environment's is not."""
    with places.home("prod", say) as home:
        with places.within(home):
            assert os.environ["KIBAN_HOME"] == str(home)
        (home / "file").touch()
        with pytest.raises(CouldNotRun, match="prod is being rehearsed by another process"), places.home("prod", say):
            pass
        with places.home("dev", say) as other:
            assert other.name == "dev"
    assert not paths.home().exists()


@pytest.mark.usefixtures("repository")
def test_what_a_killed_one_leaves_the_next_command_removes() -> None:
    """And what is still under way it lets be."""
    program = (
        "import os, sys, time; from infra.rehearsal import places\n"
        "with places.home(sys.argv[1], print) as home:\n"
        "    (home / 'file').touch(); print('there', flush=True); time.sleep(60)"
    )
    started = {}
    for name in ("dev", "prod"):
        started[name] = subprocess.Popen(
            [sys.executable, "-c", program, name],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(places.__file__).parents[2],
        )
        stdout = started[name].stdout
        assert stdout is not None
        assert stdout.readline() == "there\n"
    started["dev"].kill()
    started["dev"].wait()
    said: list[str] = []
    places.sweep(said.append)
    assert said == ["rehearsal of dev: removing what a killed run has left"]
    assert [path.name for path in (paths.home() / "rehearsals").iterdir()] == ["prod"]
    started["prod"].kill()
    started["prod"].wait()
    places.sweep(said.append)
    assert not paths.home().exists()
