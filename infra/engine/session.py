"""One verb on one target, with what it takes to get over a missing stack, a lock, and a run that was killed.

Which operation a verb is, is said in infra/engine/__init__.py.
"""

import datetime as dt
import json
import os
import re
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pulumi.automation import (
    CommandError,
    ConcurrentUpdateError,
    LocalWorkspace,
    OutputMap,
    ProjectSettings,
    Stack,
    StackAlreadyExistsError,
    StackNotFoundError,
    UpdateSummary,
)
from pulumi.automation._stack import StackInitMode

from infra import console, paths
from infra.engine.command import Pulumi, end_session
from infra.engine.events import Run
from infra.engine.locks import Lock, held_in, parse
from infra.engine.progress import Progress, summary
from infra.errors import CouldNotRun, Interrupted, KibanError, RunFailed
from infra.target import PROJECT, Target
from infra.toolchain import TOOLS
from stacks._schema import EmbeddedCluster

# Said by the Automation API when pulumi is killed, which is told in our own words.
warnings.filterwarnings("ignore", message="Error in event stream")
Say = Callable[[str], None]
_SAID = 10  # errors
Operation = Callable[[Stack, Run, bool], object]


class _Stack(Stack):
    """A stack whose every operation is one process: its events have told already what else would be asked."""

    def outputs(self) -> OutputMap:
        return {}

    def info(self, show_secrets: bool = True) -> UpdateSummary:  # noqa: ARG002, FBT001, FBT002  as the base class has it
        return UpdateSummary(
            kind="update", start_time=dt.datetime.now(dt.UTC), message="", environment={}, config={}, result="succeeded"
        )


class _Workspace(LocalWorkspace):
    """A workspace that leaves the user's selection alone: every command is given the stack."""

    def select_stack(self, stack_name: str) -> None:
        pass


