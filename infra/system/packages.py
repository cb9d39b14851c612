"""The system packages that a real node or an image needs: whether they are there, and their installation by apt."""

import dataclasses as dc
import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

from infra.errors import CouldNotRun
from infra.system import apt
from infra.system.apt import Say
from infra.toolchain.network import offline

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where a node's programs look for others, whatever the user's own PATH: iptables, ipset and nft are in an sbin."""


@dc.dataclass(frozen=True, kw_only=True)
class Package:
    """A system package.

    name: Debian's and Ubuntu's.
    programs: executables that are there when it is; of one that is data alone, its files.
    places: search paths, in one of which all of its programs are.
    static: whether its first program must run where no library is, in an image.
    data: whether its files are not to be executed.
    """

    name: str
    programs: tuple[str, ...]
    purpose: str
    places: tuple[str, ...] = (PATH,)
    static: bool = False
    data: bool = False

    def found(self) -> Path | None:
        """Its first program, where all of them are there."""
        mode = os.F_OK if self.data else os.F_OK | os.X_OK
        for place in self.places:
            programs = [shutil.which(name, mode, place) for name in self.programs]
            if programs[0] and all(programs):
                first = Path(programs[0])
                return None if self.static and _is_dynamic(first) else first
        return None

    def replaces(self) -> bool:
        """Whether to install it removes the one that has its program now, as busybox-static does with busybox."""
        return self.static and not self.found() and any(shutil.which(self.programs[0], path=at) for at in self.places)


_CNI = Package(
    name="containernetworking-plugins",
    programs=("bridge", "host-local", "loopback", "portmap"),
    purpose="network interfaces of pods",
    places=("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"),
)
PACKAGES = (
    Package(name="runc", programs=("runc",), purpose="containers"),
    _CNI,
    Package(name="nftables", programs=("nft",), purpose="Services"),
    Package(name="iptables", programs=("iptables", "iptables-save", "iptables-restore"), purpose="NetworkPolicies"),
    Package(name="ipset", programs=("ipset",), purpose="NetworkPolicies"),
    Package(name="busybox-static", programs=("busybox",), purpose="the busybox image", static=True),
    Package(name="util-linux", programs=("nsenter", "unshare"), purpose="namespaces"),
    Package(name="mount", programs=("mount", "umount"), purpose="volumes"),
)
"""What a real node needs."""

DEBIAN_KEYS = Package(
    name="debian-archive-keyring",
    programs=("debian-archive-keyring.gpg",),
    purpose="signatures of Debian's mirrors",
    places=("/usr/share/keyrings",),
    data=True,
)
DEBIAN_IMAGES = (Package(name="mmdebstrap", programs=("mmdebstrap",), purpose="root file systems"), DEBIAN_KEYS)
"""What an image of Debian needs when it is built here."""


def missing(packages: Sequence[Package] | None = None) -> tuple[Package, ...]:
    """The packages, or else a real node's, of which a program is missing."""
    return tuple(package for package in (PACKAGES if packages is None else packages) if not package.found())


def cni_plugins() -> Path:
    """The folder of the CNI plugins. Raises CouldNotRun where there is none that has all."""
    plugin = _CNI.found()
    if plugin is None:
        raise CouldNotRun(f"{', '.join(_CNI.programs)}: not all in one of {', '.join(_CNI.places)}; {remedy([_CNI])}")
    return plugin.parent


def remedy(packages: Sequence[Package]) -> str:
    """What a user does to get the packages."""
    if not _has_apt():
        return f"install them by this system's package manager (Debian's names: {_named(packages)})"
    sudo = "" if _is_root() else "sudo "
    return f"run: {sudo}apt-get install --yes {' '.join(package.name for package in packages)}"


def ensure(needed: Sequence[Package] | None = None, *, by: str = "a real node", say: Say) -> None:
    """Install the packages, or else a real node's, that are missing, by apt.

    by: what needs them, for the message.
    Raises CouldNotRun naming them and what to do where that is turned off (KIBAN_NO_APT=1, KIBAN_OFFLINE=1), needs
    root or another package manager, or fails. Ctrl-C lets apt leave its packages in order first.
    """
    packages = missing(needed)
    if not packages:
        return
    forbidden = _forbidden()
    if forbidden:
        raise CouldNotRun(f"{by} needs {_named(packages)}, not all here, and {forbidden}; {remedy(packages)}")
    instead = " in place of one that is not static" if any(package.replaces() for package in packages) else ""
    say(f"installing {_named(packages)}{instead} by apt (KIBAN_NO_APT=1 turns this off)")
    failure = apt.install(_install(packages), path=PATH, say=say)
    if failure:
        raise CouldNotRun(f"apt could not install {_named(packages)}: {failure}; {remedy(packages)}")
    left = missing(needed)
    if left:
        raise CouldNotRun(f"apt installed {_named(left)}, but a program of it is not where it belongs; {remedy(left)}")


def _install(packages: Sequence[Package]) -> list[str]:
    """The command; unless one of them replaces another, apt may remove nothing of the machine's for it."""
    keep = [] if any(package.replaces() for package in packages) else ["--no-remove"]
    return ["apt-get", "install", "--yes", "--no-install-recommends", *keep, *(package.name for package in packages)]


def _named(packages: Sequence[Package]) -> str:
    return ", ".join(package.name for package in packages)


def _forbidden() -> str | None:
    """Why nothing can be installed here."""
    if os.environ.get("KIBAN_NO_APT", "") not in {"", "0"}:
        return "KIBAN_NO_APT=1 forbids installing"
    if offline():
        return "KIBAN_OFFLINE=1 forbids installing"
    if not _has_apt():
        return "this system is not Debian or Ubuntu with apt"
    return None if _is_root() else "only root can install"


def _has_apt() -> bool:
    """Whether packages have Debian's names here, and apt to install them."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return False
    like = {release["ID"], *release.get("ID_LIKE", "").split()}
    return "debian" in like and shutil.which("apt-get", path=PATH) is not None


def _is_root() -> bool:
    return os.geteuid() == 0


def _is_dynamic(program: Path) -> bool:
    """Whether a program needs a loader: that is named behind the headers at the start of its file (ELF, PT_INTERP)."""
    with program.open("rb") as file:
        return b"/ld-" in file.read(4096)
