"""The real engine on a real control plane: up and again, by either command; stopped, killed, locked out, refused."""

import dataclasses as dc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

import stacks
from infra import console, engine, paths, sweep, target
from infra.clusters import Cluster, embedded
from infra.clusters.nodes import Nodes
from infra.clusters.waiting import until
from infra.engine import Result
from infra.engine.locks import held_in
from infra.errors import BadInput, CouldNotRun, RunFailed
from infra.kubectl import Kubectl
from infra.target import PROJECT, Target
from stacks._schema import EmbeddedCluster, KubeconfigCluster, State

KIBAN = Path(sys.executable).with_name("kiban")
RUN = 2.5  # about how long an `up` from nothing takes the engine, in seconds
NO_PROCESS = next(pid for pid in range(4_000_000, 1, -1) if not psutil.pid_exists(pid))


def plain(where: Target, *words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run `pulumi` as a user does in the shell of `kiban env`."""
    variables = {**os.environ, **where.environ, **environ}
    return subprocess.run(
        ["pulumi", "--non-interactive", *words],
        cwd=paths.ROOT,
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def unchanged(result: Result) -> bool:
    """Whether a run found everything as it should be."""
    return not result.changed and set(result.counts) == {"unchanged"}


def pulumis(where: Target) -> list[psutil.Process]:
    """Every process that belongs to a run on this stack: pulumi, its provider, its language hosts."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PULUMI_HOME") == str(where.home):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def cluster(cluster_home: Path) -> Iterator[Cluster]:
    """Return the cluster of the environment `ci`, running."""
    assert paths.home() == cluster_home
    environment = stacks.load("ci")
    assert isinstance(environment.cluster, EmbeddedCluster)
    nodes = Nodes(system=environment.system_nodes, gpu_pools=environment.gpu_pools)
    yield embedded.up(environment.cluster.name, nodes, say=console.say)
    embedded.down(environment.cluster.name, say=console.say)


@pytest.fixture
def ci(cluster: Cluster) -> Target:
    """Return the environment `ci` on its cluster."""
    assert cluster.uid
    return target.resolve("ci")


@pytest.fixture
def durable(ci: Target) -> Target:
    """Return the same with a state that is written at every step."""
    environment = dc.replace(ci.environment, state=State(durable=True))
    environ = {**ci.environ, "PULUMI_SKIP_CHECKPOINTS": None, "PULUMI_DIY_BACKEND_GZIP": "true"}
    return dc.replace(ci, environment=environment, environ=environ)


@pytest.fixture
def applied(ci: Target) -> Target:
    """Return the environment `ci`, up."""
    engine.up(ci)
    return ci


def test_a_second_up_has_nothing_to_do(ci: Target) -> None:
    """The first run makes everything, the second finds it so, and both know the outputs without asking again."""
    first = engine.up(ci)
    assert first.counts.get("failed") is None
    again = engine.up(ci)
    assert unchanged(again)
    assert again.outputs == engine.outputs(ci)
    assert again.outputs["environment"] == "ci"


def test_a_run_does_what_was_planned_and_nothing_else(applied: Target, tmp_path: Path) -> None:
    """The plan of a preview holds while the program says the same, keeps no secret, and else ends the run."""
    plan = tmp_path / "plan.json"
    assert unchanged(engine.preview(applied, plan=plan))
    assert unchanged(engine.up(applied, plan=plan))
    assert "PRIVATE KEY" not in plan.read_text()
    planned = json.loads(plan.read_text())
    urn = next(urn for urn in planned["resourcePlans"] if urn.endswith(":Namespace::tenancy-vision"))
    planned["resourcePlans"][urn]["steps"] = ["delete"]
    plan.write_text(json.dumps(planned))
    with pytest.raises(RunFailed, match="same is not allowed by the plan"):
        engine.up(applied, plan=plan)
    assert Kubectl(applied.cluster.kubeconfig).get("namespace", "team-vision")
    assert unchanged(engine.up(applied))


