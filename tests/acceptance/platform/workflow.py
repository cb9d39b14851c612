"""The workflow example for GitHub Actions, and the commands of its jobs."""

from typing import Any

import yaml

from tests.checkout import ROOT

WORKFLOW: dict[Any, Any] = yaml.safe_load((ROOT / "docs/how-to/github-actions.yml").read_text())


def commands(job: str) -> list[str]:
    """Return the commands of a job's steps."""
    return [step["run"] for step in WORKFLOW["jobs"][job]["steps"] if "run" in step]
