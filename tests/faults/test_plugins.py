"""Plug-ins that cannot be used: each costs itself alone, by name, and the suite's own entries stay
what they are.
"""

from __future__ import annotations

import sys

import commands
import pytest
from plugin import write_package, write_plugin

import pudle
from pudle import names

GOOD = """
import sys
from dataclasses import dataclass

import torch

from pudle import Dataset, Estimate, GradientEstimator


class Base(GradientEstimator):
    computes = "direct"

    def estimate(self, problem, algorithm, depth):
        return Estimate(torch.zeros_like(problem.theta), problem.initial_codes())


@dataclass(frozen=True)
class Good(Base):
    name = "good"
"""

#: What a second package holds: the rest of its module, its entry points, and what is said about
#: each that is broken.
BROKEN = {
    "import error": (
        "import nothing_of_that_name",
        "bad = bad_plugin:Bad",
        "ModuleNotFoundError: No module named",
    ),
    "exit at import": (
        "sys.exit(0)",
        "bad = bad_plugin:Bad",
        "cannot be loaded from bad_plugin:Bad (SystemExit: 0",
    ),
    "no class": (
        "Bad = 3",
        "bad = bad_plugin:Bad",
        "implements all of its methods, but 3",
    ),
    "other name": (
        "class Bad(Base):\n    name = 'backprop'",
        "bad = bad_plugin:Bad",
        "has name='backprop', which must be",
    ),
    "no identifier": (
        "class Bad(Base):\n    name = 'b-d'",
        "b-d = bad_plugin:Bad",
        "and an identifier",
    ),
    "aliases": (
        "class Bad(Base):\n    name = 'bad'\n    aliases = 'worse'",
        "bad = bad_plugin:Bad",
        "not a tuple of texts",
    ),
    "claim": (
        "class Bad(Base):\n    name = 'bad'\n    computes = 3",
        "bad = bad_plugin:Bad",
        "lacks a text computes",
    ),
    "options": (
        "class Bad(Base):\n    name = 'bad'\n    def __init__(self):\n        1 / 0",
        "bad = bad_plugin:Bad",
        "its default options (ZeroDivisionError: division by zero, at bad_plugin.py",
    ),
    "fingerprint": (
        "class Bad(Base):\n    name = 'bad'\n    def fingerprint(self):\n        return {}['key']",
        "bad = bad_plugin:Bad",
        "cannot be made with its default options (KeyError",
    ),
    "name of ours": (
        "class Bad(Base):\n    name = 'backprop'",
        "backprop = bad_plugin:Bad",
        "claims the name 'backprop', which belongs to 'backprop' of pudle",
    ),
    "alias of ours": (
        "class Bad(Base):\n    name = 'bad'\n    aliases = ('implicit',)",
        "bad = bad_plugin:Bad",
        "claims the name 'implicit', which belongs to 'analytic' of pudle",
    ),
}


@pytest.fixture
def fresh_registry():
    names.entries.cache_clear()
    before = set(sys.modules)
    yield
    names.entries.cache_clear()
    for name in set(sys.modules) - before:
        if "plugin" in name:
            del sys.modules[name]


@pytest.fixture
def ours(fresh_registry):
    found = {name: dict(names.entries(name)) for name in ("estimators", "datasets", "experiments")}
    names.entries.cache_clear()
    return found


def install(folder, monkeypatch, name):
    """Install a good package and a broken one, and return what is said about the broken one."""
    rest, points, reason = BROKEN[name]
    monkeypatch.syspath_prepend(
        write_package(
            folder / "bad", "bad_plugin", f"{GOOD}\n{rest}\n", f"[pudle.estimators]\n{points}"
        )
    )
    monkeypatch.syspath_prepend(
        write_package(
            folder / "good", "good_plugin", GOOD, "[pudle.estimators]\ngood = good_plugin:Good"
        )
    )
    return reason


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_costs_itself_alone_and_is_named(name, tmp_path, monkeypatch, ours):
    reason = install(tmp_path, monkeypatch, name)
    known = pudle.list_estimators()
    assert known.pop("good").__module__ == "good_plugin" and known == ours["estimators"]
    (line,) = names.broken("estimators")
    assert (
        line.startswith("plug-in '")
        and "of bad_plugin" in line
        and reason in line
        and "\n" not in line
    )
    assert line.endswith(": repair or uninstall bad_plugin")
    assert (
        pudle.make_estimator("implicit").name == "analytic"
        and type(pudle.make_estimator("backprop")) in known.values()
    )


