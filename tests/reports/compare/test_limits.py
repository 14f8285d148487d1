"""Thresholds and the table in a pyproject.toml that changes them."""

import tomllib

from paths import ROOT

from pudle.reports.compare.judge import Limits


def test_the_repository_states_the_defaults():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pudle"]["compare"]
    assert Limits.of(table) == Limits()
    assert set(table) == set(Limits.__struct_fields__)
