"""A thin, typed wrapper on the pinned kubectl. What is asked for and why is the caller's matter."""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from infra import toolchain
from infra.errors import RunFailed

Object = dict[str, Any]


class Kubectl:
    """kubectl on one context.

    kubeconfig: a file of Kiban's own, beside which kubectl keeps its cache; None for the user's configuration.
    binary: by default the pinned one, made at the first use where it is missing.
    Every method raises RunFailed with the last line of what kubectl said.
    """

    def __init__(
        self, kubeconfig: Path | None = None, context: str | None = None, *, binary: Path | None = None
    ) -> None:
        self._binary = binary
        self._options = [f"--context={context}"] if context else []
        if kubeconfig is not None:
            self._options += [f"--kubeconfig={kubeconfig}", f"--cache-dir={kubeconfig.parent / 'kubectl-cache'}"]

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """What `kubectl ARGUMENTS` prints."""
        if self._binary is None:
            self._binary = toolchain.resolve("kubectl")["kubectl"]
        command = [str(self._binary), *self._options, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise RunFailed(f"kubectl {' '.join(arguments[:2])}: {said[-1]}")
        return done.stdout

    def get(
        self,
        kind: str,
        name: str | None = None,
        *,
        namespace: str | None = None,
        selector: str | None = None,
        everywhere: bool = False,
    ) -> list[Object]:
        """The objects of a kind: one by name, those that a label selector finds, or all, of one namespace or all."""
        options = [f"--namespace={namespace}"] if namespace else []
        options += [f"--selector={selector}"] if selector else []
        options += ["--all-namespaces"] if everywhere else []
        found: Object = json.loads(self.run("get", kind, *([name] if name else []), *options, "--output=json"))
        return [found] if name else list(found["items"])

    def apply(self, objects: Iterable[Object], *, field_manager: str) -> None:
        """Apply the objects on the server, taking over fields that others have set."""
        everything = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        options = ["--server-side", "--force-conflicts", f"--field-manager={field_manager}"]
        self.run("apply", *options, "--filename=-", stdin=json.dumps(everything))

    def raw(self, path: str) -> str:
        """What the API server answers to a GET of the path."""
        return self.run("get", "--raw", path)
