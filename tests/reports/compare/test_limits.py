"""Thresholds and the table in a pyproject.toml that changes them."""

import re
import tomllib

import pytest
from paths import ROOT

from pudle.errors import InvalidArgument
from pudle.reports.compare.limits import Limits


@pytest.mark.parametrize(
    "table, text",
    [
        ({"relative_eror": {}}, "unknown field `relative_eror`"),
        ({"seconds": {"ratio": "2"}}, "Expected `float`, got `str` - at `$.seconds.ratio`"),
        ({"floor_multiple": -1}, "at `$.floor_multiple`"),
    ],
)
def test_thresholds_that_cannot_be_used_are_refused(table, text):
    with pytest.raises(InvalidArgument, match=re.escape(text)):
        Limits.of(table)


def test_the_repository_states_the_defaults():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pudle"]["compare"]
    assert Limits.of(table) == Limits()
    assert set(table) == set(Limits.__struct_fields__)
