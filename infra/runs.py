"""`kiban runs`: start the reference pipeline, list and show what is remembered of runs, and run one again to compare.

A run is a Workflow of Argo while it goes on, and for good a run of MLflow that its steps write
(pipelines/reference/steps). What a run was is also there as a Workflow that can be submitted again.
"""

import datetime as dt
import json
import subprocess
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from infra import paths
from infra.clusters.waiting import until
from infra.errors import BadInput, RunFailed
from infra.kubectl import Object
from infra.metadata import Metadata, Mlflow
from stacks._schema import Environment

Say = Callable[[str], None]

TEMPLATE = "reference"
WORKFLOWS = "workflows.argoproj.io"
RECORD = "record/workflow.json"
_ENDED = ("Succeeded", "Failed", "Error")
_LONGEST = 24 * 3600.0  # seconds
_EVERY = 1.0
_COMPARED = ("kiban.data_digest", "kiban.model_digest")


def start(
    metadata: Metadata, environment: Environment, team: str, given: Iterable[str], *, wait: bool, say: Say
) -> dict[str, Any]:
    """Submit the reference pipeline in a team's namespace and return its item.

    given: parameters as NAME=VALUE. Raises BadInput for a team, or a parameter, that there is not.
    """
    namespace = namespaces(environment, team)[team]
    (template,) = metadata.kubectl.get("workflowtemplates.argoproj.io", TEMPLATE, namespace=namespace)
    accepted = [each["name"] for each in template["spec"].get("arguments", {}).get("parameters", ())]
    made = metadata.kubectl.create(workflow(namespace, parameters(given, accepted)))
    name = made["metadata"]["name"]
    say(f"{name}: submitted in {namespace}")
    if not wait:
        return {"run": name, "team": team, "outcome": "submitted"}
    return {"run": name, "team": team, **follow(metadata, namespace, name, say=say)}


def namespaces(environment: Environment, team: str | None = None) -> dict[str, str]:
    """Team to namespace, of all teams or of one. Raises BadInput for a team that there is not."""
    found = {each.name: each.namespace for each in environment.teams}
    if team is not None and team not in found:
        raise BadInput(f"team {team!r}; accepted: {', '.join(found) or 'none'}")
    return {name: space for name, space in found.items() if team in (None, name)}


def parameters(given: Iterable[str], accepted: Iterable[str]) -> dict[str, str]:
    """NAME=VALUE words as a mapping, with the commit of the checkout unless it is given."""
    names = list(accepted)
    values: dict[str, str] = {"git-commit": commit()} if "git-commit" in names else {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals or name not in names:
            raise BadInput(f"--param {word!r}; accepted: NAME=VALUE with NAME one of {', '.join(names)}")
        values[name] = value
    return values


def commit() -> str:
    """The commit of the checkout, with `-dirty` where files differ from it; empty where there is no git."""
    try:
        head = _git("rev-parse", "HEAD")
        return f"{head}-dirty" if _git("status", "--porcelain") else head
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=paths.ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    return done.stdout.strip()


def workflow(namespace: str, values: Mapping[str, str]) -> Object:
    """The Workflow that runs the reference pipeline."""
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": f"{TEMPLATE}-", "namespace": namespace},
        "spec": {
            "workflowTemplateRef": {"name": TEMPLATE},
            "arguments": {"parameters": [{"name": name, "value": value} for name, value in values.items()]},
        },
    }


def follow(metadata: Metadata, namespace: str, name: str, *, say: Say) -> dict[str, Any]:
    """Say what becomes of each node of a Workflow until it ends; return its outcome, and why it failed if it did."""
    told: dict[str, str] = {}
    now: Object = {}

    def ended() -> bool:
        now.update(metadata.kubectl.get(WORKFLOWS, name, namespace=namespace)[0])
        for line in news(now, told):
            say(f"{name}: {line}")
        return phase(now) in _ENDED

    until(ended, seconds=_LONGEST, what=f"{namespace}/{name} to end", every=_EVERY)
    if phase(now) == "Succeeded":
        return {"outcome": "Succeeded"}
    say(f"{name}: {why(now)}")
    return {"outcome": "Failed", "reason": why(now)}


def phase(of: Object) -> str:
    """Argo's word for how far a Workflow is."""
    return str(of.get("status", {}).get("phase") or "Pending")


def news(of: Object, told: dict[str, str]) -> list[str]:
    """A line a node whose phase is another than was told, which `told` then is."""
    lines = []
    for node in _nodes(of):
        if told.get(node["id"]) != node.get("phase"):
            told[node["id"]] = node.get("phase", "")
            lines.append(f"{node['displayName']}: {node.get('phase', '')}")
    return lines


