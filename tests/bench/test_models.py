"""Two hundred models of ten teams: read, applied and listed, and their pods on simulated nodes.

Executed: the API server, the engine and kubectl. KServe is not there: what it would make of a model, the test makes.
"""

import hashlib
import json
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.clusters.waiting import until
from stacks._models import models
from tests.bench.test_against_kubectl import kubectl_seconds, manifests, timed
from tests.checkout import Checkout, copy_to
from tests.conftest import Record

pytestmark = pytest.mark.full
MODELS, TEAMS, GPU_MODELS = 200, 10, 20
SERVICES = "inferenceservices.serving.kserve.io"
COMMAND = "pytest --full tests/bench/test_models.py"
SIMULATED = f'''"""Two hundred models and nodes for them, on a cluster without real pods."""

from components.gpu_node_pools import GpuPool
from components.tenancy import Team
from stacks._schema import THROWAWAY, EmbeddedCluster, Environment, SystemNodes

environment = Environment(
    name="bench",
    cluster=EmbeddedCluster(name="bench"),
    state=THROWAWAY,
    system_nodes=SystemNodes(count=8, cpu=32, memory_gib=128),
    teams=tuple(Team(name=f"team{{n}}", owner="bench", gpus={{"a100": 4}}) for n in range({TEAMS})),
    gpu_pools=(GpuPool(name="a100", accelerator="NVIDIA-A100-SXM4-80GB", nodes=5, gpus_per_node=8),),
)
'''
LISTED = '''"""The same as a cluster that Kiban did not make, where nothing of the data is left out."""

import dataclasses as dc

from components.metadata_store import MetadataStoreArgs
from components.serving_stack import ServingStackArgs
from stacks._models import models
from stacks._schema import KubeconfigCluster
from stacks.bench import environment as simulated

environment = dc.replace(
    simulated,
    name="listed",
    cluster=KubeconfigCluster(context="kiban-bench", kube_system_uid="{uid}"),
    metadata=MetadataStoreArgs(),
    serving=ServingStackArgs(models=models("bench")),
)
'''
WIRING = '''

class Models(ServingStack):
    """What the component declares for models, without KServe, whose webhook no simulated pod would answer."""

    def _kserve(self, charts, store, foundation, kinds):
        return kinds[0]


def wire(env: Environment, opts: pulumi.ResourceOptions) -> None:
    """Declare teams, pools and models."""
    import types

    from components._object_store import Store
    from components.serving_stack import ServingStackArgs
    from stacks._models import models

    foundation = Foundation("foundation", env.foundation, opts=opts)
    pools = GpuNodePools("pools", GpuNodePoolsArgs(pools=env.gpu_pools), foundation=foundation, opts=opts)
    args = TenancyArgs(teams=env.teams, pools=env.gpu_pools)
    store = Store(
        endpoint="http://store.example", region="r", buckets={team.name: team.name for team in env.teams}, backups="b"
    )
    (kind,) = (crd for name, crd in charts.crds("kserve").items() if name == "inferenceservices.serving.kserve.io")
    Models(
        "serving",
        ServingStackArgs(models=models("bench"), teams=env.teams, pools=env.gpu_pools, queue=LOCAL_QUEUE),
        foundation=foundation,
        tenancy=Tenancy("tenancy", args, foundation=foundation, pools=pools, opts=opts),
        metadata=types.SimpleNamespace(object_store=store, ready=[]),
        charts={},
        chart=str(charts.own("models")),
        crds={kind["metadata"]["name"]: kind},
        opts=opts,
    )
'''


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Return a clean checkout with the models' data, and a running cluster `bench` without real pods."""
    clean = copy_to(tmp_path_factory.mktemp("checkout"))
    stacks = clean.root / "stacks"
    (stacks / "bench.py").write_text(SIMULATED)
    (stacks / "models.yaml").write_text(entries())
    wiring = clean.root / "infra" / "wiring.py"
    wiring.write_text(wiring.read_text() + WIRING)
    brought_up = clean.run("cluster", "up", "bench", "--env", "bench", "--json", KIBAN_REAL_NODE="0")
    (cluster,) = json.loads(brought_up.stdout)["items"]
    (stacks / "listed.py").write_text(LISTED.format(uid=cluster["uid"]))
    clean.run("tools", "build", "pulumi", "pulumi-resource-kubernetes", "kubectl")
    yield clean
    clean.run("cluster", "down", "bench", expect=None)


def entries() -> str:
    """Return stacks/models.yaml with the models of environment `bench`, as people write them."""
    text = "bench:\n"
    for number in range(MODELS):
        team = f"team{number % TEAMS}"
        text += textwrap.indent(
            f"- name: model-{number}\n"
            f"  team: {team}\n"
            f"  version: {number + 1}\n"
            f"  uri: s3://{team}/mlflow/1/models/m-{number:04}/artifacts/model.pkl\n"
            f"  digest: {hashlib.sha256(str(number).encode()).hexdigest()}\n"
            "  runtime: kserve-sklearnserver\n"
            "  format: sklearn\n"
            "  cpu: 200m\n"
            "  memory: 768Mi\n"
            f"  replicas: {{min: {1 + number % 2}, max: 4, target: 70}}\n"
            "  objective: {availability: 0.995, latency_ms: 300}\n"
            '  watch: {schedule: "7 * * * *", accuracy: 0.92}\n'
            + ("  gpus: 1\n  pool: a100\n" if number < GPU_MODELS else ""),
            "  ",
        )
    return text


