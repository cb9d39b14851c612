"""The metadata store as data: what is refused, who may do what, and that every pod is restricted."""

import ast
import configparser
import dataclasses as dc
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from pulumi.runtime.mocks import MockCallArgs, MockMonitor, MockResourceArgs, Mocks, set_mocks

from components import _databases as databases
from components import _object_store as objects
from components._labels import selector
from components._metadata import store_at
from components._metadata_credentials import external_keys
from components._metadata_ways import own_policies, reach
from components._mlflow import mlflow_values, postgres_check
from components.foundation import Foundation, FoundationArgs
from components.metadata_store import (
    SCRIPTS,
    Database,
    ExternalDatabase,
    ExternalObjectStore,
    InCluster,
    MetadataStore,
    MetadataStoreArgs,
)
from components.tenancy import Team, Tenancy, TenancyArgs
from tests.charts.rendering import Object, Refused, render

ROOT = Path(__file__).parents[2]
SCRIPT_FOLDER = ROOT / "components" / "scripts"
TEAMS = (Team(name="vision", owner="a"), Team(name="language", owner="b"))
CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
EXTERNAL = ExternalDatabase(host="db.example.com", port=5433, name="mlflow", user="kiban", ca=CA)
OUTSIDE = ExternalObjectStore(endpoint="https://s3.example.com", region="eu-central-1", prefix="acme-")


@pytest.mark.parametrize(
    ("build", "given", "accepted"),
    [
        (lambda: InCluster(storage_gib=0), "storage_gib=0", "1 to 65536"),
        (lambda: InCluster(storage_gib=1, storage_class=""), "storage_class=''", "None for the cluster's default"),
        (lambda: MetadataStoreArgs(expire_days=0), "expire_days=0", "1 to 36500"),
        (lambda: MetadataStoreArgs(teams=(Team(name="ml", owner="a"),)), "team 'ml'", "at least 3"),
        (
            lambda: MetadataStoreArgs(teams=(Team(name="backups", owner="a"),)),
            "team 'backups'",
            "not any of admin, backups",
        ),
        (
            lambda: MetadataStoreArgs(teams=(Team(name="admin", owner="a"),)),
            "team 'admin'",
            "not any of admin, backups",
        ),
        (lambda: database(host="postgres://db"), "host='postgres://db'", "without a scheme"),
        (lambda: database(port=0), "port=0", "1 to 65535"),
        (lambda: database(name="ml flow"), "name='ml flow'", "letters, digits and '_'"),
        (lambda: database(user="a;b"), "user='a;b'", "letters, digits and '_'"),
        (lambda: database(ca="/etc/ca.crt"), "ca:", "PEM text"),
        (lambda: store(endpoint="http://s3.example.com"), "endpoint='http://s3.example.com'", "https://HOST[:PORT]"),
        (lambda: store(endpoint="https://s3.example.com/bucket"), "/bucket'", "https://HOST[:PORT]"),
        (lambda: store(region=""), "region=''", "the name of a region"),
        (lambda: store(prefix="Acme_"), "prefix='Acme_'", "up to 20 lower-case letters"),
    ],
)
def test_a_bad_value_is_refused_with_what_was_given_and_what_is_accepted(build: Any, given: str, accepted: str) -> None:  # noqa: ANN401 - any constructor
    """Every bound is checked, and the one-line message names the value and the bound."""
    with pytest.raises(ValueError, match="accepted") as refusal:
        build()
    message = str(refusal.value)
    assert given in message
    assert accepted in message
    assert "\n" not in message


def database(**change: Any) -> ExternalDatabase:  # noqa: ANN401 - any field
    """An external database with a field of the test's."""
    given: dict[str, Any] = {"host": "db.example.com", "port": 5432, "name": "mlflow", "user": "kiban"}
    return ExternalDatabase(**(given | change))


