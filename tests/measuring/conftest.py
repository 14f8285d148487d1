"""The fixture that the tests of measuring share."""

import pytest

from pudle.measuring.store import Store


@pytest.fixture
def store(tmp_path):
    """The store of the quick profile in a home, the test's folder."""
    return Store(tmp_path / "quick" / "store", "quick")
