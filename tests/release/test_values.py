"""Two environments side by side: which values are otherwise, and of what one side lacks the whole."""

import dataclasses as dc
from typing import Any

import stacks
from components.gpu_node_pools import GpuPool
from components.serving_stack import Model, ServingStackArgs
from infra.release.values import Difference, differences
from stacks._schema import Environment

PROD = stacks.load("prod")
(H100,) = (pool for pool in PROD.gpu_pools if pool.name == "h100")


def other(**fields: Any) -> Environment:  # noqa: ANN401 - a field's
    """Return prod with other fields."""
    return dc.replace(PROD, **fields)


def told(left: Environment, right: Environment) -> dict[str, tuple[Any, Any]]:
    """The values of both sides, by path."""
    return {each.path: (each.left, each.right) for each in differences(left, right)}


def test_an_environment_does_not_differ_from_itself() -> None:
    """Of every environment there is."""
    assert [name for name in stacks.names() if differences(stacks.load(name), stacks.load(name))] == []


def test_one_value_is_told_by_its_path() -> None:
    """Through dataclasses, and through lists by the names of their items."""
    pools = tuple(dc.replace(each, nodes=17) if each.name == "h100" else each for each in PROD.gpu_pools)
    assert told(PROD, other(gpu_pools=pools)) == {"gpu_pools.h100.nodes": (16, 17)}
    nodes = dc.replace(PROD.system_nodes, cpu=64)
    assert told(PROD, other(system_nodes=nodes)) == {"system_nodes.cpu": (32, 64)}


def test_one_more_item_makes_no_other_one_different() -> None:
    """Wherever it stands: it is told as a whole."""
    pool = GpuPool(name="new", accelerator="NVIDIA-L4", nodes=0, gpus_per_node=1)
    (found,) = differences(PROD, other(gpu_pools=(pool, *PROD.gpu_pools)))
    assert (found.path, found.left) == ("gpu_pools.new", None)
    assert found.right["accelerator"] == "NVIDIA-L4"
    assert "name" not in found.right
    (gone,) = differences(other(gpu_pools=(pool, *PROD.gpu_pools)), PROD)
    assert (gone.path, gone.left, gone.right) == ("gpu_pools.new", found.right, None)
    assert differences(PROD, other(gpu_pools=PROD.gpu_pools[::-1])) == []


def test_models_of_two_teams_may_have_one_name() -> None:
    """They are known by both."""
    model = Model(
        team="vision",
        name="churn",
        version="1",
        uri="s3://example-ml-prod-vision/model.pkl",
        digest="a" * 64,
        runtime="kserve-sklearnserver",
        format="sklearn",
    )
    theirs = dc.replace(model, team="research", uri="s3://example-ml-prod-research/model.pkl")
    one, two = (
        other(serving=ServingStackArgs(models=(model, dc.replace(theirs, version=version)))) for version in ("1", "2")
    )
    assert told(one, two) == {"serving.models.research/churn.version": ("1", "2")}


def test_what_is_off_on_one_side_is_told_as_a_whole() -> None:
    """And a list without names is one value."""
    found = told(other(retraining=None), other(retraining=None, monitoring=None))
    assert list(found) == ["monitoring"]
    assert found["monitoring"][1] is None
    topology = tuple(dc.replace(each, topology=("a", "b")) if each.name == "h100" else each for each in PROD.gpu_pools)
    assert told(PROD, other(gpu_pools=topology)) == {"gpu_pools.h100.topology": (list(H100.topology), ["a", "b"])}


def test_a_difference_names_both_sides_in_a_document() -> None:
    """By what they are called."""
    item = Difference(path="a.b", left=1, right=None).as_item("dev", "prod")
    assert item == {"value": "a.b", "dev": 1, "prod": None}
