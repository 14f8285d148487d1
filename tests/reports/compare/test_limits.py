"""Thresholds and the table in a pyproject.toml that changes them."""

from __future__ import annotations

import dataclasses
import tomllib

import pytest
from paths import ROOT

from pudle.errors import InvalidArgument
from pudle.reports.compare.limits import Limits


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"relative_eror": {}}, "no entry 'relative_eror': known are relative_error"),
        (
            {"seconds": {"ration": 2}},
            "seconds has no entry 'ration': known are ratio, significance",
        ),
        ({"seconds": 2}, "seconds=2 is not a table of thresholds"),
        ({"seconds": {"ratio": "2"}}, "ratio='2' is not a positive number"),
        ({"floor_multiple": -1}, "floor_multiple=-1 is not a positive number"),
    ],
)
def test_thresholds_that_cannot_be_used_are_refused(table, text):
    with pytest.raises(InvalidArgument) as refused:
        Limits.of(table)
    assert text in str(refused.value)


def test_the_repository_states_the_defaults():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pudle"]["compare"]
    assert Limits.of(table) == Limits()
    assert set(table) == {field.name for field in dataclasses.fields(Limits)}
