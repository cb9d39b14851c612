"""How a retraining ended, in tags of its MLflow run: kiban.outcome, and kiban.reason in one line.

Proposed: there is a new version and a proposal. Not better: the candidate was not. Not retrained: a hold, the cooldown
or the budget stood against it. Refused: the requests or labels are nothing to learn from. Failed: anything else.
"""

from pipelines.reference.steps.ending import Refused
from pipelines.reference.steps.tracking import Tracked

PROPOSED = "Proposed"
NOT_BETTER = "Not better"
NOT_RETRAINED = "Not retrained"
REFUSED = "Refused"
FAILED = "Failed"

OUTCOME = "kiban.outcome"
REASON = "kiban.reason"
ADMITTED = "kiban.retraining"
"""Tag of a run that was admitted: the model's name."""


def decided(run: Tracked, outcome: str, reason: str) -> None:
    """Record how it ended, before the workflow has."""
    run.tag({OUTCOME: outcome, REASON: reason})


def refused(run: Tracked, reason: str) -> Refused:
    """Record a refusal, and return it to be raised."""
    decided(run, REFUSED, reason)
    return Refused(reason)
