"""Kubeflow Pipelines 2.17.0 as values of charts/pipelines: how it is run, and where its database and stores are.

The objects are the chart's, but for the Secrets that it names: credentials do not pass through values.
"""

import dataclasses as dc
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import pulumi

from components._databases import Database
from components._metadata import KUBEFLOW_OWNER
from components._object_store import Store
from components.tenancy import LOCAL_QUEUE, Team

STANDALONE = "standalone"
MULTI_USER = "multi-user"
MODES = (STANDALONE, MULTI_USER)
MYSQL_SECRET = "mysql-secret"  # noqa: S105 - a Secret's name, upstream's
STORE_SECRET = "mlpipeline-minio-artifact"  # noqa: S105 - as above
MLFLOW_SECRET = "kfp-mlflow-credentials"  # noqa: S105 - as above
QUEUE = "pipelines"
"""The LocalQueue of runs in KFP's own namespace. By one named `default` Kueue would queue KFP's own Deployments."""
_HEADER = re.compile(r"[A-Za-z0-9-]+")


@dc.dataclass(frozen=True, kw_only=True)
class KubeflowPipelines:
    """How Kubeflow Pipelines is run.

    mode: "standalone": one set of pipelines, runs in KFP's own namespace, whoever gets in may do all. "multi-user":
        each team's runs in its namespace; who a user is, the gateway says in a header.
    gateway: the namespace of the gateway's pods, through which users come; None: no way in.
    gateway_labels: of its pods; none: any pod of that namespace.
    user_header, user_prefix: the header, and the text in it before the user's name.
    members: team to the users, as the header names them, who may start and see its runs. Multi-user only.
    cluster_queue: of Kueue, for runs in KFP's own namespace, which it has to select; None for a cluster without Kueue.
        Standalone only.
    v1_pipelines: whether pipelines of the v1 SDK are accepted.
    run_retention: seconds that a finished run's Workflow stays in the cluster; 2.17 keeps the run itself for ever.
    timezone: IANA name, of schedules.
    Raises ValueError for a value that is none of these.
    """

    mode: str = STANDALONE
    gateway: str | None = None
    gateway_labels: Mapping[str, str] = dc.field(default_factory=dict)
    user_header: str = "kubeflow-userid"
    user_prefix: str = ""
    members: Mapping[str, tuple[str, ...]] = dc.field(default_factory=dict)
    cluster_queue: str | None = None
    v1_pipelines: bool = True
    run_retention: int = 86400
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"kubeflow: mode={self.mode!r}; accepted: {' or '.join(MODES)}")
        if not _HEADER.fullmatch(self.user_header):
            raise ValueError(f"kubeflow: user_header={self.user_header!r}; accepted: letters, digits and '-'")
        if not 60 <= self.run_retention <= 31_536_000:
            raise ValueError(f"kubeflow: run_retention={self.run_retention!r}; accepted: 60 to 31536000 (seconds)")
        if self.members and self.mode != MULTI_USER:
            raise ValueError(f"kubeflow: members with mode={self.mode!r}; accepted: with {MULTI_USER} only")
        if self.cluster_queue and self.mode != STANDALONE:
            raise ValueError(
                f"kubeflow: cluster_queue={self.cluster_queue!r} with mode={self.mode!r}; accepted: with {STANDALONE} "
                "only (a team's runs are queued in its own namespace)"
            )

    def check(self, teams: Sequence[Team], *, queueing: bool) -> None:
        """Raise ValueError for members of a team that is not there, and where runs would wait for no queue.

        Argo's defaults name the teams' queue for every Workflow.
        """
        if queueing and not self.multi_user and not self.cluster_queue:
            raise ValueError(
                f"kubeflow: cluster_queue=None with mode={self.mode!r}; accepted: the name of a ClusterQueue, where "
                "there is Kueue"
            )
        unknown = sorted(set(self.members) - {team.name for team in teams})
        if unknown:
            accepted = ", ".join(team.name for team in teams) or "no team"
            raise ValueError(f"kubeflow: members[{unknown[0]!r}]; accepted: {accepted}")

    @property
    def multi_user(self) -> bool:
        """Whether each team's runs are in its own namespace."""
        return self.mode == MULTI_USER


