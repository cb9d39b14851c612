"""Decides how an image comes: from the cache, else from its registry where that gives it, else built by its recipe.

So a machine behind an air gap gets the images that have a recipe, and any other machine gets upstream's.
"""

from pathlib import Path
from typing import Literal

from infra import console
from infra.errors import CouldNotRun
from infra.images import builds, pulls
from infra.images.recipes import RECIPES, Recipe, Upon
from infra.toolchain.progress import Say

How = Literal["pulled", "built"]


def archive(reference: str, *, say: Say = console.say) -> Path:
    """The image's OCI archive, pulled or built where it is missing.

    The name of a built one's file is a digest of all that determines it. Raises BadInput for what is no full
    reference, CouldNotRun for an image that can neither be pulled nor has a recipe, and what building it raises.
    """
    found = cached(reference)
    if found:
        return found
    obstacle = pulls.obstacle(reference)
    if obstacle is None:
        try:
            return pulls.pull(reference, say)
        except pulls.Refused as refused:
            recipe = _recipe(reference, str(refused))
            say(f"images: {reference} cannot be pulled ({refused}); building it")
    else:
        recipe = _recipe(reference, obstacle)
    upon = archive(recipe.content.base, say=say) if isinstance(recipe.content, Upon) else None
    return builds.build(recipe, say, upon=upon)


def tools(reference: str) -> tuple[str, ...]:
    """The tools that `archive` will use, for a caller that has them made meanwhile; none where the cache has the image.

    `archive` resolves them itself too: a registry that answers may yet refuse the image, which then needs the tools
    of its build. Raises BadInput and CouldNotRun as `archive` does.
    """
    if cached(reference):
        return ()
    obstacle = pulls.obstacle(reference)
    if obstacle is None:
        return ("crane",)
    recipe = _recipe(reference, obstacle)
    below = tools(recipe.content.base) if isinstance(recipe.content, Upon) else ()
    return tuple(dict.fromkeys((*below, *builds.tools(recipe))))


def obtainable(reference: str) -> bool:
    """Whether the image is here, or its registry answers, or it has a recipe. Raises BadInput as `archive` does."""
    return reference in RECIPES or cached(reference) is not None or pulls.obstacle(reference) is None


def how(reference: str) -> How | None:
    """How the archive in the cache came to be; None where there is none."""
    if pulls.cached(reference):
        return "pulled"
    return "built" if _built(reference) else None


def cached(reference: str) -> Path | None:
    """The archive in the cache, if it is there."""
    return pulls.cached(reference) or _built(reference)


def _built(reference: str) -> Path | None:
    recipe = RECIPES.get(reference)
    if recipe is None:
        return None
    if not isinstance(recipe.content, Upon):
        return builds.cached(recipe)
    upon = cached(recipe.content.base)
    return builds.cached(recipe, upon=upon) if upon else None


def _recipe(reference: str, obstacle: str) -> Recipe:
    if reference not in RECIPES:
        raise CouldNotRun(
            f"image {reference} cannot be pulled ({obstacle}) and has no recipe; accepted: an image that its registry "
            f"gives, or {', '.join(RECIPES)}; correct the name, or sign in to the registry; nothing was changed"
        )
    return RECIPES[reference]