def test_who_asks_for_a_broken_plugin_is_told_why(tmp_path, monkeypatch, fresh_registry):
    reason = install(tmp_path, monkeypatch, "import error")
    with pytest.raises(pudle.SpecError) as caught:
        pudle.make_estimator("bad(window=3)")
    assert reason in str(caught.value) and "repair or uninstall bad_plugin" in str(caught.value)


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ("[pudle.datasets]\nbad = bad_plugin:Good", "derives from Dataset"),
        ("[pudle.datasets]\ndigits = bad_plugin:Good", "derives from Dataset"),
        (
            "[pudle.experiments]\nbad = bad_plugin:Good",
            "is not a mapping from plain file names to experiments",
        ),
        (
            "[pudle.experiments]\nbad = bad_plugin:ESCAPES",
            "is not a mapping from plain file names to experiments",
        ),
        (
            "[pudle.experiments]\nbad = bad_plugin:TAKEN",
            "claims the name 'denoising-backprop', which belongs to 'denoising'",
        ),
        ("[pudle.algorithms]\nbad = bad_plugin:Good", "derives from Algorithm"),
        ("[pudle.profiles]\nbad = bad_plugin:nothing", "cannot be loaded"),
    ],
)
def test_every_group_holds_out_what_is_not_its_kind(points, reason, tmp_path, monkeypatch, ours):
    more = """
from pudle import Experiment

class Any(Experiment):
    kind, run, fingerprint = "any", print, str

ESCAPES = {"../../x": Any()}
TAKEN = {"denoising-backprop": Any()}
"""
    monkeypatch.syspath_prepend(write_package(tmp_path / "bad", "bad_plugin", GOOD + more, points))
    group = points.partition("]")[0].removeprefix("[pudle.")
    (line,) = names.broken(group)
    assert reason in line
    assert {name: dict(names.entries(name)) for name in ours} == ours


def test_an_unknown_profile_and_a_broken_one_say_so(tmp_path, monkeypatch, fresh_registry):
    monkeypatch.syspath_prepend(
        write_package(
            tmp_path / "bad", "bad_plugin", "", "[pudle.profiles]\nbad = bad_plugin:nothing"
        )
    )
    with pytest.raises(pudle.PudleError, match="plug-in 'bad' of bad_plugin cannot be loaded"):
        names.list_profiles()["bad"]
    with pytest.raises(
        pudle.PudleError, match="'other' is unknown: known are default, paper, quick"
    ):
        names.list_profiles()["other"]


def test_a_plugin_is_listed_with_the_built_in_estimators(tmp_path, monkeypatch, fresh_registry):
    monkeypatch.syspath_prepend(write_plugin(tmp_path / "one", ["refuses"]))
    assert {"refuses", "backprop"} <= set(pudle.list_estimators())
    assert pudle.make_estimator("refuses").name == "refuses"
    origins = names.entries("estimators").origins
    assert origins["backprop"] == "built-in" and origins["refuses"].startswith("broken_plugin ")


def test_two_packages_that_claim_one_name_cost_the_second_alone(
    tmp_path, monkeypatch, fresh_registry
):
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


def test_a_plugin_that_tries_to_end_the_program_is_named_after_all_others(tmp_path):
    """In a process of its own, with exit code 0; a command takes no place, and breaks no help."""
    points = "[pudle.estimators]\nbad = bad_plugin:Bad\n"
    points += "[pudle.commands]\nrun = bad_plugin:run\nbad = bad_plugin.deep:run"
    path = write_package(tmp_path / "bad", "bad_plugin", "import sys\nsys.exit(0)", points)
    done = commands.run("list", "estimators", path=path)
    assert done.returncode == 2 and "truncated" in done.stdout
    begin = "pudle: error: 1 broken: plug-in 'bad' of bad_plugin cannot be loaded"
    assert done.stderr.startswith(begin) and done.stderr.count("\n") == 1
    assert "SystemExit: 0" in done.stderr
    assert "Measure accuracy, time and memory" in commands.run("run", "--help", path=path).stdout
    assert commands.run("--help", path=path).returncode == 0
    done = commands.run("bad", path=path)
    begin = "pudle: error: command 'bad' of bad_plugin cannot be loaded"
    assert done.returncode == 2 and done.stderr.startswith(begin)


@pytest.mark.slow
def test_a_run_measures_the_others_and_ends_with_exit_code_2(tmp_path):
    points = "[pudle.estimators]\nbad = bad_plugin:Bad"
    path = write_package(tmp_path / "bad", "bad_plugin", "import sys\nsys.exit(0)", points)
    arguments = "run --scores-only --workers 1 --home home --only --estimator alternating --case"
    arguments += " *n_samples_10*-lasso --dataset sparse_gaussian(n_samples=10)"
    done = commands.run(*arguments.split(), cwd=tmp_path, path=path)
    assert done.returncode == 2 and "1 of 1 scores computed now, 1 ok" in done.stdout, done.stderr
    assert "pudle: error: 1 broken: plug-in 'bad' of bad_plugin cannot be loaded" in done.stderr
    stored = tmp_path.glob("home/quick/store/*n_samples_10-ista-lasso/alternating-*.json")
    assert len(list(stored)) == 1