def kfp_values(
    args: KubeflowPipelines,
    *,
    mysql: Database,
    store: Store,
    bucket: str,
    mlflow_uri: str,
    metadata_namespace: str,
    teams: Sequence[Team],
    queueing: bool,
    certificates: bool,
    priority: str,
) -> dict[str, Any]:
    """The chart's values under `kfp`.

    bucket: of the store, for pipelines and in standalone mode for all artifacts. metadata_namespace: of what of MySQL,
    store and MLflow is in the cluster. queueing, certificates: whether Kueue and cert-manager are there.
    Raises what `check` does.
    """
    args.check(teams, queueing=queueing)
    return {
        "enabled": True,
        "mode": args.mode,
        "priorityClassName": priority,
        "timezone": args.timezone,
        "v1Pipelines": args.v1_pipelines,
        "certificates": certificates,
        "workflowRetentionSeconds": args.run_retention,
        "mysql": _mysql(mysql, metadata_namespace),
        "objectStore": _object_store(store, metadata_namespace) | {"bucket": bucket},
        "mlflow": _mlflow(mlflow_uri, metadata_namespace),
        "queue": _queue(args) if queueing else {"name": "", "clusterQueue": ""},
        "gateway": {"namespace": args.gateway or "", "podLabels": dict(args.gateway_labels)},
        "userId": {"header": args.user_header, "prefix": args.user_prefix},
        "teams": [
            {
                "name": team.name,
                "namespace": team.namespace,
                "bucket": store.buckets[team.name],
                "members": list(args.members.get(team.name, ())),
            }
            for team in teams
        ],
    }


def kfp_secrets(
    args: KubeflowPipelines,
    *,
    namespace: str,
    mysql: tuple[str, pulumi.Input[str]],
    store: tuple[pulumi.Input[str], pulumi.Input[str]],
    mlflow: Mapping[str, pulumi.Input[str]],
    teams: Sequence[Team],
) -> dict[tuple[str, str], dict[str, pulumi.Input[str]]]:
    """The Secrets that the chart names: namespace and name to data.

    namespace: KFP's. mysql: user and password. store: access key and secret key of who may read and write KFP's bucket.
    mlflow: user to password: `KUBEFLOW_OWNER` in standalone mode, each team's name in multi-user mode, in which the
    plugin reads the Secret of the namespace that a run is in.
    """
    user, password = mysql
    access, secret = store
    where = {team.namespace: team.name for team in teams} if args.multi_user else {namespace: KUBEFLOW_OWNER}
    return {
        (namespace, MYSQL_SECRET): {"username": user, "password": password},
        (namespace, STORE_SECRET): {"accesskey": access, "secretkey": secret},
        **{(each, MLFLOW_SECRET): {"username": name, "password": mlflow[name]} for each, name in where.items()},
    }


def _mysql(mysql: Database, namespace: str) -> dict[str, Any]:
    """Where the database is. One within the cluster is reached without TLS, one outside never."""
    names = ("mlpipeline", "metadb", "cachedb")  # upstream's
    if mysql.databases:
        (first,) = mysql.databases
        names = (first, f"{first}_metadata", f"{first}_cache")
    return {
        "host": mysql.host,
        "port": mysql.port,
        "namespace": namespace if mysql.ca is None else "",
        "secret": MYSQL_SECRET,
        "databases": dict(zip(("pipelines", "metadata", "cache"), names, strict=True)),
        "tls": {"enabled": mysql.ca is not None, "ca": mysql.ca or ""},
    }


def _object_store(store: Store, namespace: str) -> dict[str, Any]:
    address = urlsplit(store.endpoint)
    secure = address.scheme == "https"
    return {
        "host": address.hostname,
        "port": store.port,
        "namespace": "" if secure else namespace,
        "secure": secure,
        "region": store.region,
    }


def _mlflow(uri: str, namespace: str) -> dict[str, Any]:
    address = urlsplit(uri)
    secure = address.scheme == "https"
    return {
        "endpoint": uri,
        "port": address.port or (443 if secure else 80),
        "namespace": "" if secure else namespace,
    }


def _queue(args: KubeflowPipelines) -> dict[str, str]:
    """A team's runs are in its own queue; those of all teams together in one that is made for them, if any."""
    if args.multi_user:
        return {"name": LOCAL_QUEUE, "clusterQueue": ""}
    return {"name": QUEUE if args.cluster_queue else "", "clusterQueue": args.cluster_queue or ""}
