"""The registry: every entry by name, whoever else is installed."""

from __future__ import annotations

import pytest
from plugin import write_plugin

import pudle
from pudle import names


@pytest.fixture(autouse=True)
def fresh_registry():
    names.entries.cache_clear()
    yield
    names.entries.cache_clear()


def test_a_plugin_is_listed_with_the_built_in_estimators(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(write_plugin(tmp_path / "one", ["refuses"]))
    assert {"refuses", "backprop"} <= set(pudle.list_estimators())
    assert pudle.make_estimator("refuses").name == "refuses"
    origins = names.entries("estimators").origins
    assert origins["backprop"] == "built-in" and origins["refuses"].startswith("broken_plugin ")


def test_two_packages_that_claim_one_name_cost_the_second_alone(tmp_path, monkeypatch):
    for module in ("second_plugin", "first_plugin"):
        monkeypatch.syspath_prepend(write_plugin(tmp_path / module, ["refuses"], module))
    assert pudle.list_estimators()["refuses"].__module__ == "first_plugin"
    assert names.broken("estimators") == [
        "plug-in 'refuses' of second_plugin claims the name 'refuses', which belongs to 'refuses'"
        " of first_plugin: repair or uninstall second_plugin"
    ]


def test_what_a_list_returns_can_be_changed_without_harm():
    pudle.list_estimators().clear()
    assert "backprop" in pudle.list_estimators()
