"""The fixture that the tests of estimators share."""

import pytest

import pudle


@pytest.fixture(params=["fista", "ista"])
def algorithm(request):
    return pudle.make_algorithm(request.param)
