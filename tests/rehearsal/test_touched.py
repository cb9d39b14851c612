"""Which environments a change is rehearsed for."""

import subprocess
from pathlib import Path

import pytest

import stacks
from infra import paths
from infra.errors import BadInput, CouldNotRun
from infra.rehearsal.touched import items, sections, touched

NAMES = ("dev", "prod")
MODELS = "dev: [{name: digits, version: 3}]\nprod: []\n"


@pytest.mark.parametrize("path", ["stacks/prod.py", "stacks/Pulumi.prod.yaml"])
def test_an_environments_own_files_touch_it_alone(path: str) -> None:
    """Its data, and its stack's configuration."""
    assert touched([path], NAMES, ()) == {"prod": [path]}


@pytest.mark.parametrize(
    "path",
    [
        "charts/mlflow/values.yaml",
        "components/foundation.py",
        "infra/wiring.py",
        "pipelines/reference/workflow.yaml",
        "pyproject.toml",
        "uv.lock",
        "kiban",
        "Pulumi.yaml",
        "stacks/_schema.py",
        "stacks/__init__.py",
        "stacks/prod/more.py",
        "a file that nobody has thought of",
    ],
)
def test_what_all_share_touches_all(path: str) -> None:
    """And what is not known to touch none."""
    assert set(touched([path], NAMES, ())) == set(NAMES)


def test_documents_and_tests_touch_none() -> None:
    """No program is made of them; neither of what was released, recorded and agreed on."""
    agreed = ["releases/r20260302-7322b2a2d764.json", "releases/record/prod/000001.json"]
    agreed += ["stacks/ladder.yaml", "stacks/signers"]
    assert touched(agreed, NAMES, NAMES) == {}
    changed = ["docs/how-to/rehearse.md", "tests/stacks/prod.py", "README.md", "LICENSE", ".github/workflows/kiban.yml"]
    assert touched(changed, NAMES, NAMES) == {}


def test_an_environment_that_is_gone_is_not_named() -> None:
    """Nothing of it is left to rehearse, and others do not change by it."""
    assert touched(["stacks/old.py", "stacks/Pulumi.old.yaml"], NAMES, ()) == {}


def test_models_touch_the_environment_that_serves_them() -> None:
    """A section that differs, not one whose lines or comments do."""
    assert touched(["stacks/models.yaml"], NAMES, {"dev"}) == {"dev": ["stacks/models.yaml"]}
    assert sections(MODELS, MODELS.replace("3", "4"), NAMES) == {"dev"}
    assert sections(MODELS, f"# all of them\n\n{MODELS}", NAMES) == set()
    assert sections("", MODELS, NAMES) == set(NAMES)
    assert sections(MODELS, "dev: [", NAMES) == set(NAMES)
    assert sections(MODELS, "- dev", NAMES) == set(NAMES)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, of which the environment `dev` is, and `prod` is not."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(stacks, "names", lambda: NAMES)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name, text in {"stacks/dev.py": "", "stacks/models.yaml": MODELS, "docs/a.md": "", "charts/a": ""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return tmp_path


def test_a_clean_tree_touches_nothing(repository: Path) -> None:
    """Neither does what git does not know yet and no program reads: a report that a job has left, say."""
    (repository / "docs" / "new.md").touch()
    (repository / "rehearsal.md").touch()
    assert items("HEAD") == []


def test_changes_that_are_not_committed_count(repository: Path) -> None:
    """Those of known files, and new ones: the new environment has no base in that commit."""
    (repository / "stacks" / "models.yaml").write_text(MODELS.replace("3", "4"))
    (repository / "stacks" / "prod.py").touch()
    assert items("HEAD") == [
        {"environment": "dev", "first": False, "files": 1, "because": "stacks/models.yaml"},
        {"environment": "prod", "first": True, "files": 1, "because": "stacks/prod.py"},
    ]


def test_a_file_that_moved_touches_as_where_it_was(repository: Path) -> None:
    """What left charts/ for docs/ is no longer in the program."""
    (repository / "charts" / "a").rename(repository / "docs" / "b")
    assert [item["environment"] for item in items("HEAD")] == ["dev", "prod"]


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("ref", ["v9", "--all", "HEAD:docs"])
def test_a_ref_that_is_no_commit_is_refused(ref: str) -> None:
    """The message names it and what is accepted."""
    with pytest.raises(
        BadInput, match=f"--touched {ref}: no commit of this repository; accepted: a tag, a branch or a"
    ):
        items(ref)


def test_a_folder_without_a_repository_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unpacked archive, say."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(CouldNotRun, match="is no git repository; accepted: a clone"):
        items("HEAD")


def test_no_environments_file_reads_anothers() -> None:
    """Else a change of one would touch the other, and its own files alone would not say so."""
    for name in stacks.names():
        text = (Path(stacks.__file__).parent / f"{name}.py").read_text()
        assert not any(f"stacks.{other}" in text or f"import {other}" in text for other in stacks.names())
