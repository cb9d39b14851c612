"""Releases climb from dev to prod as a platform engineer promotes them, on three clusters at once.

Executed: git, ssh-keygen, Pulumi's engine, three API servers. Simulated: every node, and so every pod and Job.
"""

import dataclasses as dc
import datetime as dt
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.clusters.waiting import until
from infra.release import canonical, releases, signatures
from tests.checkout import Checkout, checked_out
from tests.conftest import Record
from tests.release.bundle import LAUNCHER

RUNGS = ("dev", "staging", "prod")
LADDER = """
rungs:
  - environment: dev
    gates: {}
  - environment: staging
    after: dev
    gates: {drift: none}
  - environment: prod
    after: staging
    gates:
      signed: true
      max_age: 30d
      rehearsed: true
      drift: none
      approvals: {count: 1, not_author: true}
      freeze:
        - {from: 2020-01-01T00:00, until: 2020-02-01T00:00, zone: Europe/Berlin, why: FREEZE}
    not_bypassable: [below]
"""
QUOTA = "    return {resource: str(units) for resource, units in sorted(hard.items())}\n"
NO_JOBS = '    if team.name == "ranking":\n        hard["count/jobs.batch"] = 0\n' + QUOTA
"""A team of staging and prod."""
GATES = ("signed", "age", "below", "soak", "rehearsed", "drift", "approvals", "freeze", "hold")