def why(of: Object) -> str:
    """Why a Workflow failed: the first step that did, and what it said; else what is said of the whole."""
    for node in sorted(_nodes(of), key=lambda node: node.get("finishedAt") or "9"):
        if node.get("phase") in {"Failed", "Error"}:
            return f"{node['displayName']}: {node.get('message') or node['phase']}"
    return str(of.get("status", {}).get("message") or phase(of))


def _nodes(of: Object) -> list[Object]:
    """Nodes that have a pod, in the order in which they began."""
    nodes = [node for node in of.get("status", {}).get("nodes", {}).values() if node.get("type") == "Pod"]
    return sorted(nodes, key=lambda node: node.get("startedAt") or "")


def items(metadata: Metadata, environment: Environment, team: str | None) -> list[dict[str, Any]]:
    """An item a run, newest first: those that MLflow has, and Workflows that have not come that far."""
    spaces = namespaces(environment, team)
    with metadata.mlflow() as mlflow:
        recorded = _recorded(mlflow, spaces)
    known = {tags(run).get("kiban.workflow") for run in recorded}
    live = [
        of
        for of in _workflows(metadata)
        if of["metadata"]["namespace"] in spaces.values() and of["metadata"]["name"] not in known
    ]
    found = [*(_item(run) for run in recorded), *(_live_item(of, spaces) for of in live)]
    return sorted(found, key=lambda item: str(item["started"]), reverse=True)


def _workflows(metadata: Metadata) -> list[Object]:
    """All Workflows; none where the cluster has no Argo."""
    try:
        return metadata.kubectl.get(WORKFLOWS, everywhere=True)
    except RunFailed as failure:
        if "the server doesn't have a resource type" in str(failure):
            return []
        raise


def _recorded(mlflow: Mlflow, teams: Iterable[str], matching: str = "") -> list[Object]:
    """MLflow's runs of the teams' experiments; each is given its team as `team`."""
    named = {each["experiment_id"]: each["name"] for each in mlflow.experiments() if each["name"] in teams}
    found = mlflow.runs(list(named), matching=matching)
    return [run | {"team": named[run["info"]["experiment_id"]]} for run in found]


def tags(run: Object) -> dict[str, str]:
    """A run's tags."""
    return {each["key"]: each["value"] for each in run.get("data", {}).get("tags", ())}


def metrics(run: Object) -> dict[str, float]:
    """A run's metrics, the last value of each."""
    return {each["key"]: each["value"] for each in run.get("data", {}).get("metrics", ())}


def _item(run: Object) -> dict[str, Any]:
    told, info = tags(run), run["info"]
    began, end = info.get("start_time"), info.get("end_time")
    return {
        "run": told.get("kiban.workflow", info.get("run_name")),
        "team": run["team"],
        "outcome": told.get("kiban.outcome", info["status"].capitalize()),
        "started": _moment(began),
        "seconds": (end - began) // 1000 if end and began else None,
        "commit": told.get("kiban.git_commit", "")[:12],
        "mlflow_run": info["run_id"],
        "reason": told.get("kiban.reason"),
    }


def _live_item(of: Object, spaces: Mapping[str, str]) -> dict[str, Any]:
    space = of["metadata"]["namespace"]
    began = of.get("status", {}).get("startedAt") or of["metadata"]["creationTimestamp"]
    return {
        "run": of["metadata"]["name"],
        "team": next(team for team, namespace in spaces.items() if namespace == space),
        "outcome": phase(of),
        "started": began,
        "seconds": None,
        "commit": None,
        "mlflow_run": None,
        "reason": why(of) if phase(of) in {"Failed", "Error"} else None,
    }


def _moment(milliseconds: int | None) -> str | None:
    if not milliseconds:
        return None
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def find(mlflow: Mlflow, environment: Environment, wanted: str) -> Object:
    """The run of a Workflow's name, or of MLflow's id or the beginning of it. Raises BadInput for none or several."""
    if not wanted.replace("-", "").replace(".", "").isalnum():
        raise BadInput(f"run {wanted!r}; accepted: the name of a Workflow, or MLflow's id of a run, or how it begins")
    spaces = namespaces(environment)
    found = _recorded(mlflow, spaces, f"tags.`kiban.workflow` = '{wanted}'") or [
        run for run in _recorded(mlflow, spaces) if run["info"]["run_id"].startswith(wanted)
    ]
    if len(found) != 1:
        several = ", ".join(run["info"]["run_id"] for run in found[:5])
        raise BadInput(f"run {wanted!r}: {several or 'none is recorded'}; accepted: one run; see `kiban runs list`")
    return found[0]


