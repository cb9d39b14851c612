"""What nodes ask of their device software, and what real ones offer."""

import pytest
import yaml

from components._labels import SIMULATED
from components._pools import node_labels
from components.gpu_node_pools import GpuPool, device_configuration
from infra.rehearsal.checks.devices import CHECKS
from infra.rehearsal.snapshot import Object
from tests.rehearsal.checks.clusters import made, outcome, said, snapshot

WHOLE = GpuPool(name="t4", accelerator="Tesla-T4", gpus_per_node=1, nodes=1)
CUT = GpuPool(name="cut", accelerator="NVIDIA-A30", gpus_per_node=1, nodes=1, mig_profile="1g.6gb")


def node(pool: GpuPool, *, real: bool = False, devices: str = "1") -> Object:
    """Return a node of the pool."""
    labels = node_labels(pool) | ({} if real else {SIMULATED: "true"})
    return made("v1", "Node", f"{pool.name}-0", labels=labels, status={"allocatable": {"nvidia.com/gpu": devices}})


def flavor(pool: GpuPool) -> Object:
    """Return the pool's flavor."""
    return made("kueue.x-k8s.io/v1beta2", "ResourceFlavor", pool.name)


def configuration(*pools: GpuPool) -> list[Object]:
    """Return the ConfigMaps of the pools."""
    return [
        made("v1", "ConfigMap", config, "kiban-system", data=data)
        for config, data in device_configuration(pools).items()
    ]


@pytest.mark.parametrize(("real", "evidence"), [(False, "simulated"), (True, "executed")])
def test_only_real_nodes_are_evidence(*, real: bool, evidence: str) -> None:
    """The check needs execution: by simulated nodes alone it ends as not tested."""
    nodes = [node(pool, real=real) for pool in (WHOLE, CUT)]
    found = outcome(CHECKS, "devices", snapshot(*nodes, flavor(WHOLE), flavor(CUT), *configuration(WHOLE, CUT)))
    assert (found.evidence, found.looked_at, found.findings) == (evidence, 2, ())
    assert CHECKS[0].executes


def test_what_a_node_selects_has_to_be_there() -> None:
    """For the device plugin, and for the MIG manager; once a pool."""
    nodes = [node(WHOLE), node(WHOLE), node(CUT)]
    plugin, cuts = configuration(WHOLE, CUT)
    plugin["data"] = {"cut": ""}
    cuts["data"] = {"config.yaml": yaml.safe_dump({"mig-configs": {"all-disabled": []}})}
    assert said(CHECKS, "devices", snapshot(*nodes, flavor(WHOLE), flavor(CUT), plugin, cuts)) == [
        (
            "ResourceFlavor cut: its nodes' label nvidia.com/mig.config=cut selects nothing: "
            "ConfigMap gpu-mig-partitions has all-disabled"
        ),
        (
            "ResourceFlavor t4: its nodes' label nvidia.com/device-plugin.config=t4 selects nothing: "
            "ConfigMap gpu-device-plugin has cut"
        ),
    ]
    (only,) = said(CHECKS, "devices", snapshot(node(WHOLE), flavor(WHOLE)))
    assert only.endswith("ConfigMap gpu-device-plugin has nothing")


def test_every_configuration_of_the_name_has_to_have_it() -> None:
    """Each namespace has its own, and one of them is read."""
    other = made("v1", "ConfigMap", "gpu-device-plugin", "gpu-operator", data={})
    assert said(CHECKS, "devices", snapshot(node(WHOLE), flavor(WHOLE), *configuration(WHOLE), other))


def test_a_pool_that_was_taken_away_is_no_finding() -> None:
    """Its nodes are about to go; here they stay, since the cluster's nodes are those of the base."""
    assert not outcome(CHECKS, "devices", snapshot(node(WHOLE), *configuration(CUT))).looked_at


def test_a_real_node_without_devices_is_found() -> None:
    """Whose device plugin found none, or does not run."""
    now = snapshot(node(WHOLE, real=True, devices="0"), flavor(WHOLE), *configuration(WHOLE))
    assert said(CHECKS, "devices", now) == ["Node t4-0: offers no devices"]
