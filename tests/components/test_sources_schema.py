"""What is rendered of a pool's source, held against upstream's own definitions of the kinds."""

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from components._pools import machines
from components._provisioning import manifests
from components.gpu_node_pools import Taint
from infra import toolchain
from tests.components.any_pools import pools
from tests.rehearsal.schema import problems, structural

MODULES = (
    ("karpenter", "sigs.k8s.io/karpenter", "pkg/apis/crds"),
    ("cluster-api", "sigs.k8s.io/cluster-api", "core/config/crd/bases"),
)


@pytest.fixture(scope="module")
def schemas() -> Mapping[tuple[str, str], dict[str, Any]]:
    """Return the schema of each kind of Karpenter and Cluster API, by version and kind, from the modules' own files."""
    found = {}
    for family, module, folder in MODULES:
        for file in sorted((toolchain.module_folder(family, module) / folder).glob("*.yaml")):
            definition = yaml.safe_load(file.read_text())["spec"]
            for version in definition["versions"]:
                name = f"{definition['group']}/{version['name']}"
                found[name, definition["names"]["kind"]] = structural(version["schema"]["openAPIV3Schema"])
    return found


@pytest.mark.parametrize("seed", range(3))
def test_what_is_rendered_is_what_upstream_defines(
    seed: int, schemas: Mapping[tuple[str, str], dict[str, Any]]
) -> None:
    """No field is missing, of another type, out of bounds, or one that the API server would drop; of any pool."""
    kinds = set()
    for of in pools(seed):
        for each in manifests(machines(of)):
            kinds.add(each["kind"])
            assert list(problems(each, schemas[each["apiVersion"], each["kind"]])) == []
    assert kinds == {"NodePool", "NodeOverlay", "MachineDeployment", "MachineHealthCheck"}


def test_a_field_that_is_not_upstreams_is_found(schemas: Mapping[tuple[str, str], dict[str, Any]]) -> None:
    """The test above can fail, for a name as for a value."""
    made = next(each for of in pools(0) for each in manifests(machines(of)) if each["kind"] == "NodePool")
    made["spec"]["disruption"] |= {"consolidateAfter": "soon", "budget": []}
    assert sorted(problems(made, schemas["karpenter.sh/v1", "NodePool"])) == [
        "$.spec.disruption.budget: unknown",
        "$.spec.disruption.consolidateAfter: 'soon'; pattern: '^(([0-9]+(s|m|h))+|Never)$'",
    ]


def test_a_taint_without_a_value_is_one(schemas: Mapping[tuple[str, str], dict[str, Any]]) -> None:
    """Cluster API takes no empty value, where core/v1 does."""
    for of in pools(1)[:20]:
        bare = type(of)(**{**vars(of), "taints": (Taint(key="kiban.dev/batch"),)})
        for each in manifests(machines(bare)):
            assert list(problems(each, schemas[each["apiVersion"], each["kind"]])) == []
