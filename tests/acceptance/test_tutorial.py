"""The tutorial of the three environments, done as a reader does it: every command, in order, and what it prints.

Executed: git, ssh-keygen, Pulumi's engine, three API servers. Simulated: every node, and so every pod and Job. The
clone's `kiban` has the tests' libraries, not a virtual environment a version.
"""

import dataclasses as dc
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkout import ROOT, Checkout
from tests.conftest import Record
from tests.release.bundle import bundle

TUTORIAL = ROOT / "docs" / "tutorial" / "three-environments.md"
REPOSITORY = "https://git.example.org/you/kiban.git"
BLOCK = re.compile(r"^```(\w+)(?: status=(\d))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RELEASE, TIME, DIGEST = r"r\d{8}-[0-9a-f]{12}", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", r"\b[0-9a-f]{12}\b"
EXAMPLE = re.compile(f"{RELEASE}|{TIME}|{DIGEST}|…")
"""What is otherwise for each reader; `…` is what is left out."""


@dc.dataclass(frozen=True)
class Step:
    """A block of commands, the exit status of its last one, and the lines that the text shows of what it prints."""

    commands: str
    status: int
    shown: tuple[str, ...] = ()


def steps() -> list[Step]:
    """Return the tutorial's steps."""
    found: list[Step] = []
    for language, status, block in BLOCK.findall(TUTORIAL.read_text()):
        if language == "sh":
            found.append(Step(block, int(status or 0)))
        else:
            found[-1] = dc.replace(found[-1], shown=tuple(line for line in block.splitlines() if line.strip() != "…"))
    return found


class Reader:
    """Who does the tutorial. An example's id stands for one id of the reader's, wherever it is shown."""

    def __init__(self, folder: Path, git: Path) -> None:
        self.folder, self._ids = folder, dict[str, str]()
        self._state = folder.with_name("state")
        self._state.write_text(f"cd {folder}\n")
        self._shell = Checkout(folder, {"GIT_CONFIG_GLOBAL": str(git)})

    def does(self, step: Step) -> None:
        """Run a step in the shell that the last one left, up to the first command that fails."""
        left = f"export -p > {self._state}; echo \"cd '$PWD'\" >> {self._state}"
        script = f"exec 2>&1; set -ea; . {self._state}\n{step.commands}\n{left}"
        printed = self._shell.shell_words("bash", "-c", script, expect=step.status).stdout.splitlines()
        rest = iter(printed)
        for shown in step.shown:
            text = "\n".join(printed)
            assert any(self._is(line, shown) for line in rest), f"{step.commands}\nnot printed: {shown}\n{text}"

    def _is(self, line: str, shown: str) -> bool:
        """Whether a line is the one that is shown, but for the width of its columns."""
        words = [_spaced(text) for text in EXAMPLE.split(shown)]
        examples = EXAMPLE.findall(shown)
        pattern = "".join(f"{word}{example}" for word, example in zip(words, [*map(_like, examples), ""], strict=True))
        match = re.fullmatch(rf"\s*{pattern}\s*", line)
        if match is None:
            return False
        meant = {one: other for one, other in zip(examples, match.groups(), strict=True) if re.fullmatch(RELEASE, one)}
        same = all(self._ids.get(one, other) == other for one, other in meant.items())
        self._ids |= meant if same else {}
        return same


def _spaced(text: str) -> str:
    return r"\s+".join(re.escape(word) for word in re.split(r"\s+", text))


def _like(example: str) -> str:
    kind = next((each for each in (RELEASE, TIME, DIGEST) if re.fullmatch(each, example)), ".*?")
    return f"({kind})"


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Yield somebody whom git knows, and for whom the tutorial's repository is this bundle as it is."""
    origin = bundle(tmp_path / "origin")
    git = tmp_path / "gitconfig"
    git.write_text(f'[user]\nname = Ann\nemail = ann@example.org\n[url "{origin}"]\ninsteadOf = {REPOSITORY}\n')
    folder = tmp_path / "reader"
    folder.mkdir()
    yield Reader(folder, git)
    clone = Checkout(folder / "platform")
    for cluster in clone.json("cluster", "list")["items"] if clone.root.exists() else ():
        clone.run("cluster", "down", cluster["cluster"], expect=None)


@pytest.mark.full
def test_every_command_does_what_the_text_says(reader: Reader, record: Record) -> None:
    """From the clone to the third environment, and nothing is left of it."""
    began = time.monotonic()
    done = steps()
    for step in done:
        reader.does(step)
    assert not list(reader.folder.iterdir())
    record(
        line="9.8 tutorial",
        evidence="executed",
        figure=f"{len(done)} blocks of commands in {time.monotonic() - began:.0f} s",
        goal="every command",
        command="docs/tutorial/three-environments.md",
    )
