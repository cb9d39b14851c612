"""Every check of a rehearsal."""

from infra.rehearsal.checks import (
    apis,
    budgets,
    devices,
    images,
    kinds,
    network,
    queues,
    references,
    scheduling,
    security,
    steps,
    webhooks,
)
from infra.rehearsal.look import Check

STEPS: tuple[Check, ...] = steps.CHECKS
"""Those that need no more than what the step's verb said."""
ALL: tuple[Check, ...] = (
    *STEPS,
    *kinds.CHECKS,
    *references.CHECKS,
    *images.CHECKS,
    *webhooks.CHECKS,
    *security.CHECKS,
    *network.CHECKS,
    *scheduling.CHECKS,
    *queues.CHECKS,
    *budgets.CHECKS,
    *apis.CHECKS,
    *devices.CHECKS,
)
