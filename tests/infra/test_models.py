"""What a model's URI leads to is what its digest says, asked of a real object store; and what `models list` tells."""

import dataclasses as dc
import hashlib
import json
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from components.scripts.canary import STATE, State
from components.serving_stack import Canary, Model
from infra import toolchain
from infra.clusters.waiting import until
from infra.errors import BadInput, CouldNotRun
from infra.models import refuse_models, rows

SECRET = "not-a-secret"  # noqa: S105
CONTENT = b"a model"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
MODEL = Model(
    name="digits",
    team="vision",
    version="3",
    uri="s3://vision/m/model.pkl",
    digest=DIGEST,
    runtime="kserve-sklearnserver",
    format="sklearn",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a client of a real object store, with a model in bucket `vision`."""
    folder = tmp_path_factory.mktemp("store")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(toolchain.resolve("versitygw")["versitygw"]), f"--port=127.0.0.1:{port}", "--access=root"]
    server = subprocess.Popen([*command, f"--secret={SECRET}", "--quiet", "posix", str(folder)])

    def answers() -> bool:
        with socket.socket() as asking:
            return asking.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers, seconds=10, what="the object store to answer")
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="root",
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )
        client.create_bucket(Bucket="vision")
        client.put_object(Bucket="vision", Key="m/model.pkl", Body=CONTENT)
        client.put_object(Bucket="vision", Key="folder/b/weights", Body=b"w")
        client.put_object(Bucket="vision", Key="folder/a", Body=b"a")
        yield client
    finally:
        server.terminate()
        server.wait()


def test_a_model_that_is_what_it_says_passes(store: Any) -> None:  # noqa: ANN401
    """So does its canary."""
    canary = Canary(version="4", uri=MODEL.uri, digest=DIGEST)
    refuse_models([dc.replace(MODEL, canary=canary)], store, {})


def test_a_folders_digest_is_that_of_its_listing(store: Any) -> None:  # noqa: ANN401
    """As `sha256sum` prints it."""
    listing = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in (("a", b"a"), ("b/weights", b"w"))
    )
    whole = hashlib.sha256(listing.encode()).hexdigest()
    refuse_models([dc.replace(MODEL, uri="s3://vision/folder/", digest=whole)], store, {})


@pytest.mark.parametrize("uri", ["s3://vision/m/other.pkl", "s3://vision/nothing/", "s3://nobucket/m/model.pkl"])
def test_a_uri_that_does_not_exist_is_refused(store: Any, uri: str) -> None:  # noqa: ANN401
    """A file, a folder, a bucket."""
    with pytest.raises(BadInput, match="does not exist") as refused:
        refuse_models([dc.replace(MODEL, uri=uri)], store, {})
    assert uri in str(refused.value)


def test_a_digest_that_does_not_match_is_refused(store: Any) -> None:  # noqa: ANN401
    """The message has both."""
    with pytest.raises(BadInput, match="model 'digits': digest=") as refused:
        refuse_models([dc.replace(MODEL, digest="b" * 64)], store, {})
    assert DIGEST in str(refused.value)
    assert "b" * 64 in str(refused.value)


def test_a_canarys_digest_is_verified_too(store: Any) -> None:  # noqa: ANN401
    """It answers requests as well."""
    canary = Canary(version="4", uri=MODEL.uri, digest="b" * 64)
    with pytest.raises(BadInput, match="digest="):
        refuse_models([dc.replace(MODEL, canary=canary)], store, {})


def test_what_was_verified_is_not_read_again(store: Any) -> None:  # noqa: ANN401
    """Unless it has changed since."""
    store.put_object(Bucket="vision", Key="again.pkl", Body=CONTENT)
    model = dc.replace(MODEL, uri="s3://vision/again.pkl")
    verified: dict[str, dict[str, str]] = {}
    read: list[str] = []
    store.meta.events.register("before-call.s3.GetObject", lambda **_: read.append("once"))
    refuse_models([model], store, verified)
    refuse_models([model], store, verified)
    assert read == ["once"]
    store.put_object(Bucket="vision", Key="again.pkl", Body=b"another")
    with pytest.raises(BadInput, match="digest="):
        refuse_models([model], store, verified)
    assert read == ["once", "once"]


def test_a_store_that_refuses_the_key_is_no_missing_model(store: Any) -> None:  # noqa: ANN401
    """The user would look in the wrong place."""
    stranger = boto3.client(
        "s3",
        endpoint_url=store.meta.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="root",
        aws_secret_access_key="wrong",  # noqa: S106
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )
    with pytest.raises(CouldNotRun):
        refuse_models([MODEL], stranger, {})


def service(version: str, *, ready: str, message: str = "") -> dict[str, Any]:
    """An InferenceService as the API server gives it."""
    return {
        "kind": "InferenceService",
        "metadata": {"namespace": "team-vision", "name": "digits", "labels": {"kiban.dev/model-version": version}},
        "status": {"conditions": [{"type": "Ready", "status": ready, "message": message}]},
    }


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], "absent"),
        ([service("3", ready="True")], "yes"),
        ([service("3", ready="False", message="no room")], "no room"),
        ([service("3", ready="Unknown")], "not yet"),
        ([service("2", ready="True")], "another version"),
    ],
)
def test_the_list_says_whether_a_version_serves(found: list[dict[str, Any]], said: str) -> None:
    """That another version does is not enough."""
    (row,) = rows(MODEL, found)
    assert row["ready"] == said


def test_the_list_has_a_canary_with_its_share() -> None:
    """A line a version."""
    model = dc.replace(MODEL, canary=Canary(version="4", uri=MODEL.uri, digest=DIGEST))
    own, canary = rows(model, [])
    assert (own["version"], own["share"], own["canary"]) == ("3", 100, "")
    assert (canary["version"], canary["share"], canary["canary"]) == ("4", 0, "Waiting")


@pytest.mark.parametrize(("of", "share", "says"), [("4", 50, "Moving at last"), ("3", 0, "Waiting")])
def test_the_list_says_what_the_controller_decided(of: str, share: int, says: str) -> None:
    """Of this canary, and not of one before it."""
    model = dc.replace(MODEL, canary=Canary(version="4", uri=MODEL.uri, digest=DIGEST))
    state = State(of=f"uid/{of}", phase="Moving", percent=50, since=0, reason="at last")
    metadata = {"namespace": "team-vision", "name": "digits", "annotations": {STATE: json.dumps(dc.asdict(state))}}
    own, canary = rows(model, [{"kind": "HTTPRoute", "metadata": metadata}])
    assert (own["share"], canary["share"], canary["canary"]) == (100 - share, share, says)
