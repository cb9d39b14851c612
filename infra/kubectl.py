"""A thin, typed wrapper on the pinned kubectl. What is asked for and why is the caller's matter."""

import collections
import contextlib
import json
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from infra import tied, toolchain
from infra.errors import RunFailed

Object = dict[str, Any]
_OURS = ("--field-manager=kiban",)  # so that it is not taken for a change by hand (infra/release/drift)
_FORWARDED_WITHIN = 30.0  # seconds


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
        done = subprocess.run(self._command(*arguments), input=stdin, capture_output=True, text=True, check=False)
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

    def create(self, manifest: Object) -> Object:
        """Make one object and return it as it is in the cluster; its name may be generated."""
        made: Object = json.loads(
            self.run("create", *_OURS, "--filename=-", "--output=json", stdin=json.dumps(manifest))
        )
        return made

    @contextlib.contextmanager
    def port_forward(self, resource: str, port: int, *, namespace: str) -> Iterator[int]:
        """While it lasts, a port of 127.0.0.1 that leads to the port of a resource (`service/mlflow`); its number.

        It ends with the block, and where Kiban is killed. Raises RunFailed where nothing answers for the resource.
        """
        command = self._command("port-forward", "--address=127.0.0.1", f"--namespace={namespace}", resource, f":{port}")
        with (
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(
                tied.command(command, dies_by=signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # a Ctrl-C in the terminal is for Kiban, which ends this
            ) as forward,
        ):
            late = threading.Timer(_FORWARDED_WITHIN, forward.kill)
            late.start()
            try:
                said = iter(forward.stdout or ())
                found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) ", next(said, ""))
                late.cancel()
                if found is None:
                    forward.wait()
                    errors.seek(0)
                    why = (errors.read().strip().splitlines() or [f"nothing within {_FORWARDED_WITHIN:.0f} s"])[-1]
                    raise RunFailed(f"kubectl port-forward {resource} of {namespace}: {why}")
                # It writes a line a connection, and would stand still once nobody had read 64 KiB of them.
                threading.Thread(target=collections.deque, args=(said, 0), daemon=True).start()
                yield int(found[1])
            finally:
                late.cancel()
                forward.kill()

    def _command(self, *arguments: str) -> list[str]:
        if self._binary is None:
            self._binary = toolchain.resolve("kubectl")["kubectl"]
        return [str(self._binary), *self._options, *arguments]
