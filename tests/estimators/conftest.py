"""The fixture that the tests of estimators share."""

from __future__ import annotations

import pytest

import pudle


@pytest.fixture(params=["fista", "ista"])
def algorithm(request) -> pudle.Algorithm:
    return pudle.make_algorithm(request.param)