def store(**change: Any) -> ExternalObjectStore:  # noqa: ANN401 - any field
    """An external object store with a field of the test's."""
    return ExternalObjectStore(**({"endpoint": "https://s3.example.com", "region": "eu-central-1"} | change))


@pytest.mark.parametrize("given", ["only-half-a-secret", ":half-a-secret", "AKIA:"])
def test_a_key_of_an_external_store_has_two_parts(given: str) -> None:
    """What was given for a credential is not in the message, only its name and what is accepted."""
    with pytest.raises(pulumi.RunError, match="'object-store-backup': accepted: ACCESS_KEY:SECRET_KEY") as refusal:
        external_keys("object-store-backup", given)
    assert given not in str(refusal.value)
    assert external_keys("object-store-backup", "AKIA:a:b") == ("AKIA", "a:b")


def test_every_image_is_listed() -> None:
    """What the pods name is what `images` gives, with and without what is external."""
    args = MetadataStoreArgs(teams=TEAMS, mysql=InCluster(storage_gib=1))
    named = {
        container["image"] for _, spec in pods() for container in (*spec["containers"], *spec.get("initContainers", ()))
    }
    assert named == set(args.images)
    assert set(MetadataStoreArgs(postgres=EXTERNAL, object_store=OUTSIDE).images) == {
        databases.POSTGRES_IMAGE,
        objects.CLIENT_IMAGE,
    }


def test_a_throwaway_cluster_has_stand_ins() -> None:
    """What is external is in it, on its own storage class; what is not there stays so, and nothing outlives it."""
    outside = MetadataStoreArgs(teams=TEAMS, postgres=EXTERNAL, object_store=OUTSIDE).standing_in()
    assert set(outside.claims) == {"postgres", "object-store"}
    assert (outside.mysql, outside.protect, outside.teams) == (None, False, TEAMS)
    own = MetadataStoreArgs(postgres=InCluster(storage_gib=7, storage_class="fast"), mysql=EXTERNAL).standing_in()
    assert own.postgres == InCluster(storage_gib=7)
    assert isinstance(own.mysql, InCluster)


def test_a_team_has_one_bucket_and_two_accounts() -> None:
    """Both may use the team's bucket, and no other; the account of backups all of them."""
    found = json.loads(objects.buckets(store_at(MetadataStoreArgs(teams=TEAMS))))
    assert found == {
        "vision": {"team": "vision", "write": ["vision-a", "vision-b", "backup"]},
        "language": {"team": "language", "write": ["language-a", "language-b", "backup"]},
        "backups": {"team": None, "write": ["backup"]},
    }


def test_accounts_are_users_without_more_rights() -> None:
    """No account of the store may make buckets or see others' (versitygw's role `user`)."""
    written = json.loads(objects.accounts({"vision-a": "x", "backup": "y"}))["accessAccounts"]
    assert {name: (user["access"], user["secret"], user["role"]) for name, user in written.items()} == {
        "backup": ("backup", "y", "user"),
        "vision-a": ("vision-a", "x", "user"),
    }


def policy(bucket: str, accounts: list[str]) -> dict[str, Any]:
    """What scripts/buckets.py would put; it is run without the libraries of its image."""
    source = SCRIPT_FOLDER.joinpath("buckets.py").read_text()
    tree = ast.parse(source)
    wanted = [node for node in tree.body if isinstance(node, ast.Assign) or getattr(node, "name", "") == "policy"]
    scope: dict[str, Any] = {"Any": Any}
    exec(compile(ast.Module(wanted, []), "buckets.py", "exec"), scope)  # noqa: S102 - this repository's
    made: dict[str, Any] = scope["policy"](bucket, accounts)
    return made


