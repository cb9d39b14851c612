"""One clean checkout for the acceptance tests, whose clusters are gone when they end."""

from collections.abc import Iterator

import pytest

from tests.checkout import Checkout, checked_out


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Return a clean checkout of the module."""
    with checked_out(tmp_path_factory.mktemp("checkout")) as clean:
        yield clean
