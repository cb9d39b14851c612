"""How a verb reaches what an environment remembers: MLflow by its REST API, the object store by S3.

Neither has an address outside the cluster, so each is reached through a port of the loopback interface that lasts as
long as the question. What is asked is in infra/runs.py and infra/backup.py.
"""

import base64
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from components._metadata import ADMIN, MLFLOW_PORT, NAMESPACE
from infra.clusters import Cluster
from infra.errors import RunFailed
from infra.kubectl import Kubectl, Object

_SECONDS = 60.0  # of an answer
_PAGE = 1000
_WITHIN = f".{NAMESPACE}.svc"


class Mlflow:
    """MLflow's REST API 2.0, as its administrator. Every method raises RunFailed with what the server said."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def experiments(self) -> list[Object]:
        """All experiments."""
        return list(self._pages("experiments/search", "experiments", {}))

    def runs(self, experiments: list[str], *, matching: str = "") -> list[Object]:
        """The runs of experiments (by id), newest first. matching: MLflow's filter."""
        if not experiments:
            return []
        asked = {"experiment_ids": experiments, "filter": matching, "order_by": ["attributes.start_time DESC"]}
        return list(self._pages("runs/search", "runs", asked))

    def _pages(self, path: str, field: str, asked: Mapping[str, Any]) -> Iterator[Object]:
        token: str | None = None
        while True:
            page = self._post(path, {**asked, "max_results": _PAGE, **({"page_token": token} if token else {})})
            yield from page.get(field, ())
            token = page.get("next_page_token")
            if not token:
                return

    def _post(self, path: str, asked: Mapping[str, Any]) -> Object:
        try:
            answer = self._client.post(f"/api/2.0/mlflow/{path}", json=asked)
        except httpx.HTTPError as error:
            raise RunFailed(f"MLflow, {path}: no answer ({error})") from error
        if answer.is_error:
            said = answer.json().get("message") if "json" in answer.headers.get("content-type", "") else answer.text
            raise RunFailed(f"MLflow, {path}: {answer.status_code} {' '.join(str(said).split())[:300]}")
        found: Object = answer.json()
        return found


class Metadata:
    """The metadata store of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.kubectl = Kubectl(cluster.kubeconfig, cluster.context)

    def secret(self, name: str, *, namespace: str = NAMESPACE) -> dict[str, str]:
        """What a Secret holds."""
        (found,) = self.kubectl.get("secret", name, namespace=namespace)
        return {key: base64.b64decode(value).decode() for key, value in found.get("data", {}).items()}

    @contextlib.contextmanager
    def mlflow(self) -> Iterator[Mlflow]:
        """MLflow, while it lasts."""
        password = self.secret("mlflow")["admin"]
        with (
            self.kubectl.port_forward("service/mlflow", MLFLOW_PORT, namespace=NAMESPACE) as port,
            httpx.Client(
                base_url=f"http://127.0.0.1:{port}",
                auth=(ADMIN, password),
                headers={"Host": f"mlflow{_WITHIN}:{MLFLOW_PORT}"},  # it answers to its own names only
                timeout=_SECONDS,
                trust_env=False,
            ) as client,
        ):
            yield Mlflow(client)

    @contextlib.contextmanager
    def object_store(self, endpoint: str, *, region: str, access: str, secret: str) -> Iterator[Any]:
        """A client (boto3) of the object store at an endpoint as pods know it, while it lasts."""
        import boto3  # noqa: PLC0415  takes a quarter of a second
        from botocore.config import Config  # noqa: PLC0415

        with self._address(endpoint) as reached:
            yield boto3.client(
                "s3",
                endpoint_url=reached,
                region_name=region,
                aws_access_key_id=access,
                aws_secret_access_key=secret,
                config=Config(s3={"addressing_style": "path"}, proxies={}),
            )

    @contextlib.contextmanager
    def _address(self, endpoint: str) -> Iterator[str]:
        """The endpoint itself where it is outside the cluster, else a port of the loopback interface."""
        where = urlsplit(endpoint)
        name, inside, _ = (where.hostname or "").partition(_WITHIN)
        if not inside:
            yield endpoint
            return
        with self.kubectl.port_forward(f"service/{name}", where.port or 80, namespace=NAMESPACE) as port:
            yield f"http://127.0.0.1:{port}"
