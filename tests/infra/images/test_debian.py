"""Images of Debian: layers that images share, what a failure says, and one that is really built.

But for the real one, mmdebstrap, unshare and apt are shell scripts, and the index of uv is a folder with a wheel.
"""

import dataclasses as dc
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from infra import images, toolchain
from infra.errors import BadInput, CouldNotRun, KibanError, RunFailed
from infra.images import builds, debian, pypi
from infra.images.recipes import (
    BOOKWORM,
    ENVOY,
    MLFLOW,
    SKLEARNSERVER,
    STORAGE_INITIALIZER,
    Debian,
    ModuleFolder,
    Recipe,
)
from infra.system import packages
from infra.toolchain import cache, catalogue
from tests.infra.images.conftest import Archive, quiet
from tests.infra.toolchain.tiny import write_program

POSTGRES = "docker.io/library/postgres:15.20-bookworm"
RECIPE = Recipe(
    reference="example.com/tiny:v1.0.0",
    content=Debian(suite=BOOKWORM, requirements="tiny.txt", space=1),
    version="1.0.0",
    path="/usr/local/bin/tiny",
    source="https://example.com/tiny",
    command=("python3",),
    environment=("HOME=/tmp",),
)
PACKAGES = Debian(suite=BOOKWORM, packages=("tiny=1.0.0*", "git"), prepare=("echo a > first",), space=1)
OF_DEBIAN = dc.replace(RECIPE, content=PACKAGES, user=999)
OTHER = dc.replace(RECIPE, reference="example.com/other:v1.0.0", source="https://example.com/other")
SOURCE = ModuleFolder(family="tiny", module="example.com/m", folder="python", into="/opt/tiny")
OF_MODULE = dc.replace(RECIPE, content=Debian(suite=BOOKWORM, requirements="tiny.txt", module=SOURCE, space=1))
SERVED = """
import json, os, pickle, subprocess, sys, time, urllib.request
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
rows, kinds = load_iris(return_X_y=True)
model = LogisticRegression(max_iter=1000).fit(rows, kinds)
os.mkdir("/tmp/model")
with open("/tmp/model/model.pkl", "wb") as file:
    pickle.dump(model, file)
server = subprocess.Popen(
    [*sys.argv[1:], "--model_name=iris", "--model_dir=/tmp/model"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
)
given = {"name": "rows", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
request = urllib.request.Request(
    "http://127.0.0.1:8080/v2/models/iris/infer",
    json.dumps({"inputs": [given]}).encode(),
    {"Content-Type": "application/json"},
)
while server.poll() is None:
    try:
        answer = json.load(urllib.request.urlopen(request))
        break
    except OSError:
        time.sleep(0.1)
server.terminate()
print(answer["outputs"][0]["data"] == model.predict(rows).tolist())
"""
"""A program that trains a model, serves it with the command that it is given, and compares their predictions."""
MODULES = "usr/local/lib/python3.11/dist-packages"
MIRROR = "http://mirror.example/debian/ bookworm main"


