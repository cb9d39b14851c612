"""charts/pipelines with Kubeflow Pipelines on, rendered once for all tests, in both modes and in what they can have."""

from typing import Any

import pytest
import yaml

from components._databases import Database
from components._kubeflow import KubeflowPipelines, kfp_values
from components._object_store import Store
from components.tenancy import Team
from tests.charts.rendering import ROOT, Object, render

CHART = ROOT / "charts" / "pipelines"
TEAM = Team(name="vision", owner="vision-oncall")
MYSQL = Database(
    host="mysql.kiban-metadata.svc",
    port=3306,
    user="root",
    databases=(),
    secret="mysql",  # noqa: S106 - a name
    ca=None,
)
STORE = Store(
    endpoint="http://object-store.kiban-metadata.svc:9000",
    region="us-east-1",
    buckets={"vision": "vision"},
    backups="backups",
)
GATEWAY = "envoy-gateway-system"
STANDALONE = KubeflowPipelines(mode="standalone", gateway=GATEWAY, cluster_queue="pipelines")
MULTI_USER = KubeflowPipelines(
    mode="multi-user",
    gateway=GATEWAY,
    gateway_labels={"app.kubernetes.io/component": "proxy"},
    members={"vision": ("ann@example.com",)},
)


def values(args: KubeflowPipelines, **changed: Any) -> dict[str, Any]:  # noqa: ANN401 - arguments of kfp_values
    """Values of the chart for a platform that has all its parts in the cluster, but for what is changed."""
    given: dict[str, Any] = {
        "mysql": MYSQL,
        "store": STORE,
        "bucket": "mlpipeline",
        "mlflow_uri": "http://mlflow.kiban-metadata.svc:5000",
        "metadata_namespace": "kiban-metadata",
        "teams": (TEAM,),
        "queueing": True,
        "certificates": True,
        "priority": "kiban-platform",
    }
    return {"kfp": kfp_values(args, **(given | changed))}


def forms() -> dict[str, dict[str, Any]]:
    """Return the values of each form of the chart: KFP off, its modes, and `outside`: of its stores, no controllers."""
    outside = values(
        STANDALONE,
        mysql=Database(
            host="db.example.com",
            port=3307,
            user="kfp",
            databases=("kfp",),
            secret="mysql",  # noqa: S106 - a name
            ca="PEM",
        ),
        store=Store(
            endpoint="https://s3.example.com", region="eu", buckets={"vision": "x-vision"}, backups="x-backups"
        ),
        mlflow_uri="https://mlflow.example.com",
        queueing=False,
        certificates=False,
    )
    return {"off": {}, "standalone": values(STANDALONE), "multi-user": values(MULTI_USER), "outside": outside}


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Object]]:
    """Return the objects of each form."""
    return render(CHART, forms(), tmp_path_factory.mktemp("render"))


@pytest.fixture(scope="session")
def crds() -> list[Object]:
    """Return the definitions of KFP's kinds."""
    return [yaml.safe_load(file.read_text()) for file in sorted((CHART / "crds-kfp").glob("*.yaml"))]
