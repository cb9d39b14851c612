"""Pipelines that run and are remembered: run, reproduced, kept apart, killed and restored.

Executed: PostgreSQL, the object store, MLflow, Argo Workflows and every step are processes in real pods.
"""

import contextlib
import functools
import re
import textwrap
import time
from typing import Any

import psutil
import pytest

from infra.clusters.embedded import node
from infra.clusters.waiting import until
from tests.acceptance.platform.team import NAMESPACE, OTHER, TEAM, pod, said, shown, start
from tests.checkout import Checkout
from tests.conftest import Record

METADATA = ("-n", "kiban-metadata")


def ended(platform: Checkout, run: str) -> str:
    """Wait until a Workflow has ended, and return its phase."""
    where = (*NAMESPACE, "get", "workflow", run, "-o", "jsonpath={.status.phase}")
    over = {"Succeeded", "Failed", "Error"}
    until(lambda: platform.kubectl("local", *where) in over, seconds=600, what=f"{run} to end", every=1)
    return platform.kubectl("local", *where)


def runs_and_models(platform: Checkout) -> tuple[set[tuple[str, str, str]], str]:
    """Return the recorded runs, and the registered versions with their digests as MLflow's database has them."""
    items = platform.json("runs", "list", "local")["items"]
    query = "select name, version, key, value from model_version_tags order by 1, 2, 3"
    versions = sql(platform, "mlflow", query)
    return {(each["run"], each["mlflow_run"], each["outcome"]) for each in items}, versions


def sql(platform: Checkout, database: str, query: str) -> str:
    """Run SQL in PostgreSQL's pod, as its superuser."""
    psql = ("psql", "--host=/tmp", "--username=postgres", "--tuples-only", "--no-align", f"--command={query}", database)
    return platform.kubectl("local", *METADATA, "exec", "postgres-0", "-c", "postgres", "--", "/usr/bin/env", *psql)


def test_the_pipeline_runs_and_is_remembered(platform: Checkout, recorded: dict[str, Any], record: Record) -> None:
    """Code, data, parameters, metrics, artifacts, images, nodes and queue of a run are in MLflow, and its model too."""
    assert recorded["outcome"] == "Succeeded"
    assert re.fullmatch(r"([0-9a-f]{40}(-dirty)?)?", recorded["git_commit"])
    for digest in ("data_digest", "model_digest"):
        assert re.fullmatch(r"(sha256:)?[0-9a-f]{64}", recorded[digest])
    assert recorded["parameter regularisation"] == "0.1"
    assert recorded["metric accuracy"] > 0.95
    assert recorded["queue"] == "default"
    steps = ("data", "validate", "train", "evaluate", "register")
    for step in steps:
        assert recorded[f"nodes {step}"] == node.NAME
        assert "sha256:" in recorded[f"image_digests {step}"]
    artifacts = {field.removeprefix("artifacts "): value for field, value in recorded.items() if "artifacts " in field}
    uris = [uri for name, uri in artifacts.items() if not name.endswith("-logs")]
    assert any(uri.endswith("model.pkl") for uri in uris)
    assert all(uri.startswith(f"s3://{TEAM}/runs/{recorded['run']}/") for uri in uris)
    script = f"""
        import boto3, os
        store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
        for uri in {uris!r}:
            bucket, _, key = uri.removeprefix("s3://").partition("/")
            print(store.head_object(Bucket=bucket, Key=key)["ContentLength"] > 0)
    """
    assert set(said(platform, "artifacts", script)) == {"True"}
    query = f"""
        select name from model_version_tags where key = 'kiban.workflow' and value = '{recorded["run"]}'
        intersect all
        select name from model_version_tags where key = 'kiban.model_digest' and value = '{recorded["model_digest"]}'
    """
    assert sql(platform, "mlflow", query).split() == [f"{TEAM}-digits"]
    record(
        line="1 the reference pipeline runs and is remembered",
        evidence="executed",
        figure=f"{len(recorded)} facts, {recorded['seconds']} s",
        goal="Succeeded; parameters, metrics, a model version, artifacts in the team's bucket",
        command="./kiban runs start local --team vision --wait; ./kiban runs show local RUN",
    )


def test_a_run_is_reproduced_from_its_record(platform: Checkout, recorded: dict[str, Any], record: Record) -> None:
    """The same metrics and the same model, byte for byte."""
    items = platform.json("runs", "reproduce", "local", recorded["run"])["items"]
    compared = {each["field"] for each in items}
    assert {"metric accuracy", "data_digest", "model_digest"} <= compared
    assert all(each["same"] and each["recorded"] is not None for each in items)
    record(
        line="1 runs reproduce",
        evidence="executed",
        figure=f"{len(items)} results the same",
        goal="same metrics, same model digest",
        command="./kiban runs reproduce local RUN",
    )


