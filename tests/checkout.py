"""A clean copy of the sources in which `./kiban` runs as a user runs it: own virtual environment, own state."""

import contextlib
import dataclasses as dc
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from infra.clusters.embedded import node

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 3600  # seconds; a build from source is the longest


@dc.dataclass(frozen=True)
class Checkout:
    """A copy of the sources. `environ` is what its commands get on top of the tests' own variables."""

    root: Path
    environ: dict[str, str] = dc.field(default_factory=dict)
    _paths: dict[str, tuple[str, ...]] = dc.field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        """Return the environment variables of a command, without those that would lead it elsewhere."""
        own = {
            k: v for k, v in os.environ.items() if not k.startswith(("KIBAN_", "PULUMI_", "KUBECONFIG", "VIRTUAL_ENV"))
        }
        kept = {k: os.environ[k] for k in ("KIBAN_CACHE", "KIBAN_OFFLINE") if k in os.environ}
        return own | kept | self.environ

    def run(self, *words: str, expect: int | None = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run `./kiban WORDS` and return what it printed; fail where the exit status is not the expected one."""
        return self.shell_words("./kiban", *words, expect=expect, **environ)

    def shell(self, script: str, expect: int | None = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a bash script in the checkout, ending at its first failing command."""
        return self.shell_words("bash", "-euo", "pipefail", "-c", script, expect=expect, **environ)

    def shell_words(self, *command: str, expect: int | None, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run any command in the checkout."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.variables() | environ,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=LIMIT,
            check=False,
        )
        if expect is not None:
            shown = f"{' '.join(command)}\nexit status {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-6000:]}"
            assert done.returncode == expect, shown
        return done

    def json(self, *words: str, expect: int = 0) -> Any:  # noqa: ANN401
        """Run `./kiban WORDS --json` and return the document."""
        return json.loads(self.run(*words, "--json", expect=expect).stdout)

    def kubectl(self, cluster: str, *words: str, stdin: str | None = None) -> str:
        """Run the pinned kubectl against one of the checkout's clusters and return what it printed."""
        done = self.try_kubectl(cluster, *words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def try_kubectl(self, cluster: str, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the pinned kubectl, which may fail."""
        found = self._paths.get(cluster) or self._paths.setdefault(cluster, self._kubectl_of(cluster))
        return subprocess.run([*found, *words], input=stdin, capture_output=True, text=True, timeout=LIMIT, check=False)

    def pod_processes(self, cluster: str, program: str) -> list[psutil.Process]:
        """Return the processes of a program in the pods of one of the checkout's clusters."""
        return pod_processes(self.root / ".kiban" / "clusters" / cluster, program)

    def _kubectl_of(self, cluster: str) -> tuple[str, ...]:
        kubeconfig = self.run("cluster", "kubeconfig", cluster).stdout.strip()
        binary = self.run("tools", "path", "kubectl").stdout.strip()
        return (binary, "--kubeconfig", kubeconfig, f"--cache-dir={Path(kubeconfig).parent}/kubectl-cache")


def pod_processes(cluster: Path, program: str) -> list[psutil.Process]:
    """Return the processes of a program in the pods of an embedded cluster, given its folder."""
    own = node.cgroup(cluster)
    found = []
    for process in psutil.process_iter(["cmdline"]):
        called = (process.info["cmdline"] or [""])[0]
        if called.rsplit("/", 1)[-1].split(":")[0] == program:  # PostgreSQL's say after a colon what they do
            with contextlib.suppress(OSError):  # gone meanwhile
                if own in Path(f"/proc/{process.pid}/cgroup").read_text():
                    found.append(process)
    return found


def copy_to(target: Path) -> Checkout:
    """Copy every file that git knows or would add, so that uncommitted work is tested too."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return Checkout(target)


@contextlib.contextmanager
def checked_out(target: Path) -> Iterator[Checkout]:
    """Yield such a copy; every cluster that is left in it at the end is taken down."""
    clean = copy_to(target)
    try:
        yield clean
    finally:
        for cluster in clean.json("cluster", "list")["items"]:
            clean.run("cluster", "down", cluster["cluster"], expect=None)
