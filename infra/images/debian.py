"""The layers of an image of Debian, the lowest first: a suite's base, packages, PyPI's, a folder of a Go module.

mmdebstrap makes the first two, as root, from the mirrors that apt has on this machine where that is Debian of the same
suite, else from deb.debian.org. They hold Debian's newest packages of the time when they are made, and are kept.
"""

import hashlib
import json
import os
import re
import tarfile
import textwrap
from collections.abc import Sequence
from pathlib import Path

from infra import paths, toolchain
from infra.errors import BadInput, CouldNotRun, KibanError, RunFailed
from infra.images import pypi
from infra.images.layer import ACCOUNT, GROUP, Files, digest
from infra.images.recipes import Debian, ModuleFolder, Suite
from infra.system import packages
from infra.toolchain import cache, golang, network, running
from infra.toolchain.catalogue import MODULES
from infra.toolchain.progress import Say, shown

_SPACE = 600_000_000  # bytes: the unpacked base, its packages, its archive
_BASE = ("ca-certificates", "python3", "tzdata")
_LEFT_OUT = ("doc/*", "info/*", "lintian/*", "locale/*", "man/*")
_OPTIONS = (
    "--mode=root",
    "--variant=minbase",
    "--format=tar",
    "--skip=output/dev",  # a container gets its own
    *(f"--dpkgopt=path-exclude=/usr/share/{folder}" for folder in _LEFT_OUT),
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    f'--customize-hook=echo "{ACCOUNT}" >> "$1/etc/passwd"; echo "{GROUP}" >> "$1/etc/group"',
    '--customize-hook=cd "$1/etc"; rm -rf hostname resolv.conf apt/sources.list* apt/apt.conf.d/99mmdebstrap',
    '--customize-hook=rm -f "$1"/etc/ssl/*/ssl-cert-snakeoil.*; chroot "$1" find /etc/ssl/certs -xtype l -delete',
)
"""The last two take out what is this machine's, a key that the package ssl-cert has made among that."""
_ENCLOSED = ("unshare", "--mount", "--mount-proc", "--pid", "--fork", "--kill-child")
"""So that the end of mmdebstrap, however it comes, is the end of its mounts: the scratch folder is removed after it."""
_PUBLIC = "http://deb.debian.org/"
_PARTS = {"": "debian", "-updates": "debian", "-security": "debian-security"}
"""What a suite consists of, and the folder of the public mirror that has it."""
_NO_PACKAGE = re.compile(r"Unable to locate package|has no installation candidate|Version '.*' for '.*' was not found")
_NO_MIRROR = re.compile(r"Failed to fetch|Unable to fetch|Could not (?:resolve|connect)")


class DebianLayers:
    """The layers of one content."""

    def __init__(self, content: Debian) -> None:
        self._content = content
        self.space = content.space

    @property
    def determinants(self) -> list[object]:
        """All that determines them but the versions of Debian's packages."""
        below = _key(self._content.suite, self._content)
        requirements, module = self._content.requirements, self._content.module
        above: list[object] = []
        if requirements:
            above += [digest(pypi.FOLDER / requirements), digest(Path(pypi.__file__))]
        if module:
            above.append(_checksum(module))
        return [below, *above]

    def make(self, scratch: Path, say: Say) -> Sequence[Path]:
        """Make those that are missing, the one of PyPI's packages in the scratch folder.

        Raises CouldNotRun where that cannot be done here (not root, no mmdebstrap, no mirror or index), BadInput for a
        package that does not exist and a full disk, RunFailed for any other failure.
        """
        content = self._content
        layers = [_base(content.suite, say)]
        if content.packages:
            layers.append(_addition(content, layers[0], say))
        if content.requirements:
            layers.append(pypi.layer(content.requirements, content.suite, scratch, say))
        if content.module:
            found = toolchain.module_folder(content.module.family, content.module.module, say)
            files = Files(folder=found / content.module.folder, into=content.module.into)
            layers.extend(files.make(scratch, say))
        return layers


def _checksum(wanted: ModuleFolder) -> str:
    """The line of the family's go.sum that pins the module's content."""
    lines = (MODULES / wanted.family / "go.sum").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{wanted.module} ") and "/go.mod " not in line)
    return line


def _base(suite: Suite, say: Say) -> Path:
    target = _place(suite)
    if not target.exists():
        what = f"Debian {suite.name}"
        with cache.claimed(target, what, say) as scratch:
            if not target.exists():
                cache.place(_bootstrap(what, suite, None, scratch, say), target)
    return target


def _addition(content: Debian, base: Path, say: Say) -> Path:
    target = _place(content.suite, content)
    if not target.exists():
        what = f"Debian {content.suite.name} with {', '.join(content.packages)}"
        with cache.claimed(target, what, say) as scratch:
            if not target.exists():
                whole = _bootstrap(what, content.suite, content, scratch, say)
                _write_difference(whole, base, scratch / "difference.tar")
                cache.place(scratch / "difference.tar", target)
    return target


