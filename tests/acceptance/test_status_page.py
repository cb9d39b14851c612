"""The page of `kiban status --web`, opened in a real browser, on a phone and on a desk, by day and by night.

Executed: git, the verb, the browser. docs/images/status.png is the picture that `test_it_is_readable` takes on a desk.
"""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.release import record as records
from infra.release.entry import Begun, By, Check, Ended, Entry, Hold, Lift, Ref, Verdict, What
from tests.acceptance.browser import Page, browser
from tests.checkout import Checkout
from tests.conftest import Record
from tests.release.bundle import allow, bundle, key
from tests.release.history import GATED, LOOKED, released
from tests.release.place import HASH

DAY = dt.timedelta(days=1)
PHONE, DESK = (390, 844), (1280, 800)
LADDER = """
rungs:
  - environment: dev
    gates: {}
  - environment: staging
    after: dev
    gates: {soak: 6h, drift: none}
  - environment: prod
    after: staging
    gates:
      max_age: 30d
      soak: 72h
      rehearsed: true
      approvals: {count: 2}
"""
ANN, BEN = (By(name=name, email=f"{name.lower()}@example.org", host="desk") for name in ("Ann", "Ben"))
BYPASSED = Verdict(
    gate="soak", outcome="bypassed", says="it runs in dev for 2 h of 6 h", reason="INC-42: scoring is down"
)
REFUSED = Check(check="smoke", outcome="failed", evidence="executed", says="the Job of team-ranking waits for quota")
OPENED = "document.querySelectorAll('details').forEach(each => { each.open = true })"
WIDE = """
[...document.querySelectorAll('body *')].filter(each => each.getBoundingClientRect().right > innerWidth + 0.5)
    .map(each => each.outerHTML.slice(0, 80))
"""
SMALL = """
[...document.querySelectorAll('a, button, input, summary')].filter(each => {
    const box = each.getBoundingClientRect()
    return box.height < 44 || box.width < 44
}).map(each => each.outerHTML.slice(0, 80))
"""
FAINT = """
(() => {
    const parts = colour => colour.match(/[0-9.]+/g).map(Number)
    const light = colour => {
        const [r, g, b] = parts(colour).map(each => each / 255)
            .map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b
    }
    const ground = each => {
        const colour = getComputedStyle(each).backgroundColor
        const [, , , alpha = 1] = parts(colour)
        return alpha > 0 || !each.parentElement ? colour : ground(each.parentElement)
    }
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    const found = []
    let looked = 0
    while (walker.nextNode()) {
        const text = walker.currentNode
        if (!text.textContent.trim()) continue
        looked++
        const [a, b] = [light(getComputedStyle(text.parentElement).color), light(ground(text.parentElement))]
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
        if (ratio < 4.5) found.push(`${ratio.toFixed(2)}: ${text.textContent.trim().slice(0, 60)}`)
    }
    return {looked, found}
})()
"""


def begun(release: Ref, base: Ref | None, *bypassed: Verdict) -> Begun:
    """Say that a promotion begins, past these gates."""
    names = {each.gate for each in bypassed}
    gates = (*(each for each in GATED if each.gate not in names), *bypassed)
    return Begun(verb="promote", release=release, base=base, gates=gates, plan=HASH, ladder=HASH)


def verified(number: int, release: Ref) -> Ended:
    """Say that what began there has ended well."""
    return Ended(begun=number, outcome="verified", checks=LOOKED, runs=release)


@pytest.fixture
def repository(tmp_path: Path) -> Checkout:
    """Return a repository with four releases, of which dev runs the third, staging too, and prod the first."""
    root = bundle(tmp_path / "repository")
    (root / "stacks" / "ladder.yaml").write_text(LADDER)
    for name in ("ann", "ben"):
        allow(root / "stacks" / "signers", f"{name}@example.org", key(tmp_path / "keys", name))
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    subjects = ("A queue a team", "Fewer retries", "Scoring is back", "Longer retention")
    at = [now - days * DAY for days in (9, 6, 3, 1)]
    one, two, three, _ = (released(root, when, message=each).ref for when, each in zip(at, subjects, strict=True))
    failed = Ended(begun=3, outcome="failed", checks=(*LOOKED[:3], REFUSED), runs=None)
    back = Begun(verb="rollback", release=one, base=None, gates=(), plan=HASH, ladder=HASH, because=3)
    stories: dict[str, list[tuple[float, By, What]]] = {
        "dev": [
            (8.9, ANN, begun(one, None)),
            (8.8, ANN, verified(1, one)),
            (5.9, ANN, begun(two, one)),
            (5.8, ANN, verified(3, two)),
            (1.9, BEN, begun(three, two)),
            (1.8, BEN, verified(5, three)),
        ],
        "staging": [
            (8.0, ANN, begun(one, None)),
            (7.9, ANN, verified(1, one)),
            (5.0, BEN, begun(two, one)),
            (4.9, BEN, failed),
            (4.9, BEN, back),
            (4.8, BEN, verified(5, one)),
            (1.7, BEN, begun(three, one, BYPASSED)),
            (1.6, BEN, verified(7, three)),
        ],
        "prod": [
            (4.5, ANN, Hold(reason="the auditors are here")),
            (3.5, ANN, Lift(reason="they have left")),
            (3.4, ANN, begun(one, None)),
            (3.3, ANN, verified(3, one)),
            (0.5, BEN, Hold(reason="end of the quarter, until Thursday")),
        ],
    }
    for environment, story in stories.items():
        for days, who, what in story:
            records.append(root, Entry(environment=environment, at=now - days * DAY, by=who, what=what))
    return Checkout(root)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """Yield a page of a browser."""
    with browser(tmp_path / "browser") as opened:
        yield opened


