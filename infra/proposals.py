"""Proposals of the retraining: what models they would serve, and taking one into stacks/models.yaml of this checkout.

A proposal is a document in its team's bucket (pipelines/retrain/steps/propose.py). To accept one changes the file and
nothing else: it is committed, reviewed and rolled out like any other change.
"""

import contextlib
import dataclasses as dc
import difflib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from infra import paths
from infra.errors import BadInput, RunFailed
from infra.metadata import Metadata
from infra.runs import namespaces
from stacks._schema import Environment

FILE = paths.ROOT / "stacks" / "models.yaml"
SCHEMA = "kiban.dev/proposal/v1"
PREFIX = "proposals/"
FIELDS = ("version", "uri", "digest")
_VALUES = {
    "version": re.compile(r"[0-9]{1,9}"),
    "uri": re.compile(r"s3://[a-z0-9][a-z0-9.-]*/[A-Za-z0-9._/=-]+"),
    "digest": re.compile(r"[0-9a-f]{64}"),
}


@dc.dataclass(frozen=True, kw_only=True)
class Proposal:
    """What to change of a model's entry.

    target: the environment whose entry it is. base, to: version, uri and digest as they were when it was made, and as
    they are to be.
    """

    id: str
    made: str
    target: str
    team: str
    model: str
    base: Mapping[str, str]
    to: Mapping[str, str]
    candidate: float
    serving: float
    alert: str

    @property
    def item(self) -> dict[str, Any]:
        """What `kiban models proposals` prints of it."""
        return {
            "proposal": self.id,
            "team": self.team,
            "model": self.model,
            "target": self.target,
            "from": self.base["version"],
            "to": self.to["version"],
            "accuracy": self.candidate,
            "in_service": self.serving,
            "alert": self.alert,
            "made": self.made,
        }


def parsed(content: bytes, where: str) -> Proposal:
    """A proposal as its document says. Raises RunFailed for what is none: a team can write to its own bucket."""
    try:
        document = json.loads(content)
        if document["schema"] != SCHEMA:
            raise RunFailed(f"{where}: schema {document['schema']!r}; accepted: {SCHEMA}")
        found = Proposal(
            **{field: str(document[field]) for field in ("id", "made", "target", "team", "model", "alert")},
            base={field: str(document["base"][field]) for field in FIELDS},
            to={field: str(document["to"][field]) for field in FIELDS},
            candidate=float(document["judgement"]["candidate"]["accuracy"]),
            serving=float(document["judgement"]["serving"]["accuracy"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RunFailed(f"{where}: no proposal ({type(error).__name__}: {error})") from error
    for field in FIELDS:
        if not _VALUES[field].fullmatch(found.to[field]):
            raise RunFailed(f"{where}: {field} {found.to[field]!r}; accepted: {_VALUES[field].pattern}")
    return found


def read(metadata: Metadata, environment: Environment, team: str | None = None) -> list[Proposal]:
    """The proposals of an environment's teams, newest first. Raises BadInput for a team that there is not."""
    found = []
    for name, namespace in namespaces(environment, team).items():
        with _bucket(metadata, namespace) as (store, bucket):
            pages = store.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=PREFIX)
            for key in [each["Key"] for page in pages for each in page.get("Contents", ())]:
                where = f"s3://{bucket}/{key}"
                proposal = parsed(store.get_object(Bucket=bucket, Key=key)["Body"].read(), where)
                if proposal.team != name:
                    raise RunFailed(f"{where}: team {proposal.team!r}; accepted: {name}, whose bucket it is")
                found.append(proposal)
    return sorted(found, key=lambda each: each.made, reverse=True)


@contextlib.contextmanager
def _bucket(metadata: Metadata, namespace: str) -> Iterator[tuple[Any, str]]:
    """A client of the object store with a team's own key, and its bucket."""
    keys = metadata.secret("mlpipeline-minio-artifact", namespace=namespace)
    (config,) = metadata.kubectl.get("configmap", "metadata-store", namespace=namespace)
    with metadata.object_store(
        config["data"]["MLFLOW_S3_ENDPOINT_URL"],
        region=config["data"]["AWS_DEFAULT_REGION"],
        access=keys["accesskey"],
        secret=keys["secretkey"],
    ) as store:
        yield store, config["data"]["BUCKET"]


def find(proposals: list[Proposal], wanted: str) -> Proposal:
    """The proposal of that id. Raises BadInput for none."""
    for each in proposals:
        if each.id == wanted:
            return each
    raise BadInput(f"proposal {wanted!r}; accepted: {', '.join(each.id for each in proposals) or 'none is there'}")


def accept(proposal: Proposal, file: Path = FILE) -> str:
    """Change the entry in the file, and nothing else of it; return the change as a unified diff.

    Raises BadInput where the file does not have the entry that the proposal was made against.
    """
    before = file.read_text()
    after = changed(before, proposal, str(file.name))
    file.write_text(after)
    name = f"stacks/{file.name}"
    lines = (before.splitlines(keepends=True), after.splitlines(keepends=True))
    return "".join(difflib.unified_diff(*lines, f"a/{name}", f"b/{name}"))


def changed(text: str, proposal: Proposal, name: str) -> str:
    """The file's text with the entry changed. Values are replaced where they stand, so comments and order stay."""
    values = _entry(text, proposal, name)
    for field in FIELDS:
        if field not in values or values[field].value != proposal.base[field]:
            given = values[field].value if field in values else "missing"
            raise BadInput(
                f"{name}: {proposal.target}, {proposal.model}: {field} is {given}; proposal {proposal.id} was made "
                f"against {proposal.base[field]}; accepted: a proposal for what is there; nothing was changed"
            )
    for node in sorted((values[field] for field in FIELDS), key=lambda each: -each.start_mark.index):
        field = next(each for each in FIELDS if values[each] is node)
        quote = node.style if node.style in {"'", '"'} else ""
        text = f"{text[: node.start_mark.index]}{quote}{proposal.to[field]}{quote}{text[node.end_mark.index :]}"
    return text


def _entry(text: str, proposal: Proposal, name: str) -> dict[str, yaml.ScalarNode]:
    """The plain values of the model's entry, by field, with their places."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise BadInput(f"{name}: {' '.join(str(error).split())}; nothing was changed") from error
    models = _fields(root).get(proposal.target)
    entries = models.value if isinstance(models, yaml.SequenceNode) else []
    for entry in entries:
        values = {key: value for key, value in _fields(entry).items() if isinstance(value, yaml.ScalarNode)}
        named = [values[field].value if field in values else None for field in ("name", "team")]
        if named == [proposal.model, proposal.team]:
            return values
    known = ", ".join(
        value.value for each in entries if isinstance(value := _fields(each).get("name"), yaml.ScalarNode)
    )
    raise BadInput(
        f"{name}: {proposal.target} has no model {proposal.model!r} of team {proposal.team!r}; accepted: "
        f"{known or 'none'}; nothing was changed"
    )


def _fields(node: yaml.Node | None) -> dict[str, yaml.Node]:
    """A mapping's values by key; nothing for what is no mapping."""
    return {key.value: value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}
