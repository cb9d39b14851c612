"""Models in service: what `up` refuses before anything is changed, and `kiban models list`.

A model's URI must exist and be what its digest says. A folder's digest is that of the lines that `sha256sum` prints for
its files in the order of their names, relative to the folder. What was verified once is remembered by URI and ETags
(KIBAN_HOME/models-verified.json), so that only a new or overwritten model is read again.
"""

import concurrent.futures
import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components._metadata import store_at
from components.scripts.canary import STATE
from components.serving_stack import CANARY, Model, ServingStackArgs
from infra import paths
from infra.clusters import Cluster
from infra.errors import BadInput, CouldNotRun, KibanError, RunFailed
from infra.kubectl import Kubectl, Object
from infra.metadata import Metadata
from stacks._schema import Environment

_CHUNK = 1 << 20
_AT_ONCE = 8
_NOTHING = "nothing was changed"
SERVICES = "inferenceservices.serving.kserve.io"
ROUTES = "httproutes.gateway.networking.k8s.io"


def check(environment: Environment, cluster: Cluster) -> None:
    """Raise BadInput, in one line, for a model that is not where its URI says, or not what its digest says."""
    if not environment.serving or not environment.metadata or not environment.serving.models:
        return
    where = store_at(environment.metadata)
    metadata = Metadata(cluster)
    keys = _keys(metadata)
    verified = _remembered()
    for team in dict.fromkeys(model.team for model in environment.serving.models):
        own = [model for model in environment.serving.models if model.team == team]
        access, secret = (keys.get(f"{team}.{part}", "") for part in ("access", "secret"))
        with metadata.object_store(where.endpoint, region=where.region, access=access, secret=secret) as store:
            refuse_models(own, store, verified)
    _remember(verified)


def refuse_models(models: Sequence[Model], store: Any, verified: dict[str, dict[str, str]]) -> None:  # noqa: ANN401 - boto3
    """Raise BadInput for the first model, in the given order, that is not what it says.

    store: a client of the object store. verified: URI to ETags and digest; added to.
    """
    sources = [(model, uri, digest) for model in models for uri, digest in model.sources]
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(lambda one: _digest(store, one[1], verified), sources))
    for (model, uri, digest), actual in zip(sources, found, strict=True):
        if actual is None:
            raise BadInput(
                f"model {model.name!r}: uri={uri!r} does not exist; accepted: a model that is there; {_NOTHING}"
            )
        if actual != digest:
            raise BadInput(f"model {model.name!r}: digest={digest!r}, but {uri} has {actual!r}; {_NOTHING}")


def _digest(store: Any, uri: str, verified: dict[str, dict[str, str]]) -> str | None:  # noqa: ANN401 - boto3
    """The digest of what is at the URI; None where nothing is."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    files = _files(store, bucket, key)
    if not files:
        return None
    tags = json.dumps(files, sort_keys=True)
    if verified.get(uri, {}).get("etags") != tags:
        digests = {name: _sha256(store, bucket, name) for name in files}
        listing = "".join(f"{digests[name]}  {name.removeprefix(key)}\n" for name in sorted(digests))
        whole = hashlib.sha256(listing.encode()).hexdigest() if key.endswith("/") else digests[key]
        verified[uri] = {"etags": tags, "digest": whole}
    return verified[uri]["digest"]


def _files(store: Any, bucket: str, key: str) -> dict[str, str]:  # noqa: ANN401 - boto3
    """Key to ETag of the file, or of all files of the folder."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - a quarter of a second

    try:
        if not key.endswith("/"):
            return {key: store.head_object(Bucket=bucket, Key=key)["ETag"]}
        pages = store.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        return {
            each["Key"]: each["ETag"]
            for page in pages
            for each in page.get("Contents", ())
            if not each["Key"].endswith("/")
        }
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NoSuchBucket"):
            return {}
        raise CouldNotRun(f"s3://{bucket}/{key}: {error}; {_NOTHING}") from None
    except BotoCoreError as error:
        raise CouldNotRun(f"s3://{bucket}/{key}: {error}; {_NOTHING}") from None


def _sha256(store: Any, bucket: str, key: str) -> str:  # noqa: ANN401 - boto3
    whole = hashlib.sha256()
    for part in store.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(_CHUNK):
        whole.update(part)
    return whole.hexdigest()


def _keys(metadata: Metadata) -> dict[str, str]:
    try:
        return metadata.secret("object-store-teams")
    except RunFailed:
        raise BadInput(
            "models: the environment has no object store yet that could have them; accepted: none in the first `up`; "
            f"{_NOTHING}"
        ) from None


def _cache() -> Path:
    return paths.home() / "models-verified.json"


def _remembered() -> dict[str, dict[str, str]]:
    with contextlib.suppress(OSError, ValueError):
        found: dict[str, dict[str, str]] = json.loads(_cache().read_text())
        return found
    return {}


def _remember(verified: Mapping[str, Mapping[str, str]]) -> None:
    _cache().parent.mkdir(parents=True, exist_ok=True)
    _cache().write_text(json.dumps(verified, indent=1, sort_keys=True))


def items(serving: ServingStackArgs, cluster: Cluster) -> list[dict[str, Any]]:
    """An item a version in service, of `models list`: what the data say, and whether it is ready in the cluster."""
    kubectl = Kubectl(cluster.kubeconfig, cluster.context)
    found = []
    for kind in (SERVICES, ROUTES) if serving.gateway else (SERVICES,):
        with contextlib.suppress(KibanError):  # no such kind yet
            found += kubectl.get(kind, everywhere=True)
    return [each for model in serving.models for each in rows(model, found)]


def rows(model: Model, found: Sequence[Object]) -> Iterator[dict[str, Any]]:
    """A model's items. found: the cluster's InferenceServices and HTTPRoutes."""
    there = {(each["kind"], each["metadata"]["namespace"], each["metadata"]["name"]): each for each in found}
    moved = _moved(there.get(("HTTPRoute", f"team-{model.team}", model.name)), model)
    versions = [(model.name, model.version, 100 - moved["percent"], model.digest, "")]
    if model.canary:
        says = " ".join(filter(None, (moved["phase"], moved["reason"])))
        versions.append((model.name + CANARY, model.canary.version, moved["percent"], model.canary.digest, says))
    for name, version, share, digest, says in versions:
        service = there.get(("InferenceService", f"team-{model.team}", name))
        yield {
            "model": model.name,
            "team": model.team,
            "version": version,
            "share": share,
            "canary": says,
            "runtime": model.runtime,
            "digest": digest[:12],
            "ready": _ready(service, version),
        }


def _moved(route: Object | None, model: Model) -> dict[str, Any]:
    """What the canary controller says of the canary that the data have (components/scripts/canary.py, State)."""
    annotations = (route or {"metadata": {}})["metadata"].get("annotations", {})
    with contextlib.suppress(KeyError, ValueError):
        said: dict[str, Any] = json.loads(annotations[STATE])
        if model.canary and said["of"].endswith(f"/{model.canary.version}"):
            return said
    return {"percent": 0, "phase": "Waiting", "reason": ""}


def _ready(service: Object | None, version: str) -> str:
    if service is None:
        return "absent"
    if service["metadata"].get("labels", {}).get("kiban.dev/model-version") != version:
        return "another version"
    conditions = {each["type"]: each for each in service.get("status", {}).get("conditions", ())}
    ready = conditions.get("Ready", {})
    return "yes" if ready.get("status") == "True" else ready.get("message") or ready.get("reason") or "not yet"