def test_reading_the_data(tmp_path: Path, record: Record) -> None:
    """Two hundred entries are read and checked, each with its line, in what a user does not notice."""
    file = tmp_path / "models.yaml"
    file.write_text(entries())
    began = time.monotonic()
    read = models("bench", file)
    seconds = time.monotonic() - began
    assert len(read) == MODELS
    file.write_text(entries().replace("target: 70", "target: 700"))
    with pytest.raises(ValueError, match=r"models\.yaml:11: replicas\.target=700"):
        models("bench", file)
    record(
        line=f"stacks/models.yaml with {MODELS} models, read",
        evidence="executed",
        figure=f"{seconds:.2f} s, {len(entries().splitlines())} lines",
        goal="≤ 1 s",
        command=COMMAND,
    )


def test_up_list_and_no_op(checkout: Checkout, record: Record, tmp_path: Path) -> None:
    """The objects of the models by Kiban and by kubectl, which needs their kind before, on one cluster in one run."""
    ours = {"up": timed(checkout, "up", "bench"), "no-op": timed(checkout, "up", "bench")}
    objects = json.loads(manifests(checkout))
    (kind,) = (each for each in objects["items"] if each["kind"] == "CustomResourceDefinition")
    objects["items"].remove(kind)
    assert sum(each["kind"] == "InferenceService" for each in objects["items"]) == MODELS
    began = time.monotonic()
    said = checkout.run("models", "list", "listed", "--json", KUBECONFIG=kubeconfig(checkout))
    seconds = time.monotonic() - began
    listed = json.loads(said.stdout)["items"]
    assert len(listed) == MODELS
    assert {each["ready"] for each in listed} == {"not yet"}  # there, of this version, and nobody serves them
    record(
        line=f"{MODELS} models, `models list`",
        evidence="executed",
        figure=f"{seconds:.1f} s",
        goal="-",
        command="./kiban models list ENV",
    )
    pods_of_models(checkout, record)
    checkout.run("destroy", "bench", "--yes")
    checkout.kubectl("bench", "apply", "--server-side", "-f", "-", stdin=json.dumps(kind))
    checkout.kubectl("bench", "wait", f"crd/{SERVICES}", "--for=condition=Established")
    path = tmp_path / "models.json"
    path.write_text(json.dumps(objects))
    theirs = kubectl_seconds(checkout, path)
    for verb, goal in {"up": "≤ 2.5", "no-op": "≤ 2"}.items():
        record(
            line=f"{MODELS} models of {TEAMS} teams, {verb}, {len(objects['items'])} objects",
            evidence="executed",
            figure=f"{ours[verb] / theirs[verb]:.2f} x kubectl ({ours[verb]:.1f} s / {theirs[verb]:.1f} s)",
            goal=goal,
            command="./kiban up bench",
        )


def kubeconfig(checkout: Checkout) -> str:
    """Return the path of the cluster's kubeconfig."""
    return checkout.run("cluster", "kubeconfig", "bench").stdout.strip()


def pods_of_models(checkout: Checkout, record: Record) -> None:
    """Let a Deployment stand for each model, as KServe would make it, and wait until all are available."""
    services = json.loads(checkout.kubectl("bench", "get", SERVICES, "-A", "-o", "json"))["items"]
    deployments = [deployment(service) for service in services]
    began = time.monotonic()
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": deployments})
    checkout.kubectl("bench", "apply", "--server-side", "-f", "-", stdin=everything)
    pods = ("get", "pods", "-A", "-l", "serving.kserve.io/inferenceservice", "-o", "json")
    wanted = sum(each["spec"]["replicas"] for each in deployments)

    def ready() -> int:
        items = json.loads(checkout.kubectl("bench", *pods))["items"]
        return sum(
            condition["type"] == "Ready" and condition["status"] == "True"
            for pod in items
            for condition in pod.get("status", {}).get("conditions", ())
        )

    until(lambda: ready() == wanted, seconds=300, what=f"{wanted} pods of models to be ready", every=1)
    seconds = time.monotonic() - began
    items = json.loads(checkout.kubectl("bench", *pods))["items"]
    on_gpus = {pod["metadata"]["labels"]["kiban.dev/model"] for pod in items if pod["spec"]["nodeName"][:4] == "a100"}
    assert on_gpus == {f"model-{number}" for number in range(GPU_MODELS)}
    assert {pod["spec"]["priority"] for pod in items} == {100_000}
    record(
        line=f"{wanted} pods of {MODELS} models, {GPU_MODELS} of them on GPUs, ready",
        evidence="simulated",
        figure=f"{seconds:.0f} s",
        goal="-",
        command=COMMAND,
    )


def deployment(service: dict[str, Any]) -> dict[str, Any]:
    """Return a Deployment of the shape that KServe gives a model: queue, priority, requests, place."""
    predictor, metadata = service["spec"]["predictor"], service["metadata"]
    name = {"serving.kserve.io/inferenceservice": metadata["name"]}
    taken = ("priorityClassName", "nodeSelector", "tolerations", "securityContext", "topologySpreadConstraints")
    container = {
        "name": "kserve-container",
        "image": "docker.io/kserve/sklearnserver:v0.20.0",
        **{key: predictor["model"][key] for key in ("resources", "securityContext")},
    }
    template = {
        "metadata": {"labels": predictor["labels"] | name},
        "spec": {"containers": [container], **{key: predictor[key] for key in taken if key in predictor}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{metadata['name']}-predictor", "namespace": metadata["namespace"]},
        "spec": {"replicas": predictor["minReplicas"], "selector": {"matchLabels": name}, "template": template},
    }