@dc.dataclass
class House:
    """A repository with its releases, and the clusters of its environments."""

    checkout: Checkout
    keys: Path

    def git(self, *words: str, **environ: str) -> str:
        """Run git in the repository."""
        return self.checkout.shell_words("git", *words, expect=0, **environ).stdout.strip()

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a text that a file has once."""
        path = self.checkout.root / file
        text = path.read_text()
        assert text.count(old) == 1, f"{file}: {old!r}"
        path.write_text(text.replace(old, new))

    def commit(self, message: str, at: dt.datetime | None = None) -> None:
        """Commit everything."""
        dates = {name: at.isoformat() for name in ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE")} if at else {}
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message, **dates)

    def cut(self, *words: str) -> str:
        """Cut a release of HEAD and return its id; what is written is committed by the next commit."""
        (item,) = self.checkout.json("release", "cut", *words)["items"]
        return str(item["release"])

    def promote(self, release: str, environment: str, *words: str, expect: int = 0) -> dict[str, Any]:
        """Promote, and return the document."""
        on = ("--on", f"{environment}-stand-in")
        found: dict[str, Any] = self.checkout.json("promote", release, environment, *on, "--yes", *words, expect=expect)
        return found

    def gates(self, release: str, environment: str, *words: str) -> dict[str, dict[str, Any]]:
        """Return what each gate says of a release, without promoting it."""
        on = ("--on", f"{environment}-stand-in", "--dry-run")
        done = self.checkout.run("promote", release, environment, *on, *words, "--json", expect=None)
        return {item["gate"]: item for item in json.loads(done.stdout)["items"] if "gate" in item}

    def failing(self, release: str, environment: str) -> set[str]:
        """Return the gates that keep a release out."""
        found = self.gates(release, environment)
        assert tuple(found) == GATES
        assert all(each["says"] for each in found.values())
        return {name for name, each in found.items() if each["gate_outcome"] == "failed"}

    def runs(self) -> dict[str, str | None]:
        """Return what each environment runs, by the status."""
        return {item["environment"]: item["runs"] for item in self.checkout.json("status")["items"]}

    def record(self, environment: str) -> list[dict[str, Any]]:
        """Return an environment's record, which is whole."""
        self.checkout.run("audit", "verify", environment)
        return list(self.checkout.json("audit", "show", environment)["items"])

    def kubectl(self, environment: str, *words: str) -> str:
        """Run kubectl on an environment's cluster."""
        return self.checkout.kubectl(f"{environment}-stand-in", *words)

    def key(self, name: str) -> Path:
        """Return the SSH key of a person, who may sign from now on."""
        file = self.keys / name
        if not file.exists():
            words = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(file))
            subprocess.run(words, check=True)
            signers = self.checkout.root / "stacks" / "signers"
            signers.write_text(f"{signers.read_text()}{name}@example.org {file.with_suffix('.pub').read_text()}")
        return file

    def as_person(self, name: str) -> None:
        """Be somebody, as git knows people."""
        self.git("config", "user.name", name)
        self.git("config", "user.email", f"{name}@example.org")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Yield a repository without a release, and three clusters."""
    with checked_out(tmp_path_factory.mktemp("house")) as clean:
        clean.environ["KIBAN_NETNS"] = "0"
        made = House(clean, tmp_path_factory.mktemp("keys"))
        (clean.root / "kiban").write_text(LAUNCHER)
        made.git("init", "--quiet", "--initial-branch=main")
        made.as_person("ann")
        (clean.root / "stacks" / "ladder.yaml").write_text(LADDER)
        made.commit("The first version")
        for environment in RUNGS:
            clean.run("cluster", "up", f"{environment}-stand-in", "--env", environment)
        yield made


@pytest.fixture(scope="module")
def first(house: House) -> str:
    """Return the release that runs in every environment; a plain `up` of another version is refused there."""
    release = house.cut("--key", str(house.key("ann")))
    assert house.cut() == release
    house.commit("The first release")
    assert house.failing(release, "prod") >= {"below", "approvals"}
    for environment in ("dev", "staging"):
        assert house.promote(release, environment)["items"][-1] == {"promotion": "verified", "runs": release}
    house.as_person("ben")
    house.checkout.run("approve", release, "prod", "--key", str(house.key("ben")))
    house.as_person("ann")
    assert house.failing(release, "prod") == {"rehearsed"}
    said = house.promote(release, "prod", "--bypass", "rehearsed", "--reason", "the first one has no base")
    assert said["items"][-1] == {"promotion": "verified", "runs": release}
    house.commit("It is everywhere")
    return release


def test_a_release_goes_from_dev_to_prod(house: House, first: str, record: Record) -> None:
    """It is recorded by whom and what each gate said, and a bypass with its reason."""
    assert house.runs() == dict.fromkeys(RUNGS, first)
    begun, ended = house.record("prod")
    assert (begun["kind"], begun["release"]["id"], begun["by"]["email"]) == ("begun", first, "ann@example.org")
    outcomes = {each["gate"]: each["outcome"] for each in begun["gates"]}
    assert outcomes == dict.fromkeys(GATES, "passed") | {"soak": "off", "rehearsed": "bypassed"}
    assert {each["gate"]: each.get("reason") for each in begun["gates"]}["rehearsed"] == "the first one has no base"
    assert {each["check"]: each["outcome"] for each in ended["checks"]}["smoke"] == "passed"
    record(
        line="9.1 dev, staging, prod",
        evidence="executed",
        figure="verified in each, on simulated nodes",
        goal="a release goes up",
        command="kiban promote RELEASE ENV",
    )


def test_what_fails_is_rolled_back_by_itself(house: House, first: str, record: Record) -> None:
    """A release with which a team of staging can run no Job comes up there, and does not pass its verification."""
    house.edit("components/tenancy.py", QUOTA, NO_JOBS)
    house.commit("No Jobs")
    bad = house.cut()
    house.promote(bad, "dev")
    said = house.promote(bad, "staging", expect=1)
    assert said["items"][-1] == {"promotion": "rolled-back", "runs": first}
    (smoke, _) = [item for item in said["items"] if item.get("check") == "smoke"]
    assert smoke["outcome"] == "failed"
    assert "team-ranking" in smoke["says"]
    begun, failed, back, good = house.record("staging")[-4:]
    assert (begun["verb"], back["verb"], back["because"]) == ("promote", "rollback", begun["number"])
    assert (failed["outcome"], failed["runs"], good["outcome"]) == ("failed", None, "verified")
    assert good["runs"]["id"] == first
    assert "count/jobs" not in house.kubectl("staging", "get", "resourcequotas", "--all-namespaces", "--output=json")
    assert "below" in house.failing(bad, "prod")
    house.git("checkout", "--quiet", "HEAD~1", "--", "components")
    house.commit("Jobs again")
    record(
        line="9.1 failed verification",
        evidence="simulated",
        figure="rolled back, and the rollback verified",
        goal="rolled back by itself",
        command="kiban promote RELEASE staging",
    )


def test_each_gate_blocks_in_its_turn(house: House, first: str, record: Record, *, full: bool) -> None:
    """Each that fails says what would let it pass; that done it passes.

    In the full run it is seen that the others still say what they did, and the release is rehearsed and comes in.
    """
    house.edit("stacks/prod.py", 'owner="vision-oncall"', 'owner="vision-on-call"')
    house.commit("Another owner")
    third = house.cut()
    house.kubectl("prod", "label", "namespace", "team-vision", "kiban.dev/owner=somebody", "--overwrite")
    house.edit("stacks/ladder.yaml", "2020-02-01T00:00", "2090-02-01T00:00")
    house.edit("stacks/ladder.yaml", "max_age: 30d", "max_age: 30d\n      soak: 1m")
    house.checkout.run("hold", "prod", "--reason", "the auditors are here")
    closed = {"signed", "below", "soak", "rehearsed", "drift", "approvals", "freeze", "hold"}
    assert house.failing(third, "prod") == closed
    refused = house.promote(third, "prod", expect=2)  # a rung is skipped
    assert "signed: nobody has signed it" in refused["error"]
    assert "the auditors are here" in refused["error"]
    assert house.record("prod")[-1]["kind"] == "hold"

    def opens(gate: str) -> None:
        closed.discard(gate)
        time_alone = {"soak"} - {gate}  # opens by itself, some time after `below`
        if full or closed == {"rehearsed"}:
            assert house.failing(third, "prod") - time_alone == closed - time_alone

    house.checkout.run("release", "cut", "--key", str(house.key("ann")))
    opens("signed")
    for environment in ("dev", "staging"):
        house.promote(third, environment)
    opens("below")
    house.kubectl("prod", "label", "namespace", "team-vision", "kiban.dev/owner=vision-oncall", "--overwrite")
    opens("drift")
    house.as_person("ben")
    house.checkout.run("approve", third, "prod", "--key", str(house.key("ben")))
    house.as_person("ann")
    opens("approvals")
    house.edit("stacks/ladder.yaml", "2090-02-01T00:00", "2020-02-01T00:00")
    opens("freeze")
    house.checkout.run("lift", "prod", "--reason", "they have left")
    opens("hold")
    verified = dt.datetime.fromisoformat(house.record("staging")[-1]["at"])
    until(lambda: dt.datetime.now(dt.UTC) > verified + dt.timedelta(minutes=1), seconds=90, what="the soak", every=1)
    opens("soak")
    assert closed == {"rehearsed"}
    assert house.runs()["prod"] == first
    if full:
        house.checkout.run("rehearse", "prod", "--to", third)
        opens("rehearsed")
        assert house.promote(third, "prod")["items"][-1] == {"promotion": "verified", "runs": third}
    record(
        line="9.1 gates",
        evidence="executed",
        figure=f"8 gates shut at once and opened one by one{'' if full else ', looked at when all were'}",
        goal="blocked by each",
        command="kiban promote RELEASE prod",
    )


def test_an_up_of_something_else_is_refused(house: House, first: str) -> None:
    """Also by the plain program: the cluster knows which release is in force."""
    house.edit("stacks/dev.py", 'owner="language-oncall"', 'owner="language-on-call"')
    try:
        done = house.checkout.run("up", "dev", "--on", "dev-stand-in", expect=2)
        assert "is in force, and this checkout is another" in done.stderr
        shell = 'export PYTHONPATH=$PWD; eval "$(./kiban env dev --on dev-stand-in)"; pulumi --non-interactive '
        done = house.checkout.shell(f"{shell} up --yes --skip-preview", expect=None)
        assert done.returncode != 0
        assert "is in force, and this checkout is another" in done.stdout + done.stderr
        assert "update" in house.checkout.shell(f"{shell} preview").stdout
    finally:
        house.git("checkout", "--quiet", "--", "stacks/dev.py")
    assert first


def test_what_is_no_promotion_is_refused(house: House, first: str, record: Record) -> None:
    """In one line, with status 2, and nothing is changed."""
    before = {environment: house.record(environment) for environment in RUNGS}
    ladder = house.checkout.root / "stacks" / "ladder.yaml"
    kept = ladder.read_text()

    def refused(*words: str, saying: str, ladder_text: str = kept) -> None:
        ladder.write_text(ladder_text)
        try:
            done = house.checkout.run(*words, expect=2)
        finally:
            ladder.write_text(kept)
        assert saying in done.stderr.splitlines()[-1], done.stderr

    on = ("--on", "dev-stand-in", "--yes")
    refused("promote", "r20200101-000000000000", "dev", *on, saying="accepted: a release")
    refused("promote", first, "local", *on, saying="it is on no rung of stacks/ladder.yaml; accepted: dev, staging")
    cycle = kept.replace("environment: dev\n", "environment: dev\n    after: prod\n")
    refused("promote", first, "dev", *on, saying="dev", ladder_text=cycle)
    refused("promote", first, "dev", *on, "--bypass", "below", "--reason", "x", saying="--bypass below")
    refused("promote", first, "dev", *on, "--bypass", "hold", saying="--bypass and --reason")
    house.as_person("eve")
    refused("approve", first, "prod", "--key", str(house.key("ben")), saying="not among those who approve")
    house.as_person("ann")
    after = {environment: house.record(environment) for environment in RUNGS}
    assert after == before
    record(
        line="9.7 bad input",
        evidence="executed",
        figure="6 kinds, status 2, nothing changed",
        goal="clear, status 2",
        command="kiban promote, approve",
    )


def swapped(house: House, file: Path, plan: str) -> str:
    """Swap a reviewed plan and return what applying it says."""
    text = file.read_text()
    file.write_text(text.replace("kiban.dev/owner", "kiban.dev/other", 1))
    words = ("--plan", str(file), "--reviewed", plan)
    release = house.runs()["dev"]
    assert release
    return str(house.promote(release, "dev", *words, expect=1)["error"])


def test_a_plan_that_was_swapped_is_not_applied(house: House, first: str, tmp_path: Path, record: Record) -> None:
    """What was reviewed is known by its digest."""
    assert first
    release = house.runs()["dev"]
    assert release
    file = tmp_path / "plan.json"
    on = ("--on", "dev-stand-in", "--dry-run", "--save-plan", str(file))
    (plan,) = (item for item in house.checkout.json("promote", release, "dev", *on)["items"] if "plan" in item)
    before = house.record("dev")
    assert "is not the plan that was reviewed" in swapped(house, file, plan["plan"])
    assert house.record("dev") == before
    record(
        line="9.2 plan swapped",
        evidence="executed",
        figure="refused",
        goal="refused",
        command="kiban promote --plan FILE --reviewed SHA256",
    )


def entry(house: House, environment: str, number: int) -> Path:
    """Return an entry's file; a negative number counts from the last."""
    files = sorted((house.checkout.root / "releases" / "record" / environment).glob("*.json"))
    return files[number - 1 if number > 0 else number]