def _place(suite: Suite, content: Debian | None = None) -> Path:
    return paths.cache() / "images" / f"debian-{_key(suite, content)}.tar"


def _key(suite: Suite, content: Debian | None) -> str:
    own = [sorted(content.packages), content.prepare] if content else []
    what = [suite.name, own, golang.architecture(), digest(Path(__file__)), ACCOUNT, GROUP]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]


def _bootstrap(what: str, suite: Suite, content: Debian | None, scratch: Path, say: Say) -> Path:
    """Make a root file system as an archive in the scratch folder: the same bytes from the same Debian packages."""
    _require(what, say)
    if cache.free() < _SPACE:
        raise cache.full(what, _SPACE)
    target = scratch / "root.tar"
    fetching = _machine_options("apt-config", "dump", "Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until")
    chosen, prepare = (content.packages, content.prepare) if content else ((), ())
    options = [
        *_OPTIONS,
        *(f"--aptopt={line}" for line in fetching),
        *(f'--essential-hook=cd "$1"; {command}' for command in prepare),
        f"--include={','.join((*_BASE, *chosen))}",
    ]
    command: list[str | Path] = [*_ENCLOSED, "mmdebstrap", *options, suite.name, target, *_mirrors(suite)]
    environment = {
        **os.environ,
        "PATH": packages.PATH,
        "LC_ALL": "C",
        "TMPDIR": str(scratch),
        "SOURCE_DATE_EPOCH": "0",
    }
    with shown(what, say) as progress:
        progress.doing("bootstrapping")
        ended = running.run(command, environment=environment, tick=progress.tick)
        if ended.status != 0:
            raise _failure(what, ended.output)
        progress.done("bootstrapped")
    return target


def _require(what: str, say: Say) -> None:
    if network.offline():
        raise CouldNotRun(
            f"{what}: not in the cache, and KIBAN_OFFLINE=1 forbids fetching it; run once without; nothing was changed"
        )
    if os.geteuid() != 0:
        raise CouldNotRun(
            f"{what}: only root can make it; run as root, or make the image's registry reachable; nothing was changed"
        )
    packages.ensure(packages.DEBIAN_IMAGES, by=what, say=say)


def _mirrors(suite: Suite) -> list[str]:
    """Where Debian of this suite comes from, as lines for sources.list."""
    keys = packages.DEBIAN_KEYS.found()
    fields = "--format=$(REPO_URI) $(CODENAME) $(COMPONENT)"
    found = _machine_options("apt-get", "indextargets", fields, "Created-By: Packages", "Origin: Debian")
    wanted = {f"{suite.name}{part}": f"{_PUBLIC}{folder} {suite.name}{part} main" for part, folder in _PARTS.items()}
    own = [line for line in found if line.split()[1] in wanted]
    whole = any(line.split()[1] == suite.name for line in own)
    return [f'deb [signed-by="{keys}"] {line}' for line in (own if whole else wanted.values())]


def _machine_options(*command: str) -> list[str]:
    ended = running.run(command, environment={**os.environ, "PATH": packages.PATH}, stderr=False)
    return ended.output.splitlines() if ended.status == 0 else []


def _failure(what: str, output: str) -> KibanError:
    if "no space left on device" in output.lower():
        return cache.full(what)
    errors = [line.removeprefix("E: ") for line in output.splitlines() if line.startswith("E: ")]
    said = textwrap.shorten((errors or output.strip().splitlines()[-1:] or ["it said nothing"])[0], 300)
    if _NO_PACKAGE.search(output):
        return BadInput(f"{what}: {said}; correct the packages in infra/images/recipes.py; nothing was kept")
    if _NO_MIRROR.search(output):
        return CouldNotRun(f"{what}: {said}; have a mirror in apt's configuration that answers; nothing was kept")
    return RunFailed(f"{what}: mmdebstrap failed: {said}; nothing was kept")


def _write_difference(whole: Path, base: Path, target: Path) -> None:
    """Write what a root file system has that the base below it has not, or not so; and the folders that lead there."""
    with tarfile.open(base) as entries:
        known = {entry.name: _state(entries, entry) for entry in entries}
    with tarfile.open(whole) as entries, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as layer:
        for entry in entries:
            if entry.isdir() or known.get(entry.name) != _state(entries, entry):
                layer.addfile(entry, entries.extractfile(entry) if entry.isreg() else None)


def _state(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> tuple[object, ...]:
    """What tells a file from another: all but its time."""
    content = archive.extractfile(entry) if entry.isreg() else None
    found = hashlib.sha256(content.read()).hexdigest() if content else entry.linkname
    return (entry.type, entry.mode, entry.uid, entry.gid, found)
