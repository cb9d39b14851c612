"""A registered model answers: deployed by `up`, asked, logged; and what cannot be served is refused.

Executed: KServe's controller, webhooks, storage initializer, agent and model server are processes in real pods.
"""

import hashlib
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.metadata_store import store_at
from infra import target
from infra.clusters.waiting import until
from infra.metadata import Metadata
from tests.checkout import Checkout
from tests.conftest import Record

pytestmark = pytest.mark.full
TEAM, NAMESPACE = "vision", "team-vision"
BUCKET = TEAM
CLIENT = "ghcr.io/mlflow/mlflow:v3.17.2-full"
SERVICE = "inferenceservices.serving.kserve.io"
ASK = """
import json, os, pickle, time, urllib.request
import boto3
from sklearn.datasets import load_digits

data = load_digits().data[:50]
store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
model = pickle.loads(store.get_object(Bucket=os.environ["BUCKET"], Key=os.environ["KEY"])["Body"].read())
online = []
for number, row in enumerate(data):
    asked = {"name": "x", "shape": [1, 64], "datatype": "FP64", "data": [float(value) for value in row]}
    body = json.dumps({"id": f"ask-{number}", "inputs": [asked]}).encode()
    request = urllib.request.Request(os.environ["ADDRESS"], body, {"Content-Type": "application/json"})
    online.append(int(json.load(urllib.request.urlopen(request, timeout=60))["outputs"][0]["data"][0]))
print(json.dumps({"offline": [int(each) for each in model.predict(data)], "online": online}))
"""


@pytest.fixture(scope="module")
def platform(checkout: Checkout) -> Checkout:
    """Return a checkout whose environment `local` is up, with a version of the reference pipeline's model."""
    checkout.run("up", "local")
    checkout.run("runs", "start", "local", "--team", TEAM, "--wait")
    return checkout


@pytest.fixture(scope="module")
def entry(platform: Checkout) -> dict[str, Any]:
    """Return the entry of stacks/models.yaml for the registered version."""
    keys = metadata(platform).secret("object-store-teams")
    environment = target.environment("local")
    assert environment.metadata
    where = store_at(environment.metadata)
    with metadata(platform).object_store(
        where.endpoint, region=where.region, access=keys[f"{TEAM}.access"], secret=keys[f"{TEAM}.secret"]
    ) as store:
        pages = store.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="mlflow/")
        (key,) = [
            each["Key"] for page in pages for each in page["Contents"] if each["Key"].endswith("/artifacts/model.pkl")
        ]
        content = store.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return {
        "name": "digits",
        "team": TEAM,
        "version": 1,
        "uri": f"s3://{BUCKET}/{key}",
        "digest": hashlib.sha256(content).hexdigest(),
        "runtime": "kserve-sklearnserver",
        "format": "sklearn",
        "memory": "768Mi",
    }


def metadata(platform: Checkout) -> Metadata:
    """Return the metadata store of the checkout's cluster `local`."""
    (item,) = platform.json("cluster", "up", "local")["items"]
    from infra.clusters import Cluster  # noqa: PLC0415

    return Metadata(
        Cluster(name="local", context=item["context"], uid=item["uid"], kubeconfig=Path(item["kubeconfig"]))
    )


def serve(platform: Checkout, *entries: dict[str, Any]) -> None:
    """Write the models of `local`."""
    others: dict[str, list[Any]] = {name: [] for name in ("ci", "dev", "staging", "prod")}
    (platform.root / "stacks" / "models.yaml").write_text(yaml.safe_dump({"local": list(entries), **others}))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"uri": f"s3://{BUCKET}/nothing/model.pkl"}, "does not exist"),
        ({"digest": "0" * 64}, "digest="),
        ({"format": "onnx"}, "which kserve-sklearnserver does not know; accepted: sklearn"),
        ({"gpus": 9, "pool": "a100"}, "gpus=9; accepted: up to 8"),
        ({"canary": {"version": 2, "uri": "s3://vision/x", "digest": "0" * 64, "percent": 120}}, "canary.percent=120"),
    ],
)
def test_what_cannot_be_served_is_refused_before_the_apply(
    platform: Checkout, entry: dict[str, Any], changed: dict[str, Any], said: str
) -> None:
    """In one line, with status 2; nothing is changed."""
    serve(platform, entry | changed)
    done = platform.run("up", "local", expect=2)
    assert said in done.stderr.strip().splitlines()[-1]
    assert "digits" not in platform.kubectl("local", "-n", NAMESPACE, "get", SERVICE, "-o", "name")


def test_a_registered_model_answers_as_it_does_offline(
    platform: Checkout, entry: dict[str, Any], record: Record
) -> None:
    """V2 inference through its Service gives what the file gives in a pod, and each request is logged."""
    serve(platform, entry)
    platform.run("up", "local")

    def ready() -> bool:
        return all(item["ready"] == "yes" for item in platform.json("models", "list", "local")["items"])

    until(ready, seconds=240, what="the model to be ready")
    answered = ask(platform, entry["uri"].removeprefix(f"s3://{BUCKET}/"))
    assert answered["online"] == answered["offline"]
    record(
        line="1 a registered model answers V2 as offline",
        evidence="executed",
        figure=f"{len(answered['online'])} answers the same",
        goal="the same predictions as offline",
        command="./kiban up local; V2 requests to digits-predictor",
    )


def ask(platform: Checkout, key: str) -> dict[str, list[int]]:
    """Return predictions of the same rows by the file and by the service, from a pod of the team."""
    manifest = textwrap.dedent(f"""\
        apiVersion: v1
        kind: Pod
        metadata: {{name: ask, namespace: {NAMESPACE}}}
        spec:
          restartPolicy: Never
          automountServiceAccountToken: false
          securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
          containers:
            - name: ask
              image: {CLIENT}
              command: [python3, -c, {json.dumps(ASK)}]
              env:
                - {{name: HOME, value: /tmp}}
                - {{name: KEY, value: {json.dumps(key)}}}
                - {{name: ADDRESS, value: "http://digits-predictor.{NAMESPACE}/v2/models/digits/infer"}}
                - name: AWS_ACCESS_KEY_ID
                  valueFrom: {{secretKeyRef: {{name: mlpipeline-minio-artifact, key: accesskey}}}}
                - name: AWS_SECRET_ACCESS_KEY
                  valueFrom: {{secretKeyRef: {{name: mlpipeline-minio-artifact, key: secretkey}}}}
              envFrom: [{{configMapRef: {{name: metadata-store}}}}]
              resources: {{requests: {{cpu: 50m, memory: 256Mi}}, limits: {{memory: 1Gi}}}}
              securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
        """)
    platform.kubectl("local", "apply", "-f", "-", stdin=manifest)
    wait = ("wait", "-n", NAMESPACE, "pod/ask", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=180s")
    platform.kubectl("local", *wait)
    said = platform.kubectl("local", "-n", NAMESPACE, "logs", "ask")
    platform.kubectl("local", "-n", NAMESPACE, "delete", "pod", "ask")
    found: dict[str, list[int]] = json.loads(said.strip().splitlines()[-1])
    return found


def test_kserves_webhook_refuses_an_invalid_service(platform: Checkout) -> None:
    """More replicas at least than at most: the schema lets it pass, the real webhook does not."""
    manifest = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "bad", "namespace": NAMESPACE},
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
