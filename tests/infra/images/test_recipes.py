"""The images as data: pinned, and for a user that the kubelet can tell from root."""

import re

import pytest

from infra.images.recipes import RECIPES, USER, GoTool, Recipe
from infra.toolchain import TOOLS

every = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


@every
def test_a_reference_is_whole_and_pinned(recipe: Recipe) -> None:
    """A reference has its registry and a tag of one version, as containerd compares it; it is the recipe's version."""
    registry, path, tag = re.fullmatch(r"([^/]+\.[^/]+)/([^:@]+):([^:@]+)", recipe.reference).groups()  # type: ignore[union-attr]
    assert registry
    assert path == path.lower()
    assert recipe.version.startswith(tag.removeprefix("v"))
    assert re.fullmatch(r"\d+\.\d+\.\d+", recipe.version)


@every
def test_a_tool_that_goes_in_is_the_pinned_one(recipe: Recipe) -> None:
    """A recipe and the catalogue agree on the version, so that a new pin of the tool needs a new reference."""
    if isinstance(recipe.content, GoTool):
        assert TOOLS[recipe.content.name].version == recipe.version


@every
def test_an_image_runs_something(recipe: Recipe) -> None:
    """Without a command of the pod's own, an image runs its program from where upstream has it."""
    assert recipe.path.startswith("/")
    assert recipe.entrypoint == (recipe.path,) or recipe.command


def test_no_image_runs_as_root() -> None:
    """The user is a number, which the kubelet needs to see that it is not root."""
    assert isinstance(USER, int)
    assert USER > 0
