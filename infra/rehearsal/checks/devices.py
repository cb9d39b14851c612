"""Devices: whether what nodes ask of their device software is there, and whether real nodes offer what it finds.

The second is what matters, and no embedded cluster has devices: so the check needs execution to pass, and is not tested
where all nodes are simulated. What is missing is found there all the same.
"""

from collections.abc import Iterator

import yaml

from components._labels import POOL, SIMULATED
from infra.quantities import amount
from infra.rehearsal.look import Check, Finding, Look, Outcome, outcome
from infra.rehearsal.snapshot import Object, Snapshot, name

_PLUGIN, _MIG = "nvidia.com/device-plugin.config", "nvidia.com/mig.config"
_READ = {_PLUGIN: "gpu-device-plugin", _MIG: "gpu-mig-partitions"}
"""Labels of nodes, and the ConfigMaps that they select from (components/gpu_node_pools.py)."""


def _look(look: Look) -> Outcome:
    now = look.now
    nodes = [node for node in now.all("Node") if now.find("ResourceFlavor.kueue.x-k8s.io", _labels(node).get(POOL, ""))]
    nodes = [node for node in nodes if _PLUGIN in _labels(node)]
    real = [node for node in nodes if _labels(node).get(SIMULATED) != "true"]
    found = [*_unconfigured(now, nodes), *(finding for node in real for finding in _without_devices(node))]
    return outcome("executed" if len(real) == len(nodes) else "simulated", nodes, found)


def _labels(node: Object) -> dict[str, str]:
    return node["metadata"].get("labels") or {}


def _unconfigured(now: Snapshot, nodes: list[Object]) -> Iterator[Finding]:
    """What a pool's nodes select, and is not in a ConfigMap; each once."""
    for label, read in _READ.items():
        there = [_keys(each) for each in now.all("ConfigMap") if each["metadata"]["name"] == read]
        known = set.intersection(*there) if there else set()
        for pool, key in {(_labels(node)[POOL], _labels(node)[label]) for node in nodes if label in _labels(node)}:
            if key not in known:
                yield Finding(
                    object=f"ResourceFlavor {pool}",
                    message=f"its nodes' label {label}={key} selects nothing: ConfigMap {read} has "
                    f"{', '.join(sorted(known)) or 'nothing'}",
                    remedy="give the ConfigMap a part of that name (components/gpu_node_pools.py)",
                )


def _keys(each: Object) -> set[str]:
    data = each.get("data") or {}
    if each["metadata"]["name"] == _READ[_PLUGIN]:
        return set(data)
    return set(yaml.safe_load(data.get("config.yaml", "{}")).get("mig-configs", {}))


def _without_devices(node: Object) -> Iterator[Finding]:
    offers = node["status"].get("allocatable", {})
    if not any(amount(units) for resource, units in offers.items() if resource.startswith("nvidia.com/")):
        yield Finding(
            object=name(node),
            message="offers no devices",
            remedy="see the pods of the device software on it: driver, toolkit, device plugin",
        )


CHECKS: tuple[Check, ...] = (
    Check(
        id="devices",
        title="nodes with GPUs offer devices, and have the configuration that they select",
        look=_look,
        executes=True,
    ),
)