def test_bad_data_fails_at_the_validation_and_registers_nothing(
    platform: Checkout, recorded: dict[str, Any], record: Record
) -> None:
    """The run is recorded as failed with the reason, and there is no new model version."""
    key = next(value for field, value in recorded.items() if field.startswith("artifacts ") and "data.csv" in value)
    script = f"""
        import boto3, os
        store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
        bucket, _, key = {key!r}.removeprefix("s3://").partition("/")
        lines = store.get_object(Bucket=bucket, Key=key)["Body"].read().decode().splitlines()
        lines[9] = lines[9].replace(lines[9].split(",")[0], "99", 1)
        store.put_object(Bucket=bucket, Key="inputs/bad.csv", Body="\\n".join(lines).encode())
    """
    said(platform, "bad-data", script)
    versions = runs_and_models(platform)[1]
    run = start(platform, f"source=s3://{TEAM}/inputs/bad.csv", expect=1)
    failed = shown(platform, run)
    assert failed["outcome"] == "Failed"
    assert "validate" in failed["reason"]
    assert "line 10" in failed["reason"]
    assert "accepted" in failed["reason"]
    assert runs_and_models(platform)[1] == versions
    record(
        line="1 a bad data file fails at the validation and registers nothing",
        evidence="executed",
        figure=failed["reason"],
        goal="fails at validate with the reason",
        command=f"./kiban runs start local --team vision --param source=s3://{TEAM}/inputs/bad.csv --wait",
    )


ATTEMPTS = f"""
    import boto3, json, os, socket, urllib.request, base64
    from botocore.exceptions import ClientError
    own, other = "{TEAM}", "{OTHER}"
    store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    user = f'{{os.environ["MLFLOW_TRACKING_USERNAME"]}}:{{os.environ["MLFLOW_TRACKING_PASSWORD"]}}'
    basic = "Basic " + base64.b64encode(user.encode()).decode()
    def mlflow(path, **body):
        url = os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/" + path
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(url, data, {{"Authorization": basic, "Content-Type": "application/json"}})
        return json.load(urllib.request.urlopen(request, timeout=20))
    def reach(host, port):
        socket.create_connection((host, port), timeout=5).close()
    def attempt(what, call):
        try:
            call()
        except ClientError as error:
            print(what, "denied" if error.response["Error"]["Code"] == "AccessDenied" else error)
        except urllib.error.HTTPError as error:
            print(what, "denied" if error.code == 403 else error)
        except OSError as error:
            print(what, "cut off" if isinstance(error, (TimeoutError, ConnectionRefusedError)) else error)
        else:
            print(what, "done")
    for bucket in (own, other, "backups"):
        attempt(f"list {{bucket}}", lambda: store.list_objects_v2(Bucket=bucket))
        attempt(f"write {{bucket}}", lambda: store.put_object(Bucket=bucket, Key="runs/left", Body=b"x"))
        attempt(f"read {{bucket}}", lambda: store.get_object(Bucket=bucket, Key="runs/left"))
        attempt(f"delete {{bucket}}", lambda: store.delete_object(Bucket=bucket, Key="runs/left"))
    for name in (own, other):
        attempt(f"experiment {{name}}", lambda: mlflow(f"experiments/get-by-name?experiment_name={{name}}"))
    for name, number in (("own", os.environ["OWN"]), ("other", os.environ["OTHER"])):
        attempt(f"log to {{name}}", lambda: mlflow("runs/create", experiment_id=number, start_time=1))
    found = mlflow("runs/search", experiment_ids=[os.environ["OTHER"]]).get("runs", [])
    print("runs of other:", len(found))
    attempt("run of other", lambda: mlflow("runs/get?run_id=" + os.environ["OTHERS_RUN"]))
    attempt("pod of other", lambda: reach(os.environ["OTHERS_POD"], 8080))
    attempt("postgres", lambda: reach("postgres.kiban-metadata.svc", 5432))
"""

A_RUN = """
    import mlflow
    with mlflow.start_run() as run:
        print(run.info.run_id)
"""

EXPECTED = {
    **{f"{verb} {TEAM}": "done" for verb in ("list", "write", "read", "delete")},
    **{f"{verb} {bucket}": "denied" for verb in ("list", "write", "read", "delete") for bucket in (OTHER, "backups")},
    f"experiment {TEAM}": "done",
    f"experiment {OTHER}": "denied",
    "log to own": "done",
    "log to other": "denied",
    "runs of other": "0",
    "run of other": "denied",
    "pod of other": "cut off",
    "postgres": "cut off",
}


