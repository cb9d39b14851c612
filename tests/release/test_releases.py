"""Releases of a real repository: the same commit gives the same file, and what was changed since is found."""

import dataclasses as dc
import datetime as dt
import shutil
from pathlib import Path

import pytest

from infra import paths
from infra.errors import BadInput, CouldNotRun, RunFailed
from infra.release import canonical, releases, signatures
from infra.release.releases import Difference, Release
from tests.release import bundle
from tests.release.bundle import commit, git, key, kiban, replace

AT = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
MODEL = f"""
- name: digits
  team: vision
  version: 3
  uri: s3://example-ml-prod-vision/m/model.pkl
  digest: {64 * "a"}
  runtime: kserve-sklearnserver
  format: sklearn
  canary: {{version: 4, uri: "s3://example-ml-prod-vision/m/next.pkl", digest: {64 * "b"}}}
"""


def say(_: str) -> None:
    """Take a line of progress."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a repository with this bundle, of one commit, once."""
    return bundle.bundle(tmp_path_factory.mktemp("release") / "original")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cache that the tests share: a commit is unpacked once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def root(original: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of it that is this process' checkout."""
    made = tmp_path / "checkout"
    shutil.copytree(original, made)
    monkeypatch.setattr(paths, "ROOT", made)
    monkeypatch.setenv("KIBAN_CACHE", str(cache))
    monkeypatch.setenv("KIBAN_HOME", str(tmp_path / "home"))
    return made


def messages(root: Path, release: Release, *, signed: bool = False, at: dt.datetime = AT) -> list[str]:
    """What `verify` finds, a line a finding."""
    return [f"{each.what}: {each.message}" for each in releases.verify(root, release.id, say, at=at, signed=signed)]


def test_the_same_commit_gives_the_same_bytes(root: Path) -> None:
    """Cut twice, by whichever name, also where it was never cut before; nothing is left but the file."""
    said: list[str] = []
    first = releases.cut(root, "HEAD", said.append)
    file = releases.file(root, first.id)
    before = file.read_bytes(), file.stat().st_mtime_ns
    assert releases.cut(root, first.commit, said.append) == first
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    assert said[-1] == f"release {first.id}: was cut before, and is the same"
    file.unlink()
    assert releases.cut(root, "HEAD", said.append) == first
    assert file.read_bytes() == before[0]
    assert git(root, "status", "--porcelain") == "?? releases/"
    assert messages(root, first) == []


def test_a_release_is_named_after_its_commits_day_and_its_digest(root: Path) -> None:
    """The day in UTC: the commit is of 23:30 two hours west of it."""
    release = releases.cut(root, "HEAD", say)
    document = canonical.decode(releases.file(root, release.id).read_bytes())
    del document["id"]
    assert release.digest == canonical.digest(document)
    assert release.id == f"r20260302-{release.digest[:12]}"


def test_a_release_is_of_the_commit_alone(root: Path) -> None:
    """Releases, records, documents and tests are no part of what it consists of; the commit is."""
    first = releases.cut(root, "HEAD", say)
    (root / "releases" / "record").mkdir()
    (root / "releases" / "record" / "1.json").touch()
    (root / "docs" / "more.md").touch()
    commit(root)
    second = releases.cut(root, "HEAD", say)
    assert second.contents == first.contents
    assert second.commit != first.commit
    assert second.digest != first.digest


def test_each_kind_of_change_is_named(root: Path) -> None:
    """Charts, program, values, upstream, images, models and tools: what was added, removed and changed."""
    first = releases.cut(root, "HEAD", say)
    (root / "charts" / "new").mkdir()
    (root / "charts" / "new" / "values.yaml").touch()
    shutil.rmtree(root / "charts" / "retraining")
    replace(root / "charts" / "models" / "values.yaml", "\n", " \n")
    replace(root / "charts" / "upstream.yaml", "    images: [registry.k8s.io/kueue/kueue:v0.19.2]", "    images: [a:1]")
    replace(root / "charts" / "upstream.yaml", "  argo:\n", "  argo-again:\n")
    replace(root / "infra" / "toolchain" / "modules" / "kueue" / "go.sum", "v0.19.2 h1:mPNz", "v0.19.2 h1:aaaa")
    replace(root / "infra" / "toolchain" / "catalogue.py", '"0.19.2"', '"0.19.3"')
    replace(root / "infra" / "toolchain" / "catalogue.py", 'name="kwok"', 'name="kwok2"')
    replace(root / "stacks" / "staging.py", "grafana=True", "grafana=False")
    replace(root / "stacks" / "models.yaml", "\nprod: []", f"\nprod: {MODEL}")
    replace(root / "uv.lock", 'name = "pulumi"\nversion = "3', 'name = "pulumi"\nversion = "4')
    commit(root)
    second = releases.cut(root, "HEAD", say)
    found = releases.differences(first.contents, second.contents)
    assert [each.now for each in found if each.kind == "models"] == [
        {
            "version": "3",
            "uri": "s3://example-ml-prod-vision/m/model.pkl",
            "digest": 64 * "a",
            "canary": {"version": "4", "uri": "s3://example-ml-prod-vision/m/next.pkl", "digest": 64 * "b"},
        }
    ]
    by_kind: dict[str, set[tuple[str, str]]] = {}
    for each in found:
        by_kind.setdefault(each.kind, set()).add((each.change, each.name))
    assert ("changed", "docker.io/grafana/grafana:12.3.0") in by_kind["images"]
    assert {each for each in by_kind.pop("images") if each[0] != "changed"} == {
        ("added", "a:1"),
        ("removed", "registry.k8s.io/kueue/kueue:v0.19.2"),
        ("added", "docker.io/kserve/sklearnserver:v0.20.0"),
    }
    assert by_kind == {
        "charts": {("added", "new"), ("removed", "retraining"), ("changed", "models"), ("changed", "upstream.yaml")},
        "program": {("changed", "infra"), ("changed", "uv.lock")},
        "environments": {("changed", "staging"), ("changed", "prod")},
        "upstream": {("changed", "charts/kueue"), ("removed", "crds/argo"), ("added", "crds/argo-again")},
        "models": {("added", "prod/vision/digits")},
        "tools": {
            ("changed", "kueue"),
            ("removed", "kwok"),
            ("added", "kwok2"),
            ("changed", "pypi/pulumi"),
            ("changed", "uv.lock"),
        },
    }


@pytest.mark.parametrize(
    ("was", "now", "change", "before", "after"),
    [
        (64 * "a", 64 * "b", "changed", 12 * "a", 12 * "b"),
        (None, 64 * "b", "added", "none", 12 * "b"),
        ("1.0", None, "removed", "1.0", "none"),
        ({"tag": "1", "by": ["a", "b"]}, {"tag": "1", "by": ["a"]}, "changed", "by a b", "by a"),
        (
            {"uri": "s3://a", "canary": None},
            {"uri": "s3://a", "canary": {"v": "2"}},
            "changed",
            "canary none",
            "canary v 2",
        ),
    ],
)
def test_a_difference_is_shown_in_short(was: object, now: object, change: str, before: str, after: str) -> None:
    """Of fields those that differ."""
    difference = Difference(kind="a", name="b", was=was, now=now)
    assert (difference.change, difference.before, difference.after) == (change, before, after)


def test_a_tree_with_changes_is_not_cut(root: Path) -> None:
    """Who made them would think them in the release; what is below releases/ is no change."""
    (root / "releases").mkdir()
    (root / "releases" / "more.json").touch()
    releases.cut(root, "HEAD", say)
    (root / "new").touch()
    replace(root / "Pulumi.yaml", "kiban", "kiban2")
    with pytest.raises(BadInput, match=r"2 uncommitted changes that would not be in the release \(Pulumi\.yaml, new\)"):
        releases.cut(root, "HEAD", say)
    assert len(releases.ids(root)) == 1


def test_what_is_no_commit_or_has_no_releases_is_not_cut(root: Path) -> None:
    """Each is said, and nothing is written."""
    with pytest.raises(BadInput, match="'v9' is no commit of this repository"):
        releases.cut(root, "v9", say)
    git(root, "rm", "--quiet", "infra/release/contents.py")
    commit(root)
    with pytest.raises(
        BadInput, match=r"'HEAD' \([0-9a-f]{12}\) is older than `kiban release`; accepted: a commit that"
    ):
        releases.cut(root, "HEAD", say)
    git(root, "revert", "--no-edit", "HEAD")
    replace(root / "stacks" / "prod.py", "storage_gib=500", "storage_gib=-1")
    commit(root)
    with pytest.raises(BadInput, match=r"HEAD \([0-9a-f]{12}\): stacks/prod.py: .*storage_gib"):
        releases.cut(root, "HEAD", say)
    assert not (root / "releases").exists()


def test_a_byte_changed_in_a_release_is_found(root: Path) -> None:
    """Whichever; nothing is read of it any more, and cutting does not write over it."""
    release = releases.cut(root, "HEAD", say)
    file = releases.file(root, release.id)
    whole = file.read_bytes()
    for at in range(0, len(whole), 97):
        data = bytearray(whole)
        data[at] ^= 1
        file.write_bytes(data)
        assert [each.what for each in releases.verify(root, release.id, say, at=AT)] == ["file"], f"byte {at}"
    with pytest.raises(RunFailed, match=rf"releases/{release.id}\.json: "):
        releases.known(root)
    with pytest.raises(RunFailed, match="is not what"):
        releases.cut(root, "HEAD", say)
    assert file.read_bytes() == data


def forged(root: Path, release: Release) -> Release:
    """Put a release in place that is consistent in itself, and whose digest is its own."""
    document = {key: value for key, value in release.document.items() if key != "id"}
    digest = canonical.digest(document)
    made = dc.replace(release, digest=digest, id=f"{release.id[:10]}{digest[:12]}")
    canonical.write(releases.file(root, made.id), made.document)
    return made


def test_a_release_that_its_commit_does_not_give_is_found(root: Path) -> None:
    """Each part that is not so is named, though the file is whole and its name is its digest's."""
    release = releases.cut(root, "HEAD", say)
    contents = {kind: dict(names) for kind, names in release.contents.items()}
    contents["charts"]["models"] = 64 * "f"
    contents["tools"].pop("etcd")
    contents["models"]["prod/vision/digits"] = {"version": "3"}
    made = forged(root, dc.replace(release, contents=contents))
    has = release.contents["charts"]["models"][:12]
    assert messages(root, made) == [
        f"charts/models: released ffffffffffff, commit has {has}",
        "models/prod/vision/digits: released version 3, commit has none",
        f"tools/etcd: released none, commit has {release.contents['tools']['etcd']}",
    ]


def test_a_chart_changed_after_the_cut_is_found(root: Path) -> None:
    """By a commit that takes the released one's place."""
    release = releases.cut(root, "HEAD", say)
    replace(root / "charts" / "models" / "values.yaml", "\n", " \n")
    changed = commit(root)
    made = forged(root, dc.replace(release, commit=changed))
    (found,) = messages(root, made)
    assert found.startswith(f"charts/models: released {release.contents['charts']['models'][:12]}, commit has ")


def test_a_chart_changed_where_it_would_be_run_is_found(root: Path, cache: Path) -> None:
    """What is unpacked is compared with the commit before any of it runs."""
    release = releases.cut(root, "HEAD", say)
    file = cache / "versions" / release.commit / "charts" / "models" / "values.yaml"
    text = file.read_text()
    try:
        file.write_text(text + "\n")
        with pytest.raises(CouldNotRun, match=r"is no longer what .* has \(charts/models/values\.yaml\); remove"):
            releases.verify(root, release.id, say, at=AT)
    finally:
        file.write_text(text)


def test_a_release_of_another_day_or_of_no_commit_is_found(root: Path) -> None:
    """The day is no part of the digest, so it is asked of git."""
    release = releases.cut(root, "HEAD", say)
    made = forged(root, dc.replace(release, id=f"r20200101-{release.id[10:]}"))
    assert messages(root, made) == [f"id: released as {made.id}, commit gives {release.id}"]
    made = forged(root, dc.replace(release, commit=40 * "1"))
    (found,) = messages(root, made)
    assert found.startswith(f"commit: '{40 * '1'}' is no commit of this repository")


def test_a_name_is_an_id_or_a_part_of_one(root: Path) -> None:
    """That no other has."""
    first = releases.cut(root, "HEAD", say)
    with pytest.raises(BadInput, match=rf"release 'r2027'; accepted: a release \({first.id}\) or a part of its name"):
        releases.read(root, "r2027")
    commit(root, GIT_COMMITTER_DATE="2026-04-01T12:00:00Z")
    second = releases.cut(root, "HEAD", say)
    assert releases.known(root) == (first, second)
    assert releases.read(root, "r202604") == releases.read(root, second.id[-6:]) == second
    for name in ("r2026", "", "../releases/r"):
        with pytest.raises(BadInput, match=f"release '{name}'; accepted: "):
            releases.read(root, name)


def test_a_signature_is_found_good_missing_or_not(root: Path, tmp_path: Path) -> None:
    """Whose it is, and by the list of the working tree."""
    release = releases.cut(root, "HEAD", say)
    file, ann = releases.file(root, release.id), key(tmp_path / "keys", "ann")
    assert messages(root, release) == []
    assert messages(root, release, signed=True) == ["signature: nobody has signed it"]
    signatures.sign(file, ann, signatures.RELEASE)
    (found,) = messages(root, release)
    assert found.endswith("is not in signers"), found
    (root / "stacks" / "signers").unlink()
    (found,) = messages(root, release)
    assert found == f"signature: {file.name}.sig: nobody may sign: there is no signers"
    bundle.allow(root / "stacks" / "signers", "ann@example.org", ann, 'valid-before="20260701Z"')
    assert messages(root, release, signed=True) == []
    assert releases.signer(root, release, AT) == "ann@example.org"
    (found,) = messages(root, release, at=AT + dt.timedelta(days=31))
    assert found.startswith(f"signature: {file.name}.sig: key has expired")


def test_the_verbs_say_it_all(root: Path, tmp_path: Path) -> None:
    """As documents, with the exit status of what was found."""
    ann = key(tmp_path / "keys", "ann")
    status, document = kiban("release", "cut", "--key", str(ann))
    (item,) = document["items"]
    assert (status, document["schema"]) == (0, "kiban/release-cut/v1")
    assert item["signed_by"].startswith("not valid: ")
    bundle.allow(root / "stacks" / "signers", "ann@example.org", ann)
    replace(root / "charts" / "models" / "values.yaml", "\n", " \n")
    commit(root)
    _, document = kiban("release", "cut")
    second = document["items"][0]
    assert second["signed_by"] is None
    _, document = kiban("release", "list")
    listed = {each["release"]: each["signed_by"] for each in document["items"]}
    assert listed == {item["release"]: "ann@example.org", second["release"]: None}
    _, document = kiban("release", "diff", item["release"], second["release"])
    (change,) = document["items"]
    assert (change["change"], change["kind"], change["name"]) == ("changed", "charts", "models")
    assert change["now"][:12] == change["after"] != change["before"]
    _, document = kiban("release", "show", item["release"])
    assert document["items"][0] == {**item, "signed_by": "ann@example.org"}
    assert {"kind": "tools", "name": "etcd"}.items() <= next(
        each.items() for each in document["items"] if each.get("name") == "etcd"
    )
    assert kiban("release", "verify", item["release"], "--signed")[0] == 0
    status, document = kiban("release", "verify", second["release"], "--signed")
    assert (status, document["items"][0]["finding"]) == (1, "signature")
    status, document = kiban("release", "verify", "r9")
    assert (status, document["error"][:33]) == (2, "release 'r9'; accepted: a release")