class Session:
    """Runs operations on the target's stack, and queries it. `environ` is over the target's."""

    def __init__(self, target: Target, verb: str, say: Say, environ: Mapping[str, str] | None = None) -> None:
        self.target = target
        self.verb = verb
        self._say = say
        version = TOOLS["pulumi"].version.removeprefix("v")
        self._pulumi = Pulumi(target.pulumi, version, {**target.environ, **(environ or {})})
        self._provider = target.environment.state.secrets_provider
        self._workspace = _Workspace(
            work_dir=str(paths.ROOT), secrets_provider=self._provider, pulumi_command=self._pulumi
        )
        # There from the moment that a killed run is found until one has come through: that, too, may be killed.
        self._unsettled = target.home / f"{target.stack}.unsettled"

    @property
    def title(self) -> str:
        """The verb and what it is done to, as the user typed it."""
        return f"{self.verb} {self.target.command}"

    @property
    def command(self) -> str:
        """What the user types behind a verb to mean the stack."""
        return self.target.command

    @property
    def committed(self) -> str | None:
        """The configuration's file where it belongs to the checkout, relative to it; else None."""
        if isinstance(self.target.environment.cluster, EmbeddedCluster):
            return None
        return os.path.relpath(self._configuration_file, paths.ROOT)

    @property
    def settled(self) -> bool:
        """Whether the state is known to tell what the last run did."""
        return not self._unsettled.exists()

    def settle(self) -> None:
        """Take note that a run after a killed one has come through."""
        self._unsettled.unlink(missing_ok=True)

    def run(self, operation: Operation) -> Run:
        """Run an operation to its end. It is told whether it has to look at the cluster first, not just at the state.

        Raises RunFailed where a resource or the program failed, Interrupted where the user stopped it, CouldNotRun
        where pulumi could not begin.
        """
        made = dropped = False
        while True:
            run = Run()
            try:
                stack = _Stack(self.target.stack, self._workspace, StackInitMode.SELECT)
                with Progress(self.title, run, console.console):
                    operation(stack, run, not self.settled)
            except StackNotFoundError as error:
                if made:
                    raise self._failure(run, error) from None
                self.create()
                made = True
            except ConcurrentUpdateError as error:
                self._recover(parse(str(error)))
            except CommandError as error:
                raise self._failure(run, error) from None
            else:
                if run.broken:
                    raise run.broken
                if not run.pending or dropped:
                    return run
                self._unsettle()
                dropped = True

    def create(self) -> None:
        """Make the stack. Where it lives beside its cluster, so does its configuration, not in the checkout."""
        workspace: LocalWorkspace = self._workspace
        if self.target.folder:
            workspace = LocalWorkspace(
                work_dir=str(self.target.folder),
                project_settings=ProjectSettings(PROJECT, "python"),
                secrets_provider=self._provider,
                pulumi_command=self._pulumi,
            )
        try:
            workspace.create_stack(self.target.stack)
        except StackAlreadyExistsError:  # another process was first
            pass
        except CommandError as error:
            raise self._failure(Run(), error) from None

    def configuration(self) -> Mapping[str, Any]:
        """The project's keys in the stack's configuration file, and their values; a secret's is ciphertext."""
        if not self._configuration_file.exists():
            return {}
        said = yaml.safe_load(self._configuration_file.read_text()) or {}
        prefix = f"{PROJECT}:"
        return {
            key.removeprefix(prefix): value for key, value in said.get("config", {}).items() if key.startswith(prefix)
        }

    def configure(self, key: str, value: str, *, secret: bool = False) -> None:
        """Set a key of the project's, or a property of one, in the stack's configuration; the stack is made if need be.

        The value goes through standard input: arguments can be read by every user of the machine.
        """
        if not self._configuration_file.exists():
            self.create()
        options = ["--secret"] if secret else ["--path"]
        command = [str(self.target.pulumi), "--non-interactive", "config", "set", *options, key]
        environ = {**os.environ, **self.target.environ}
        done = subprocess.run(
            [*command, "--stack", self.target.stack],
            cwd=paths.ROOT,
            env={name: given for name, given in environ.items() if given is not None},
            input=value,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise CouldNotRun(f"{self.title}: {' '.join(done.stderr.split()).removeprefix('error: ')}")

    @property
    def _configuration_file(self) -> Path:
        named = self.target.environ.get("PULUMI_OPTION_CONFIG_FILE")
        return paths.ROOT / (named or f"stacks/Pulumi.{self.target.stack}.yaml")

    def query(self, *args: str) -> Any:  # noqa: ANN401  JSON
        """What a command that prints JSON about the stack says; None where there is no stack."""
        try:
            return json.loads(self._call(*args, "--stack", self.target.stack))
        except StackNotFoundError:
            return None

    def unlock(self) -> tuple[Lock, ...]:
        """Clear all locks, whoever holds them, and return those that the backend lets one read."""
        locks = held_in(self.target.backend, PROJECT, self.target.stack)
        try:
            self._call("cancel", "--yes", self.target.stack)
        except StackNotFoundError:
            return ()
        for lock in locks:
            self._clear(lock)
        self._unsettle()
        return locks

    def _recover(self, locks: tuple[Lock, ...]) -> None:
        """Clear the locks of processes that are gone. Raises CouldNotRun for one whose process may live."""
        living = [str(lock) for lock in locks if not lock.stale]
        if living or not locks:
            raise CouldNotRun(
                f"{self.title}: locked by {', '.join(living) or 'an unknown process'}; "
                f"wait for it to end, or if it is gone run `kiban unlock {self.target.command}`"
            )
        for lock in locks:
            self._say(f"{self.title}: the run of {lock} was cut off; clearing its lock, then looking at what it did")
            self._clear(lock)
        self._unsettle()

    def _clear(self, lock: Lock) -> None:
        if lock.stale:
            end_session(lock.pid)
        if lock.file:
            for file in (lock.file, lock.file.with_name(f"{lock.file.name}.attrs")):
                file.unlink(missing_ok=True)
        else:
            self._call("cancel", "--yes", self.target.stack)

    def _unsettle(self) -> None:
        """Have the next operation look at the cluster, and drop what the state says was begun and not ended.

        Where a creation was cut off, the object is there or not; created once more by its name it is adopted or made
        (server-side apply). Left in the state, Pulumi would carry such an entry, and warn of it, for ever. A run
        that is cancelled writes such entries of a throwaway state too.
        """
        self._unsettled.touch()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "state.json")
            self._call("stack", "export", "--stack", self.target.stack, "--file", str(file))
            if json.loads(file.read_text())["deployment"].get("pending_operations"):
                # An import drops them.
                self._call("stack", "import", "--stack", self.target.stack, "--file", str(file))

    def _call(self, *args: str) -> str:
        """What a command prints. Raises StackNotFoundError where there is no stack."""
        try:
            return self._pulumi.run(list(args), cwd=str(paths.ROOT), additional_env={}).stdout
        except StackNotFoundError:
            raise
        except CommandError as error:
            raise self._failure(Run(), error) from None

    def _failure(self, run: Run, error: CommandError) -> KibanError:
        """What a failed command means to the user; the details have been said when this returns."""
        so_far = "nothing was changed" if self.verb == "preview" else summary(run) or "nothing was changed"
        again = f"to go on run `kiban {self.title}` again"
        items = [change.as_item() for change in run.changes] + [problem.as_item() for problem in run.errors]
        if self._pulumi.stops:
            return Interrupted(f"{self.title}: interrupted ({so_far}); {again}")
        for problem in run.errors[:_SAID]:
            self._say(f"error: {problem}")
        if len(run.errors) > _SAID:
            self._say(f"and {len(run.errors) - _SAID} errors more")
        if self._pulumi.killed:
            return RunFailed(f"{self.title}: pulumi was killed ({so_far}); {again}")
        if run.errors:
            first, *others = run.errors
            more = f" (and {len(others)} errors more)" if others else ""
            if run.conflicts:
                again = f"to take it back run `kiban {self.title} --force`"
            return RunFailed(f"{self.title}: {str(first).splitlines()[0]}{more}; {so_far}; {again}", items=items)
        said = re.search(r"error: (.*)", str(error))
        return CouldNotRun(f"{self.title}: {said[1] if said else ' '.join(str(error).split())}")
