"""What a real node needs of the machine and no package brings: the kernel, what it has, and the right to use that."""

import dataclasses as dc
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from infra.system.packages import PATH

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_KERNEL = (5, 13)  # for nftables: Kubernetes 1.36, pkg/util/kernel, NFTablesKubeProxyKernelVersion
_CONTROLLERS = {1: {"cpu", "cpuacct", "cpuset", "memory"}, 2: {"cpu", "cpuset", "memory", "pids"}}
"""By the version of cgroups: what the kubelet does not go without (Kubernetes 1.36, pkg/kubelet/cm)."""

_MEASURED = {"ext2", "ext3", "ext4", "xfs"}
"""Kinds of file systems whose space the kubelet finds out without further ado (cAdvisor 0.56, fs/vfs)."""


@dc.dataclass(frozen=True, kw_only=True)
class Condition:
    """Something that a machine must have or allow.

    found: what there is of it. remedy: what to do where that is not `ok`.
    """

    name: str
    ok: bool
    found: str
    remedy: str


def no_real_node() -> str | None:
    """Why this machine can have no real node and what to do about it, in one line; None where it can."""
    unmet = next((condition for condition in conditions() if not condition.ok), None)
    return f"{unmet.name}: {unmet.found}; {unmet.remedy}" if unmet else None


def conditions() -> Iterator[Condition]:
    """What a real node needs, each looked at in its turn; kernel modules are loaded where root can.

    On another system than Linux the first is all.
    """
    linux = platform.system() == "Linux"
    yield Condition(
        name="Linux", ok=linux, found=platform.system(), remedy="use a machine with Linux, or a virtual one"
    )
    if linux:
        yield _kernel()
        yield Condition(
            name="root", ok=os.geteuid() == 0, found=f"user id {os.geteuid()}", remedy="run kiban as root (sudo)"
        )
        yield _settings()
        yield _namespaces()
        yield _feature("overlay", lambda: "\toverlay\n" in (_PROC / "filesystems").read_text())
        yield _feature("br_netfilter", (_PROC / "sys/net/bridge/bridge-nf-call-iptables").exists)
        yield _cgroups()


def measured(folder: Path) -> bool:
    """Whether a kubelet that has its files in a folder can say how much space is left."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts = (line.split(" - ") for line in (_PROC / "self/mountinfo").read_text().splitlines())
    return any(mount.split()[2] == number and source.split()[0] in _MEASURED for mount, source in mounts)


def _kernel() -> Condition:
    release = platform.release()
    version = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    wanted = ".".join(map(str, _KERNEL))
    return Condition(name="kernel", ok=version >= _KERNEL, found=release, remedy=f"start one that is {wanted} or newer")


def _settings() -> Condition:
    names = [name for name in ("KIBAN_REAL_NODE", "KIBAN_NETNS") if os.environ.get(name) == "0"]
    found = ", ".join(f"{name}=0" for name in names) or "a real node is allowed"
    return Condition(name="settings", ok=not names, found=found, remedy=f"run: unset {' '.join(names)}")


def _namespaces() -> Condition:
    """Whether namespaces can be made: some are, for as long as a program takes that does nothing."""
    unshare = shutil.which("unshare", path=PATH)
    if unshare is None:
        return Condition(name="namespaces", ok=False, found="no unshare to make them", remedy="install util-linux")
    done = subprocess.run([unshare, "--net", "--mount", "true"], capture_output=True, text=True, check=False)
    return Condition(
        name="namespaces",
        ok=done.returncode == 0,
        found="can be made" if done.returncode == 0 else done.stderr.strip(),
        remedy="run kiban as root, and in no container but a privileged one",
    )


def _feature(module: str, there: Callable[[], bool]) -> Condition:
    """Whether the kernel has something, if need be once its module is loaded."""
    modprobe = shutil.which("modprobe", path=PATH)
    if not there() and modprobe and os.geteuid() == 0:
        subprocess.run([modprobe, module], capture_output=True, check=False)
    ok = there()
    return Condition(
        name=module,
        ok=ok,
        found="in the kernel" if ok else "not in the kernel",
        remedy=f"run: sudo modprobe {module}, or start a kernel that has this module",
    )


def _cgroups() -> Condition:
    mounts = [line.split()[1:4] for line in (_PROC / "self/mounts").read_text().splitlines()]
    unified = next((options for place, kind, options in mounts if (place, kind) == (str(_CGROUPS), "cgroup2")), None)
    if unified is None:
        version = 1
        writable = [options.split(",") for _, kind, options in mounts if kind == "cgroup" and _is_writable(options)]
        here = {option for options in writable for option in options}
    else:
        version = 2
        here = set((_CGROUPS / "cgroup.controllers").read_text().split()) if _is_writable(unified) else set()
    lacking = ", ".join(sorted(_CONTROLLERS[version] - here))
    return Condition(
        name="cgroups",
        ok=not lacking,
        found=f"version {version}, "
        + (f"none to write for {lacking}" if lacking else "all controllers that are needed"),
        remedy="turn these controllers on when the kernel starts, and run kiban in no container but a privileged one",
    )


def _is_writable(options: str) -> bool:
    return "rw" in options.split(",")
