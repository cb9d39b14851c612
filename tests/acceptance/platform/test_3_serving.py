"""A registered model answers: deployed by `up`, asked, logged; and what cannot be served is refused.

Executed: KServe's controller, webhooks, storage initializer, agent and model server are processes in real pods.
"""

import functools
import json
from typing import Any

import pytest

from tests.acceptance.platform.team import NAMESPACE, TEAM, said
from tests.checkout import Checkout
from tests.conftest import Record

SERVICES = "inferenceservices.serving.kserve.io"
ASK = """
    import json, os, pickle, urllib.request
    import boto3
    from sklearn.datasets import load_digits
    data = load_digits().data[:50]
    store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    bucket, _, key = {uri!r}.removeprefix("s3://").partition("/")
    model = pickle.loads(store.get_object(Bucket=bucket, Key=key)["Body"].read())
    online = []
    for number, row in enumerate(data):
        tensor = {{"name": "x", "shape": [1, 64], "datatype": "FP64", "data": row.tolist()}}
        body = json.dumps({{"id": f"ask-{{number}}", "inputs": [tensor]}}).encode()
        where, kind = "http://digits-predictor.team-vision", {{"Content-Type": "application/json"}}
        request = urllib.request.Request(where + "/v2/models/digits/infer", body, kind)
        online.append(int(json.load(urllib.request.urlopen(request, timeout=60))["outputs"][0]["data"][0]))
    print(json.dumps({{"offline": model.predict(data).tolist(), "online": online}}))
"""


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"uri": f"s3://{TEAM}/nothing/model.pkl"}, "does not exist"),
        ({"digest": "0" * 64}, "digest="),
        ({"format": "onnx"}, "which kserve-sklearnserver does not know; accepted: sklearn"),
        ({"gpus": 9, "pool": "a100"}, "gpus=9; accepted: up to 8"),
        ({"canary": {"version": 2, "uri": "s3://vision/x", "digest": "0" * 64, "percent": 120}}, "canary.percent=120"),
    ],
    ids=["no such file", "another digest", "a format that the runtime does not know", "no pool has it", "120 %"],
)
def test_what_cannot_be_served_is_refused_before_the_apply(
    platform: Checkout, entry: dict[str, Any], record: Record, changed: dict[str, Any], refusal: str
) -> None:
    """In one line, with status 2; nothing is changed."""
    services = functools.partial(platform.kubectl, "local", *NAMESPACE, "get", SERVICES, "-o")
    generations = 'jsonpath={range .items[*]}{.metadata.uid} {.metadata.generation}{"\\n"}{end}'
    before = services(generations)
    file = platform.root / "stacks" / "models.yaml"
    text = file.read_text()
    file.write_text(json.dumps({"local": [entry | changed]}))  # JSON is YAML
    try:
        done = platform.run("up", "local", expect=2)
    finally:
        file.write_text(text)
    line = done.stderr.strip().splitlines()[-1]
    assert refusal in line
    assert services(generations) == before
    record(
        line=f"7 bad input: a model with {', '.join(changed)} that cannot be",
        evidence="executed",
        figure=line,
        goal="refused before the apply with the reason",
        command="./kiban up local",
    )


def test_a_registered_model_answers_as_it_does_offline(served: Checkout, entry: dict[str, Any], record: Record) -> None:
    """V2 inference through its Service gives what the file gives in a pod."""
    answered = json.loads(said(served, "ask", ASK.format(uri=entry["uri"]))[-1])
    assert len(answered["online"]) == 50
    assert answered["online"] == answered["offline"]
    record(
        line="1 a registered model answers V2 as offline",
        evidence="executed",
        figure=f"{len(answered['online'])} answers the same",
        goal="the same predictions as offline",
        command="./kiban up local; V2 requests to digits-predictor",
    )


def test_kserves_webhook_refuses_an_invalid_service(platform: Checkout, record: Record) -> None:
    """More replicas at least than at most: the schema lets it pass, the real webhook does not."""
    manifest = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "bad", "namespace": f"team-{TEAM}"},
        "spec": {
            "predictor": {
                "minReplicas": 3,
                "maxReplicas": 1,
                "model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://vision/x"},
            }
        },
    }
    done = platform.try_kubectl("local", "apply", "--server-side", "-f", "-", stdin=json.dumps(manifest))
    assert done.returncode != 0
    assert "inferenceservice" in done.stderr
    assert "MinReplicas" in done.stderr
    record(
        line="1 an invalid InferenceService",
        evidence="executed",
        figure=done.stderr.strip(),
        goal="refused by KServe's real webhook",
        command="kubectl apply",
    )
