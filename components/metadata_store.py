"""What pipelines leave behind: databases, an object store with a bucket a team, and MLflow with a user a team.

Volumes are declared here, not in a chart, so that `protect` holds for them. Backups are components/_backup.py's.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components import _backup, _metadata_clients
from components import _databases as databases
from components import _object_store as objects
from components._backup import Backup, Sources
from components._databases import Database, ExternalDatabase, InCluster
from components._labels import labels, restricted, selector
from components._metadata import ADMIN, KUBEFLOW, MLFLOW_URI, NAMESPACE, MetadataStoreArgs, store_at
from components._metadata_credentials import Credentials, MetadataCredentials
from components._metadata_ways import own_policies, reach
from components._mlflow import mlflow_values, postgres_check
from components._network import closed_namespace
from components._object_store import ExternalObjectStore, Store
from components._pods import from_secret, plain
from components.foundation import Foundation
from components.tenancy import Tenancy

__all__ = [
    "Backup",
    "Database",
    "ExternalDatabase",
    "ExternalObjectStore",
    "InCluster",
    "MetadataStore",
    "MetadataStoreArgs",
    "Store",
]

SCRIPTS = (
    "postgres.sh",
    "pg_hba.conf",
    "mysql.sh",
    "buckets.py",
    "expire.py",
    "accounts.py",
    "migrate.py",
    "connect.py",
)
_CHART = Path(__file__).parents[1] / "charts" / "mlflow"
_SCRIPTS = Path(__file__).with_name("scripts")


class MetadataStore(pulumi.ComponentResource):
    """Databases, object store and MLflow in one closed namespace, and what a team's pods need to reach them in its own.

    namespace, kubeflow_namespace: their names, known once they exist. mlflow_uri: of the tracking server.
    postgres, mysql, object_store: how they are reached. ready: what to depend on so that all of them serve.
    credentials: by name, as they were given.
    """

    credentials: Credentials
    namespace: pulumi.Output[str]
    kubeflow_namespace: pulumi.Output[str]
    mlflow_uri: str
    postgres: Database
    mysql: Database | None
    object_store: Store
    ready: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        args: MetadataStoreArgs,
        *,
        foundation: Foundation,
        tenancy: Tenancy,
        credentials: Credentials,
        slots: Mapping[str, str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("kiban:components:MetadataStore", name, None, opts)
        self._name, self._args, self.credentials = name, args, credentials
        self._keyring = MetadataCredentials(args=args, given=credentials, slots=slots)
        self._tags = labels("metadata-store", name)
        self._priority = foundation.highest
        self.mlflow_uri = MLFLOW_URI
        self.postgres = databases.postgres_at(args.postgres, NAMESPACE)
        self.mysql = databases.mysql_at(args.mysql, NAMESPACE) if args.mysql else None
        self.object_store = store_at(args)

        outside = [one.port for one in (self.postgres, self.mysql) if one and one.ca is not None]
        outside += [self.object_store.port] if isinstance(args.object_store, ExternalObjectStore) else []
        space = self._namespace(NAMESPACE, own_policies(name, outside), foundation, kept=args.protect)
        kubeflow = self._namespace(KUBEFLOW, {"allow-metadata-store": reach(args, mysql=True)}, foundation)
        self.namespace, self.kubeflow_namespace = space.metadata["name"], kubeflow.metadata["name"]

        read = [*self._secrets(), *self._files(), *(self._account(one) for one in (*args.claims, "jobs"))]
        serving = [self._stateful(component, part, read) for component, part in args.claims.items()]
        checked = self._checks(read)
        buckets = self._buckets([*read, *serving])
        mlflow = self._mlflow([*read, *serving, *checked, buckets])
        accounts = self._accounts([mlflow])
        if args.expire_days is not None:
            self._expire(args.expire_days, [*read, buckets])
        if args.backup is not None:
            _backup.declare(
                name,
                args.backup,
                Sources(postgres=self.postgres, mysql=self.mysql, store=self.object_store),
                namespace=self.namespace,
                priority=self._priority,
                tags=self._tags,
                parent=self,
                after=[*read, buckets],
            )
        for team in args.teams:
            _metadata_clients.declare(
                name,
                team.name,
                self._keyring,
                namespace=tenancy.namespaces[team.name],
                tags=self._tags,
                parent=self,
            )
        self.ready = [*serving, *checked, buckets, mlflow, accounts]
        self.register_outputs({"namespace": self.namespace, "mlflow_uri": self.mlflow_uri})

    def _namespace(
        self, name: str, opened: dict[str, dict[str, Any]], foundation: Foundation, *, kept: bool = False
    ) -> k8s.core.v1.Namespace:
        space = k8s.core.v1.Namespace(
            f"{self._name}-{name}",
            metadata={"name": name, "labels": self._tags | restricted()},
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[foundation.priorities[foundation.highest]], protect=kept, retain_on_delete=kept
            ),
        )
        closed_namespace(f"{self._name}-{name}", space, self._tags, self, opened)
        return space

    def _metadata(self, name: pulumi.Input[str]) -> dict[str, Any]:
        return {"name": name, "namespace": self.namespace, "labels": self._tags}

    def _opts(self, after: Sequence[pulumi.Resource] = ()) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, depends_on=list(after))

    def _account(self, name: str) -> pulumi.Resource:
        return k8s.core.v1.ServiceAccount(
            f"{self._name}-{name}",
            metadata=self._metadata(name),
            automount_service_account_token=False,
            opts=self._opts(),
        )

    def keys(self, owner: str) -> pulumi.Output[tuple[str, str]]:
        """Access key and secret key that the pods of an owner of a bucket are handed."""
        return self._keyring.keys(owner)

    def _secrets(self) -> list[pulumi.Resource]:
        """Declare the Secrets of the metadata namespace."""
        data = self._keyring.secrets()
        self._digests = {name: digest(*values.values()) for name, values in data.items()}
        return [
            k8s.core.v1.Secret(
                f"{self._name}-{name}", metadata=self._metadata(name), string_data=values, opts=self._opts()
            )
            for name, values in data.items()
        ]

    def _files(self) -> list[pulumi.Resource]:
        """Declare the ConfigMaps of the metadata namespace."""
        external = {"postgres": self.postgres.ca, "mysql": self.mysql.ca if self.mysql else None}
        self._data = {
            "metadata-scripts": {name: _SCRIPTS.joinpath(name).read_text() for name in SCRIPTS},
            "metadata-buckets": {
                "buckets.json": objects.buckets(self.object_store),
                "experiments.json": objects.experiments(self.object_store),
            },
            "metadata-certificates": {name: ca for name, ca in external.items() if ca},
        }
        return [
            k8s.core.v1.ConfigMap(f"{self._name}-{name}", metadata=self._metadata(name), data=data, opts=self._opts())
            for name, data in self._data.items()
        ]

    def _stateful(self, component: str, part: InCluster, after: Sequence[pulumi.Resource]) -> pulumi.Resource:
        """Declare a volume, the StatefulSet of one pod that has it, and its Service."""
        kept = self._args.protect
        volume = k8s.core.v1.PersistentVolumeClaim(
            f"{self._name}-{component}",
            metadata=self._metadata(component),
            spec=databases.claim(part),
            opts=pulumi.ResourceOptions(parent=self, protect=kept, retain_on_delete=kept),
        )
        k8s.core.v1.Service(
            f"{self._name}-{component}",
            metadata=self._metadata(component),
            spec=databases.service(component, self._name),
            opts=self._opts(),
        )
        scripts = self._data["metadata-scripts"]
        # Accounts of the object store are read at each request.
        files = [scripts["postgres.sh"], scripts["pg_hba.conf"]] if component == "postgres" else []
        inputs = digest(self._digests[component], *files)
        specs = {"postgres": databases.postgres, "mysql": databases.mysql, "object-store": objects.object_store}
        return k8s.apps.v1.StatefulSet(
            f"{self._name}-{component}",
            metadata=self._metadata(component),
            spec=databases.stateful(
                component, self._name, specs[component](priority=self._priority), inputs, self._tags
            ),
            opts=self._opts([volume, *after]),
        )

    def _job(
        self,
        job: str,
        spec: dict[str, Any],
        inputs: Sequence[pulumi.Input[str]],
        after: Sequence[pulumi.Resource],
        *,
        retries: int = 3,
    ) -> pulumi.Resource:
        """Declare a Job that runs again when its spec or its inputs change: a Job's own spec cannot.

        retries: of its pod, where what it asks may answer later.
        """
        name = digest(json.dumps(spec, sort_keys=True), *inputs).apply(lambda made: f"{job}-{made}")
        return k8s.batch.v1.Job(
            f"{self._name}-{job}",
            metadata=self._metadata(name),
            spec={
                "backoffLimit": retries,
                "activeDeadlineSeconds": 900,
                "template": {"metadata": {"labels": self._tags | selector(job, self._name)}, "spec": spec},
            },
            opts=self._opts(after),
        )

    def _checks(self, after: Sequence[pulumi.Resource]) -> list[pulumi.Resource]:
        """Declare the Jobs that try external databases, once, before anything else asks them."""
        tried = {}
        if self.postgres.ca is not None:
            tried["postgres"] = postgres_check(self.postgres, self._priority)
        if self.mysql and self.mysql.ca is not None:
            tried["mysql"] = databases.mysql_check(self.mysql, priority=self._priority)
        return [
            self._job(f"connect-{name}", spec, [self._digests[name]], after, retries=0) for name, spec in tried.items()
        ]

    def _store_env(self) -> list[dict[str, Any]]:
        return plain(S3_ENDPOINT=self.object_store.endpoint, AWS_DEFAULT_REGION=self.object_store.region)

    def _buckets(self, after: Sequence[pulumi.Resource]) -> pulumi.Resource:
        own = isinstance(self._args.object_store, InCluster)
        root = [
            *plain(AWS_ACCESS_KEY_ID=objects.ROOT_ACCOUNT),
            from_secret("AWS_SECRET_ACCESS_KEY", "object-store", "password"),
        ]
        spec = objects.script(
            "buckets",
            priority=self._priority,
            env=[*self._store_env(), *(root if own else [])],
            secrets={} if own else {"teams": "object-store-teams"},
        )
        inputs = [self._data["metadata-scripts"]["buckets.py"], self._data["metadata-buckets"]["buckets.json"]]
        return self._job("buckets", spec, [*inputs, *([] if own else [self._digests["object-store-teams"]])], after)

    def _expire(self, days: int, after: Sequence[pulumi.Resource]) -> None:
        spec = objects.script(
            "expire",
            priority=self._priority,
            env=[*self._store_env(), *plain(EXPIRE_DAYS=str(days), PREFIXES=" ".join(objects.EXPIRING))],
            secrets={"teams": "object-store-teams"},
        )
        template = {"metadata": {"labels": self._tags | selector("expire", self._name)}, "spec": spec}
        k8s.batch.v1.CronJob(
            f"{self._name}-expire",
            metadata=self._metadata("expire"),
            spec={
                "schedule": "23 3 * * *",
                "timeZone": "Etc/UTC",
                "concurrencyPolicy": "Forbid",
                "startingDeadlineSeconds": 3600,
                "successfulJobsHistoryLimit": 1,
                "failedJobsHistoryLimit": 3,
                "jobTemplate": {"spec": {"backoffLimit": 1, "activeDeadlineSeconds": 3600 * 6, "template": template}},
            },
            opts=self._opts(after),
        )

    def _mlflow(self, after: Sequence[pulumi.Resource]) -> pulumi.Resource:
        scripts = self._data["metadata-scripts"]
        inputs = digest(self._digests["postgres"], self._digests["mlflow"], scripts["migrate.py"])
        values = mlflow_values(self.postgres, self.object_store, priority=self._priority)
        return k8s.helm.v4.Chart(
            f"{self._name}-mlflow",
            name="mlflow",
            chart=str(_CHART),
            namespace=self.namespace,
            values=values | {"inputs": inputs, "labels": self._tags | selector("mlflow", self._name)},
            opts=self._opts(after),
        )

    def _accounts(self, after: Sequence[pulumi.Resource]) -> pulumi.Resource:
        env = [
            *plain(MLFLOW_TRACKING_URI=self.mlflow_uri, MLFLOW_TRACKING_USERNAME=ADMIN),
            from_secret("MLFLOW_TRACKING_PASSWORD", "mlflow", "admin"),
        ]
        spec = objects.script("accounts", priority=self._priority, env=env, secrets={"teams": "mlflow-teams"})
        kept = json.dumps([self.postgres.host, self.postgres.port, self.postgres.databases])  # another has no accounts
        inputs = [
            self._data["metadata-scripts"]["accounts.py"],
            self._data["metadata-buckets"]["experiments.json"],
            kept,
        ]
        return self._job("accounts", spec, [*inputs, self._digests["mlflow"], self._digests["mlflow-teams"]], after)


def digest(*inputs: pulumi.Input[str]) -> pulumi.Output[str]:
    """Ten hex digits of texts, secret or not; of random ones they tell nothing."""
    everything = pulumi.Output.all(*inputs).apply(lambda texts: hashlib.sha256(json.dumps(texts).encode()).hexdigest())
    return pulumi.Output.unsecret(everything.apply(lambda whole: whole[:10]))