@pytest.mark.usefixtures("recorded")
def test_a_team_reaches_nothing_of_another(platform: Checkout, record: Record) -> None:
    """With its own credentials a pod works on its own bucket and experiment, and is turned away everywhere else."""
    kubectl = functools.partial(platform.kubectl, "local")
    server = "import http.server; http.server.test(port=8080)"
    kubectl("apply", "-f", "-", stdin=pod("listening", OTHER, server))
    there = ("-n", f"team-{OTHER}")
    kubectl(*there, "wait", "pod/listening", "--for=condition=Ready", "--timeout=120s")
    address = kubectl(*there, "get", "pod", "listening", "-o", "jsonpath={.status.podIP}")
    numbers = dict(
        line.split("|") for line in sql(platform, "mlflow", "select name, experiment_id from experiments").splitlines()
    )
    # MLflow says more.
    (others,) = (line for line in said(platform, "others-run", A_RUN, OTHER) if re.fullmatch("[0-9a-f]{32}", line))
    given = {"OWN": numbers[TEAM], "OTHER": numbers[OTHER], "OTHERS_RUN": others, "OTHERS_POD": address}
    script = f"import os\nos.environ.update({given!r})\n" + textwrap.dedent(ATTEMPTS)
    found = dict(re.split(r":? (?=\S+$|cut off$)", line, maxsplit=1) for line in said(platform, "attempts", script))
    kubectl(*there, "delete", "pod", "listening", "--wait=false")
    assert found == EXPECTED
    record(
        line="4 a team reaches nothing of another",
        evidence="executed",
        figure=f"{len([each for each in found.values() if each != 'done'])} attempts turned away",
        goal="bucket, MLflow, pods",
        command="pytest tests/acceptance/platform/test_2_pipelines.py -k another",
    )


def begun(platform: Checkout, run: str, step: str) -> bool:
    """Whether the pod of a run's step runs, or has run."""
    pods = (*NAMESPACE, "get", "pods", "-l", f"workflows.argoproj.io/workflow={run}", "-o")
    states = r'jsonpath={range .items[*]}{.metadata.name} {.status.phase}{"\n"}{end}'
    return bool(re.search(rf"-{step}-\d+ (Running|Succeeded)", platform.kubectl("local", *pods, states)))


@pytest.mark.full
@pytest.mark.usefixtures("recorded")
def test_a_run_outlives_kills(platform: Checkout, record: Record) -> None:
    """Kill -9 of the database, the store and the controller during a run: it succeeds, and nothing recorded is lost."""
    before = runs_and_models(platform)[0]
    (item,) = platform.json("runs", "start", "local", "--team", TEAM)["items"]
    run = item["run"]
    for step, killed in (("data", "postgres"), ("validate", "versitygw"), ("train", "workflow-controller")):
        until(functools.partial(begun, platform, run, step), seconds=300, what=f"step {step}", every=0.5)
        victims = platform.pod_processes("local", killed)
        assert victims, killed
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):  # a server's death takes its workers with it
                victim.kill()
    assert ended(platform, run) == "Succeeded", platform.run("runs", "show", "local", run, expect=None).stdout
    assert shown(platform, run)["outcome"] == "Succeeded"
    assert before <= runs_and_models(platform)[0]
    record(
        line="6 kill -9 of PostgreSQL, the object store and the workflow controller during a run",
        evidence="executed",
        figure="the run succeeded, nothing recorded lost",
        goal="completes, or fails and is retried; nothing lost",
        command="kill -9 of postgres, versitygw, workflow-controller",
    )


@pytest.mark.full
@pytest.mark.usefixtures("recorded")
def test_everything_is_restored_from_a_backup(platform: Checkout, record: Record) -> None:
    """Database and bucket are destroyed: every run, model version and object is back, by digest."""
    kubectl = functools.partial(platform.kubectl, "local", *METADATA)
    before = runs_and_models(platform)
    (made,) = platform.json("backup", "local")["items"]
    assert made["runs"] >= len(before[0])
    kubectl("scale", "deployment/mlflow", "--replicas=0")
    kubectl("wait", "pod", "-l", "app.kubernetes.io/name=mlflow", "--for=delete", "--timeout=60s")
    for database in ("mlflow", "mlflow_auth"):
        sql(platform, "postgres", f"drop database {database} with (force)")
    script = f"""
        import boto3, os
        store = boto3.resource("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
        store.Bucket("{TEAM}").objects.delete()
        print(len(list(store.Bucket("{TEAM}").objects.all())))
    """
    assert said(platform, "destroy", script) == ["0"]
    kubectl("scale", "deployment/mlflow", "--replicas=1")
    start_of = time.monotonic()
    items = platform.json("restore", "local", "--from", "latest", "--yes")["items"]
    seconds = time.monotonic() - start_of
    assert items
    assert all(each["same"] for each in items)
    assert runs_and_models(platform) == before
    record(
        line="5 restore drill",
        evidence="executed",
        figure=f"{len(before[0])} runs and all objects back in {seconds:.0f} s",
        goal="every run and model is back, checked by digest",
        command="./kiban backup local; ./kiban restore local --from latest --yes",
    )


