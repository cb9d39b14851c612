"""Exit handler `record`: as the reference pipeline's, but that a retraining has more ways to end well (decision.py)."""

import click

from pipelines.reference.steps import cluster, options
from pipelines.reference.steps import record as reference
from pipelines.reference.steps.ending import step
from pipelines.reference.steps.tracking import Tracked

from .decision import FAILED, OUTCOME, REASON, REFUSED

_TAG = 8000
"""Most characters of a tag's value that MLflow 3 keeps."""


@click.command()
@click.option("--status", required=True, help="How the workflow ended, Argo's word.")
@options.run_name
@options.run_uid
@step
def main(*, status: str, run_name: str, run_uid: str) -> None:
    """Record the workflow, and end its run."""
    workflow = reference.settled(run_name)
    pods = cluster.pods(run_name)
    run = Tracked(run_name, run_uid)
    decided = run.client.get_run(run.run_id).data.tags.get(OUTCOME)
    tags = reference.described(workflow, pods)
    if failed(status, decided):
        tags |= {OUTCOME: FAILED, REASON: reference.reason(workflow, pods) or status}
    run.document(reference.manifest(workflow, pods), "record/workflow.json")
    run.tag({key: value[:_TAG] for key, value in tags.items()})
    run.end("FINISHED" if status == "Succeeded" else "FAILED")


def failed(status: str, decided: str | None) -> bool:
    """Whether the workflow ended otherwise than its steps had decided; a refusal fails it on purpose."""
    return decided is None or (status != "Succeeded" and decided != REFUSED)


if __name__ == "__main__":
    main()
