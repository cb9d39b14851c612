"""Kubeflow Pipelines as values of its chart: what is refused, and where database, stores and queues are."""

import dataclasses as dc
from typing import Any

import pytest

from components._databases import Database
from components._kubeflow import KubeflowPipelines, kfp_secrets, kfp_values
from components._object_store import Store
from components.tenancy import Team

INSIDE = Database(
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
    buckets={"vision": "vision", "language": "language"},
    backups="backups",
)
TEAMS = (Team(name="vision", owner="vision-oncall"), Team(name="language", owner="language-oncall"))
MULTI_USER = KubeflowPipelines(mode="multi-user", members={"vision": ("ann@example.com",)})


def values(args: KubeflowPipelines, **changed: Any) -> dict[str, Any]:  # noqa: ANN401 - arguments of kfp_values
    """Return the values for a cluster that has all parts, but for what is changed."""
    given: dict[str, Any] = {
        "mysql": INSIDE,
        "store": STORE,
        "bucket": "mlpipeline",
        "mlflow_uri": "http://mlflow.kiban-metadata.svc:5000",
        "metadata_namespace": "kiban-metadata",
        "teams": TEAMS,
        "queueing": True,
        "certificates": True,
        "priority": "kiban-platform",
    }
    return kfp_values(args, **(given | changed))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "shared"}, "mode='shared'; accepted: standalone or multi-user"),
        ({"mode": ""}, "mode=''; accepted: standalone or multi-user"),
        ({"user_header": "user id"}, "user_header='user id'; accepted: letters, digits and '-'"),
        ({"run_retention": 5}, "run_retention=5; accepted: 60 to 31536000"),
        ({"members": {"vision": ("ann",)}}, "members with mode='standalone'; accepted: with multi-user only"),
        ({"mode": "multi-user", "cluster_queue": "x"}, "cluster_queue='x' with mode='multi-user'; accepted: with"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(given: dict[str, Any], message: str) -> None:
    """The message has the field, the value and what is accepted."""
    with pytest.raises(ValueError, match="kubeflow: ") as refused:
        KubeflowPipelines(**given)
    assert message in str(refused.value)


def test_members_of_no_team_are_refused() -> None:
    """A misspelt team would silently give its members nothing."""
    args = dc.replace(MULTI_USER, members={"visoin": ("ann@example.com",)})
    with pytest.raises(ValueError, match=r"members\['visoin'\]; accepted: vision, language"):
        values(args)


def test_runs_that_would_pass_kueue_by_are_refused() -> None:
    """Where there is Kueue, runs in KFP's own namespace have a queue too."""
    with pytest.raises(ValueError, match=r"cluster_queue=None with mode='standalone'; accepted: the name of a Cluster"):
        values(KubeflowPipelines())
    assert values(KubeflowPipelines(), queueing=False)["queue"] == {"name": "", "clusterQueue": ""}


def test_runs_are_queued_where_they_are() -> None:
    """All teams' together in KFP's namespace, or each team's in its own by the queue that is there."""
    standalone = values(KubeflowPipelines(cluster_queue="shared"))
    assert standalone["queue"] == {"name": "pipelines", "clusterQueue": "shared"}
    assert values(MULTI_USER)["queue"] == {"name": "default", "clusterQueue": ""}


def test_each_team_has_its_namespace_bucket_and_members() -> None:
    """A store outside has other names for the buckets."""
    store = dc.replace(STORE, buckets={"vision": "acme-vision", "language": "acme-language"})
    assert values(MULTI_USER, store=store)["teams"] == [
        {"name": "vision", "namespace": "team-vision", "bucket": "acme-vision", "members": ["ann@example.com"]},
        {"name": "language", "namespace": "team-language", "bucket": "acme-language", "members": []},
    ]


def test_what_is_in_the_cluster_is_reached_by_its_namespace() -> None:
    """Without TLS, on upstream's names of databases."""
    made = values(MULTI_USER)
    assert made["mysql"] == {
        "host": "mysql.kiban-metadata.svc",
        "port": 3306,
        "namespace": "kiban-metadata",
        "secret": "mysql-secret",
        "databases": {"pipelines": "mlpipeline", "metadata": "metadb", "cache": "cachedb"},
        "tls": {"enabled": False, "ca": ""},
    }
    assert made["objectStore"] == {
        "host": "object-store.kiban-metadata.svc",
        "port": 9000,
        "namespace": "kiban-metadata",
        "secure": False,
        "region": "us-east-1",
        "bucket": "mlpipeline",
    }
    assert made["mlflow"] == {
        "endpoint": "http://mlflow.kiban-metadata.svc:5000",
        "port": 5000,
        "namespace": "kiban-metadata",
    }


@pytest.mark.parametrize("ca", ["", "-----BEGIN CERTIFICATE-----"])
def test_what_is_outside_is_reached_by_tls(ca: str) -> None:
    """In no namespace; the databases' names begin with the one that is given."""
    mysql = dc.replace(INSIDE, host="db.example.com", port=3307, databases=("kfp",), ca=ca)
    store = dc.replace(STORE, endpoint="https://s3.example.com")
    made = values(MULTI_USER, mysql=mysql, store=store, mlflow_uri="https://mlflow.example.com/base")
    assert made["mysql"]["namespace"] == made["objectStore"]["namespace"] == made["mlflow"]["namespace"] == ""
    assert made["mysql"]["tls"] == {"enabled": True, "ca": ca}
    assert made["mysql"]["databases"] == {"pipelines": "kfp", "metadata": "kfp_metadata", "cache": "kfp_cache"}
    assert (made["objectStore"]["host"], made["objectStore"]["port"]) == ("s3.example.com", 443)
    assert made["objectStore"]["secure"] is True
    assert made["mlflow"]["port"] == 443


def test_secrets_are_where_they_are_read() -> None:
    """MLflow's is in the namespace of the runs: KFP's own, or each team's with the team's user."""
    keys: dict[str, Any] = {"mysql": ("root", "1"), "store": ("kfp", "2"), "namespace": "kubeflow", "teams": TEAMS}
    shared = {
        ("kubeflow", "mysql-secret"): {"username": "root", "password": "1"},
        ("kubeflow", "mlpipeline-minio-artifact"): {"accesskey": "kfp", "secretkey": "2"},
    }
    assert kfp_secrets(KubeflowPipelines(), mlflow={"kfp": "3"}, **keys) == shared | {
        ("kubeflow", "kfp-mlflow-credentials"): {"username": "kfp", "password": "3"}
    }
    assert kfp_secrets(MULTI_USER, mlflow={"vision": "4", "language": "5"}, **keys) == shared | {
        ("team-vision", "kfp-mlflow-credentials"): {"username": "vision", "password": "4"},
        ("team-language", "kfp-mlflow-credentials"): {"username": "language", "password": "5"},
    }
