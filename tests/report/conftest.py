"""Pages with their figures."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def figures():
    """Draws them."""