def test_a_policy_names_accounts_and_its_own_bucket_only() -> None:
    """Nobody else is let in, and none of the actions changes the bucket or its policy."""
    made = policy("vision", ["vision-a"])["Statement"]
    assert {each["Effect"] for each in made} == {"Allow"}
    assert [each["Principal"] for each in made] == [{"AWS": ["vision-a"]}] * 2
    assert [each["Resource"] for each in made] == [
        ["arn:aws:s3:::vision"],
        ["arn:aws:s3:::vision/*", "arn:aws:s3:::vision"],
    ]
    actions = {action for each in made for action in each["Action"]}
    assert {"s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"} <= actions
    assert not [one for one in actions if re.search(r"\*|Policy|Acl|CreateBucket|DeleteBucket", one)]


def test_models_do_not_expire() -> None:
    """What expires is apart from where MLflow's experiments keep artifacts."""
    kept = json.loads(objects.experiments(store_at(MetadataStoreArgs(teams=TEAMS))))
    assert kept == {"vision": "s3://vision/mlflow", "language": "s3://language/mlflow"}
    assert not any("mlflow/".startswith(prefix) for prefix in objects.EXPIRING)


def test_an_external_store_has_its_own_names() -> None:
    """Buckets have the prefix, and the port is that of its endpoint."""
    made = store_at(MetadataStoreArgs(teams=TEAMS, object_store=OUTSIDE))
    assert made.buckets == {"vision": "acme-vision", "language": "acme-language"}
    assert (made.backups, made.region, made.port) == ("acme-backups", "eu-central-1", 443)


def test_an_external_database_is_reached_by_tls_only() -> None:
    """Its certificate is checked against its name, whoever signed it; within the cluster there is none."""
    outside = databases.postgres_at(EXTERNAL, "there")
    assert (outside.sslmode, outside.databases) == ("verify-full", ("mlflow", "mlflow_auth"))
    public = databases.postgres_at(database(), "there")
    assert (public.sslmode, public.ca) == ("verify-full", "")
    here = databases.postgres_at(InCluster(storage_gib=1), "there")
    assert (here.sslmode, here.host, here.user) == ("disable", "postgres.there.svc", "mlflow")
    command = databases.mysql_check(outside, priority="p")["containers"][0]["command"]
    assert "--ssl-mode=VERIFY_IDENTITY" in command


def ports(spec: dict[str, Any], direction: str) -> set[int]:
    """The ports that a policy opens."""
    return {port["port"] for rule in spec[direction] for port in rule["ports"]}


def test_a_team_reaches_mlflow_and_the_object_store_only() -> None:
    """No database is open to it; Kubeflow Pipelines reaches MySQL too."""
    args = MetadataStoreArgs(teams=TEAMS, mysql=InCluster(storage_gib=1))
    assert ports(reach(args, mysql=False), "egress") == {5000, 9000}
    assert ports(reach(args, mysql=True), "egress") == {5000, 9000, 3306}
    opened = own_policies("metadata", [])
    assert {name: ports(spec, "ingress") for name, spec in opened.items()} == {
        "allow-clients-of-mlflow": {5000},
        "allow-clients-of-object-store": {9000},
        "allow-clients-of-mysql": {3306},
    }


