"""Every check of a rehearsal."""

from infra.rehearsal.checks import steps
from infra.rehearsal.look import Check

STEPS: tuple[Check, ...] = steps.CHECKS
"""Those that need no more than what the step's verb said."""
ALL: tuple[Check, ...] = STEPS