class Machine:
    """Root's, with the programs that an image of Debian takes, as scripts; `calls` are mmdebstrap's."""

    def __init__(self, root: Path) -> None:
        self.bin = root / "bin"
        self.index = root / "index"
        self.index.mkdir()
        self._calls = root / "calls"
        self.program("unshare", 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"')
        self.program("apt-get", "exit 0")
        self.program("apt-config", "echo 'Acquire::Check-Valid-Until \"false\";'")
        self.mmdebstrap("")
        wheel = self._wheel()
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        self.requirements(f"--no-index\n--find-links {self.index}\ntiny==1.0.0 --hash=sha256:{digest}\n")

    @property
    def calls(self) -> list[str]:
        """The arguments of each call of mmdebstrap."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    def program(self, name: str, text: str) -> None:
        """Write a program."""
        write_program(self.bin / name, f"#!/bin/sh\n{text}\n")

    def mmdebstrap(self, first: str) -> None:
        """Make mmdebstrap do something first; then its root file system has a file for each package, and one more."""
        self.program(
            "mmdebstrap",
            f'echo "$*" >> {self._calls}\n{first}\n'
            "for word; do case $word in --include=*) names=${word#--include=} ;; *.tar) target=$word ;; esac; done\n"
            'mkdir -p "$TMPDIR/root/usr"; cd "$TMPDIR/root"\n'
            'for name in $(echo "$names" | tr , " "); do echo "$name" > "usr/$name"; done; echo "$names" > status\n'
            'tar --create --file="$target" --sort=name --mtime=@0 --owner=0 --group=0 .',
        )

    def requirements(self, text: str) -> None:
        """Write what tiny needs."""
        (self.index / "tiny.txt").write_text(text)

    def _wheel(self) -> Path:
        wheel = self.index / "tiny-1.0.0-py3-none-any.whl"
        about = "tiny-1.0.0.dist-info"
        with zipfile.ZipFile(wheel, "w") as made:
            made.writestr("tiny.py", "def main() -> None:\n    print('tiny')\n")
            made.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0.0\n")
            made.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            made.writestr(f"{about}/entry_points.txt", "[console_scripts]\ntiny = tiny:main\n")
            made.writestr(f"{about}/RECORD", "")
        return wheel


@pytest.fixture(name="machine")
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.delenv("KIBAN_OFFLINE")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(packages, "PATH", f"{made.bin}:/usr/bin:/bin")
    monkeypatch.setattr(packages, "DEBIAN_IMAGES", [dc.replace(packages.DEBIAN_IMAGES[0], places=(str(made.bin),))])
    monkeypatch.setattr(pypi, "FOLDER", made.index)
    monkeypatch.setattr(pypi, "_PYTHON", sys.executable)
    return made


def refusal(error: type[KibanError], recipe: Recipe = RECIPE) -> str:
    """The one line in which the build ends."""
    with pytest.raises(error) as caught:
        builds.build(recipe, quiet)
    line = str(caught.value)
    assert "\n" not in line
    return line


def kept(folder: Path) -> list[str]:
    """The archives in the cache, by what they are."""
    return sorted(file.name.partition("-")[0] for file in folder.rglob("*.tar"))


@pytest.mark.usefixtures("machine")
def test_modules_are_compiled() -> None:
    """A pod, which cannot write there, need not do it at every start."""
    layer = Archive(builds.build(RECIPE, quiet)).layer
    assert f"{MODULES}/__pycache__/tiny.{sys.implementation.cache_tag}.pyc" in layer


@pytest.mark.usefixtures("machine")
def test_packages_lie_where_debian_looks_for_them() -> None:
    """Commands are on PATH and modules on Python's, whoever runs them; of root, and of no time."""
    image = Archive(builds.build(RECIPE, quiet))
    assert image.config["Cmd"] == ["python3"]
    assert image.config["Env"] == ["HOME=/tmp"]
    assert image.config["User"] == "65532"
    assert image.layer["usr/local/bin/tiny"].mode == 0o755
    assert image.layer[f"{MODULES}/tiny.py"].mode == 0o644
    assert image.layer[MODULES].isdir()
    assert {(entry.uid, entry.gid, entry.mtime) for entry in image.layer.values()} == {(0, 0, 0)}


def test_images_share_their_base(machine: Machine) -> None:
    """It is made once, and is the same layer in each."""
    first, second = Archive(builds.build(RECIPE, quiet)), Archive(builds.build(OTHER, quiet))
    assert first.digests[0] == second.digests[0]
    assert len(first.digests) == 2
    assert len(machine.calls) == 1


def test_packages_of_debian_are_a_layer_between(machine: Machine, empty: Path) -> None:
    """It has what the base has not, or not so, and is shared too."""
    content = Debian(suite=BOOKWORM, requirements="tiny.txt", space=1, packages=("git",))
    digests = [Archive(builds.build(dc.replace(one, content=content), quiet)).digests for one in (RECIPE, OTHER)]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 3
    assert digests[0][0] == Archive(builds.build(RECIPE, quiet)).digests[0]
    assert len(machine.calls) == 2
    layers = []
    for file in sorted((empty / "images").glob("debian-*.tar"), key=lambda one: one.stat().st_size):
        with tarfile.open(file) as entries:
            layers.append({name for name in entries.getnames() if not name.endswith(("usr", "."))})
    assert {"./status", "./usr/git"} in layers


def test_an_image_can_be_of_debians_packages_alone(machine: Machine) -> None:
    """It has two layers, of which others share the lower, and runs as its own user; its root is prepared first."""
    image = Archive(builds.build(OF_DEBIAN, quiet))
    assert len(image.digests) == 2
    assert image.digests[0] == Archive(builds.build(RECIPE, quiet)).digests[0]
    assert image.config["User"] == "999"
    assert "./usr/tiny=1.0.0*" in image.layer
    plain, own = machine.calls
    hook = '--essential-hook=cd "$1"; echo a > first'
    assert hook in own
    assert hook not in plain


@pytest.fixture(name="module")
def _module(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a family that pins a module, which has a folder of Python."""
    family, python = tmp_path / "modules" / "tiny", tmp_path / "m" / "python"
    for folder in (family, python):
        folder.mkdir(parents=True)
    (python / "serve.py").write_text("print('served')\n")
    (family / "go.mod").write_text("module kiban.dev/tools/tiny\n\ngo 1.26.0\n")
    (family / "go.sum").write_text("example.com/m v1.0.0 h1:first=\nexample.com/m v1.0.0/go.mod h1:other=\n")
    machine.program("go", f"case $1 in env) echo go1.26.9 ;; list) echo {python.parent} ;; esac")
    monkeypatch.setenv("PATH", f"{machine.bin}:{os.environ['PATH']}")
    for owner in (catalogue, debian):
        monkeypatch.setattr(owner, "MODULES", family.parent)
    return family


@pytest.mark.usefixtures("module")
def test_a_folder_of_a_module_is_the_topmost_layer() -> None:
    """It is where the image wants it, upon the layers that other images have too."""
    image, below = (Archive(builds.build(recipe, quiet)) for recipe in (OF_MODULE, RECIPE))
    assert image.digests[:-1] == below.digests
    assert set(image.layer) == {"opt", "opt/tiny", "opt/tiny/serve.py"}


def test_a_module_of_another_checksum_is_another_archive(module: Path) -> None:
    """The checksum that the family pins stands for what is in the module, which need not be here to find an image."""
    builds.build(OF_MODULE, quiet)
    assert builds.cached(OF_MODULE)
    (module / "go.sum").write_text("example.com/m v1.0.0 h1:second=\n")
    assert builds.cached(OF_MODULE) is None


@pytest.mark.usefixtures("machine")
def test_how_a_root_is_prepared_is_another_layer() -> None:
    """A changed command is never taken for the old one."""
    changed = dc.replace(OF_DEBIAN, content=dc.replace(PACKAGES, prepare=()))
    keys = [builds.build(recipe, quiet) for recipe in (OF_DEBIAN, changed)]
    assert keys[0] != keys[1]


def test_the_same_input_gives_the_same_archive(machine: Machine, empty: Path) -> None:
    """Two builds are the same file byte for byte."""
    first = builds.build(RECIPE, quiet)
    content = first.read_bytes()
    for archive in (empty / "images").glob("*.tar"):
        archive.unlink()
    assert builds.build(RECIPE, quiet).read_bytes() == content
    assert len(machine.calls) == 2


def test_other_requirements_are_another_archive(machine: Machine) -> None:
    """A changed file is never taken for the old one, and the base stays."""
    first = builds.build(RECIPE, quiet)
    machine.requirements("# new\n" + (machine.index / "tiny.txt").read_text())
    assert builds.cached(RECIPE) is None
    assert builds.build(RECIPE, quiet) != first
    assert len(machine.calls) == 1


def test_debian_comes_from_where_this_machine_has_it(machine: Machine) -> None:
    """Apt's own mirror of the suite and settings of fetching; none of another suite or of somebody else."""
    machine.program("apt-get", f"echo '{MIRROR}'; echo 'http://mirror.example/debian/ trixie main'")
    builds.build(RECIPE, quiet)
    assert machine.calls[0].endswith(f"] {MIRROR}")
    assert '--aptopt=Acquire::Check-Valid-Until "false";' in machine.calls[0]


def test_elsewhere_debian_comes_from_the_public_mirror(machine: Machine) -> None:
    """A machine without the suite gets it, its updates and its security fixes, signed by Debian's keys."""
    machine.program("apt-get", "echo 'http://mirror.example/ubuntu/ noble main'")
    builds.build(RECIPE, quiet)
    for part in ("debian bookworm", "debian bookworm-updates", "debian-security bookworm-security"):
        assert f"] http://deb.debian.org/{part} main" in machine.calls[0]


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        ("offline", "not in the cache, and KIBAN_OFFLINE=1 forbids fetching it"),
        ("user", "only root can make it; run as root, or make the image's registry reachable"),
        ("KIBAN_NO_APT", "needs mmdebstrap, not all here, and KIBAN_NO_APT=1 forbids installing; "),
    ],
)
def test_where_it_cannot_be_made_one_line_says_why(
    machine: Machine, empty: Path, monkeypatch: pytest.MonkeyPatch, cause: str, said: str
) -> None:
    """The line says what to do, and nothing is run."""
    match cause:
        case "offline":
            monkeypatch.setenv("KIBAN_OFFLINE", "1")
        case "user":
            monkeypatch.setattr(os, "geteuid", lambda: 1000)
        case _:
            monkeypatch.setenv(cause, "1")
            (machine.bin / "mmdebstrap").unlink()
    assert refusal(CouldNotRun).startswith(f"Debian bookworm{':' if cause != 'KIBAN_NO_APT' else ''} {said}")
    assert not machine.calls
    assert not kept(empty)


