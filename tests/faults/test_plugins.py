"""Plug-ins that cannot be used: each costs itself alone, by name, and the suite's own entries stay
what they are.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from plugin import write_package

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
    "syntax error": (
        "def",
        "bad = bad_plugin:Bad",
        "cannot be loaded from bad_plugin:Bad (SyntaxError",
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
    "an object": ("bad = Good()", "bad = bad_plugin:bad", "is not a class"),
    "absent": ("", "bad = bad_plugin:Bad", "AttributeError"),
    "no estimator": (
        "class Bad:\n    name = 'bad'",
        "bad = bad_plugin:Bad",
        "is not a class that derives from GradientEstimator",
    ),
    "no name": ("class Bad(Base):\n    pass", "bad = bad_plugin:Bad", "lacks name"),
    "abstract": (
        "class Bad(GradientEstimator):\n    name = 'bad'",
        "bad = bad_plugin:Bad",
        "implements all of its methods",
    ),
    "no claim": (
        "class Bad(GradientEstimator):\n    name = 'bad'\n    estimate = Base.estimate",
        "bad = bad_plugin:Bad",
        "lacks computes",
    ),
    "other name": (
        "class Bad(Base):\n    name = 'backprop'",
        "bad = bad_plugin:Bad",
        "has name='backprop', which must be",
    ),
    "name of no text": (
        "class Bad(Base):\n    name = 3",
        "bad = bad_plugin:Bad",
        "has name=3, which must be",
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
        "has computes=3",
    ),
    "options": (
        "class Bad(Base):\n    name = 'bad'\n    def __init__(self):\n        1 / 0",
        "bad = bad_plugin:Bad",
        "cannot be made with its default options (ZeroDivisionError: division by zero, at bad_plugin.py",
    ),
    "options that exit": (
        (
            "@dataclass(frozen=True)\nclass Bad(Base):\n    name = 'bad'\n    def"
            " __post_init__(self):\n        sys.exit(0)"
        ),
        "bad = bad_plugin:Bad",
        "cannot be made with its default options (SystemExit: 0",
    ),
    "fingerprint": (
        "class Bad(Base):\n    name = 'bad'\n    def fingerprint(self):\n        return {}['key']",
        "bad = bad_plugin:Bad",
        "cannot be made with its default options (KeyError",
    ),
    "fingerprint of no text": (
        "class Bad(Base):\n    name = 'bad'\n    def fingerprint(self):\n        return None",
        "bad = bad_plugin:Bad",
        "its fingerprint is not a text",
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
    "alias as name": (
        "class Bad(Base):\n    name = 'implicit'",
        "implicit = bad_plugin:Bad",
        "claims the name 'implicit', which belongs to 'analytic' of pudle",
    ),
    "name as alias": (
        "class Bad(Base):\n    name = 'bad'\n    aliases = ('truncated',)",
        "bad = bad_plugin:Bad",
        "claims the name 'truncated', which belongs to 'truncated' of pudle",
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


def test_list_shows_the_broken_plugin_after_all_others(tmp_path):
    """In a process of its own, where the plug-in tries to end it with exit code 0."""
    write_package(
        tmp_path / "bad",
        "bad_plugin",
        "import sys\nsys.exit(0)",
        "[pudle.estimators]\nbad = bad_plugin:Bad",
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "bad")}
    command = [sys.executable, "-m", "pudle", "list", "estimators"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "truncated" in done.stdout
    assert done.stderr.startswith(
        "pudle: error: 1 broken: plug-in 'bad' of bad_plugin cannot be loaded"
    )
    assert "SystemExit: 0" in done.stderr and done.stderr.count("\n") == 1


def test_a_command_of_a_plugin_takes_no_place_and_breaks_no_help(tmp_path):
    points = "[pudle.commands]\nrun = bad_plugin:run\nbad = bad_plugin.deep:run"
    write_package(tmp_path / "bad", "bad_plugin", "import sys\nsys.exit(0)", points)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "bad")}

    def pudle_command(*arguments):
        command = [sys.executable, "-m", "pudle", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    assert "Measure accuracy, time and memory" in pudle_command("run", "--help").stdout
    assert pudle_command("--help").returncode == 0
    done = pudle_command("bad")
    assert done.returncode == 2 and done.stderr.startswith(
        "pudle: error: command 'bad' of bad_plugin cannot be loaded"
    )


@pytest.mark.slow
def test_a_run_measures_the_others_and_ends_with_exit_code_2(tmp_path):
    bad = write_package(
        tmp_path / "bad",
        "bad_plugin",
        "import sys\nsys.exit(0)",
        "[pudle.estimators]\nbad = bad_plugin:Bad",
    )
    home = tmp_path / "home"
    command = [
        sys.executable,
        "-m",
        "pudle",
        "run",
        "--scores-only",
        "--workers",
        "1",
        "--home",
        str(home),
        "--only",
    ]
    command += [
        "--estimator",
        "alternating",
        "--dataset",
        "sparse_gaussian(n_samples=10)",
        "--case",
        "*n_samples_10*-lasso",
    ]
    environment = os.environ | {"PYTHONPATH": str(bad)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "1 of 1 scores computed now, 1 ok" in done.stdout, done.stderr
    assert "pudle: error: 1 broken: plug-in 'bad' of bad_plugin cannot be loaded" in done.stderr
    assert len(list(home.glob("quick/store/*n_samples_10-ista-lasso/alternating-*.json"))) == 1