def show_items(metadata: Metadata, environment: Environment, wanted: str) -> list[dict[str, Any]]:
    """An item a fact that is recorded of a run."""
    with metadata.mlflow() as mlflow:
        run = find(mlflow, environment, wanted)
    return fields(run)


def fields(run: Object) -> list[dict[str, Any]]:
    """All that is recorded of a run: itself, parameters, metrics, tags; mappings in tags are one item an entry."""
    found: dict[str, Any] = {**_item(run), "artifacts": run["info"]["artifact_uri"]}
    found |= {f"parameter {each['key']}": each["value"] for each in run["data"].get("params", ())}
    found |= {f"metric {name}": value for name, value in sorted(metrics(run).items())}
    for name, value in sorted(tags(run).items()):
        if name.startswith("kiban."):
            entries = _mapping(value)
            short = name.removeprefix("kiban.")
            found |= {f"{short} {key}": each for key, each in entries.items()} if entries else {short: value}
    return [{"field": name, "value": value} for name, value in found.items()]


def _mapping(value: str) -> dict[str, Any]:
    try:
        read = json.loads(value)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def reproduce(metadata: Metadata, environment: Environment, wanted: str, *, say: Say) -> list[dict[str, Any]]:
    """Run a run again from its record, and return an item a compared field: recorded, reproduced, same.

    Raises BadInput for a run that did not succeed, RunFailed where the second one fails.
    """
    with metadata.mlflow() as mlflow:
        first = find(mlflow, environment, wanted)
    if tags(first).get("kiban.outcome") != "Succeeded":
        raise BadInput(f"run {wanted!r}: it did not succeed; accepted: a run with a result to compare")
    team = first["team"]
    namespace = namespaces(environment, team)[team]
    recorded = _record(metadata, namespace, urlsplit(first["info"]["artifact_uri"]))
    name = metadata.kubectl.create(again(recorded, namespace))["metadata"]["name"]
    say(f"{name}: submitted in {namespace}, from the record of {tags(first).get('kiban.workflow', wanted)}")
    outcome = follow(metadata, namespace, name, say=say)
    if outcome["outcome"] != "Succeeded":
        raise RunFailed(f"{name}: {outcome['reason']}")
    with metadata.mlflow() as mlflow:
        return compared(first, find(mlflow, environment, name))


def _record(metadata: Metadata, namespace: str, place: Any) -> Object:  # noqa: ANN401  urllib's SplitResult
    """The Workflow that a run left in its team's bucket, read with the team's own key."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    keys = metadata.secret("mlpipeline-minio-artifact", namespace=namespace)
    (config,) = metadata.kubectl.get("configmap", "metadata-store", namespace=namespace)
    key = f"{place.path.strip('/')}/{RECORD}"
    with metadata.object_store(
        config["data"]["MLFLOW_S3_ENDPOINT_URL"],
        region=config["data"]["AWS_DEFAULT_REGION"],
        access=keys["accesskey"],
        secret=keys["secretkey"],
    ) as store:
        try:
            found: Object = json.loads(store.get_object(Bucket=place.netloc, Key=key)["Body"].read())
        except (BotoCoreError, ClientError, ValueError) as error:
            raise RunFailed(f"s3://{place.netloc}/{key}: {error}") from error
    return found


def again(recorded: Object, namespace: str) -> Object:
    """A Workflow of what was recorded, in the team's namespace whatever the record says: the team can write to it."""
    metadata = recorded.get("metadata", {})
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {
            "generateName": metadata.get("generateName") or f"{TEMPLATE}-",
            "namespace": namespace,
            **({"labels": metadata["labels"]} if metadata.get("labels") else {}),
        },
        "spec": recorded["spec"],
    }


def compared(first: Object, second: Object) -> list[dict[str, Any]]:
    """An item a result of either run: every metric, exactly, and the digests of data and model."""
    sides = [
        {f"metric {name}": value for name, value in sorted(metrics(run).items())}
        | {name.removeprefix("kiban."): tags(run).get(name) for name in _COMPARED}
        for run in (first, second)
    ]
    return [
        {
            "field": name,
            "recorded": sides[0].get(name),
            "reproduced": sides[1].get(name),
            "same": sides[0].get(name) is not None and sides[0].get(name) == sides[1].get(name),
        }
        for name in {**sides[0], **sides[1]}
    ]