def test_what_is_outside_is_let_out_to() -> None:
    """Where parts are external, their ports are open, and those of the cluster's own are not."""
    args = MetadataStoreArgs(teams=TEAMS, postgres=EXTERNAL, object_store=OUTSIDE)
    assert ports(reach(args, mysql=False), "egress") == {5000, 443}
    assert ports(own_policies("metadata", [5433, 443])["allow-outside"], "egress") == {443, 5433}


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod that the component makes itself."""
    yield "postgres", databases.postgres(priority="p")
    yield "mysql", databases.mysql(priority="p")
    yield "mysql-check", databases.mysql_check(databases.mysql_at(EXTERNAL, "n"), priority="p")
    yield "postgres-check", postgres_check(databases.postgres_at(EXTERNAL, "n"), "p")
    yield "object-store", objects.object_store(priority="p")
    yield "buckets", objects.script("buckets", priority="p", env=[], secrets={"teams": "object-store-teams"})


@pytest.mark.parametrize(("name", "spec"), list(pods()), ids=[name for name, _ in pods()])
def test_a_pod_is_restricted(name: str, spec: dict[str, Any]) -> None:
    """It meets Pod Security `restricted`, has no token, says what it needs, and writes to its volumes only."""
    check_restricted(spec)
    if spec.get("restartPolicy") != "Never":
        for container in spec["containers"]:
            assert {"readinessProbe", "livenessProbe", "startupProbe"} <= set(container), name


def check_restricted(spec: dict[str, Any]) -> None:
    """Fail for a pod that is not."""
    assert spec["automountServiceAccountToken"] is False
    security = spec["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    volumes = {volume["name"] for volume in spec["volumes"]}
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert set(container["resources"]) == {"requests", "limits"}
        assert container["command"]
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def test_passwords_are_never_in_a_pod() -> None:
    """A pod's spec names Secrets; it holds no value of one."""
    for _, spec in pods():
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            secret = [each for each in container["env"] if re.search("PASSWORD|SECRET|PWD", each["name"])]
            assert all("valueFrom" in each for each in secret)


def test_mysqls_password_is_set_at_every_start() -> None:
    """Quotes in it end no string."""
    made = databases.mysql_init("it's\\")
    assert made.count("BY 'it\\'s\\\\'") == 3
    assert "ALTER USER 'root'@'%'" in made


def test_every_script_is_there_and_can_be_read_by_its_interpreter() -> None:
    """Python's compile, and the shell's parses."""
    for name in SCRIPTS:
        file = SCRIPT_FOLDER / name
        if file.suffix == ".py":
            ast.parse(file.read_text())
        elif file.suffix == ".sh":
            subprocess.run(["sh", "-n", file], check=True)
        else:
            assert file.read_text()


def test_only_passwords_open_postgresql_from_the_network() -> None:
    """Its own pod's user comes in as itself, all others by SCRAM."""
    lines = [line for line in SCRIPT_FOLDER.joinpath("pg_hba.conf").read_text().splitlines() if line[0] != "#"]
    assert lines == ["local all all peer", "host all all all scram-sha-256"]


SCHEMA = json.loads((ROOT / "charts" / "mlflow" / "values.schema.json").read_text())


def objects_of(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of a schema, by its path."""
    if schema.get("type") == "object":
        yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from objects_of(inner, f"{path}.{name}")


@pytest.mark.parametrize(("path", "schema"), list(objects_of(SCHEMA)), ids=[path for path, _ in objects_of(SCHEMA)])
def test_the_charts_schema_is_closed_and_described(path: str, schema: dict[str, Any]) -> None:
    """No value is accepted that is not described."""
    assert schema["additionalProperties"] is False or "type" in schema["additionalProperties"]
    assert path == "" or schema["description"]
    assert all(inner["description"] for inner in schema.get("properties", {}).values())


def test_the_charts_values_are_all_given() -> None:
    """What the schema requires comes from the component or from the chart's defaults, and nothing else does."""
    database = databases.postgres_at(InCluster(storage_gib=1), "n")
    given = mlflow_values(database, store_at(MetadataStoreArgs(teams=TEAMS)), priority="p")
    defaults = yaml.safe_load((ROOT / "charts" / "mlflow" / "values.yaml").read_text())
    assert set(given) | set(defaults) | {"labels", "inputs"} == set(SCHEMA["required"]) == set(SCHEMA["properties"])
    for part in ("database", "backups"):
        assert set(given[part]) == set(SCHEMA["properties"][part]["required"])


def chart_values(part: InCluster | ExternalDatabase) -> dict[str, Any]:
    """What the component gives the chart."""
    given = mlflow_values(
        databases.postgres_at(part, "n"), store_at(MetadataStoreArgs(teams=TEAMS)), priority="kiban-platform"
    )
    return given | {"inputs": "0123456789", "labels": selector("mlflow", "metadata")}


@pytest.fixture(scope="module", name="rendered")
def _rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Object]]:
    variants = {"here": chart_values(InCluster(storage_gib=1)), "there": chart_values(EXTERNAL)}
    return render(ROOT / "charts" / "mlflow", variants, tmp_path_factory.mktemp("render"))


