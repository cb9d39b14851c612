"""Published failures are found by the check that is to find them and no other, and harmless changes by none.

The cases of an environment share a cluster: its base is installed once, and after each case brought back.
"""

import collections
import dataclasses as dc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.rehearsal import places
from infra.rehearsal.play import Play, Request
from infra.versions import Version
from tests.checkout import Checkout, copy_to
from tests.conftest import Record
from tests.rehearsal.cases import Case, Edit, Harmless, apply, cases, harmless

SMALLEST = ("selector-changed", "secret-key-renamed", "one-replica-more")
"""In the small run: two failures and a harmless change."""
CASES: list[Case | Harmless] = sorted(
    (*cases(), *harmless()),
    key=lambda case: (case.environment != "local", case.environment, bool(getattr(case, "base", ())), case.name),
)
FOUND: dict[str, bool] = {}


def say(line: str) -> None:
    """Print a line of progress, which pytest shows where a test fails."""
    print(line)  # noqa: T201


@dc.dataclass
class Stage:
    """A cluster with a base on it. play: None until something is installed. clean: whether the base is what it was."""

    home: Path
    base: Checkout
    candidate: Checkout
    environment: str = ""
    edits: tuple[Edit, ...] = ()
    play: Play | None = None
    before: set[tuple[str, str]] = dc.field(default_factory=set)

    def ready(self, environment: str, edits: tuple[Edit, ...]) -> Play:
        """Return a play whose base is installed: that of the last case where it can be used."""
        if self.play and (self.environment, self.edits) == (environment, edits):
            return self.play
        places.clear(self.home, say)
        restore(self.base)
        apply(edits, self.base.root)
        self.environment, self.edits = environment, edits
        request = Request(environment=environment, base="base", candidate="candidate")
        self.play = Play(request, self.old, Version(root=self.candidate.root, title="candidate"), self.home, say)
        self.play.begin(self.old)
        self.play.install(self.old)
        self.before = found(self.play, "install")
        return self.play

    @property
    def old(self) -> Version:
        """The base."""
        return Version(root=self.base.root, title="base")

    def new(self, case: Case | Harmless) -> Version:
        """The candidate of a case."""
        restore(self.candidate)
        apply(case.edits, self.candidate.root)
        return Version(root=self.candidate.root, title=case.name)


def restore(checkout: Checkout) -> None:
    """Make the files of a checkout those of the bundle again."""
    for folder in ("charts", "components", "infra", "pipelines", "stacks"):
        shutil.rmtree(checkout.root / folder, ignore_errors=True)
    copy_to(checkout.root)


def found(play: Play, step: str) -> set[tuple[str, str]]:
    """Return the ids of the checks that found something in a step, each with the object."""
    outcomes = play.outcomes.get(step, {})
    return {(check, each.object) for check, outcome in outcomes.items() for each in outcome.findings}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Yield the cluster, and take it down."""
    folder = tmp_path_factory.mktemp("corpus")
    base, candidate = (copy_to(folder / name) for name in ("base", "candidate"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KIBAN_HOME", str(folder / "home"))
        patched.setenv("KIBAN_PATIENCE", "60")
        with places.home("corpus", say) as home, places.within(home):
            yield Stage(home=home, base=base, candidate=candidate)


def selected() -> list[object]:
    """Return a parameter a case; those that the small run leaves out are marked."""
    return [pytest.param(case, id=case.name, marks=() if case.name in SMALLEST else pytest.mark.full) for case in CASES]


@pytest.mark.parametrize("case", selected())
def test_a_case_is_found_by_its_check(stage: Stage, case: Case | Harmless) -> None:
    """And by its companions at most; after the rollback the base is as it was."""
    play = stage.ready(case.environment, case.base if isinstance(case, Case) else ())
    stage.play = None  # where this case does not come to its end, the next one begins with a new cluster
    new = stage.new(case)
    play.outcomes.clear()
    step = case.step if isinstance(case, Case) else "second up"
    if play.step("upgrade", new).ok and step == "second up":
        play.step("second up", new, judged=False)
    if step == "destroy":
        play.destroy()
    else:
        play.step("rollback", stage.old, judged=step == "rollback")
    findings = {
        (check, step, each.object, each.message)
        for step, outcomes in play.outcomes.items()
        for check, outcome in outcomes.items()
        for each in outcome.findings
        if (check, each.object) not in stage.before
    }
    steps, checks = {step for _, step, _, _ in findings}, {check for check, *_ in findings}
    if not {"rollback", "destroy"} & steps and "stateful" not in checks:
        stage.play = play
    listed = "\n".join(map(str, sorted(findings)))
    if isinstance(case, Harmless):
        assert not findings, listed
        return
    caught = any(
        check == case.check and step == case.step and case.object in what and case.message in message
        for check, step, what, message in findings
    )
    FOUND[case.name] = caught
    if case.missed:
        assert not caught, f"it is found: {case.missed} no longer holds"
        return
    assert caught, f"{case.check} does not find it; found is:\n{listed}"
    undeclared = {check for check, *_ in findings} - {case.check, *case.companions}
    assert not undeclared, listed


@pytest.mark.full
def test_recall(record: Record) -> None:
    """How many of the published failures are found; those that are missed are named."""
    missed = sorted(name for name, caught in FOUND.items() if not caught)
    count = collections.Counter(FOUND.values())
    record(
        line="8.2 recall",
        evidence="executed",
        figure=f"{count[True]} of {len(FOUND)}" + (f"; missed: {', '.join(missed)}" if missed else ""),
        goal="printed",
        command="./kiban test --full tests/acceptance/test_corpus.py",
    )
    assert len(FOUND) >= 30