@pytest.mark.usefixtures("recorded")
def test_newer_data_is_not_restored_over(platform: Checkout, record: Record) -> None:
    """A target with data newer than the backup is refused, with what would be lost."""
    script = f"""
        import boto3, os
        store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
        store.put_object(Bucket="{TEAM}", Key="inputs/newer.csv", Body=b"newer")
    """
    platform.run("backup", "local")
    said(platform, "newer", script)
    done = platform.run("restore", "local", "--from", "latest", "--yes", expect=2)
    assert "inputs/newer.csv" in done.stderr
    assert "--discard-newer" in done.stderr
    record(
        line="5 a target with newer data",
        evidence="executed",
        figure="refused",
        goal="refused unless told",
        command="./kiban restore local --from latest --yes",
    )


@pytest.mark.full
@pytest.mark.usefixtures("recorded")
def test_credentials_rotate_without_losing_a_run(platform: Checkout, record: Record) -> None:
    """A run that began with the old key ends well after another was handed out, and pods from then on have that."""
    (item,) = platform.json("runs", "start", "local", "--team", TEAM)["items"]
    platform.run("credentials", "rotate", "local", "--team", TEAM)
    platform.run("up", "local")
    script = f"""
        import boto3, os
        store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
        store.list_objects_v2(Bucket="{TEAM}")
        print(os.environ["AWS_ACCESS_KEY_ID"])
    """
    assert said(platform, "rotated", script) == [f"{TEAM}-b"]
    assert ended(platform, item["run"]) == "Succeeded"
    record(
        line="credentials rotate without losing a run",
        evidence="executed",
        figure="the run succeeded, new pods have the new key",
        goal="one command",
        command="./kiban credentials rotate local --team vision; ./kiban up local",
    )


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (("runs", "start", "local", "--team", "visoin"), "accepted: vision, language"),
        (("runs", "start", "local", "--team", TEAM, "--param", "sauce=digits"), "accepted: NAME=VALUE with NAME one"),
        (("runs", "show", "local", "no-such-run"), "none is recorded"),
        (("restore", "local", "--from", "2001-01-01T00-00-00Z", "--yes"), "accepted"),
        (("credentials", "rotate", "local", "--team", "visoin"), "accepted: vision, language"),
    ],
    ids=["team", "parameter", "run", "backup", "credential"],
)
@pytest.mark.usefixtures("recorded")
def test_bad_input_is_refused(platform: Checkout, words: tuple[str, ...], refusal: str) -> None:
    """One line that says what is accepted; nothing is changed."""
    done = platform.run(*words, expect=2)
    assert refusal in done.stderr


@pytest.mark.parametrize(
    ("given", "instead", "refusal"),
    [
        ("object_store=InCluster(storage_gib=5)", "object_store=InCluster(storage_gib=4)", "5 and cannot shrink"),
        (
            "protect=False",
            "protect=False, mysql=InCluster(storage_gib=1, storage_class='fast')",
            "accepted: local-path",
        ),
        ("parallelism_per_team=10", "parallelism_per_team=0", "accepted: 1 to 1000"),
        ("expire_days=30", "expire_days=0", "accepted: 1 to 36500"),
    ],
    ids=["a volume that shrinks", "no such storage class", "no parallelism", "no days"],
)
@pytest.mark.usefixtures("recorded")
def test_bad_data_of_an_environment_is_refused(
    platform: Checkout, record: Record, given: str, instead: str, refusal: str
) -> None:
    """One line at the preview and before an `up`, and status 2; nothing is changed."""
    file = platform.root / "stacks" / "local.py"
    text = file.read_text()
    assert given in text
    file.write_text(text.replace(given, instead))
    try:
        for verb in ("preview", "up"):
            done = platform.run(verb, "local", expect=2)
            assert refusal in done.stderr.splitlines()[-1]
    finally:
        file.write_text(text)
    record(
        line=f"7 bad input: {instead}",
        evidence="executed",
        figure="refused",
        goal="a clear error at the preview",
        command="./kiban preview local",
    )
