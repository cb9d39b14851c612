"""What a real node needs of the machine, on machines that are files of a test and a shell script named apt-get."""

import dataclasses as dc
import os
import platform
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from infra import system
from infra.errors import CouldNotRun
from infra.system import apt, machine, packages

NAMES = [package.name for package in packages.PACKAGES]
PROGRAMS = [program for package in packages.PACKAGES for program in package.programs]
DYNAMIC = b"\x7fELF" + bytes(60) + b"/lib64/ld-linux-x86-64.so.2\0"


class Machine:
    """A Debian machine without the packages, and its user root; apt-get does what a test writes."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bin = root / "bin"
        self.proc = root / "proc"
        self.cgroups = root / "cgroup"
        self.said: list[str] = []
        self._calls = root / "calls"
        self.monkeypatch = monkeypatch
        path = f"{self.bin}:/usr/bin:/bin"
        for module in (packages, machine):
            monkeypatch.setattr(module, "PATH", path)
        monkeypatch.setattr(packages, "PACKAGES", [dc.replace(p, places=(str(self.bin),)) for p in packages.PACKAGES])
        monkeypatch.setattr(machine, "_PROC", self.proc)
        monkeypatch.setattr(machine, "_CGROUPS", self.cgroups)
        monkeypatch.setattr(platform, "system", lambda: "Linux")
        monkeypatch.setattr(platform, "release", lambda: "6.1.0-37-amd64")
        for name in ("KIBAN_NO_APT", "KIBAN_OFFLINE", "KIBAN_NETNS", "KIBAN_REAL_NODE"):
            monkeypatch.delenv(name, raising=False)
        self.is_system("debian")
        self.is_user(0)
        self.apt_get("install) brings ;;")
        self.program("unshare", "exit 0")
        self.file(self.proc / "filesystems", "nodev\tproc\nnodev\toverlay\n\text4\n")
        self.file(self.proc / "sys/net/bridge/bridge-nf-call-iptables", "0")
        self.file(self.proc / "self/mounts", f"cgroup2 {self.cgroups} cgroup2 rw,nosuid,relatime 0 0\n")
        self.file(self.cgroups / "cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma\n")

    @property
    def calls(self) -> list[str]:
        """What apt-get was called with, without the options of every call."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [line.partition(" --option")[0] for line in lines]

    def is_system(self, name: str, like: str = "") -> None:
        """Be another system."""
        self.monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": name, "ID_LIKE": like})

    def is_user(self, number: int) -> None:
        """Be another user."""
        self.monkeypatch.setattr(os, "geteuid", lambda: number)

    def file(self, path: Path, text: str) -> None:
        """Write a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def program(self, name: str, text: str) -> None:
        """Write an executable script."""
        self.file(self.bin / name, f"#!/bin/sh\n{text}\n")
        (self.bin / name).chmod(0o755)

    def apt_get(self, cases: str) -> None:
        """Make apt-get of what it does a verb; `brings` makes the programs, and TIMES is how often it was called."""
        names = " ".join(f"{self.bin}/{program}" for program in PROGRAMS)
        self.program(
            "apt-get",
            f'echo "$*" >> {self._calls}\n'
            f"TIMES=$(wc -l < {self._calls})\n"
            f"brings() {{ rm -f {names}; touch {names}; chmod +x {names}; }}\n"
            f"case $1 in\n{cases}\nesac",
        )

    def ensure(self) -> None:
        """Have the packages installed."""
        system.ensure(say=self.said.append)

    def refusal(self) -> str:
        """The one line in which `ensure` ends."""
        with pytest.raises(CouldNotRun) as caught:
            self.ensure()
        line = str(caught.value)
        assert "\n" not in line
        return line


def version_1(debian: Machine, options: str, *hierarchies: str) -> None:
    """Mount the hierarchies as on a machine with version 1, and version 2 beside them without controllers."""
    mounts = [f"cgroup {debian.cgroups}/{one} cgroup {options},relatime,{one} 0 0" for one in hierarchies]
    unified = f"cgroup2 {debian.cgroups}/unified cgroup2 rw,relatime 0 0"
    debian.file(
        debian.proc / "self/mounts", "\n".join([f"tmpfs {debian.cgroups} tmpfs rw 0 0", *mounts, unified]) + "\n"
    )


BAD: dict[str, Callable[[Machine], None]] = {
    "Linux: Darwin; ": lambda on: on.monkeypatch.setattr(platform, "system", lambda: "Darwin"),
    "kernel: 5.4.0-216; start one that is 5.13 or newer": lambda on: on.monkeypatch.setattr(
        platform, "release", lambda: "5.4.0-216"
    ),
    "root: user id 1000; ": lambda on: on.is_user(1000),
    "settings: KIBAN_NETNS=0; run: unset KIBAN_NETNS": lambda on: on.monkeypatch.setenv("KIBAN_NETNS", "0"),
    "settings: KIBAN_REAL_NODE=0; run: unset KIBAN_REAL_NODE": lambda on: on.monkeypatch.setenv("KIBAN_REAL_NODE", "0"),
    "namespaces: unshare: Operation not permitted; ": lambda on: on.program(
        "unshare", "echo 'unshare: Operation not permitted' >&2; exit 1"
    ),
    "overlay: not in the kernel; run: sudo modprobe overlay": lambda on: on.file(
        on.proc / "filesystems", "nodev\tproc\n\tfuseoverlay\n"
    ),
    "br_netfilter: not in the kernel; run: sudo modprobe br_netfilter": lambda on: (
        on.proc / "sys/net/bridge/bridge-nf-call-iptables"
    ).unlink(),
    "cgroups: version 2, none to write for cpu, cpuset, memory, pids; ": lambda on: on.file(
        on.proc / "self/mounts", f"cgroup2 {on.cgroups} cgroup2 ro,nosuid 0 0\n"
    ),
    "cgroups: version 2, none to write for cpuset; ": lambda on: on.file(
        on.cgroups / "cgroup.controllers", "cpu io memory pids\n"
    ),
    "cgroups: version 1, none to write for memory; ": lambda on: version_1(on, "rw", "cpu,cpuacct", "cpuset"),
    "cgroups: version 1, none to write for cpu, cpuacct, cpuset, memory; ": lambda on: version_1(
        on, "ro", "cpu,cpuacct", "cpuset", "memory"
    ),
}
"""The line's beginning, and how a machine comes to say it."""