def made(checkout: Checkout, folder: Path) -> Path:
    """Write the page of the repository."""
    file = folder / "status.html"
    checkout.run("status", "--web", str(file))
    return file


def quiet(page: Page, file: Path) -> bool:
    """Whether the page said nothing to the console, and asked for nothing but itself."""
    assert page.said == []
    return set(page.asked) <= {"about:blank", file.as_uri()}


def text(page: Page, selector: str) -> list[str]:
    """Return what is to be read in elements that are to be seen."""
    words: Any = page.run(
        f"[...document.querySelectorAll({selector!r})].filter(each => each.checkVisibility())"
        ".map(each => each.innerText.replace(/\\s+/g, ' '))"
    )
    return list(words)


def test_it_is_readable(repository: Checkout, page: Page, tmp_path: Path, record: Record) -> None:
    """Nothing is wider than the window, every text stands out from its ground, and what is touched is large enough."""
    file = made(repository, tmp_path)
    assert file.read_bytes().count(b"<script") == 0
    texts = 0
    for width, height in (PHONE, DESK):
        page.size(width, height, phone=width == PHONE[0])
        for scheme in ("light", "dark"):
            page.colours(scheme)
            page.open(file)
            (tmp_path / f"status-{width}-{scheme}.png").write_bytes(page.picture())
            page.run(OPENED)
            assert page.run("document.documentElement.clientWidth") == width
            assert page.run("document.documentElement.scrollWidth") <= width
            assert page.run(WIDE) == []
            assert page.run(SMALL) == []
            faint = page.run(FAINT)
            assert faint["found"] == []
            texts = faint["looked"]
            assert page.run("getComputedStyle(document.body).fontSize") == "16px"
    assert texts > 100
    assert quiet(page, file)
    record(
        line="9.6 the page in a browser",
        evidence="executed",
        figure=f"{texts} texts at 390 and 1280 px, light and dark; {file.stat().st_size // 1024} KiB, 1 request",
        goal="opened in a real browser",
        command="kiban status --web FILE",
    )


def test_it_says_what_somebody_on_call_asks(repository: Checkout, page: Page, tmp_path: Path) -> None:
    """What runs where, since when and by whom; what is next, what blocks it and until when; what was done, and why."""
    page.size(*PHONE, phone=True)
    page.open(made(repository, tmp_path))
    dev, staging, prod = text(page, ".rung")
    one, _, three, four = sorted(path.stem for path in (repository.root / "releases").glob("r*.json"))
    assert "next may come" in dev
    assert f"Next: {four} Nothing in the records blocks it" in dev
    assert three in staging
    assert "up to date" in staging
    assert "Scoring is back" in staging
    assert "bypass soak: INC-42: scoring is down" in staging
    assert prod.startswith(f"prod held {one} ")
    assert " A queue a team since " in prod
    assert ", by Ann Held since " in prod
    assert "by Ben: end of the quarter, until Thursday" in prod
    assert [each.split()[0] for each in text(page, ".rung:last-child .gates li")] == [
        "soak",
        "rehearsed",
        "approvals",
        "hold",
    ]
    assert "opens" in text(page, ".rung:last-child .gates li")[0]
    assert "opens" not in text(page, ".rung:last-child .gates li")[1]
    page.run(OPENED)
    (bypass,) = (each for each in text(page, ".entries li") if "INC-42" in each)
    assert bypass.startswith("bypass ")
    (failed,) = (each for each in text(page, ".entries li") if "waits for quota" in each)
    assert failed.startswith("failed ")
    listed = [each for each in text(page, ".entries li") if "commit" in each]
    assert [each.split()[0] for each in listed][::-1] == [one, _, three, four]
    assert "dev staging commit" in listed[1]
    assert "Scoring is back" in listed[1]
    assert "system_nodes.count 3 6" in text(page, "table")[1]


HOSTILE = """</p><script>document.title = 'taken'</script><img src=x onerror="document.title = 'taken'"><b id=own>"""


def test_what_people_write_is_text(repository: Checkout, page: Page, tmp_path: Path) -> None:
    """A name, a reason or a commit's message that is HTML is shown as it was written, and nothing of it runs."""
    root = repository.root
    by = By(name=HOSTILE, email="eve@example.org", host="desk")
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    records.append(root, Entry(environment="dev", at=now, by=by, what=Hold(reason=HOSTILE)))
    released(root, now, message=HOSTILE)
    file = made(repository, tmp_path)
    page.open(file)
    assert page.run("document.title") == "What runs where: Kiban"
    assert page.run("document.querySelectorAll('script, img, #own').length") == 0
    assert page.run("document.body.textContent").count("onerror") >= 4
    assert quiet(page, file)
