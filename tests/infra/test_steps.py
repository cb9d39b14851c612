"""The pipelines that every team gets are asked for on the nodes that the data give them."""

import dataclasses as dc

import pytest

import stacks
from infra import charts, steps
from infra.errors import BadInput


@pytest.mark.parametrize("name", stacks.names())
def test_the_nodes_of_every_environment_hold_its_steps(name: str) -> None:
    """Nothing is refused that ships."""
    steps.check(stacks.load(name))


def test_a_training_has_the_size_of_its_parameters() -> None:
    """What a run without arguments asks for."""
    (template,) = charts.templates("reference").values()
    train = next(step for step in steps.shapes(template) if step.name == "train")
    assert (train.cpu, train.memory, train.gpus, train.pool) == ("1", "1Gi", 0, None)
    for parameter in template["spec"]["arguments"]["parameters"]:
        parameter["value"] = {"gpus": "8", "pool": "a100", "cpu": "64"}.get(parameter["name"], parameter.get("value"))
    train = next(step for step in steps.shapes(template) if step.name == "train")
    assert (train.cpu, train.gpus, train.pool) == ("64", 8, "a100")


def test_a_step_that_no_node_holds_is_refused() -> None:
    """Before anything is changed, with the step, its template and what there is."""
    env = stacks.load("local")
    assert env.queueing
    small = dc.replace(env, queueing=dc.replace(env.queueing, memory_gib=1))
    with pytest.raises(BadInput, match=r"step 'train' of 'reference': memory=1Gi; accepted: up to memory=512Mi, .*"):
        steps.check(small)
    steps.check(small.without_controllers())
