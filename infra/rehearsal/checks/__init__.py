"""Every check of a rehearsal."""

from infra.rehearsal.checks import apis, network, queues, scheduling, steps
from infra.rehearsal.look import Check

STEPS: tuple[Check, ...] = steps.CHECKS
"""Those that need no more than what the step's verb said."""
ALL: tuple[Check, ...] = (*STEPS, *scheduling.CHECKS, *queues.CHECKS, *network.CHECKS, *apis.CHECKS)