@pytest.mark.parametrize(
    ("printed", "error", "said"),
    [
        ("E: Unable to locate package nosuch", BadInput, "Unable to locate package nosuch; correct the packages"),
        ("E: Version '15.20*' for 'postgresql-15' was not found", BadInput, "was not found; correct the packages"),
        ("E: Failed to fetch http://deb.example/ Could not connect", CouldNotRun, "have a mirror in apt's"),
        ("tar: ./usr: Cannot write: No space left on device", BadInput, "is full"),
        ("E: cannot mount", RunFailed, "mmdebstrap failed: cannot mount; nothing was kept"),
        ("", RunFailed, "mmdebstrap failed: it said nothing; nothing was kept"),
    ],
)
def test_where_mmdebstrap_fails_nothing_is_kept(
    machine: Machine, empty: Path, printed: str, error: type[KibanError], said: str
) -> None:
    """What it says becomes one line."""
    machine.mmdebstrap(f'echo "{printed}"; exit 1')
    assert said in refusal(error)
    assert not kept(empty)


@pytest.mark.parametrize(
    ("requirements", "error", "said"),
    [
        ("{links}tiny==1.0.0 --hash=sha256:" + 64 * "0", BadInput, "Hash mismatch for `tiny==1.0.0`; correct the pins"),
        ("{links}tiny==1.0.0\nnone==2 --hash=sha256:" + 64 * "0", BadInput, "correct the pins"),
        (
            "--index-url http://127.0.0.1:1/\ntiny==1.0.0 --hash=sha256:" + 64 * "0",
            CouldNotRun,
            "make a Python package index reachable",
        ),
    ],
)
def test_where_uv_fails_the_base_is_kept(
    machine: Machine, empty: Path, requirements: str, error: type[KibanError], said: str
) -> None:
    """A pin that the index does not have, or no index at all: one line; the base is whole and good for others."""
    machine.requirements(requirements.format(links=f"--no-index\n--find-links {machine.index}\n"))
    assert said in refusal(error)
    assert kept(empty) == ["debian"]


