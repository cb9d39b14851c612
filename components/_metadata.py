"""Where the platform keeps its records, as data: which databases and which object store, whose, and for how long."""

import dataclasses as dc

from components import _databases as databases
from components import _object_store as objects
from components._backup import Backup
from components._databases import ExternalDatabase, InCluster
from components._object_store import ExternalObjectStore, Store
from components.tenancy import Team

NAMESPACE = "kiban-metadata"
KUBEFLOW = "kubeflow"
MLFLOW_PORT = 5000
MLFLOW_URI = f"http://mlflow.{NAMESPACE}.svc:{MLFLOW_PORT}"
"""Of the tracking server, for pods."""
PORTS = databases.PORTS | {"mlflow": MLFLOW_PORT}
ADMIN = "admin"
KUBEFLOW_OWNER = "kfp"
"""Who Kubeflow Pipelines is to the object store and to MLflow, where a team is its own name."""
KUBEFLOW_BUCKET = "mlpipeline"  # upstream's
_TAKEN = (ADMIN, objects.BACKUPS, KUBEFLOW_BUCKET, KUBEFLOW_OWNER, "session")


@dc.dataclass(frozen=True, kw_only=True)
class MetadataStoreArgs:
    """Where the platform keeps its records.

    mysql: of Kubeflow Pipelines and ML Metadata; None where they are not there.
    expire_days: after how many days artifacts of runs are removed (not MLflow's); None: never.
    backup: when backups are made; None: never, and then `kiban restore` has nothing to work with.
    protect: whether the volumes, and the namespace that they are in, outlive `destroy`. Not for throwaway clusters.
    """

    teams: tuple[Team, ...] = ()
    postgres: InCluster | ExternalDatabase = dc.field(default_factory=lambda: InCluster(storage_gib=10))
    mysql: InCluster | ExternalDatabase | None = None
    object_store: InCluster | ExternalObjectStore = dc.field(default_factory=lambda: InCluster(storage_gib=50))
    expire_days: int | None = 90
    backup: Backup | None = dc.field(default_factory=Backup)
    protect: bool = True

    def __post_init__(self) -> None:
        if self.expire_days is not None and not 1 <= self.expire_days <= 36500:
            raise ValueError(f"expire_days={self.expire_days!r}; accepted: 1 to 36500, or None for never")
        for team in self.teams:
            if team.name in _TAKEN or len(team.name) < 3:
                raise ValueError(
                    f"team {team.name!r}: also the name of its bucket and of its MLflow user; accepted: at least 3 "
                    f"characters, and not any of {', '.join(_TAKEN)}"
                )

    @property
    def owners(self) -> dict[str, str]:
        """Who has a bucket and an MLflow user of that name, and the bucket: the teams, and Kubeflow Pipelines."""
        return {team.name: team.name for team in self.teams} | ({KUBEFLOW_OWNER: KUBEFLOW_BUCKET} if self.mysql else {})

    @property
    def claims(self) -> dict[str, InCluster]:
        """The volume claims that these make, by name."""
        parts = {"postgres": self.postgres, "mysql": self.mysql, "object-store": self.object_store}
        return {name: part for name, part in parts.items() if isinstance(part, InCluster)}

    @property
    def images(self) -> tuple[str, ...]:
        """The images that the objects name."""
        return (
            databases.POSTGRES_IMAGE,  # for dumps, where PostgreSQL is external
            objects.CLIENT_IMAGE,
            *((objects.IMAGE,) if isinstance(self.object_store, InCluster) else ()),
            *((databases.MYSQL_IMAGE,) if self.mysql else ()),
        )

    def standing_in(self) -> "MetadataStoreArgs":
        """The same for a throwaway cluster: what is external has a stand-in there, and no volume outlives it."""
        here = {name: InCluster(storage_gib=part.storage_gib) for name, part in self.claims.items()}
        small = InCluster(storage_gib=5)
        return dc.replace(
            self,
            postgres=here.get("postgres", small),
            mysql=here.get("mysql", small) if self.mysql else None,
            object_store=here.get("object-store", small),
            protect=False,
        )


def store_at(args: MetadataStoreArgs) -> Store:
    """Where the object store is."""
    part = args.object_store
    prefix = "" if isinstance(part, InCluster) else part.prefix
    return Store(
        endpoint=f"http://object-store.{NAMESPACE}.svc:{databases.PORTS['object-store']}"
        if isinstance(part, InCluster)
        else part.endpoint,
        region=objects.REGION if isinstance(part, InCluster) else part.region,
        buckets={owner: f"{prefix}{bucket}" for owner, bucket in args.owners.items()},
        backups=f"{prefix}{objects.BACKUPS}",
    )
