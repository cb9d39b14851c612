"""Makes each team's user and experiment in MLflow, and lets the user manage that and nothing else.

Runs in a pod, as often as one likes, with MLFLOW_TRACKING_URI and an administrator's MLFLOW_TRACKING_USERNAME and
MLFLOW_TRACKING_PASSWORD. /teams/passwords.json: team to password. /buckets/experiments.json: team to where the
artifacts of its experiment go.
"""
# ruff: noqa: INP001 - a program of its own

import json
import os
import sys
from pathlib import Path

from mlflow import MlflowClient  # type: ignore[import-not-found,unused-ignore]
from mlflow.exceptions import MlflowException, RestException  # type: ignore[import-not-found,unused-ignore]
from mlflow.server.auth.client import AuthServiceClient  # type: ignore[import-not-found,unused-ignore]

_MISSING = "RESOURCE_DOES_NOT_EXIST"


def user(accounts: AuthServiceClient, team: str, password: str) -> None:
    """Make the team's user, or give it its password."""
    try:
        accounts.get_user(team)
    except RestException as error:
        if error.error_code != _MISSING:
            raise
        accounts.create_user(team, password)
    else:
        accounts.update_user_password(team, password)


def experiment(server: MlflowClient, team: str, artifacts: str) -> str:
    """The number of the team's experiment, made or brought back where it is missing."""
    found = server.get_experiment_by_name(team)
    if found is None:
        return str(server.create_experiment(team, artifact_location=artifacts))
    if found.lifecycle_stage == "deleted":
        server.restore_experiment(found.experiment_id)
    if found.artifact_location != artifacts:
        sys.exit(f"experiment {team} keeps its artifacts in {found.artifact_location}; accepted: {artifacts}")
    return str(found.experiment_id)


def manage(accounts: AuthServiceClient, team: str, number: str) -> None:
    """Let the team's user manage its experiment."""
    try:
        accounts.grant_user_permission(team, "experiment", number, "MANAGE")
    except RestException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def main() -> None:
    """Go through the teams."""
    address = os.environ["MLFLOW_TRACKING_URI"]
    accounts, server = AuthServiceClient(address), MlflowClient(address)
    artifacts = json.loads(Path("/buckets/experiments.json").read_text())
    for team, password in json.loads(Path("/teams/passwords.json").read_text()).items():
        try:
            user(accounts, team, password)
            manage(accounts, team, experiment(server, team, artifacts[team]))
        except MlflowException as error:
            sys.exit(f"team {team}: {error}")


if __name__ == "__main__":
    main()