@pytest.mark.parametrize("variant", ["here", "there"])
def test_mlflows_pod_is_restricted(rendered: dict[str, list[Object]], variant: str) -> None:
    """Its init containers too; the server has no key of the object store, and no password is written out."""
    (deployment,) = [each for each in rendered[variant] if each["kind"] == "Deployment"]
    spec = deployment["spec"]["template"]["spec"]
    check_restricted(spec)
    (server,) = spec["containers"]
    assert not [each for each in server["env"] if each["name"].startswith("AWS_")]
    assert "envFrom" not in server
    for container in (*spec["containers"], *spec["initContainers"]):
        secret = [each for each in container["env"] if re.search("PASSWORD|SECRET", each["name"])]
        assert all("valueFrom" in each for each in secret)


def test_mlflow_lets_nobody_in_by_default(rendered: dict[str, list[Object]]) -> None:
    """Accounts are in a database of their own, the administrator has no well-known password, others see nothing."""
    (config,) = [each for each in rendered["here"] if each["kind"] == "ConfigMap"]
    read = configparser.ConfigParser()
    read.read_string(config["data"]["accounts.ini"])
    assert read["mlflow"]["default_permission"] == "NO_PERMISSIONS"
    assert read["mlflow"]["database_uri"] == "postgresql+psycopg2://mlflow@postgres.n.svc:5432/mlflow_auth"
    assert "admin_password" not in read["mlflow"]


def test_mlflow_takes_a_changed_password_for_seconds_at_most(rendered: dict[str, list[Object]]) -> None:
    """A worker that did not make the change may go on with the old one; 200 teams' accounts are made in time by it."""
    (config,) = [each for each in rendered["here"] if each["kind"] == "ConfigMap"]
    read = configparser.ConfigParser()
    read.read_string(config["data"]["accounts.ini"])
    assert read["mlflow"]["auth_cache_ttl_seconds"] == "5"


def test_mlflow_reaches_an_external_database_by_tls_only(rendered: dict[str, list[Object]]) -> None:
    """Every container that asks it, for the dump too, checks the certificate."""
    (deployment,) = [each for each in rendered["there"] if each["kind"] == "Deployment"]
    spec = deployment["spec"]["template"]["spec"]
    for container in (*spec["containers"], *spec["initContainers"]):
        env = {each["name"]: each.get("value") for each in container["env"]}
        assert (env["PGSSLMODE"], env["PGSSLROOTCERT"]) == ("verify-full", "/migration/ca.crt"), container["name"]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"surprise": 1}, "surprise"),
        ({"workers": 0}, "workers"),
        ({"allowedHosts": ["*"]}, "allowedHosts"),
        ({"image": "mlflow"}, "image"),
    ],
)
def test_a_value_outside_the_schema_is_refused(change: dict[str, Any], path: str, tmp_path: Path) -> None:
    """What Helm says has the value's path."""
    values = chart_values(InCluster(storage_gib=1)) | change
    with pytest.raises(Refused) as refusal:
        render(ROOT / "charts" / "mlflow", {"bad": values}, tmp_path)
    assert path in str(refusal.value)


def test_mlflow_answers_to_its_own_names_only() -> None:
    """Each with and without the port, as clients write it."""
    given = mlflow_values(here(), store_at(MetadataStoreArgs(teams=TEAMS)), priority="p")
    assert "mlflow.kiban-metadata.svc:5000" in given["allowedHosts"]
    assert "*" not in given["allowedHosts"]


def here() -> Database:
    """The database in the cluster."""
    return databases.postgres_at(InCluster(storage_gib=1), "kiban-metadata")


