"""The corpus of real failures and the harmless changes as files: complete, unambiguous, and of the bundle as it is."""

import importlib
import pkgutil
import re
import shutil
from pathlib import Path

import pytest

from infra.rehearsal import checks
from tests.rehearsal.cases import NEEDS, STEPS, Case, Edit, Harmless, apply, cases, harmless

ROOT = Path(__file__).resolve().parents[2]
THREAD = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/[1-9]\d*")
MODULES = [importlib.import_module(f"{checks.__name__}.{each.name}") for each in pkgutil.iter_modules(checks.__path__)]
CHECKS = {check.id for module in MODULES for check in module.CHECKS} | {"in-flight"}
CASES = cases()
HARMLESS = harmless()
ALL: tuple[Case | Harmless, ...] = (*CASES, *HARMLESS)


def _name(each: Case | Harmless) -> str:
    return each.name


def _changed(edits: tuple[Edit, ...], folder: Path) -> list[Path]:
    """Copies of the edited files after the edits."""
    files = list(dict.fromkeys(edit.file for edit in edits))
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, folder / file)
    apply(edits, folder)
    return [folder / file for file in files]


def test_there_are_enough_of_both() -> None:
    """At least thirty failures that are to be found, and ten changes that harm nothing."""
    assert len([case for case in CASES if not case.missed]) >= 30
    assert len(HARMLESS) >= 10


def test_no_two_are_the_same() -> None:
    """Each has a title and edits of its own."""
    assert len({each.title for each in ALL}) == len(ALL)
    assert len({(each.edits, getattr(each, "base", ())) for each in ALL}) == len(ALL)


def test_every_check_is_to_find_something() -> None:
    """There is no check that no failure of the corpus is for; companions do not count."""
    assert {case.check for case in CASES if not case.missed} >= CHECKS - {"in-flight", "kinds-current"}


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_a_case_says_who_finds_it_and_where_it_was_published(case: Case) -> None:
    """Thread, check, companions, step and evidence are ones that there are."""
    assert THREAD.fullmatch(case.thread)
    assert case.check in CHECKS
    assert set(case.companions) <= CHECKS - {case.check}
    assert case.step in STEPS
    assert case.needs in NEEDS


@pytest.mark.parametrize("each", ALL, ids=_name)
def test_edits_fit_the_bundle_and_leave_valid_python(each: Case | Harmless, tmp_path: Path) -> None:
    """Every edited text is there exactly once, something changes, and what is Python still compiles."""
    assert (ROOT / "stacks" / f"{each.environment}.py").exists()
    for kind in ("base", "edits"):
        edits = getattr(each, kind, ())
        for file in _changed(edits, tmp_path / kind):
            assert file.read_text() != (ROOT / file.relative_to(tmp_path / kind)).read_text()
            if file.suffix == ".py":
                compile(file.read_text(), file.name, "exec")


def test_each_is_published_where_it_belongs() -> None:
    """The page of the corpus has every case, with its thread and check, found or missed, and every harmless change."""
    page = (ROOT / "docs" / "reference" / "corpus.md").read_text()
    _, *sections = re.split(r"^## .*$", page, flags=re.MULTILINE)
    listed = [sorted(re.findall(r"^(?:\| \[|- )(.*)$", section, flags=re.MULTILINE)) for section in sections]
    start = {case.name: f"{case.title}]({case.thread}) | `{case.check}` | " for case in CASES}
    assert listed == [
        sorted(f"{start[case.name]}{case.step} |" for case in CASES if not case.missed),
        sorted(f"{start[case.name]}{case.missed} |" for case in CASES if case.missed),
        sorted(each.title for each in HARMLESS),
    ]


def test_a_text_that_is_not_there_once_is_refused(tmp_path: Path) -> None:
    """An edit that fits twice or not at all says so, and changes nothing."""
    file = tmp_path / "values.yaml"
    file.write_text("replicas: 1\nreplicas: 1\n")
    with pytest.raises(ValueError, match="is there 2 times; accepted: once"):
        apply([Edit(file="values.yaml", old="replicas: 1", new="replicas: 2")], tmp_path)
    with pytest.raises(ValueError, match="is there 0 times; accepted: once"):
        apply([Edit(file="values.yaml", old="replicas: 3", new="replicas: 2")], tmp_path)
    assert file.read_text() == "replicas: 1\nreplicas: 1\n"
