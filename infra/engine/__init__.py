"""Pulumi's engine on one target: up, preview, refresh, destroy, outputs; and what to do after a run was killed.

Runs the same program as `pulumi up -s ENV` (infra/__main__.py) through Pulumi's Automation API, with as few processes
as that allows: `Stack.up` would start six for what the events of one already tell.
"""

import dataclasses as dc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components._metadata import NAMESPACE
from infra import console, credentials, models, preflight, steps, sweep
from infra.engine.events import Change, Problem, Run, masked
from infra.engine.locks import Lock
from infra.engine.session import Operation, Session
from infra.kubectl import Kubectl
from infra.release import guard
from infra.sweep import Orphan
from infra.target import Target, refuse_second, states

__all__ = [
    "Change",
    "Lock",
    "Problem",
    "Result",
    "configuration",
    "destroy",
    "export",
    "generate",
    "outputs",
    "prepare",
    "preview",
    "refresh",
    "unlock",
    "up",
]

Say = Callable[[str], None]
_FORCE: Mapping[str, str] = {"PULUMI_K8S_ENABLE_PATCH_FORCE": "true"}
_QUIET: Mapping[str, Any] = {"color": "never", "suppress_outputs": True, "suppress_progress": True}


@dc.dataclass(frozen=True, kw_only=True)
class Result:
    """What a run did, or a preview would do.

    counts: resources by what was done: created, updated, replaced, deleted, unchanged.
    outputs: of the stack, with secrets masked.
    recovered: whether the run before was killed; `orphans` is then what it had left and no longer belongs there.
    """

    verb: str
    environment: str
    seconds: float
    counts: Mapping[str, int]
    changes: tuple[Change, ...]
    outputs: Mapping[str, Any]
    warnings: tuple[Problem, ...]
    recovered: bool = False
    orphans: tuple[Orphan, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was, or would be, different."""
        return bool(self.changes)


def up(target: Target, *, force: bool = False, plan: Path | None = None, say: Say = console.say) -> Result:
    """Make the cluster as the program says.

    force: also where another field manager has set what the program sets; else that is an error, unless it is kubectl.
    plan: of a preview; the run fails at the first resource for which the program says otherwise by now.
    """
    guard.refuse_unpromoted(target.environment, target.cluster)
    _check(target)
    generate(target, say=say)
    return _change(
        Session(target, "up", say, _FORCE if force else None),
        lambda stack, run, unsettled: stack.up(
            on_event=run, refresh=unsettled or None, plan=str(plan) if plan else None, **_QUIET
        ),
        say,
    )


def _check(target: Target) -> None:
    """Refuse, before a run begins, what its program would refuse too (infra/__main__.py)."""
    if target.folder:
        refuse_second(target.environment, target.folder)
    steps.check(target.environment)
    preflight.check(target.environment, Kubectl(target.cluster.kubeconfig, target.cluster.context))
    models.check(target.environment, target.cluster)


def preview(target: Target, *, plan: Path | None = None, say: Say = console.say) -> Result:
    """Say what `up` would do, except that it shows no conflict over a field: only applying tells.

    plan: where that is kept for an `up` that shall do nothing else. Secrets in it are encrypted as the state's are.
    """
    _check(target)
    # Without force the provider (4.25) calls what kubectl has set a conflict here, and takes it over in an `up`.
    session = Session(target, "preview", say, _FORCE)
    run = session.run(lambda stack, run, _: stack.preview(on_event=run, plan=str(plan) if plan else None, **_QUIET))
    return _result(session, run)


def refresh(target: Target, *, say: Say = console.say) -> Result:
    """Take what the cluster has into the state, for the next `up` to put right."""
    session = Session(target, "refresh", say)
    return _result(session, session.run(lambda stack, run, _: stack.refresh(on_event=run, **_QUIET)))


def destroy(target: Target, *, say: Say = console.say) -> Result:
    """Delete everything that the state knows, then what carries the environment's label and is not in it."""
    # A state that still lists what is gone loses nothing, so this one is written at the end only.
    session = Session(target, "destroy", say, {"PULUMI_SKIP_CHECKPOINTS": "true"})
    # Each namespace takes its controller 5 s, and only waiting for it takes a place here.
    return _change(
        session, lambda stack, run, _: stack.destroy(parallel=256, on_event=run, **_QUIET), say, sweeping=True
    )


def outputs(target: Target, *, say: Say = console.say) -> dict[str, Any]:
    """The stack's outputs with secrets masked; empty where it was never made."""
    answer = Session(target, "outputs", say).query("stack", "output", "--json") or {}
    return {name: masked(value) for name, value in answer.items()}


def export(target: Target, *, secrets: bool = False, say: Say = console.say) -> dict[str, Any]:
    """The stack's state (a Pulumi deployment); empty where it was never made. secrets: decrypted, for memory only."""
    options = ["--show-secrets"] if secrets else []
    answer = Session(target, "export", say).query("stack", "export", *options) or {"deployment": {}}
    return dict(answer["deployment"])


def prepare(target: Target, *, say: Say = console.say) -> None:
    """Make the stack if its state lives beside the cluster and there is none, so that the plain `pulumi` finds it.

    Its credentials too.
    """
    if target.folder and target.stack not in states(target.folder):
        Session(target, "env", say).create()
    generate(target, say=say)


def configuration(target: Target, verb: str, *, say: Say = console.say) -> credentials.Configuration:
    """The stack's configuration, for a verb that reads or changes it."""
    return Session(target, verb, say)


def generate(target: Target, *, asked: bool = False, say: Say = console.say) -> bool:
    """Generate the stack's credentials where its environment needs some and has none; return whether it did.

    asked: by the user. Raises BadInput where the cluster has databases that know others, and, unasked, where the file
    that would change has to be committed.
    """

    def in_use() -> bool:
        kubectl = Kubectl(target.cluster.kubeconfig, target.cluster.context)
        return bool(kubectl.get("persistentvolumeclaims", namespace=NAMESPACE))

    stack = configuration(target, "credentials generate", say=say)
    return credentials.ensure(stack, target.environment, asked=asked, in_use=in_use, say=say)


def unlock(target: Target, *, say: Say = console.say) -> tuple[Lock, ...]:
    """Clear the stack's locks, whoever holds them, and return those that could be read."""
    return Session(target, "unlock", say).unlock()


def _change(session: Session, operation: Operation, say: Say, *, sweeping: bool = False) -> Result:
    """Run an operation; after a killed run (or if `sweeping`), clear what the state does not know."""
    run = session.run(operation)
    recovered = not session.settled
    orphans: tuple[Orphan, ...] = ()
    if recovered or sweeping:
        orphans = sweep.clear(session.target, export(session.target), namespaces=sweeping, say=say)
        session.settle()
    return _result(session, run, recovered=recovered, orphans=orphans)


def _result(session: Session, run: Run, *, recovered: bool = False, orphans: tuple[Orphan, ...] = ()) -> Result:
    return Result(
        verb=session.verb,
        environment=session.target.stack,
        seconds=run.seconds,
        counts=dict(run.counts),
        changes=tuple(run.changes),
        outputs=run.outputs,
        warnings=tuple(problem for problem in run.problems if problem.severity == "warning"),
        recovered=recovered,
        orphans=orphans,
    )