def byte_changed(house: House) -> None:
    """Another name is put into an entry."""
    file = entry(house, "dev", 1)
    file.write_text(file.read_text().replace('"name": "ann"', '"name": "eve"'))


def entry_dropped(house: House) -> None:
    """One is taken out of the middle."""
    entry(house, "dev", 2).unlink()


def last_dropped(house: House) -> None:
    """The last promotion is taken out, so that the chain is whole."""
    for number in (-1, -1):
        entry(house, "dev", number).unlink()


def entries_swapped(house: House) -> None:
    """Two change places."""
    one, other = entry(house, "dev", 1), entry(house, "dev", 2)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def entry_copied(house: House) -> None:
    """Another environment's takes one's place."""
    entry(house, "dev", 1).write_bytes(entry(house, "staging", 1).read_bytes())


def release_edited(house: House) -> None:
    """A digest in the release's file becomes another."""
    file = releases.file(house.checkout.root, str(house.runs()["dev"]))
    document = json.loads(file.read_text())
    document["contents"]["charts"]["models"] = "0" * 64
    file.write_bytes(canonical.encode(document))


RECORD = {
    "a byte changed": (byte_changed, "altered|does not follow"),
    "an entry dropped": (entry_dropped, "missing"),
    "the last entries dropped": (last_dropped, "the cluster has seen entry"),
    "entries reordered": (entries_swapped, "put in another's place"),
    "an entry copied": (entry_copied, "copied from the record of staging"),
    "a release edited": (release_edited, "it was changed"),
}
SMALLEST = ("a byte changed", "the last entries dropped")


