"""The cluster that these tests share, and what they find on it: a recorded run, its model, and that in service."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from infra.clusters.waiting import until
from tests.acceptance.platform import workflow
from tests.acceptance.platform.leavings import leavings
from tests.acceptance.platform.monitoring import reached
from tests.acceptance.platform.team import TEAM, registered, shown, start
from tests.acceptance.platform.traffic import WATCH
from tests.checkout import Checkout, checked_out


@pytest.fixture(scope="package")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Return the clean checkout of all modules."""
    with checked_out(tmp_path_factory.mktemp("checkout")) as clean:
        yield clean


@pytest.fixture(scope="package")
def before(checkout: Checkout) -> dict[str, set[str]]:
    """Return what there was before the first command."""
    checkout.run("--version")
    return leavings(checkout)


@pytest.fixture(scope="package")
def first_up(checkout: Checkout, before: dict[str, set[str]]) -> tuple[float, str]:
    """Return how long the README's first command took, and what it printed."""
    assert not (checkout.root / ".kiban").exists(), before
    start = time.monotonic()
    printed = checkout.run("up", "local").stdout
    return time.monotonic() - start, printed


@pytest.fixture(scope="package")
def platform(checkout: Checkout, first_up: tuple[float, str]) -> Checkout:
    """Return the checkout with `local` up, and again by the commands of the workflow example's job `up`."""
    assert first_up
    for command in workflow.commands("up"):
        checkout.shell(command, ENVIRONMENT="local", CI="true")
    return checkout


@pytest.fixture(scope="package")
def recorded(platform: Checkout) -> dict[str, Any]:
    """Return what `runs show` tells of a run that succeeded."""
    return shown(platform, start(platform))


@pytest.fixture(scope="package")
def entry(platform: Checkout, recorded: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of stacks/models.yaml for the version that the run registered."""
    (of_run,) = registered(platform, recorded["run"])
    return {"name": "digits", "team": TEAM, "runtime": "kserve-sklearnserver", "format": "sklearn", **of_run}


@pytest.fixture(scope="package")
def served(platform: Checkout, entry: dict[str, Any]) -> Checkout:
    """Return the checkout whose environment `local` serves and watches that version."""
    file = platform.root / "stacks" / "models.yaml"
    file.write_text(json.dumps({"local": [entry | {"watch": WATCH}]}))  # JSON is YAML
    platform.run("up", "local")

    def ready() -> bool:
        return all(item["ready"] == "yes" for item in platform.json("models", "list", "local")["items"])

    until(ready, seconds=240, what="the model to be ready")
    return platform


@pytest.fixture(scope="module")
def prometheus(platform: Checkout) -> Iterator[str]:
    """Yield Prometheus' address."""
    with reached(platform, "prometheus", 9090) as address:
        yield address
