"""Plug-ins that cannot be used: each costs itself alone, by name, and the suite's own entries stay
what they are.
"""

import pytest
from support.estimators.plugin import write_package
from support.processes.commands import call

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

#: What a second package holds beside the good class: the rest of its module, its entry points, and
#: what is said about the one that is broken.
CLASS = "class Bad(Base):\n    name = 'bad'\n    "
BAD = "[pudle.estimators]\nbad = bad_plugin:Bad"
BROKEN = {
    "import error": ("import nothing_of_that_name", BAD, "ModuleNotFoundError: No module named"),
    "exit at import": ("sys.exit(0)", BAD, "cannot be loaded from bad_plugin:Bad (SystemExit: 0"),
    "no class": ("Bad = 3", BAD, "implements all of its methods, but 3"),
    "other name": ("class Bad(Base):\n    name = 'backprop'", BAD, "has name='backprop', which"),
    "no identifier": (
        "class Bad(Base):\n    name = 'b-d'",
        "[pudle.estimators]\nb-d = bad_plugin:Bad",
        "and an identifier",
    ),
    "aliases": (f"{CLASS}aliases = 'worse'", BAD, "not a tuple of texts"),
    "claim": (f"{CLASS}computes = 3", BAD, "lacks a text computes"),
    "options": (
        f"{CLASS}def __init__(self):\n        1 / 0",
        BAD,
        "its default options (ZeroDivisionError: division by zero, at bad_plugin.py",
    ),
    "name of ours": (
        "class Bad(Base):\n    name = 'backprop'",
        "[pudle.estimators]\nbackprop = bad_plugin:Bad",
        "claims the name 'backprop', which belongs to 'backprop' of pudle",
    ),
    "alias of ours": (
        f"{CLASS}aliases = ('implicit',)",
        BAD,
        "claims the name 'implicit', which belongs to 'analytic' of pudle",
    ),
    "dataset": ("", "[pudle.datasets]\ndigits = bad_plugin:Good", "derives from Dataset"),
    "algorithm": ("", "[pudle.algorithms]\nbad = bad_plugin:Good", "derives from Algorithm"),
    "experiments": (
        """
from pudle import Experiment
class Any(Experiment):
    kind, run, fingerprint = "any", print, str
ESCAPES = {"../../x": Any()}
""",
        "[pudle.experiments]\nbad = bad_plugin:ESCAPES",
        "is not a mapping from plain file names to experiments",
    ),
    "profile": ("", "[pudle.profiles]\nbad = bad_plugin:nothing", "cannot be loaded"),
}


@pytest.fixture
def package(tmp_path, installed):
    """Return a function that installs a package of one module."""
    return lambda name, *content: installed(write_package(tmp_path / name, name, *content))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_costs_itself_alone_and_is_named(name, package):
    groups = ("estimators", "datasets", "algorithms", "experiments", "profiles")
    ours = {group: dict(names.entries(group)) for group in groups}
    rest, points, reason = BROKEN[name]
    package("bad_plugin", f"{GOOD}\n{rest}\n", points)
    package("good_plugin", GOOD, "[pudle.estimators]\ngood = good_plugin:Good")
    there = {group: dict(names.entries(group)) for group in groups}
    assert there["estimators"].pop("good").__module__ == "good_plugin" and there == ours
    (line,) = names.broken(*groups)
    assert line.startswith("plug-in '") and "of bad_plugin" in line and reason in line
    assert "\n" not in line and line.endswith(": repair or uninstall bad_plugin")
    assert pudle.make_estimator("implicit").name == "analytic"


def test_who_asks_for_a_broken_or_unknown_entry_is_told_why(package):
    points = "[pudle.estimators]\nbad = bad_plugin:Bad\n[pudle.profiles]\nbad = bad_plugin:nothing"
    package("bad_plugin", "import nothing_of_that_name", points)
    with pytest.raises(pudle.SpecError, match="No module named .* repair or uninstall bad_plugin"):
        pudle.make_estimator("bad(window=3)")
    with pytest.raises(pudle.PudleError, match="plug-in 'bad' of bad_plugin cannot be loaded"):
        names.list_profiles()["bad"]
    with pytest.raises(pudle.PudleError, match="'other' is unknown: known are default, paper"):
        names.list_profiles()["other"]


def test_two_packages_that_claim_one_name_cost_the_second_alone(package):
    for module in ("second_plugin", "first_plugin"):
        package(module, GOOD, f"[pudle.estimators]\ngood = {module}:Good")
    assert pudle.list_estimators()["good"].__module__ == "first_plugin"
    assert names.entries("estimators").origins["good"].startswith("first_plugin ")
    (line,) = names.broken("estimators")
    assert (
        "of second_plugin claims the name 'good', which belongs to 'good' of first_plugin" in line
    )


def test_what_a_list_returns_can_be_changed_without_harm():
    pudle.list_estimators().clear()
    assert "backprop" in pudle.list_estimators()


def test_a_plugin_that_tries_to_end_the_program_is_named_after_all_others(tmp_path, package):
    """A command takes no place, breaks no help, and a run measures the others."""
    points = f"{BAD}\n[pudle.commands]\nrun = bad_plugin:run\nbad = bad_plugin.deep:run"
    package("bad_plugin", "import sys\nsys.exit(0)", points)
    done = call("list", "estimators")
    assert done.returncode == 2 and "truncated" in done.stdout
    begin = "pudle: error: 1 broken: plug-in 'bad' of bad_plugin cannot be loaded"
    assert done.stderr.startswith(begin) and done.stderr.count("\n") == 1
    assert "Measure accuracy, time and memory" in call("run", "--help").stdout
    done = call("bad")
    assert done.returncode == 2
    assert done.stderr.startswith("pudle: error: command 'bad' of bad_plugin cannot be loaded")
    arguments = "run --scores-only --workers 1 --home home --only --estimator alternating --case"
    arguments += " *n_samples_10*-lasso --dataset sparse_gaussian(n_samples=10)"
    done = call(*arguments.split(), cwd=tmp_path)
    assert done.returncode == 2 and "1 of 1 scores computed now, 1 ok" in done.stdout, done.stderr
    assert begin in done.stderr