def test_a_version_that_the_requirements_do_not_pin_is_refused(machine: Machine) -> None:
    """The recipe's version is what is really in the image."""
    line = refusal(BadInput, dc.replace(RECIPE, version="2.0.0"))
    assert "its recipe pins tiny 2.0.0, here is 1.0.0" in line
    assert not machine.calls


def test_a_version_that_the_package_is_not_pinned_to_is_refused(machine: Machine) -> None:
    """The recipe's version is what is really in the image, of Debian's packages too."""
    line = refusal(BadInput, dc.replace(OF_DEBIAN, version="2.0.0"))
    assert "its recipe pins tiny 2.0.0, here is 1.0.0" in line
    assert not machine.calls


def test_a_full_disk_is_found_before_a_root_file_system_is_made(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less free than it takes is refused early."""
    monkeypatch.setattr(cache, "free", lambda: 2)
    assert "is full" in refusal(BadInput)
    assert not machine.calls


def run(recipe: Recipe, folder: Path, *commands: list[str]) -> list[str]:
    """What commands print in a container of the image, as its user."""
    layout, bundle = folder / "layout", folder / "bundle"
    with tarfile.open(builds.build(recipe, quiet)) as whole:
        whole.extractall(layout, filter="data")
    umoci = toolchain.resolve("umoci", say=quiet)["umoci"]
    subprocess.run([umoci, "unpack", f"--image={layout}:{recipe.reference}", bundle], check=True, capture_output=True)
    config = json.loads((bundle / "config.json").read_text())
    assert config["process"]["user"]["uid"] == recipe.user
    printed = []
    for command in commands:
        config["process"] |= {"terminal": False, "args": command}
        (bundle / "config.json").write_text(json.dumps(config))
        runc = ["runc", f"--root={folder}/runc", "run", f"--bundle={bundle}", f"kiban-{os.getpid()}"]
        ran = subprocess.run(runc, check=True, capture_output=True, text=True)
        printed.append(ran.stdout.strip())
    return printed


@pytest.mark.full
def test_mlflow_is_built_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From Debian and PyPI as they are: MLflow, its accounts and what it needs for PostgreSQL and S3 run, homeless."""
    monkeypatch.delenv("KIBAN_OFFLINE")
    recipe = images.RECIPES[MLFLOW]
    module, command, needed = run(
        recipe,
        tmp_path,
        ["python3", "-m", "mlflow", "--version"],
        [recipe.path, "--version"],
        ["python3", "-c", "import boto3, flask_wtf, psycopg2, os; print(os.getuid(), os.environ['HOME'])"],
    )
    assert module.endswith(f"mlflow, version {recipe.version}")
    assert command == module
    assert needed == "65532 /tmp"


@pytest.mark.full
def test_postgresql_is_built_and_makes_a_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From Debian as it is: initdb runs as upstream's user, who has a name; no cluster and no key is in the image."""
    monkeypatch.delenv("KIBAN_OFFLINE")
    recipe = images.RECIPES[POSTGRES]
    version, made, found = run(
        recipe,
        tmp_path,
        [recipe.path, "--version"],
        [
            "sh",
            "-c",
            "/usr/lib/postgresql/15/bin/initdb --no-sync --pgdata=/tmp/data >/dev/null; cat /tmp/data/PG_VERSION",
        ],
        ["sh", "-c", "id --user --name; ls /var/lib/postgresql"],
    )
    assert f"(PostgreSQL) {recipe.version} " in version
    assert made == "15"
    assert found == "postgres"
    assert not [name for name in Archive(builds.build(recipe, quiet)).layer if "snakeoil" in name]


@pytest.mark.full
def test_kserves_sklearn_server_is_built_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From PyPI and KServe's module as they are: what the image runs serves a model, which predicts as it did."""
    monkeypatch.delenv("KIBAN_OFFLINE")
    recipe = images.RECIPES[SKLEARNSERVER]
    (same,) = run(recipe, tmp_path, ["python3", "-c", SERVED, *recipe.entrypoint])
    assert same == "True"


@pytest.mark.full
def test_kserves_storage_initializer_is_built_and_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From PyPI and KServe's module as they are: what the image runs brings a file; what it needs for S3 is there."""
    monkeypatch.delenv("KIBAN_OFFLINE")
    recipe = images.RECIPES[STORAGE_INITIALIZER]
    fetch = f"{' '.join(recipe.entrypoint)} file:///etc/debian_version /tmp/got && cat /tmp/got/debian_version"
    got, _ = run(recipe, tmp_path, ["sh", "-c", fetch], ["python3", "-c", "import boto3"])
    assert got.startswith("12.")


@pytest.mark.full
def test_envoy_is_built_and_is_the_version_of_its_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From PyPI as it is: the program is found where Envoy Gateway looks for it, on PATH."""
    monkeypatch.delenv("KIBAN_OFFLINE")
    recipe = images.RECIPES[ENVOY]
    (version,) = run(recipe, tmp_path, ["envoy", "--version"])
    assert f"/{recipe.version}/Clean/RELEASE/" in version
