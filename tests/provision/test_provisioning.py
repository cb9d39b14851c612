"""What `kiban provision` refuses before it changes anything, and what it says that it would do."""

import dataclasses as dc
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from infra import paths
from infra.clusters import kubeconfig
from infra.errors import BadInput, CouldNotRun
from infra.provision import record
from infra.provision.provisioning import Provisioning
from stacks._schema import THROWAWAY, Environment, KubeconfigCluster, ProvisionedCluster

CLUSTER = ProvisionedCluster(
    name="train",
    context="ml-train",
    templates="simulated",
    kubernetes="v1.36.3",
    infrastructure="simulated",
    values={"workers": 3},
)
THERE = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "https://a"}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
    "contexts": [{"name": "ml-train", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "ml-train",
}
Wanted = Callable[..., Provisioning]


@pytest.fixture
def wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wanted:
    """Return what makes the provisioning of an environment `lab`, with fields of its cluster changed."""
    monkeypatch.setenv("KIBAN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(record, "file", lambda environment: tmp_path / f"{environment}.uid")

    def make(*, on_kind: bool = False, **fields: object) -> Provisioning:
        environment = Environment(name="lab", cluster=dc.replace(CLUSTER, **fields), state=THROWAWAY)  # type: ignore[arg-type]
        return Provisioning(environment, tmp_path / "config", on_kind=on_kind, say=print)

    return make


def test_the_plan_names_every_step(wanted: Wanted, tmp_path: Path) -> None:
    """Management cluster, provider, objects, context and record; nothing is made by it."""
    plan = {each["step"]: (each["what"], each["there"]) for each in wanted(self_managed=True).plan()}
    assert plan["management cluster"] == ("lab-management", False)
    assert plan["InfrastructureProvider"] == ("simulated", False)
    assert plan["Cluster"] == ("train", False)
    assert plan["context"] == (f"ml-train in {tmp_path / 'config'}", False)
    assert plan["record"] == ("stacks/clusters/lab.uid", False)
    assert plan["move"] == ("from lab-management into train", False)
    assert not (tmp_path / "home").exists()


def test_providers_that_clusterctl_fetches_are_named(wanted: Wanted) -> None:
    """The core at Kiban's own pin, the others as the environment's data has them."""
    plan = {each["step"]: each["what"] for each in wanted(infrastructure="aws:v2.9.1", on_kind=True).plan()}
    assert plan["CoreProvider"].startswith("cluster-api:v1.")
    assert (plan["BootstrapProvider"], plan["InfrastructureProvider"]) == ("kubeadm", "aws:v2.9.1")


def test_credentials_that_are_not_set_are_told(wanted: Wanted, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them at once; set, they are no matter."""
    with pytest.raises(BadInput, match=r"lab: CLOUD_KEY, CLOUD_ID not set; accepted: .* nothing was changed"):
        wanted(variables=("CLOUD_KEY", "CLOUD_ID"))
    monkeypatch.setenv("CLOUD_KEY", "k")
    wanted(variables=("CLOUD_KEY",))


def test_a_context_of_another_cluster_is_not_overwritten(wanted: Wanted, tmp_path: Path) -> None:
    """A context that this environment's cluster is not known by is the user's own."""
    (tmp_path / "config").write_text(yaml.safe_dump(THERE))
    with pytest.raises(
        BadInput, match=r"has a context 'ml-train' already.*accepted: another file.*nothing was changed"
    ):
        wanted()
    record.keep("lab", "1-2-3")
    wanted()


def test_a_provider_is_where_it_can_work(wanted: Wanted) -> None:
    """One with a cloud where it can reach it; the simulated one beside an embedded cluster."""
    with pytest.raises(BadInput, match="lab: infrastructure='aws' without --kind; accepted: with --kind"):
        wanted(infrastructure="aws")
    with pytest.raises(BadInput, match="--kind with infrastructure='simulated'; accepted: without --kind"):
        wanted(on_kind=True)


def test_an_environment_whose_cluster_exists_has_nothing_to_provision(tmp_path: Path) -> None:
    """One with a context, or an embedded cluster."""
    existing = KubeconfigCluster(context="ml", kube_system_uid="1")
    environment = Environment(name="lab", cluster=existing, state=THROWAWAY)
    with pytest.raises(BadInput, match=r"lab: cluster=KubeconfigCluster\(...\); accepted: ProvisionedCluster"):
        Provisioning(environment, tmp_path / "config", on_kind=False, say=print)


def test_what_is_not_in_reach_is_not_forgotten(wanted: Wanted) -> None:
    """A cluster that is known, but not how to reach it, is not deleted; one that never was is no error."""
    record.keep("lab", "1-2-3")
    with pytest.raises(CouldNotRun, match=r"nothing that manages its cluster is in reach.*nothing was changed"):
        wanted().delete(1)
    assert record.uid("lab") == "1-2-3"
    record.forget("lab")
    assert wanted().delete(1)[0]["deleted"] == "train"


def test_up_before_provision_says_what_to_run(wanted: Wanted) -> None:
    """The context alone does not say that it is the right cluster."""
    del wanted
    with pytest.raises(
        CouldNotRun, match=r"lab: its cluster is not provisioned .*run: kiban provision lab --kubeconfig FILE"
    ):
        record.locate("lab", CLUSTER)


def test_a_context_is_written_beside_others_and_taken_out_again(tmp_path: Path) -> None:
    """Others, and which of them is current, stay as they are; the file is the user's only."""
    file = tmp_path / "folder" / "config"
    kubeconfig.put(file, "new", THERE)
    assert file.stat().st_mode & 0o777 == 0o600
    kubeconfig.put(file, "newer", THERE)
    kubeconfig.put(file, "newer", THERE)
    found = kubeconfig.read(file)
    assert [each["name"] for each in found["contexts"]] == ["new", "newer"]
    assert found["current-context"] == "new"
    assert found["users"][1] == {"name": "newer", "user": {"token": "t"}}
    kubeconfig.take(file, "new")
    found = kubeconfig.read(file)
    assert [each["name"] for each in found["clusters"]] == ["newer"]
    assert "current-context" not in found


def test_a_file_that_is_no_kubeconfig_is_left_alone(tmp_path: Path) -> None:
    """It is told, and not replaced."""
    (tmp_path / "config").write_text("- 1\n")
    with pytest.raises(BadInput, match="is no kubeconfig"):
        kubeconfig.put(tmp_path / "config", "new", THERE)
    assert (tmp_path / "config").read_text() == "- 1\n"


def test_state_is_told_apart_from_what_is_committed() -> None:
    """The UID is a file of the checkout, beside the templates."""
    assert record.file("lab") == paths.ROOT / "stacks" / "clusters" / "lab.uid"
