"""Whether the nodes hold the steps of the pipelines that every team gets: asked before anything is changed."""

from collections.abc import Iterator, Mapping
from typing import Any

from components import _shapes
from components._shapes import JobShape
from infra import charts
from infra.errors import BadInput
from stacks._schema import Environment


def check(environment: Environment) -> None:
    """Raise BadInput, in one line, for a step that no node holds which a team has a part of."""
    args = environment.tenancy
    if environment.pipelines is None or args.queueing is None:
        return
    for name, template in charts.teams_templates(environment).items():
        for step in shapes(template):
            for team in args.teams:
                try:
                    _shapes.check(step, args.places(team), who=f"team {team.name!r}: step {step.name!r} of {name!r}")
                except ValueError as error:
                    raise BadInput(f"{error}; nothing was changed") from None


def shapes(template: Mapping[str, Any]) -> Iterator[JobShape]:
    """A pod of each step of a WorkflowTemplate; one whose size is in the template's parameters has their defaults."""
    parameters = {each["name"]: each.get("value") for each in template["spec"]["arguments"]["parameters"]}
    for each in template["spec"]["templates"]:
        if "container" not in each:
            continue
        asked = each["container"]["resources"]["requests"]
        if "podSpecPatch" in each:
            asked = {name: parameters[name] for name in ("cpu", "memory", "gpus", "pool")}
        gpus = int(asked.get("gpus", 0))
        pool = asked.get("pool") or None
        yield JobShape(
            name=each["name"], cpu=str(asked["cpu"]), memory=asked["memory"], gpus=gpus, pool=pool if gpus else None
        )