@pytest.fixture(name="debian")
def _debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_missing_packages_are_installed_after_a_line_that_says_so(debian: Machine) -> None:
    """One call of apt-get names all that is missing; a second `ensure` finds it and calls nothing."""
    assert [package.name for package in system.missing()] == NAMES
    debian.ensure()
    assert debian.said == [f"installing {', '.join(NAMES)} by apt (KIBAN_NO_APT=1 turns this off)"]
    assert debian.calls == [f"install --yes --no-install-recommends --no-remove {' '.join(NAMES)}"]
    debian.ensure()
    assert not system.missing()
    assert len(debian.calls) == len(debian.said) == 1


def test_what_is_there_is_not_asked_for(debian: Machine) -> None:
    """A package is missing when one of its programs is, and only that is installed."""
    for program in set(PROGRAMS) - {"nft", "iptables-save"}:
        debian.program(program, "")
    debian.ensure()
    assert debian.calls[0].endswith("--no-remove nftables iptables")


def test_what_else_needs_packages_gets_those_alone(debian: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of Debian asks for its own, of which one is data and not executable; a message names who needs them."""
    folder = str(debian.bin)
    needed = [dc.replace(package, places=(folder,)) for package in packages.DEBIAN_IMAGES]
    monkeypatch.setenv("KIBAN_NO_APT", "1")
    with pytest.raises(CouldNotRun) as caught:
        packages.ensure(needed, by="an image", say=debian.said.append)
    assert str(caught.value) == (
        "an image needs mmdebstrap, debian-archive-keyring, not all here, and KIBAN_NO_APT=1 forbids installing; "
        "run: apt-get install --yes mmdebstrap debian-archive-keyring"
    )
    monkeypatch.delenv("KIBAN_NO_APT")
    debian.apt_get(
        f"install) touch {folder}/mmdebstrap {folder}/debian-archive-keyring.gpg; chmod +x {folder}/mmdebstrap ;;"
    )
    packages.ensure(needed, by="an image", say=debian.said.append)
    assert debian.calls == ["install --yes --no-install-recommends --no-remove mmdebstrap debian-archive-keyring"]


def test_apt_asks_nothing_and_restarts_nothing(debian: Machine, tmp_path: Path) -> None:
    """No question of debconf or dpkg can stop it, and no service of the machine is restarted for it."""
    debian.apt_get(f'install) env > {tmp_path}/environment; echo "$*" > {tmp_path}/arguments; brings ;;')
    debian.ensure()
    environment = (tmp_path / "environment").read_text().splitlines()
    assert {"DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1", "LC_ALL=C"} <= set(environment)
    assert "--option=Dpkg::Options::=--force-confold" in (tmp_path / "arguments").read_text()


@pytest.mark.parametrize(("name", "like"), [("ubuntu", "debian"), ("linuxmint", "ubuntu debian")])
def test_systems_like_debian_have_apt_too(debian: Machine, name: str, like: str) -> None:
    """Ubuntu and what descends from it is served as Debian is."""
    debian.is_system(name, like)
    debian.ensure()
    assert not system.missing()


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("KIBAN_NO_APT", ("KIBAN_NO_APT=1", "run: apt-get install")),
        ("KIBAN_OFFLINE", ("KIBAN_OFFLINE=1", "run: apt-get install")),
        ("user", ("only root", "run: sudo apt-get install")),
        ("system", ("not Debian or Ubuntu", "this system's package manager")),
        ("no apt", ("not Debian or Ubuntu", "this system's package manager")),
    ],
)
def test_where_apt_must_not_run_one_line_says_what_to_do(
    debian: Machine, monkeypatch: pytest.MonkeyPatch, cause: str, words: tuple[str, ...]
) -> None:
    """The missing packages, why they are not installed, and the command; apt-get is not called."""
    match cause:
        case "user":
            debian.is_user(1000)
        case "system":
            debian.is_system("fedora")
        case "no apt":
            (debian.bin / "apt-get").unlink()
            monkeypatch.setattr(packages, "PATH", str(debian.bin))
        case _:
            monkeypatch.setenv(cause, "1")
    line = debian.refusal()
    for word in (*words, *NAMES):
        assert word in line
    assert not debian.calls
    assert not debian.said


def test_a_failing_apt_gives_one_line(debian: Machine) -> None:
    """The line has apt's own error, what was to be installed and the command; nothing is tried twice."""
    debian.apt_get("*) echo Reading package lists...; echo 'E: You have held broken packages.' >&2; exit 100 ;;")
    line = debian.refusal()
    assert f"apt could not install {', '.join(NAMES)}: You have held broken packages.; run: apt-get install" in line
    assert len(debian.calls) == 1


def test_an_apt_that_fails_without_a_word_gives_its_status(debian: Machine) -> None:
    """Killed or broken, it has no error of its own to show."""
    debian.apt_get("*) exit 7 ;;")
    assert "it ended with status 7" in debian.refusal()


@pytest.mark.parametrize(
    "error",
    [
        "E: Unable to locate package runc",
        "E: Package 'runc' has no installation candidate",
        "E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?",
    ],
)
def test_package_lists_are_fetched_only_where_they_do_not_do(debian: Machine, error: str) -> None:
    """None yet, or so old that the archives they name are gone: they are updated, and the installation repeated."""
    debian.apt_get(f'install) [ $TIMES -gt 1 ] && brings || {{ echo "{error}"; exit 100; }} ;;\nupdate) ;;')
    debian.ensure()
    assert [call.split()[0] for call in debian.calls] == ["install", "update", "install"]


def test_lists_that_cannot_be_fetched_are_the_cause(debian: Machine) -> None:
    """That a package cannot be located is no news where the archive cannot be reached."""
    debian.apt_get(
        "install) echo 'E: Unable to locate package runc'; exit 100 ;;\n"
        "update) echo \"E: Failed to fetch http://deb.example Could not resolve 'deb.example'\"; exit 100 ;;"
    )
    line = debian.refusal()
    assert "Could not resolve 'deb.example'" in line
    assert "locate" not in line


def test_another_apt_is_waited_for(debian: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it holds a lock, of packages or of their lists, there is a line that says who does."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    debian.apt_get(
        "install) if [ $TIMES -gt 3 ]; then brings; else\n"
        "echo 'E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 42 (apt)'\n"
        "echo 'E: Unable to acquire the dpkg frontend lock'; exit 100; fi ;;"
    )
    debian.ensure()
    assert len(debian.calls) == 4
    assert debian.said[1:] == [
        "waiting for another apt, 0 s: /var/lib/dpkg/lock-frontend. It is held by process 42 (apt)"
    ]


def test_another_apt_is_not_waited_for_forever(debian: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a bound the lock's holder is named in the error."""
    monkeypatch.setattr(apt, "_PATIENCE", -1.0)
    debian.apt_get("*) echo 'E: Could not get lock /var/lib/dpkg/lock. It is held by process 42 (apt)'; exit 100 ;;")
    assert "held by process 42 (apt)" in debian.refusal()


def test_a_long_installation_shows_that_it_goes_on(
    debian: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Now and then a line has what apt says last."""
    monkeypatch.setattr(apt, "_INTERVAL", 0.05)
    gate = tmp_path / "gate"
    debian.apt_get(f"install) echo 'Unpacking runc'; while [ ! -e {gate} ]; do sleep 0.02; done; brings ;;")

    def say(line: str) -> None:
        debian.said.append(line)
        if line.endswith(" s: Unpacking runc"):
            gate.touch()

    system.ensure(say=say)
    assert not system.missing()
    assert any(line.startswith("apt-get install, ") for line in debian.said)


def test_an_interrupted_apt_ends_in_its_own_time(
    debian: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ctrl-C is passed on to apt and its end waited for, so no package is left half installed."""
    monkeypatch.setattr(apt, "_INTERVAL", 0.05)
    debian.apt_get(
        f"install) trap 'sleep 0.2; touch {tmp_path}/ended; exit 130' INT\n"
        "echo 'Unpacking runc'; while :; do sleep 0.02; done ;;"
    )

    def say(line: str) -> None:
        debian.said.append(line)
        if line.endswith(" s: Unpacking runc"):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        system.ensure(say=say)
    assert (tmp_path / "ended").exists()
    assert debian.said[-1] == "letting apt leave its packages in order"


def test_a_package_without_its_program_is_told(debian: Machine) -> None:
    """What apt calls installed and yet cannot run does not go unseen."""
    debian.apt_get(f"install) brings; rm {debian.bin}/ipset ;;")
    assert "apt installed ipset, but a program of it is not where it belongs" in debian.refusal()


def test_a_busybox_that_needs_libraries_is_replaced(debian: Machine) -> None:
    """Alone in an image it would not start. Debian's packages exclude each other: the line says that one goes."""
    for program in PROGRAMS:
        debian.program(program, "")
    (debian.bin / "busybox").write_bytes(DYNAMIC)
    assert [package.name for package in system.missing()] == ["busybox-static"]
    debian.ensure()
    assert debian.said[0].startswith("installing busybox-static in place of one that is not static by apt")
    assert debian.calls == ["install --yes --no-install-recommends busybox-static"]


def test_cni_plugins_are_all_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is that of Debian or of upstream's archive, whichever has every plugin."""
    first, second = tmp_path / "lib", tmp_path / "opt"
    cni = next(package for package in packages.PACKAGES if package.name == "containernetworking-plugins")
    monkeypatch.setattr(packages, "_CNI", dc.replace(cni, places=(str(first), str(second))))
    for folder, plugins in ((first, cni.programs[:1]), (second, cni.programs)):
        folder.mkdir()
        for plugin in plugins:
            (folder / plugin).touch(0o755)
    assert system.cni_plugins() == second
    (second / "portmap").unlink()
    with pytest.raises(CouldNotRun, match="bridge, host-local, loopback, portmap: not all in one of"):
        system.cni_plugins()


def test_a_machine_that_has_all_can_have_a_real_node(debian: Machine) -> None:
    """Then there is nothing to say; packages do not count, since they can be installed."""
    assert system.no_real_node() is None
    assert all(condition.ok for condition in system.conditions())
    assert system.missing()
    assert debian.calls == []


def test_cgroups_of_version_1_will_do(debian: Machine) -> None:
    """Each controller is in some hierarchy then, mounted to be written."""
    version_1(debian, "rw", "cpu,cpuacct", "cpuset", "memory", "pids")
    assert system.no_real_node() is None


@pytest.mark.parametrize(("beginning", "spoil"), BAD.items(), ids=[line.partition(";")[0] for line in BAD])
def test_why_there_is_no_real_node_is_one_line(
    debian: Machine, beginning: str, spoil: Callable[[Machine], None]
) -> None:
    """For each thing that can be amiss, what was found and what to do."""
    spoil(debian)
    line = system.no_real_node()
    assert line is not None
    assert line.startswith(beginning)
    assert "\n" not in line


def test_the_least_curable_reason_is_told(debian: Machine) -> None:
    """Who is on another system need not hear about root."""
    for spoil in BAD.values():
        spoil(debian)
    assert (system.no_real_node() or "").startswith("Linux: Darwin")
    assert [condition.name for condition in system.conditions()] == ["Linux"]


def test_a_module_that_is_not_loaded_is_loaded_as_root(debian: Machine) -> None:
    """Most kernels have br_netfilter as a module that nothing has asked for yet; another user cannot load it."""
    file = debian.proc / "sys/net/bridge/bridge-nf-call-iptables"
    file.unlink()
    debian.program("modprobe", f"[ $1 = br_netfilter ] && echo 1 > {file}")
    debian.is_user(1000)
    assert not {condition.name: condition.ok for condition in system.conditions()}["br_netfilter"]
    debian.is_user(0)
    assert system.no_real_node() is None
    assert file.exists()


@pytest.mark.parametrize(("kind", "measured"), [("ext4", True), ("xfs", True), ("9p", False), ("overlay", False)])
def test_space_is_told_of_file_systems_that_the_kubelet_knows(
    debian: Machine, tmp_path: Path, kind: str, *, measured: bool
) -> None:
    """It does not start where it is to tell the space of others; what else is mounted does not matter."""
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    lines = (
        f"21 1 {number} / / rw,relatime shared:1 - {kind} /dev/root rw",
        "22 21 0:99 / /other rw - ext4 /dev/b rw",
    )
    debian.file(debian.proc / "self/mountinfo", "\n".join(lines))
    assert system.measured(tmp_path) is measured
