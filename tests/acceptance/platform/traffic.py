"""What the served model is sent, and what its monitor makes of it."""

import json

from tests.acceptance.platform.team import NAMESPACE, said
from tests.checkout import Checkout

WATCH = {
    "schedule": "* * * * *",
    "window_minutes": 3,
    "fewest_requests": 200,
    "fewest_labelled": 500,
    "feed_range": [0, 16],
    "cooldown_minutes": 60,
}
SEND = """
    import json, os, urllib.request, uuid
    import boto3
    import numpy as np
    from sklearn.datasets import load_digits
    digits, random = load_digits(), np.random.default_rng({seed})
    some = random.permutation(len(digits.data))[:1200]
    x, y = digits.data[some], digits.target[some]
    x = {change}
    y = {label}
    labels = []
    for begin in range(0, len(x), 10):
        part = x[begin : begin + 10]
        name = str(uuid.uuid4())
        tensor = {{"name": "input-0", "shape": list(part.shape), "datatype": "FP64", "data": part.ravel().tolist()}}
        body = json.dumps({{"id": name, "inputs": [tensor]}}).encode()
        where, kind = "http://digits-predictor.team-vision.svc", {{"Content-Type": "application/json"}}
        request = urllib.request.Request(where + "/v2/models/digits/infer", body, kind)
        urllib.request.urlopen(request, timeout=30).read()
        labels.append(json.dumps({{"id": name, "label": y[begin : begin + 10].tolist()}}))
    store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    store.put_object(
        Bucket=os.environ["BUCKET"], Key=f"labels/digits/{{uuid.uuid4()}}.jsonl", Body="\\n".join(labels).encode()
    )
    print(len(x))
"""


def send(platform: Checkout, name: str, change: str, label: str = "y") -> None:
    """Send 1,200 digits that were changed by an expression of `x`, and bring their labels, one of `y`."""
    assert said(platform, name, SEND.format(seed=len(name), change=change, label=label))[-1] == "1200"


def measured(platform: Checkout) -> dict[str, str]:
    """Return the figures of the last monitor that has ended, by output."""
    of = "workflows.argoproj.io/cron-workflow=drift-digits"
    listed = json.loads(platform.kubectl("local", *NAMESPACE, "get", "workflows", "-l", of, "-o", "json"))["items"]
    ended = [each for each in listed if each.get("status", {}).get("phase") == "Succeeded"]
    if not ended:
        return {}
    last = max(ended, key=lambda each: each["status"]["finishedAt"])
    nodes = [node for node in last["status"]["nodes"].values() if node.get("outputs", {}).get("parameters")]
    return {each["name"]: each["value"] for each in nodes[0]["outputs"]["parameters"]}
