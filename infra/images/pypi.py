"""The layer of PyPI packages of an image of Debian: where its Python looks for what is not Debian's.

Exactly what a requirements file pins by hash, as wheels: no code of a package runs. Python's own are compiled here,
since a pod cannot write to its image and would compile them at every start.
"""

import os
import platform
import re
import shutil
import sys
import tarfile
from pathlib import Path, PurePosixPath

from infra.errors import BadInput, CouldNotRun, KibanError, RunFailed
from infra.images.layer import entry, folders
from infra.images.recipes import Suite
from infra.toolchain import cache, network, running
from infra.toolchain.progress import Say, shown

FOLDER = Path(__file__).with_name("requirements")

_PYTHON = "/usr/bin/python3"
"""Debian's, which mmdebstrap needs too: uv writes its path into scripts, and the image has one at the same place."""
_COMMANDS = PurePosixPath("/usr/local/bin")
_NO_INDEX = re.compile(r"Failed to fetch|Request failed|error sending request|dns error")
_BAD_PIN = re.compile(r"no version of|No solution found|Hash mismatch|must have a hash|no wheels")


def pin(requirements: str) -> tuple[str, str | None]:
    """The package that a requirements file is named for, and the version that it pins; None where it pins none."""
    name = Path(requirements).stem
    file = FOLDER / requirements
    found = re.search(rf"^{re.escape(name)}==(\S+)", file.read_text(), re.MULTILINE) if file.is_file() else None
    return name, found[1] if found else None


def layer(requirements: str, suite: Suite, scratch: Path, say: Say) -> Path:
    """Make the layer, as an uncompressed archive in the scratch folder.

    Raises CouldNotRun where the index cannot be reached, BadInput for a pin that it does not have and for a full
    disk, RunFailed where uv fails otherwise.
    """
    what = f"PyPI packages of {requirements}"
    if network.offline():
        raise CouldNotRun(f"{what}: KIBAN_OFFLINE=1 forbids fetching them; run once without it; nothing was changed")
    installed = scratch / "pypi"
    with shown(what, say) as progress:
        progress.doing("installing")
        command: list[str | Path] = [
            *(Path(sys.executable).parent / "uv", "pip", "install", "--quiet", "--no-cache", "--no-deps"),
            *("--require-hashes", "--only-binary=:all:", f"--requirements={FOLDER / requirements}"),
            *(f"--python={_PYTHON}", f"--python-version={suite.python}"),
            f"--python-platform={platform.machine()}-manylinux_{suite.glibc.replace('.', '_')}",
            f"--target={installed}",
        ]
        environment = {**os.environ, "TMPDIR": str(scratch), "NO_COLOR": "1"}
        ended = running.run(command, environment=environment, folder=scratch, tick=progress.tick)
        if ended.status != 0:
            raise _failure(what, ended.output)
        progress.doing("compiling")
        # Not checked against the source's time, which the layer does not keep. What does not compile stays as it is.
        command = [_PYTHON, "-m", "compileall", "-q", "-j0", "--invalidation-mode=unchecked-hash"]
        command += ["-s", str(installed), "-p", str(_modules(suite)), installed]
        running.run(command, environment=environment, folder=scratch, tick=progress.tick)
        target = scratch / "pypi.tar"
        _write(installed, suite, target)
        progress.done("installed")
    shutil.rmtree(installed)
    return target


def _write(installed: Path, suite: Suite, target: Path) -> None:
    """Write installed packages as a layer: fixed order, owner and time; commands in their place, modules in theirs."""
    modules = _modules(suite)
    commands = installed / "bin"
    files = {
        str(_COMMANDS / file.name if file.parent == commands else modules / file.relative_to(installed)): file
        for file in installed.rglob("*")
        if file.is_file()
    }
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for folder in folders(files):
            archive.addfile(folder)
        for place, file in sorted(files.items()):
            state = file.stat()
            added = entry(place, 0o755 if state.st_mode & 0o100 else 0o644, tarfile.REGTYPE)
            added.size = state.st_size
            with file.open("rb") as content:
                archive.addfile(added, content)


def _modules(suite: Suite) -> PurePosixPath:
    return PurePosixPath(f"/usr/local/lib/python{suite.python}/dist-packages")


def _failure(what: str, output: str) -> KibanError:
    if "no space left on device" in output.lower():
        return cache.full(what)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = ": ".join(line.removeprefix("error: ").removeprefix("cause: ") for line in lines[:2]) or "uv said nothing"
    if _NO_INDEX.search(output):
        return CouldNotRun(f"{what}: {said}; make a Python package index reachable; nothing was kept")
    if _BAD_PIN.search(output):
        return BadInput(f"{what}: {said}; correct the pins as that file's header says; nothing was kept")
    return RunFailed(f"{what}: uv failed: {said}; nothing was kept")
