"""One clean checkout for the acceptance tests, whose clusters are gone when they end."""

from collections.abc import Iterator

import pytest

from tests.checkout import Checkout, copy_to


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Return a clean checkout; every cluster that is left in it at the end is taken down."""
    clean = copy_to(tmp_path_factory.mktemp("checkout"))
    yield clean
    for cluster in clean.json("cluster", "list")["items"]:
        clean.run("cluster", "down", cluster["cluster"], expect=None)
