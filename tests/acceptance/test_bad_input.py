"""Bad input: one line that says what was given, what is accepted and what to do; status 2; nothing changed."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkout import Checkout
from tests.conftest import Record

POOL = 'GpuPool(name="a100", accelerator="NVIDIA-A100-SXM4-80GB", nodes=2, gpus_per_node=8)'


def snapshot(checkout: Checkout) -> set[str]:
    """Return every file of the checkout but its virtual environment and compiled Python."""
    skipped = {".venv", "__pycache__"}
    return {str(p) for p in checkout.root.rglob("*") if not skipped & set(p.relative_to(checkout.root).parts)}


@pytest.fixture
def edited(checkout: Checkout) -> Iterator[Checkout]:
    """Return the checkout, whose files are put back after the test edited them."""
    kept = checkout.root.parent / "kept"
    shutil.copytree(checkout.root, kept, ignore=shutil.ignore_patterns(".venv", "__pycache__"), dirs_exist_ok=True)
    checkout.run("--version")
    yield checkout
    shutil.copytree(kept, checkout.root, dirs_exist_ok=True)
    shutil.rmtree(kept)


def refused(checkout: Checkout, *words: str, **environ: str) -> str:
    """Run `./kiban WORDS`, require status 2, one line and no change, and return the line."""
    before = snapshot(checkout)
    done = checkout.run(*words, expect=2, **environ)
    lines = [line for line in done.stderr.splitlines() if line.startswith("kiban: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert snapshot(checkout) == before
    return lines[0]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (POOL, POOL.replace("nodes=2", "nodes=-1"), ("'a100'", "nodes=-1", "0 to 5000")),
        (POOL, POOL.replace("nodes=2", "min_nodes=3, max_nodes=1"), ("'a100'", "max_nodes=1", "min_nodes=3 or more")),
        (POOL, POOL.replace("A100-SXM4-80GB", "X9"), ("'a100'", "NVIDIA-X9", "NVIDIA-L4")),
        ('mig_profile="1g.10gb"', 'mig_profile="2g.99gb"', ("'a100-mig'", "2g.99gb", "3g.40gb")),
        ("time_slices=4", 'mig={"1g.10gb": 1}', ("'l4-shared'", "mig['1g.10gb']=1", "none: NVIDIA-L4 has no MIG")),
        (
            'mig_profile="1g.10gb"',
            'mig={"3g.40gb": 2, "1g.10gb": 1}',
            ("'a100-mig'", "mig={'3g.40gb': 2, '1g.10gb': 1}", "such as {'3g.40gb': 2} or"),
        ),
        ('name="a100-mig"', 'name="a100"', ("'a100' is the name of two pools",)),
        ('"a100": 8, "l4-shared"', '"a100": 17, "l4-shared"', ("'language'", "17", "0 to 16")),
        ('"a100": 8, "l4-shared": 8', '"a100": 8', ("'l4-shared'", "no team has any of its 16 nvidia.com/gpu.shared")),
        (POOL, POOL.replace("8)", "8, source=())"), ("'a100'", "source=()", "one source, of Existing(...)")),
    ],
    ids=[
        "negative",
        "max-below-min",
        "unknown-accelerator",
        "foreign-mig-profile",
        "no-mig",
        "mix-that-does-not-fit",
        "two-of-one-name",
        "quota",
        "nobodys",
        "not-one-source",
    ],
)
def test_bad_values_in_an_environment(edited: Checkout, old: str, new: str, said: tuple[str, ...]) -> None:
    """An environment's file that says something impossible is refused before anything is started."""
    path = edited.root / "stacks" / "local.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    line = refused(edited, "up", "local")
    assert "stacks/local.py" in line
    for words in said:
        assert words in line


def test_unknown_environment(edited: Checkout) -> None:
    """An environment that does not exist is named beside those that do."""
    line = refused(edited, "up", "production")
    assert "'production'" in line
    assert "ci, dev, local, prod, staging" in line


def test_another_cluster_than_the_environments(edited: Checkout, tmp_path: Path) -> None:
    """A cluster whose kube-system namespace has another UID than the environment's data says is refused."""
    try:
        edited.run("cluster", "up", "other", KIBAN_REAL_NODE="0")  # a node that starts pods changes files of its own
        kubeconfig = Path(edited.run("cluster", "kubeconfig", "other").stdout.strip())
        renamed = tmp_path / "kubeconfig"
        renamed.write_text(kubeconfig.read_text().replace("kiban-other", "ml-dev"))
        line = refused(edited, "up", "dev", KUBECONFIG=str(renamed))
        assert "00000000-0000-0000-0000-000000000000" in line
        assert "ml-dev" in line
    finally:
        edited.run("cluster", "down", "other")


def test_a_module_whose_checksum_does_not_match(edited: Checkout) -> None:
    """A pinned module that is not what go.sum says is never built."""
    sums = edited.root / "infra/toolchain/modules/kind/go.sum"
    lines = sums.read_text().splitlines()
    target = next(i for i, line in enumerate(lines) if line.startswith("sigs.k8s.io/kind v") and "/go.mod" not in line)
    module, version, _ = lines[target].split()
    lines[target] = f"{module} {version} h1:{'A' * 43}="
    sums.write_text("\n".join(lines) + "\n")
    line = refused(edited, "tools", "build", "kind", KIBAN_OFFLINE="1")
    assert "sigs.k8s.io/kind" in line
    assert "checksum" in line


def test_go_missing_offline(edited: Checkout, tmp_path: Path) -> None:
    """Without Go and without a network there is nothing to build with, and the message says both."""
    path = tmp_path / "bin"
    path.mkdir()
    (path / "python3").symlink_to(Path(sys.executable).resolve())
    (path / "env").symlink_to("/usr/bin/env")
    line = refused(
        edited, "tools", "build", "kind", PATH=str(path), KIBAN_OFFLINE="1", KIBAN_CACHE=str(tmp_path / "cache")
    )
    assert "Go" in line
    assert "KIBAN_OFFLINE" in line


def test_a_full_disk_while_building(edited: Checkout, tmp_path: Path) -> None:
    """A build that cannot be stored is refused, and no half of it stays."""
    cache = tmp_path / "cache"
    cache.mkdir()
    edited.shell(f"mount -t tmpfs -o size=4m tmpfs {cache}")
    try:
        line = refused(edited, "tools", "build", "kind", KIBAN_CACHE=str(cache))
        assert "space" in line
        assert str(cache) in line
        assert not [p for p in cache.rglob("*") if p.is_file() and p.stat().st_size > 1_000_000]
    finally:
        edited.shell(f"umount {cache}")


def test_all_bad_input_was_refused(record: Record) -> None:
    """The lines above are one acceptance line."""
    record(
        line="7 bad input",
        evidence="executed",
        figure="13 cases refused",
        goal="status 2, one line, nothing changed",
        command="pytest tests/acceptance/test_bad_input.py",
    )
