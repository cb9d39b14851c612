"""What the tree consists of: complete, the same wherever it is, and nothing that a run has left in it."""

import hashlib
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import stacks
from infra import charts, paths, toolchain
from infra.errors import BadInput
from infra.release.contents import contents, tree_digest
from tests.checkout import copy_to

DIGEST = "sha256:" + 64 * "a"


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """The contents of these sources."""
    return contents(paths.ROOT)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of these sources."""
    copy_to(tmp_path)
    return tmp_path


def test_every_file_that_runs_is_in_a_digest(told: dict[str, Any]) -> None:
    """Whatever git has is in one part, but for documents, tests, what clusters are made of, and who may promote."""
    listed = subprocess.run(["git", "ls-files"], cwd=paths.ROOT, capture_output=True, text=True, check=True).stdout
    parts = {*(f"charts/{name}" for name in told["charts"]), *set(told["program"]) - {"stacks"}}
    own = {f"stacks/{path}" for name in told["environments"] for path in (f"{name}.py", f"Pulumi.{name}.yaml")}
    left = {
        path
        for path in listed.splitlines()
        if not any(path == part or path.startswith(f"{part}/") for part in {*parts, *own, "stacks/models.yaml"})
        and not re.match(r"stacks/_[^/]*\.py|(docs|tests|\.ci|\.github|releases|stacks/clusters)/", path)
    }
    assert left - {"stacks/ladder.yaml", "stacks/signers"} == {".gitignore", "LICENSE", "README.md"}


def test_a_digest_is_what_anybody_can_recompute(told: dict[str, Any]) -> None:
    """With find and sha256sum."""
    files = "find . -name __pycache__ -prune -o -type f -printf '%P\\0'"
    script = f"{files} | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    for name in ("charts/models", "infra"):
        done = subprocess.run(
            ["bash", "-c", script], cwd=paths.ROOT / name, capture_output=True, text=True, check=True
        ).stdout
        part, _, folder = name.rpartition("/")
        assert told[part or "program"][folder] == done.split()[0]


def test_the_same_sources_elsewhere_are_the_same(told: dict[str, Any], tree: Path) -> None:
    """Also after a run has left what it leaves."""
    for folder in ("infra", "charts", "charts/models", "stacks"):
        (tree / folder / "__pycache__").mkdir()
        (tree / folder / "__pycache__" / "left.pyc").touch()
    (tree / ".venv").mkdir()
    (tree / "releases").mkdir()
    (tree / "releases" / "a.json").touch()
    assert contents(tree) == told


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("charts/models/values.yaml", ("charts", "models")),
        ("charts/upstream.yaml", ("charts", "upstream.yaml")),
        ("infra/toolchain/modules/kueue/go.sum", ("program", "infra")),
        ("components/scripts/canary.py", ("program", "components")),
        ("pipelines/reference/workflow.yaml", ("program", "pipelines")),
        ("kiban", ("program", "kiban")),
        ("stacks/_schema.py", ("program", "stacks")),
        ("stacks/__init__.py", ("program", "stacks")),
        ("stacks/prod.py", ("environments", "prod")),
        ("stacks/Pulumi.prod.yaml", ("environments", "prod")),
    ],
)
def test_a_file_is_in_one_part(told: dict[str, Any], tree: Path, path: str, part: tuple[str, str]) -> None:
    """Which is the one that differs where it does."""
    with (tree / path).open("a") as opened:
        opened.write("\n")
    now = contents(tree)
    assert [(kind, name) for kind in told for name in now[kind] if now[kind][name] != told[kind][name]] == [part]


def test_a_listing_tells_a_name_and_a_move(tmp_path: Path) -> None:
    """Not just what is in the files."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "one").write_text("1")
    before = tree_digest(tmp_path / "a")
    assert before == hashlib.sha256(f"{hashlib.sha256(b'1').hexdigest()}  b/one\n".encode()).hexdigest()
    (tmp_path / "a" / "b" / "one").rename(tmp_path / "a" / "one")
    assert tree_digest(tmp_path / "a") != before


def test_every_image_tool_and_pin_is_named(told: dict[str, Any]) -> None:
    """Those that the verbs `images` and `tools list` print, and all of charts/upstream.yaml."""
    for name in stacks.names():
        named = {image for image, about in told["images"].items() if name in about["environments"]}
        assert named == set(charts.images(stacks.load(name)))
    assert all(about["tag"] and about["tag"] in image for image, about in told["images"].items())
    assert set(told["tools"]) == {*toolchain.TOOLS, "pypi/pulumi", "pypi/pulumi-kubernetes", "uv.lock"}
    pins = yaml.safe_load((paths.ROOT / "charts" / "upstream.yaml").read_text())
    assert set(told["upstream"]) == {f"{section}/{name}" for section in pins for name in pins[section]}
    published = {name: pin for name, pin in told["upstream"].items() if pin["module"] is None}
    assert all(pin["sum"].startswith("h1:") for name, pin in told["upstream"].items() if name not in published)
    assert published.keys() == {"charts/gpu-operator"}
    assert published["charts/gpu-operator"] == {
        "version": "v26.7.0",
        "module": None,
        "sum": None,
        "published": "https://helm.ngc.nvidia.com/nvidia/charts/gpu-operator-v26.7.0.tgz",
    }


def test_no_digest_is_made_up(told: dict[str, Any]) -> None:
    """An image has the one that charts/digests.yaml gives it, else none."""
    given = yaml.safe_load((paths.ROOT / "charts" / "digests.yaml").read_text()) or {}
    assert {image: about["digest"] for image, about in told["images"].items() if about["digest"]} == given


def test_a_digest_that_is_given_is_told(told: dict[str, Any], tree: Path) -> None:
    """Beside the tag."""
    image = next(iter(told["images"]))
    (tree / "charts" / "digests.yaml").write_text(f"{image}: {DIGEST}\n")
    assert contents(tree)["images"][image] == {**told["images"][image], "digest": DIGEST}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"docker.io/nobody/uses:1: {DIGEST}", "docker.io/nobody/uses:1; accepted: an image that `kiban images ENV`"),
        ("docker.io/kserve/agent:v0.20.0: latest", "docker.io/kserve/agent:v0.20.0: 'latest'; accepted: sha256: and"),
        ("- a", "accepted: IMAGE: sha256"),
        ("a: [", "expected the node content"),
    ],
)
def test_what_is_no_digest_of_an_image_is_refused(tree: Path, text: str, why: str) -> None:
    """An image that is named no longer leaves none behind."""
    (tree / "charts" / "digests.yaml").write_text(text)
    with pytest.raises(BadInput, match=re.escape(why)):
        contents(tree)


def test_models_alone_differ_for_their_environment(told: dict[str, Any], tree: Path) -> None:
    """By all their fields, and not by how the file is laid out."""
    models = tree / "stacks" / "models.yaml"
    models.write_text(f"# more\n{models.read_text()}".replace("dev: []", "dev: [{name: a, replicas: {min: 2}}]"))
    now = contents(tree)["environments"]
    assert {name for name in now if now[name] != told["environments"][name]} == {"dev"}