@pytest.mark.parametrize(
    "attack", [pytest.param(name, marks=() if name in SMALLEST else pytest.mark.full) for name in RECORD]
)
def test_an_attack_on_the_record_is_found(house: House, first: str, attack: str, record: Record) -> None:
    """Nothing is promoted on such a record, and nothing is changed."""
    assert first
    house.commit("before the attack")
    change, said = RECORD[attack]
    release = str(house.runs()["dev"])
    change(house)
    try:
        done = house.checkout.run("promote", release, "dev", "--on", "dev-stand-in", "--yes", expect=None)
    finally:
        house.git("checkout", "--quiet", "HEAD", "--", "releases")
    assert done.returncode in (1, 2)
    assert re.search(said, done.stderr), done.stderr
    record(line=f"9.2 {attack}", evidence="executed", figure="refused", goal="refused", command="kiban promote")


@pytest.mark.full
def test_a_forged_release_is_found(house: House, first: str, record: Record) -> None:
    """One that says of a chart what its commit has not, under a name that fits what it says."""
    true = releases.read(house.checkout.root, first)
    charts = {**true.contents["charts"], "models": "0" * 64}
    forged = {"schema": releases.SCHEMA, "commit": true.commit, "contents": {**true.contents, "charts": charts}}
    name = f"{first[:10]}{canonical.digest(forged)[:12]}"
    file = releases.file(house.checkout.root, name)
    canonical.write(file, {"id": name, **forged})
    try:
        assert "charts/models: released 000000000000" in str(house.promote(name, "dev", expect=1)["error"])
    finally:
        file.unlink()
    record(line="9.2 a chart changed", evidence="executed", figure="refused", goal="refused", command="kiban promote")