def test_loading_the_component_needs_nothing_of_the_scripts_images() -> None:
    """Libraries of the images are imported in pods only."""
    asked = (
        "import sys, components.metadata_store; print([m for m in ('boto3', 'mlflow', 'psycopg2') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"


class Recorder(Mocks):
    """Remembers every Kubernetes object that is registered, secrets in the clear."""

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        """Take a resource as it is."""
        if args.typ.startswith("kubernetes:"):
            self.made[f"{args.typ.rpartition(':')[2]} {args.name}"] = dict(args.inputs)
        return f"{args.name}-id", dict(args.inputs)

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """Answer no function."""
        raise NotImplementedError(args.token)


class Monitor(MockMonitor):
    """Pulumi's mock of the engine, which also notes what is protected and kept, and what waits for what."""

    def __init__(self, mocks: Mocks) -> None:
        super().__init__(mocks)
        self.kept: set[str] = set()
        self.after: dict[str, set[str]] = {}

    def RegisterResource(self, request: Any) -> Any:  # noqa: ANN401, N802  as the base class has it
        """Take a resource."""
        if request.protect and request.retainOnDelete:
            self.kept.add(request.name)
        self.after[request.name] = {urn.rsplit("::", 1)[-1] for urn in request.dependencies}
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]


def declared(
    args: MetadataStoreArgs, *, slots: dict[str, str] | None = None, **changed: str
) -> tuple[dict[str, dict[str, Any]], Monitor]:
    """What the component declares, by type and name. changed: credentials, `_` for `-`, that are not as usual."""
    recorder = Recorder()
    monitor = Monitor(recorder)
    set_mocks(recorder, project="kiban", stack="small", preview=False, monitor=monitor)
    given = {name.replace("_", "-"): value for name, value in changed.items()}

    class Credentials(dict[str, pulumi.Input[str]]):
        def __missing__(self, name: str) -> pulumi.Input[str]:
            return pulumi.Output.secret(given.get(name, f"{name}:secret"))

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> None:
        foundation = Foundation("foundation", FoundationArgs())
        tenancy = Tenancy("tenancy", TenancyArgs(teams=args.teams), foundation=foundation)
        MetadataStore(
            "metadata", args, foundation=foundation, tenancy=tenancy, credentials=Credentials(), slots=slots or {}
        )

    program()
    return {name: each for name, each in recorder.made.items() if " metadata" in name}, monitor


PLAIN = MetadataStoreArgs(teams=TEAMS)


def content(secret: dict[str, Any]) -> dict[str, str]:
    """What a Secret holds; Pulumi marks it as secret."""
    found: dict[str, str] = secret["stringData"]["value"]
    return found


def test_volumes_outlive_the_platform_if_they_are_to() -> None:
    """So does the namespace that they are in, which would take them along; nothing else does."""
    _, monitor = declared(PLAIN)
    assert monitor.kept == {"metadata-kiban-metadata", "metadata-postgres", "metadata-object-store"}
    _, monitor = declared(MetadataStoreArgs(teams=TEAMS, protect=False))
    assert monitor.kept == set()


def test_a_team_gets_what_its_pods_read() -> None:
    """Under upstream's names where it has some; with the account that is its turn."""
    made, _ = declared(PLAIN, slots={"vision": "b"})
    within = {
        f"{name.partition(' ')[0]} {each['metadata']['name']}": each
        for name, each in made.items()
        if each.get("metadata", {}).get("namespace") == "team-vision"
    }
    assert set(within) == {
        "Secret mlpipeline-minio-artifact",
        "Secret mlflow",
        "ConfigMap metadata-store",
        "NetworkPolicy allow-metadata-store",
    }
    keys = content(within["Secret mlpipeline-minio-artifact"])
    assert keys == {"accesskey": "vision-b", "secretkey": "object-store-vision-b:secret"}
    assert within["ConfigMap metadata-store"]["data"]["MLFLOW_EXPERIMENT_NAME"] == "vision"


