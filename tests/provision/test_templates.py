"""A cluster's manifests: what is rendered of them, and what is refused before anything is changed."""

import dataclasses as dc
from pathlib import Path

import pytest

from infra import paths
from infra.errors import BadInput
from infra.provision import templates
from stacks._schema import ProvisionedCluster

CLUSTER = ProvisionedCluster(
    name="train",
    context="ml-train",
    templates="mine",
    kubernetes="v1.36.3",
    infrastructure="simulated",
    values={"workers": 3},
)
OBJECT = """apiVersion: cluster.x-k8s.io/v1beta2
kind: Cluster
metadata: {name: << name >>, labels: {a: b}}
spec: {replicas: << workers >>, version: << kubernetes >>}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of templates of CLUSTER, in an empty checkout."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    made = tmp_path / "stacks" / "clusters" / "mine"
    made.mkdir(parents=True)
    return made


def test_values_are_put_in_and_whose_it_is_is_told(folder: Path) -> None:
    """Namespace and the environment's label are added; what the template says stays."""
    (folder / "cluster.yaml.j2").write_text(OBJECT)
    (folder / "README.md").write_text("no manifest")
    (found,) = templates.render(CLUSTER, "prod")
    assert found["spec"] == {"replicas": 3, "version": "v1.36.3"}
    assert found["metadata"] == {
        "name": "train",
        "namespace": "default",
        "labels": {"a": "b", "kiban.dev/environment": "prod"},
    }


def test_a_plain_file_is_taken_as_it_is(folder: Path) -> None:
    """What looks like a template is text there."""
    (folder / "cluster.yaml").write_text(OBJECT.replace("<< name >>", "train").replace("<< workers >>", '"<% %>"'))
    assert templates.render(CLUSTER, "prod")[0]["spec"] == {"replicas": "<% %>", "version": "<< kubernetes >>"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (OBJECT.replace("workers", "nodes"), "'nodes' is undefined.* accepted: YAML, with the values .*, workers"),
        (OBJECT + "  - ]", "cannot be rendered"),
        (OBJECT.replace("<< name >>", "other"), "have the Clusters other; accepted: one, 'train'"),
        (OBJECT + "---\n" + OBJECT, "have the Clusters train, train; accepted: one"),
        (OBJECT.replace("{name:", "{namespace: x, name:"), "in namespace 'x'; accepted: 'default'"),
        ("kind: Cluster\n", "without apiVersion, kind or metadata.name"),
        ("[1]\n", "without apiVersion, kind or metadata.name"),
    ],
)
def test_what_cannot_be_used_is_told(folder: Path, text: str, said: str) -> None:
    """With the file, what is wrong, what is accepted, and that nothing was changed."""
    (folder / "cluster.yaml.j2").write_text(text)
    with pytest.raises(BadInput, match=rf"prod: .*{said}.*nothing was changed"):
        templates.render(CLUSTER, "prod")


def test_a_folder_that_is_not_there_is_told_with_those_that_are(folder: Path) -> None:
    """A misspelt folder, and one without manifests."""
    assert not list(folder.iterdir())
    with pytest.raises(BadInput, match=r"templates='mine'; accepted: .* there is mine; nothing was changed"):
        templates.render(CLUSTER, "prod")
    with pytest.raises(BadInput, match="templates='minr'"):
        templates.render(dc.replace(CLUSTER, templates="minr"), "prod")


def test_kibans_own_templates_can_be_rendered() -> None:
    """Each with what its own environment gives: here the simulated one's."""
    own = dc.replace(CLUSTER, templates="simulated")
    kinds = [each["kind"] for each in templates.render(own, "prod")]
    assert kinds[:3] == ["Cluster", "SimulatedCluster", "SimulatedControlPlane"]
    assert "MachineHealthCheck" in kinds


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "Train", "accepted: lower-case letters"),
        ("kubernetes", "1.36", "accepted: a version as v1.36.3"),
        ("infrastructure", "aws:2.9", "accepted: a provider as clusterctl names it"),
        ("templates", "../x", "accepted: a folder of stacks/clusters"),
        ("values", {"name": "x"}, "values='name'"),
    ],
)
def test_values_are_checked(field: str, value: object, said: str) -> None:
    """Where the environment is read, with the field and what is accepted."""
    with pytest.raises(ValueError, match=rf"cluster: {field}=.*{said}" if field != "values" else said):
        dc.replace(CLUSTER, **{field: value})  # type: ignore[arg-type]
