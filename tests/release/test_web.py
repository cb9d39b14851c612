"""The page of all environments, as HTML: what each card says, that it is whole, and that it needs nothing else.

How it looks in a real browser: tests/acceptance/test_status_page.py.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from infra.release import releases, view, web
from infra.release.entry import Begun, Hold, Ref, Verdict, What
from tests.release.history import GATED, released
from tests.release.place import HASH, START, add, begun, ended, repository

NOW = START + timedelta(days=4)
ENVIRONMENTS = ("dev", "staging", "prod")
LADDER = """
rungs:
  - {environment: dev, gates: {}}
  - {environment: staging, after: dev, gates: {soak: 1h, drift: none}}
  - {environment: prod, after: dev, gates: {soak: 30d}}
"""
VOID = {"meta", "br"}
PAST = Verdict(gate="soak", outcome="bypassed", says="1 h of 3 d", reason="INC-42")


class Read(HTMLParser):
    """The page's sections, as texts, by the first heading in each; and the addresses in its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.said: list[str] = []
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what is there."""
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)
        if tag not in {"time", "code", "strong"}:
            self.said.append(" ")

    def handle_endtag(self, tag: str) -> None:
        """Note what ends, which began last."""
        assert self.open.pop() == tag, f"</{tag}>"

    def handle_data(self, data: str) -> None:
        """Note what is to be read."""
        if self.open[-1:] not in (["style"], ["title"]):
            self.said.append(data)

    @property
    def text(self) -> str:
        """All there is to be read."""
        return " ".join("".join(self.said).split())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository in which two environments come after dev."""
    root = repository(tmp_path / "work")
    (root / "stacks" / "ladder.yaml").write_text(LADDER)
    return root


@pytest.fixture
def one(root: Path) -> Ref:
    """A release in it."""
    return released(root, START - timedelta(days=2), message="The first one").ref


@pytest.fixture
def card(root: Path) -> Callable[[str], str]:
    """Return what the card of an environment says, from its name on."""

    def of(environment: str) -> str:
        _, *cards = re.split(r" (?=(?:dev|staging|prod) (?:next|up|held|under|nothing))", made(root).text)
        (found,) = (each for each in cards if each.startswith(environment))
        return found

    return of


def made(root: Path) -> Read:
    """Return the page of a repository, read."""
    return Read(web.page(root, view.standings(root, ENVIRONMENTS, NOW), NOW))


def test_it_is_whole_and_needs_nothing_else(root: Path, one: Ref) -> None:
    """Every element is closed; there is no script, no link, no picture, and no style from elsewhere."""
    add(root, begun(one), ended(1, one))
    page = web.page(root, view.standings(root, ENVIRONMENTS, NOW), NOW)
    read = Read(page)
    assert read.open == []
    assert not read.tags & {"script", "link", "img", "iframe", "object", "embed", "a", "base", "form"}
    assert not {name for name in read.names if name in {"src", "href", "style"} or name.startswith("on")}
    assert "url(" not in page
    assert "@import" not in page


@pytest.mark.parametrize(
    ("whats", "state"),
    [
        ([], "dev next may come no release nothing was promoted yet"),
        (
            [Hold(reason="H")],
            "dev held no release nothing was promoted yet Held since Mon 2026-03-02 09:00 UTC, by Ada: H",
        ),
        (["begun"], "dev under way no release Under way, or cut off: promote"),
        (["begun", "verified"], "dev up to date RELEASE"),
        (["begun", "verified", Hold(reason="H")], "dev held RELEASE"),
        (["begun", "failed"], "dev nothing whole no release runs nothing whole since"),
    ],
)
def test_a_card_says_first_how_it_stands(
    root: Path, one: Ref, card: Callable[[str], str], whats: list[What | str], state: str
) -> None:
    """In words, not by a colour alone."""
    known: dict[str, What] = {
        "begun": begun(one),
        "verified": ended(1, one),
        "failed": ended(1, None, "failed"),
    }
    add(root, *(known[each] if isinstance(each, str) else each for each in whats))
    assert card("dev").startswith(state.replace("RELEASE", one.id))


def test_a_card_says_what_runs_and_what_blocks_what_is_next(root: Path, one: Ref, card: Callable[[str], str]) -> None:
    """With who brought it in, past which gates, of which commit, and until when the next one has to wait."""
    gates = (*(each for each in GATED if each.gate != "soak"), PAST)
    begins = Begun(verb="promote", release=one, base=None, gates=gates, plan=HASH, ladder=HASH)
    add(root, begins, ended(1, one))
    assert " The first one since Mon 2026-03-02 10:00 UTC, by Ada bypass soak: INC-42 " in card("dev")
    assert card("staging").startswith(f"staging next may come no release nothing was promoted yet Next: {one.id}")
    assert "Drift is asked of the cluster" in card("staging")
    assert card("prod").startswith("prod next is blocked no release")
    assert "soak opens Wed 2026-04-01 10:00 UTC it runs in dev for" in card("prod")
    assert "By waiting alone it may come in on Wed 2026-04-01 10:00 UTC" in card("prod")
    assert "Drift is asked" not in card("prod")


def test_a_release_that_failed_there_is_said(root: Path, one: Ref, card: Callable[[str], str]) -> None:
    """Before somebody promotes it once more."""
    two = released(root, START - timedelta(days=1)).ref
    add(root, begun(one), ended(1, one), begun(two, one), ended(3, None, "failed"))
    add(root, begun(one, verb="rollback", because=3), ended(5, one))
    assert f"Next: {two.id} It has failed here before, Mon 2026-03-02 12:00 UTC: entry 3 ends: failed" in card("dev")


def test_the_last_entries_are_there(root: Path, one: Ref) -> None:
    """The newest first, and how many there are besides."""
    for number in range(12):
        add(root, begun(one), ended(2 * number + 1, one))
    text = made(root).text
    assert "dev: 24 entries verified Tue 2026-03-03 08:00 UTC, Ada (entry 24)" in text
    assert "(entry 5)" in text
    assert "(entry 4)" not in text
    assert "4 earlier ones: kiban audit show dev" in text


def test_releases_are_there_with_their_commits(root: Path, one: Ref) -> None:
    """The newest ones and those that run somewhere; one that was changed says so, and keeps the page from nothing."""
    add(root, begun(one), ended(1, one))
    later = [released(root, START + timedelta(days=number)).id for number in range(13)]
    changed = releases.file(root, later[5])
    changed.write_text(changed.read_text().replace("program", "programm"))
    commit = releases.read(root, one.id).commit
    _, text = made(root).text.split(" 13 of 14 releases ")
    assert text.startswith(f"{later[-1]} commit")
    assert later[0] not in text
    assert f"releases/{later[5]}.json: id=" in text
    assert f"{one.id} dev commit {commit[:12]}, Sat 2026-02-28 09:00 UTC, Ada The first one" in text


def test_neighbours_on_the_ladder_are_compared(root: Path) -> None:
    """Each with the one it comes after, which is not the one before it in the file."""
    text = made(root).text
    assert "dev and staging: " in text
    assert "dev and prod: " in text
    assert "staging and prod" not in text
    assert "system_nodes.count 3 6" in text
    assert "gpu_pools.l4 accelerator NVIDIA-L4, gpus_per_node 1" in text
