"""What the program does without, or all at once, of what Pulumi's Python SDK (3.259) does for every resource.

Found by profiling `up` at 220 and 1,500 resources: each costs more than it gives. A test looks for it in the state, so
that a release of the SDK which does it in another way is noticed.
"""

import asyncio

import pulumi
from pulumi.runtime import resource
from pulumi.runtime.proto import source_pb2
from pulumi.runtime.settings import SETTINGS


def economise() -> None:
    """Leave out debug lines and stack traces.

    Debug lines: four a resource, each a call to the engine that is waited for, and shown to nobody.
    Stack traces: where in the program a resource was declared, with the paths of this machine; nearly half the state,
        which a durable run writes twice a resource.
    """
    pulumi.log.debug = _nothing
    resource._get_stack_trace = source_pb2.StackTrace  # noqa: SLF001


async def settled() -> None:
    """Wait until every output is known, all at once.

    Pulumi's own wait, which follows, looks at all outputs again whenever one is known: two fifths of the program's time
    at 1,500 resources. Errors are left for it to raise.
    """
    while pending := [task for task in SETTINGS.outputs if not task.done()]:
        await asyncio.wait(pending)


def _nothing(*_: object, **__: object) -> None:
    """In place of pulumi.log.debug."""