def test_the_plain_command_agrees(applied: Target) -> None:
    """After `kiban up` the real CLI has nothing to do either, warns of nothing, and the other way round."""
    assert plain(applied, "preview", "--expect-no-changes").returncode == 0
    done = plain(applied, "up", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "unchanged" in done.stdout
    assert "warning" not in done.stdout + done.stderr
    assert unchanged(engine.preview(applied))
    assert unchanged(engine.up(applied))


def test_the_plain_command_can_be_first(ci: Target) -> None:
    """On a stack that `kiban env` has prepared, `pulumi up` makes what `kiban up` then finds complete."""
    engine.destroy(ci)
    engine.prepare(ci)
    done = plain(ci, "up", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert unchanged(engine.up(ci))


def test_the_checkout_stays_clean(applied: Target) -> None:
    """The stack's configuration, with its salt, is beside the cluster."""
    assert not list((paths.ROOT / "stacks").glob("Pulumi.ci.*"))
    assert applied.folder is not None
    assert (applied.folder / "Pulumi.ci.yaml").exists()


def owner(kubectl: Kubectl) -> str:
    """Return the owner that team-vision's namespace names."""
    (namespace,) = kubectl.get("namespace", "team-vision")
    return str(namespace["metadata"]["labels"]["kiban.dev/owner"])


def test_what_a_user_changed_is_put_right(applied: Target) -> None:
    """A refresh takes what kubectl has set into the state, a preview shows it, and the next `up` undoes it."""
    kubectl = Kubectl(applied.cluster.kubeconfig, applied.cluster.context)
    kubectl.run("label", "namespace", "team-vision", "kiban.dev/owner=nobody", "--overwrite")
    engine.refresh(applied)
    assert [change.name for change in engine.preview(applied).changes] == ["Namespace tenancy-vision"]
    engine.up(applied)
    assert owner(kubectl) == "vision-oncall"


def test_no_kubeconfig_stays_behind(ci: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider's temporary files, which hold keys, are gone with the run."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    engine.up(ci)
    assert not list(tmp_path.iterdir())
    assert not list(ci.home.rglob("kubeconfig[0-9]*"))


def test_the_state_is_the_same_from_every_checkout(applied: Target) -> None:
    """It holds no path of this machine, and no stack trace but the stack's own, which the SDK takes before us."""
    deployment = engine.export(applied)
    assert str(paths.ROOT) not in json.dumps(deployment)
    traced = [resource["type"] for resource in deployment["resources"] if "stackTrace" in resource]
    assert traced == ["pulumi:pulumi:Stack"]


def test_what_another_manager_keeps_is_taken_back_by_force(applied: Target) -> None:
    """A field that another tool applies is named with who does; `--force` makes it as the program says."""
    kubectl = Kubectl(applied.cluster.kubeconfig, applied.cluster.context)
    labels = {"kiban.dev/owner": "nobody"}
    kubectl.apply(
        [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-vision", "labels": labels}}],
        field_manager="other-tool",
    )
    engine.refresh(applied)
    told = r"Namespace tenancy-vision: 'other-tool' has set \.metadata\.labels\.kiban\.dev/owner since; .*--force`"
    with pytest.raises(RunFailed, match=told):
        engine.up(applied)
    engine.up(applied, force=True)
    assert owner(kubectl) == "vision-oncall"
    assert unchanged(engine.up(applied))


def test_destroy_leaves_nothing(applied: Target) -> None:
    """Every object is gone, those that the state does not know too, and every process."""
    engine.destroy(applied)
    assert sweep.find(applied, {}) == ()
    assert engine.outputs(applied) == {}
    until(lambda: not pulumis(applied), seconds=10, what="the engine's processes")


def test_ctrl_c_cancels_and_says_how_to_go_on(ci: Target) -> None:
    """One Ctrl-C ends the run with status 130, no traceback, no lock and no process; the same command goes on."""
    engine.destroy(ci)
    running = subprocess.Popen([KIBAN, "up", "ci"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: any("pulumi-resource" in p.name() for p in pulumis(ci)), seconds=60, what="the provider")
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert "to go on run `kiban up ci` again" in err
    assert "Traceback" not in out + err
    assert not pulumis(ci)
    result = engine.up(ci)
    assert not result.recovered
    assert unchanged(engine.up(ci))


def test_ctrl_c_in_the_plain_command_shows_no_traceback(ci: Target) -> None:
    """The language host ends when the engine stops it."""
    engine.destroy(ci)
    engine.prepare(ci)
    variables = {name: value for name, value in {**os.environ, **ci.environ}.items() if value is not None}
    running = subprocess.Popen(
        ["pulumi", "up", "--yes", "--non-interactive"],
        cwd=paths.ROOT,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    until(lambda: any("pulumi-resource" in p.name() for p in pulumis(ci)), seconds=60, what="the provider")
    os.killpg(running.pid, signal.SIGINT)
    out, _ = running.communicate(timeout=60)
    assert running.returncode != 0
    assert "Traceback" not in out
    assert "KeyboardInterrupt" not in out
    until(lambda: not pulumis(ci), seconds=10, what="the engine's processes")
    engine.up(ci)


def kill_engine(where: Target, after: float) -> None:
    """Kill pulumi this long after it has come to life."""
    until(lambda: bool(engines(where)), seconds=60, what="the engine")
    time.sleep(after)  # the point itself, not a wait for something
    for process in engines(where):
        process.kill()


def engines(where: Target) -> list[psutil.Process]:
    """The processes of pulumi itself, without its plugins."""
    return [process for process in pulumis(where) if process.name() == "pulumi"]


def assert_converges(where: Target) -> None:
    """The next run clears up; then nothing is left to do, nothing is unknown, and nothing is pending."""
    engine.up(where)
    assert unchanged(engine.up(where))
    deployment = engine.export(where)
    assert sweep.find(where, deployment) == ()
    assert not deployment.get("pending_operations")
    assert not pulumis(where)


def test_killed_at_any_point_a_durable_run_converges(durable: Target, full: bool) -> None:  # noqa: FBT001
    """Kill -9 of pulumi, at points spread over an `up` whose every step is written down."""
    points = 20 if full else 1
    for point in range(points):
        engine.destroy(durable)
        killer = threading.Thread(target=kill_engine, args=(durable, 2 * RUN * (point + 0.5) / points))
        killer.start()
        try:
            engine.up(durable)
        except RunFailed as failed:
            assert "pulumi was killed" in str(failed)  # noqa: PT017
        killer.join()
        assert_converges(durable)


def test_what_a_cancelled_run_left_pending_is_dropped(applied: Target) -> None:
    """A creation that was under way when pulumi was cancelled is in a throwaway state too, and may stay there."""
    assert applied.folder is not None
    file = target.states(applied.folder)["ci"]
    state = json.loads(file.read_text())
    deployment = state["checkpoint"]["latest"]
    cut = next(each for each in deployment["resources"] if each["type"] == "kubernetes:core/v1:ResourceQuota")
    deployment["resources"].remove(cut)
    deployment["pending_operations"] = [{"resource": cut, "type": "creating"}]
    file.write_text(json.dumps(state))
    assert engine.export(applied)["pending_operations"]
    assert_converges(applied)


@pytest.mark.full
def test_killed_kiban_takes_the_engine_with_it(ci: Target) -> None:
    """Kill -9 of Kiban alone: pulumi cancels by itself and lets go of the stack."""
    engine.destroy(ci)
    running = subprocess.Popen([KIBAN, "up", "ci"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: bool(engines(ci)), seconds=60, what="the engine")
    time.sleep(RUN / 2)  # in the middle
    running.kill()
    running.wait()
    until(lambda: not pulumis(ci), seconds=20, what="the engine's end")
    assert_converges(ci)


def test_no_file_of_the_state_is_written_in_place(durable: Target) -> None:
    """The backend keeps nothing beside a state that a kill could cut off: with such a file it cannot be read."""
    engine.up(durable)
    assert durable.folder is not None
    assert not list(durable.folder.rglob("*.attrs"))


def test_all_killed_at_once(ci: Target) -> None:
    """Kill -9 of Kiban and pulumi together: the next run ends what was left, clears the lock and converges."""
    engine.destroy(ci)
    running = subprocess.Popen([KIBAN, "up", "ci"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: bool(held_in(ci.backend, PROJECT, ci.stack)), seconds=60, what="the engine's lock")
    time.sleep(RUN / 4)  # in the middle
    victims = engines(ci)
    running.kill()
    for victim in victims:
        victim.kill()
    running.wait()
    said: list[str] = []
    result = engine.up(ci, say=said.append)
    assert result.recovered
    assert "was cut off; clearing its lock" in said[0]
    assert_converges(ci)


@pytest.mark.full
def test_a_killed_destroy_goes_on(durable: Target) -> None:
    """The next `destroy` finds some gone, deletes the rest, and leaves nothing."""
    engine.up(durable)
    killer = threading.Thread(target=kill_engine, args=(durable, RUN / 2))
    killer.start()
    with pytest.raises(RunFailed, match="pulumi was killed"):
        engine.destroy(durable)
    killer.join()
    assert engine.destroy(durable).recovered
    assert sweep.find(durable, {}) == ()


def test_destroy_finds_what_no_state_was_written_of(applied: Target) -> None:
    """What a run made that was killed before its state was written is found by its label, namespaces too."""
    assert applied.folder is not None
    target.states(applied.folder)["ci"].unlink()
    engine.prepare(applied)
    assert {"Namespace", "NetworkPolicy"} < {orphan.kind for orphan in engine.destroy(applied).orphans}
    assert sweep.find(applied, {}) == ()


def lock(where: Target, *, pid: int, host: str = socket.gethostname()) -> Path:
    """Lock the stack as a run of that process would have."""
    assert where.folder is not None
    file = where.folder / ".pulumi" / "locks" / "organization" / "kiban" / where.stack / "1.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    file.write_text(json.dumps({"pid": pid, "username": "ann", "hostname": host, "timestamp": now}))
    return file


@pytest.mark.parametrize(("pid", "host"), [(os.getpid(), socket.gethostname()), (NO_PROCESS, "elsewhere")])
def test_a_lock_that_may_be_held_is_explained(applied: Target, pid: int, host: str) -> None:
    """A run beside another one says who holds the lock since when, and what to do; nothing is cleared."""
    file = lock(applied, pid=pid, host=host)
    with pytest.raises(CouldNotRun, match=rf"locked by ann@{host} \(process {pid}, since .*`kiban unlock ci`"):
        engine.up(applied)
    assert file.exists()
    (held,) = engine.unlock(applied)
    assert (held.user, held.host, held.pid) == ("ann", host, pid)
    assert not file.exists()
    assert unchanged(engine.up(applied))


def test_there_is_nothing_to_unlock_where_there_is_no_stack(ci: Target) -> None:
    """Unlocking an environment that was never applied is no error."""
    never = dc.replace(ci, environment=dc.replace(ci.environment, name="never"))
    assert engine.unlock(never) == ()
    assert engine.outputs(never) == engine.export(never) == {}


def test_what_a_killed_run_left_is_swept(applied: Target) -> None:
    """An object with the environment's label that the program no longer has is deleted; a volume's claim is named."""
    kubectl = Kubectl(applied.cluster.kubeconfig, applied.cluster.context)
    labels = {"kiban.dev/environment": "ci"}
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "left", "namespace": "default", "labels": labels},
    }
    claim = config | {
        "kind": "PersistentVolumeClaim",
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    kubectl.apply([config, claim], field_manager="test")
    lock(applied, pid=NO_PROCESS)
    said: list[str] = []
    result = engine.up(applied, say=said.append)
    assert {(orphan.kind, orphan.kept) for orphan in result.orphans} == {
        ("ConfigMap", False),
        ("PersistentVolumeClaim", True),
    }
    assert any("ConfigMap default/left" in line and "deleted" in line for line in said)
    assert [orphan.kind for orphan in sweep.find(applied, engine.export(applied))] == ["PersistentVolumeClaim"]
    kubectl.run("delete", "persistentvolumeclaim", "left")


def test_a_second_environment_on_a_cluster_is_refused(applied: Target) -> None:
    """Two environments on one cluster would own the same objects, so both commands refuse the second."""
    name = applied.cluster.name
    second = target.resolve("dev", name)
    with pytest.raises(BadInput, match=f"dev on {name}: that cluster has ci"):
        engine.up(second)
    engine.prepare(second)
    done = plain(second, "up", "--yes", "--skip-preview")
    assert done.returncode != 0
    assert f"error: dev on {name}: that cluster has ci" in done.stdout
    plain(second, "stack", "rm", "--yes")


@pytest.fixture
def misled(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return an environment whose kubeconfig context leads to another cluster than its data says."""
    name = next(name for name in stacks.names() if isinstance(stacks.load(name).cluster, KubeconfigCluster))
    expected = stacks.load(name).cluster
    assert isinstance(expected, KubeconfigCluster)
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["contexts"][0]["name"] = config["current-context"] = expected.context
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    return name


def test_another_cluster_is_refused(misled: str) -> None:
    """`kiban up` compares the cluster's UID with the environment's data and exits 2."""
    done = subprocess.run([KIBAN, "up", misled], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "leads to another cluster" in line


def test_another_cluster_is_refused_by_the_plain_command(misled: str, ci: Target, tmp_path: Path) -> None:
    """So does `pulumi up`, before any resource, in the same words."""
    (tmp_path / "Pulumi.yaml").write_text("name: kiban\nruntime: python\n")
    own = {
        "KUBECONFIG": os.environ["KUBECONFIG"],
        "PULUMI_BACKEND_URL": f"file://{tmp_path}",
        "PULUMI_OPTION_CONFIG_FILE": str(tmp_path / f"Pulumi.{misled}.yaml"),
        "PULUMI_STACK": misled,
    }
    made = plain(ci, "stack", "init", misled, "-C", str(tmp_path), **own)
    assert made.returncode == 0, made.stderr
    done = plain(ci, "up", "--yes", "--skip-preview", **own)
    assert done.returncode != 0
    assert "leads to another cluster" in done.stdout
    assert "Traceback" not in done.stdout
    assert "kubernetes:" not in done.stdout


def test_a_stack_without_an_environment_is_one_line(ci: Target, tmp_path: Path) -> None:
    """The plain command on a stack that no file describes names those that exist, without a traceback."""
    (tmp_path / "Pulumi.yaml").write_text("name: kiban\nruntime: python\n")
    own = {"PULUMI_BACKEND_URL": f"file://{tmp_path}", "PULUMI_STACK": "nowhere"}
    own["PULUMI_OPTION_CONFIG_FILE"] = str(tmp_path / "Pulumi.nowhere.yaml")
    assert plain(ci, "stack", "init", "nowhere", "-C", str(tmp_path), **own).returncode == 0
    done = plain(ci, "preview", **own)
    assert done.returncode != 0
    assert "error: environment 'nowhere'; accepted: ci, dev" in done.stdout
    assert "Traceback" not in done.stdout
