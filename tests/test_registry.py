"""The registry: names that two packages or two studies claim are refused with the name and the remedy."""

from __future__ import annotations

import functools

import pytest
from plugin import write_plugin

import pudle
from pudle import registry


@pytest.fixture(autouse=True)
def fresh_registry():
    registry.entries.cache_clear()
    yield
    registry.entries.cache_clear()


def test_a_plugin_is_listed_with_the_built_in_estimators(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(write_plugin(tmp_path / "one", ["refuses"]))
    assert {"refuses", "backprop"} <= set(pudle.list_estimators())
    assert pudle.make_estimator("refuses").name == "refuses"


def test_two_packages_that_claim_one_name_are_refused(tmp_path, monkeypatch):
    for module in ("first_plugin", "second_plugin"):
        monkeypatch.syspath_prepend(write_plugin(tmp_path / module, ["refuses"], module))
    with pytest.raises(pudle.PudleError) as caught:
        pudle.list_estimators()
    assert str(caught.value) == "two installed packages provide 'refuses' in pudle.estimators: uninstall one of them"


def test_two_studies_that_claim_one_experiment_are_refused(monkeypatch):
    studies = {"denoising": {"small": object()}, "recovery": {"small": object()}}
    monkeypatch.setattr(registry, "entries", functools.cache(lambda group: studies))
    with pytest.raises(
        pudle.PudleError, match="the studies denoising and recovery both have an experiment 'small': rename one"
    ):
        registry.list_studies()


def test_what_a_list_returns_can_be_changed_without_harm():
    pudle.list_estimators().clear()
    assert "backprop" in pudle.list_estimators()