@pytest.mark.full
def test_a_forged_approval_does_not_count(house: House, first: str, record: Record) -> None:
    """Somebody else's signature under the name of one who may approve."""
    house.edit("stacks/prod.py", 'owner="ranking-oncall"', 'owner="ranking-on-call"')
    house.commit("Another owner yet")
    release = house.cut()
    file = house.checkout.root / "releases" / "approvals" / "prod" / release / "ben@example.org.json"
    other = next(file.parent.parent.glob(f"{first}/*.json"))
    document = json.loads(other.read_text())
    document["release"] = {"id": release, "digest": releases.read(house.checkout.root, release).digest}
    canonical.write(file, document)
    stranger = house.keys / "stranger"
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stranger)), check=True)
    signatures.sign(file, stranger, signatures.APPROVAL)
    said = house.gates(release, "prod")["approvals"]
    assert said["gate_outcome"] == "failed"
    assert "is not in signers" in said["says"]
    record(line="9.2 a forged approval", evidence="executed", figure="refused", goal="refused", command="kiban promote")


POINTS = 20
HIT: list[int] = []


def next_of_dev(house: House) -> str:
    """Return a release that has another owner of a team in dev than the one before."""
    owner = re.search(r'owner="(platform-[\w-]+)"', (house.checkout.root / "stacks" / "dev.py").read_text())
    assert owner
    house.edit("stacks/dev.py", f'owner="{owner[1]}"', f'owner="platform-{time.time_ns()}"')
    house.commit("Another owner in dev")
    return house.cut()


@pytest.fixture(scope="module")
def takes(house: House, first: str) -> float:
    """Return how many seconds a promotion to dev takes that nobody kills."""
    assert first
    release = next_of_dev(house)
    began = time.monotonic()
    house.promote(release, "dev")
    return time.monotonic() - began


@pytest.mark.full
@pytest.mark.parametrize("point", range(1, POINTS + 1))
def test_a_promotion_that_was_killed_goes_on(house: House, takes: float, point: int) -> None:
    """Nothing of two releases is mixed, and the record tells what happened."""
    release = next_of_dev(house)
    words = ("./kiban", "promote", release, "dev", "--on", "dev-stand-in", "--yes")
    process = subprocess.Popen(
        words,
        cwd=house.checkout.root,
        env=house.checkout.variables(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(takes * point / (POINTS + 1))
    if process.poll() is None:
        HIT.append(point)
    process.kill()
    process.wait()
    assert house.promote(release, "dev")["items"][-1]["runs"] == release
    entries = house.record("dev")
    assert entries[-1]["runs"]["id"] == release
    assert len([each for each in entries if each["kind"] == "begun" and each["release"]["id"] == release]) == 1
    house.checkout.run("drift", "dev", "--on", "dev-stand-in")
    assert house.promote(release, "dev")["items"][-1] == {"promotion": "in force", "runs": release}


@pytest.mark.full
def test_most_kills_hit(record: Record) -> None:
    """A promotion that is over before it is killed shows nothing."""
    record(
        line="9.3 kill -9 of promote",
        evidence="executed",
        figure=f"{len(HIT)} of {POINTS} hit; all went on, none mixed",
        goal="20 points",
        command="kiban promote, killed, and again",
    )
    assert len(HIT) >= POINTS * 3 // 4
