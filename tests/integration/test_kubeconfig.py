"""A cluster of the user's kubeconfig: found by its context, and refused where it is not the one expected."""

from pathlib import Path

import pytest
import yaml

from infra.clusters import Cluster, kubeconfig
from infra.errors import BadInput, CouldNotRun


@pytest.fixture(autouse=True)
def user(monkeypatch: pytest.MonkeyPatch, shared_cluster: Cluster) -> None:
    """Make the shared cluster's kubeconfig the user's."""
    monkeypatch.setenv("KUBECONFIG", str(shared_cluster.kubeconfig))


def test_the_expected_cluster_is_found(shared_cluster: Cluster) -> None:
    """The right context with the right UID is the cluster, through the user's own file."""
    found = kubeconfig.locate("kiban-shared", shared_cluster.uid)
    assert (found.context, found.uid, found.kubeconfig) == (
        "kiban-shared",
        shared_cluster.uid,
        shared_cluster.kubeconfig,
    )


def test_another_cluster_is_refused(shared_cluster: Cluster) -> None:
    """A context that leads elsewhere is bad input that names both UIDs and what to do, in one line."""
    with pytest.raises(BadInput, match=f"{shared_cluster.uid}, expected 0000; point the context") as refused:
        kubeconfig.locate("kiban-shared", "0000")
    assert "\n" not in str(refused.value)


def test_an_unknown_context_lists_those_there_are(shared_cluster: Cluster) -> None:
    """A context that the kubeconfig does not have is bad input that names those it has."""
    with pytest.raises(BadInput, match=r"'prod' is not in your kubeconfig; accepted: kiban-shared"):
        kubeconfig.locate("prod", shared_cluster.uid)


def test_a_cluster_out_of_reach_could_not_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shared_cluster: Cluster
) -> None:
    """A server that does not answer is said to be out of reach, with kubectl's own words."""
    document = yaml.safe_load(shared_cluster.kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    (tmp_path / "config").write_text(yaml.safe_dump(document))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(CouldNotRun, match=r"out of reach.*refused"):
        kubeconfig.locate("kiban-shared", shared_cluster.uid)


def test_several_files_become_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shared_cluster: Cluster) -> None:
    """Where KUBECONFIG names several files, what they say of the context is put into one that works alone."""
    (tmp_path / "empty").write_text("apiVersion: v1\nkind: Config\n")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'empty'}:{shared_cluster.kubeconfig}")
    found = kubeconfig.locate("kiban-shared", shared_cluster.uid)
    monkeypatch.setenv("KUBECONFIG", str(found.kubeconfig))
    assert kubeconfig.locate("kiban-shared", shared_cluster.uid).kubeconfig == found.kubeconfig