def test_both_keys_of_a_team_are_valid() -> None:
    """Pods that run keep the one that is no longer handed out."""
    made, _ = declared(PLAIN, slots={"vision": "b"})
    users = json.loads(content(made["Secret metadata-object-store-accounts"])["users.json"])
    assert set(users["accessAccounts"]) == {"backup", "language-a", "language-b", "vision-a", "vision-b"}


def inputs(made: dict[str, dict[str, Any]], name: str) -> str:
    """The digest at which a StatefulSet's pod is made anew."""
    found: str = made[f"StatefulSet metadata-{name}"]["spec"]["template"]["metadata"]["annotations"]["kiban.dev/inputs"]
    return found


def test_a_new_password_makes_the_pods_anew_that_read_it_at_their_start() -> None:
    """PostgreSQL's is told to its roles then; accounts of the object store need no restart."""
    before, after = declared(PLAIN)[0], declared(PLAIN, postgres="new", object_store_vision_a="new")[0]
    assert inputs(before, "postgres") != inputs(after, "postgres")
    assert inputs(before, "object-store") == inputs(after, "object-store")


def job(made: dict[str, dict[str, Any]], name: str) -> str:
    """The name of a Job in the cluster."""
    found: str = made[f"Job metadata-{name}"]["metadata"]["name"]
    return found


def test_a_job_is_made_anew_when_what_it_does_changes() -> None:
    """Its name is a digest of that; the same gives the same, and no name shows a secret."""
    before, again = declared(PLAIN)[0], declared(PLAIN)[0]
    more = declared(MetadataStoreArgs(teams=(*TEAMS, Team(name="ranking", owner="c"))))[0]
    changed = declared(PLAIN, mlflow_vision="new")[0]
    for name in ("buckets", "accounts"):
        assert job(before, name) == job(again, name) != job(more, name)
        assert re.fullmatch(rf"{name}-[0-9a-f]{{10}}", job(before, name))
    assert job(before, "buckets") == job(changed, "buckets")
    elsewhere = declared(dc.replace(PLAIN, postgres=EXTERNAL))[0]
    assert len({job(made, "accounts") for made in (before, changed, elsewhere)}) == 3


def test_mlflow_is_made_when_what_it_needs_serves() -> None:
    """After both StatefulSets and the bucket of backups; users after MLflow."""
    _, monitor = declared(PLAIN)
    assert {"metadata-postgres", "metadata-object-store", "metadata-buckets"} <= monitor.after["metadata-mlflow"]
    assert "metadata-mlflow" in monitor.after["metadata-accounts"]


def test_an_external_database_is_tried_before_anything_needs_it() -> None:
    """There is no volume and no StatefulSet for it; MLflow waits for the Job that asks it."""
    made, monitor = declared(MetadataStoreArgs(teams=TEAMS, postgres=EXTERNAL, object_store=OUTSIDE))
    assert not [name for name in made if name.startswith(("StatefulSet", "PersistentVolumeClaim"))]
    assert "metadata-connect-postgres" in monitor.after["metadata-mlflow"]
    assert content(made["Secret metadata-object-store-teams"])["vision.access"] == "object-store-vision-a"


def test_nothing_expires_where_it_is_not_to() -> None:
    """expire_days=None: no CronJob."""
    assert "CronJob metadata-expire" in declared(PLAIN)[0]
    assert "CronJob metadata-expire" not in declared(MetadataStoreArgs(teams=TEAMS, expire_days=None))[0]


def test_backups_are_made_unless_they_are_not_to() -> None:
    """backup=None: no CronJob for them."""
    assert "CronJob metadata-backup" in declared(PLAIN)[0]
    assert "CronJob metadata-backup" not in declared(MetadataStoreArgs(teams=TEAMS, backup=None))[0]
