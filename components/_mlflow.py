"""MLflow's chart, and the pod that asks an external PostgreSQL before anything needs it."""

from typing import Any

from components import _databases as databases
from components import _object_store as objects
from components._databases import Database
from components._metadata import ADMIN, MLFLOW_PORT, NAMESPACE
from components._object_store import Store
from components._pods import from_secret, plain


def postgres_check(database: Database, priority: str) -> dict[str, Any]:
    """Spec of the pod that asks an external PostgreSQL whether it lets the user in, by TLS."""
    env = [
        *plain(PGHOST=database.host, PGPORT=str(database.port), PGUSER=database.user),
        *plain(DATABASES=" ".join(database.databases), **({"CA": "/certificates/postgres"} if database.ca else {})),
        from_secret("PGPASSWORD", database.secret, "password"),
    ]
    return objects.script("connect", priority=priority, env=env, secrets={}, certificates=True)


def mlflow_values(database: Database, store: Store, *, priority: str) -> dict[str, Any]:
    """Values of charts/mlflow, but for its labels and the digest of what its pod reads only when it starts."""
    names = ("mlflow", f"mlflow.{NAMESPACE}", f"mlflow.{NAMESPACE}.svc", f"mlflow.{NAMESPACE}.svc.cluster.local")
    return {
        "image": objects.CLIENT_IMAGE,
        "databaseImage": databases.POSTGRES_IMAGE,
        "priorityClassName": priority,
        "port": MLFLOW_PORT,
        "allowedHosts": [each for name in names for each in (name, f"{name}:{MLFLOW_PORT}")],
        "admin": ADMIN,
        "secret": "mlflow",
        "scripts": "metadata-scripts",
        "database": {
            "host": database.host,
            "port": database.port,
            "user": database.user,
            "records": database.databases[0],
            "accounts": database.databases[1],
            "secret": database.secret,
            "sslmode": database.sslmode,
            "certificates": "metadata-certificates" if database.ca else "",
        },
        "backups": {
            "endpoint": store.endpoint,
            "region": store.region,
            "bucket": store.backups,
            "secret": "object-store-backup",
        },
    }
