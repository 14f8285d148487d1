"""Specs that name classes in a user's own files: every kind, found, told apart, refused in one
line, keyed by content.
"""

import dataclasses
import importlib
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from support.oracles.comparisons import refusal
from support.problems.small_problems import TINY
from support.processes.commands import call

import pudle
from pudle import names
from pudle.measuring.results.score import Scores
from pudle.measuring.stages import Task
from pudle.measuring.store import Store

#: One file with a class of every kind that a spec can name.
EVERY = """
from dataclasses import dataclass

import torch

import pudle
from pudle.algorithms import thresholding
from pudle.learning import optimizers


@dataclass(frozen=True)
class Estimator(pudle.GradientEstimator):
    weight: float = 1.0
    name, computes = "mine", "heuristic"

    def estimate(self, problem, algorithm, depth):
        return pudle.Estimate(self.weight * problem.theta, problem.initial_codes())


@dataclass(frozen=True)
class Dataset(pudle.Dataset):
    n_samples: int = 5
    seed: int = 0
    name = "mine"

    def problem(self, loss="lasso", *, dtype=torch.float64, device="cpu"):
        draw = self.generator().standard_normal((self.n_samples, 3))
        tensors = {"observations": torch.as_tensor(draw), "dictionary": torch.eye(3)}
        tensors = {name: each.to(device, dtype) for name, each in tensors.items()}
        return pudle.SparseCoding(penalty=0.1, loss=loss, **tensors)


@dataclass(frozen=True)
class Algorithm(pudle.Ista):
    name = "mine"


@dataclass(frozen=True)
class Rule(thresholding.Soft):
    scale: float = 1.0
    name = "mine"


@dataclass(frozen=True)
class Optimizer(optimizers.Sgd):
    name = "mine"


@dataclass(frozen=True)
class Schedule(optimizers.Constant):
    name = "mine"
"""
MAKERS = {
    "estimators": (names.make_estimator, "Estimator"),
    "datasets": (names.make_dataset, "Dataset"),
    "algorithms": (names.make_algorithm, "Algorithm"),
    "thresholding": (partial(names.make, "thresholding"), "Rule"),
    "optimizers": (partial(names.make, "optimizers"), "Optimizer"),
    "schedules": (partial(names.make, "schedules"), "Schedule"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with one file in a folder of its own."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "every.py").write_text(EVERY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_kind_that_a_spec_can_name_has_a_line_here():
    assert MAKERS.keys() == names.KINDS.keys()


@pytest.mark.parametrize("group", MAKERS)
def test_a_class_of_every_kind_is_found_and_its_spec_makes_it_again(group, folder):
    make, name = MAKERS[group]
    for path in (
        "lib/every.py",
        f"{folder}/lib/every.py",
        f"lib/every.py:{name}",
        "lib/../lib/every.py",
    ):
        made = make(path)
        assert type(made).__name__ == name and names.text(made) == f"lib/every.py:{name}"
    assert make(names.text(made)) == made
    assert not (folder / "lib" / "__pycache__").exists()


def test_options_are_read_as_those_of_any_name(folder):
    made = pudle.make_estimator("lib/every.py(weight=0.5)")
    assert made.weight == 0.5 and names.text(made) == "lib/every.py:Estimator(weight=0.5)"
    nested = pudle.make_algorithm("ista(step=0.1, thresholding='lib/every.py:Rule(scale=2.0)')")
    assert nested.thresholding.scale == 2.0
    assert names.text(nested) == "ista(step=0.1, thresholding='lib/every.py:Rule(scale=2.0)')"
    assert pudle.make_algorithm(names.text(nested)) == nested


WRONG = {
    "lib/every.py:Estimatr": (
        "lib/every.py holds the estimators Estimator (did you mean 'Estimator'?): name one of them"
    ),
    "lib/none.py": "lib/none.py cannot be imported (FileNotFoundError: ",
    "lib.py": "lib.py cannot be imported (OSError: it is no regular file): ",
    "broken.py": (
        "broken.py cannot be imported (ZeroDivisionError: division by zero, at broken.py, line 2)"
    ),
    "beside.py": ("beside.py cannot be imported (ImportError: cannot import name 'nothing' from"),
    "nameless.py": "nameless.py: Mine lacks a text name and computes: correct the file",
    "two.py": "two.py holds the estimators One, Two: name one of them, as two.py:One",
    "nothing.py": (
        "nothing.py holds no estimator: derive a class from pudle's GradientEstimator and"
        " implement all"
    ),
}


@pytest.mark.parametrize("spec", WRONG)
def test_what_cannot_be_used_is_one_line(spec, folder):
    base = "import pudle\nclass {}(pudle.GradientEstimator):\n    estimate = print\n"
    named = base.format("One") + "    name, computes = 'one', 'direct'\n"
    os.mkfifo(folder / "lib.py")
    for name, text in {
        "broken.py": "def f():\n    1 / 0\nf()\n",
        "beside.py": "from helper import nothing\n",
        "helper.py": "",
        "nameless.py": base.format("Mine"),
        "two.py": f"{named}class Two(One): ...\n",
        "nothing.py": "import pudle\nfrom pudle import Ista\nclass Other: ...\n",
    }.items():
        (folder / name).write_text(text)
    assert WRONG[spec] in refusal(lambda: pudle.make_estimator(spec))


#: An estimator with files and a folder beside it.
WITH_NEIGHBORS = """
from dataclasses import dataclass

import pudle
from scales import FACTOR
from parts.late import times


@dataclass(frozen=True)
class Scaled(pudle.GradientEstimator):
    name, computes, factor = "scaled", "heuristic", FACTOR

    def estimate(self, problem, algorithm, depth):
        return pudle.Estimate(times(problem.theta), problem.initial_codes())
"""


def write_neighbors(folder, factor):
    (folder / "parts").mkdir(parents=True)
    (folder / "mine.py").write_text(WITH_NEIGHBORS)
    (folder / "scales.py").write_text(f"FACTOR = {factor}\n")
    (folder / "parts" / "late.py").write_text(
        "from scales import FACTOR\ndef times(theta):\n    return FACTOR * theta\n"
    )


def test_a_file_imports_what_lies_beside_it_and_no_other_file_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, problem = list(sys.path), TINY.make_problem(0)
    for folder, factor in (("one", 2), ("two", 3)):
        write_neighbors(tmp_path / folder, factor)
    made = [pudle.make_estimator(f"{folder}/mine.py") for folder in ("one", "two")]
    for estimator, factor in zip(made, (2, 3), strict=True):
        assert estimator.factor == factor
        gradient = estimator.estimate(problem, pudle.Ista(), 1).gradient
        assert torch.equal(gradient, factor * problem.theta)
    assert sys.path == path and not {"scales", "parts", "parts.late"} & sys.modules.keys()
    assert not list(tmp_path.rglob("__pycache__"))


def test_modules_that_a_script_imported_stay_its_own(tmp_path, monkeypatch):
    write_neighbors(tmp_path, 2)
    monkeypatch.syspath_prepend(tmp_path)
    # A cached module of the same second and size would hide the change.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    scales = importlib.import_module("scales")
    (tmp_path / "scales.py").write_text("FACTOR = 5\n")
    assert pudle.make_estimator(f"{tmp_path}/mine.py").factor == 5
    assert sys.modules.pop("scales") is scales and scales.FACTOR == 2


def test_the_bytes_of_files_are_in_keys_and_travel_and_their_place_is_not(folder, monkeypatch):
    write_neighbors(folder, 2)
    (folder / "unused.py").write_text("")
    store, spec = Store(folder / "store", "quick"), names.text(pudle.make_estimator("mine.py"))

    def keys():
        # A case keeps the objects that its specs made.
        case = dataclasses.replace(TINY, dataset="lib/every.py:Dataset", algorithm="lib/every.py")
        places = store.path(TINY, spec), store.path(case, "backprop"), store.path(TINY, "backprop")
        return *places, store.reference_path(case, 0, "exact")

    before = keys()
    files = Task("", [Scores(TINY, spec)], store, 1.0, print).input_files
    sent = {path.name for path, travels in files if travels}
    assert sent == {"mine.py", "scales.py", "late.py"}
    shutil.copytree(folder, folder / "moved")
    for name, text, changed in (
        ("unused.py", "CHANGED = 1\n", ()),
        ("scales.py", "FACTOR = 5\n", (0,)),
        ("parts/late.py", "def times(theta):\n    return 5 * theta\n", (0,)),
        ("lib/every.py", EVERY + "\nADDED = 1\n", (1, 3)),
    ):
        last = keys()
        (folder / name).write_text(text)
        assert [old != new for old, new in zip(last, keys(), strict=True)] == [
            number in changed for number in range(4)
        ]
    assert pudle.make_estimator("mine.py").factor == 5
    monkeypatch.chdir(folder / "moved")
    assert keys() == before


def test_only_concrete_public_classes_of_the_file_itself_count(folder):
    (folder / "some.py").write_text(
        f"{EVERY}\nfrom pudle import Fista\nclass _Hidden(Estimator): ...\nAlias = Estimator\n"
    )
    assert list(names.classes_in("estimators", Path("some.py"))) == ["Estimator"]
    assert list(names.classes_in("algorithms", Path("some.py"))) == ["Algorithm"]


def test_pudle_list_shows_what_a_file_offers_and_where_everything_comes_from(folder):
    listed = call("list", "lib/every.py").stdout
    for _, name in MAKERS.values():
        assert f"lib/every.py:{name}" in listed
    assert "weight=1.0" in listed and "built-in" not in listed
    listed = call("list").stdout
    assert "built-in" in listed and "experiments: see `pudle list experiments`" in listed


def test_a_glob_leaves_the_names_that_match_it():
    for arguments in (["experiments", "2a-T50-*-s1", "2a-T50-*-lasso"], ["2a-T50-*-lasso"]):
        listed = call("list", *arguments).stdout
        rows = [line.split("│")[1].strip() for line in listed.splitlines() if line[:1] == "│"]
        assert {*filter(None, rows)} == {"2a-T50-alternating-lasso", "2a-T50-backprop-lasso"}
        assert "recovery: " in listed and "denoising: " not in listed
    for arguments in (["experiments", "denoising-alternating"], ["denoising-alternating"]):
        listed = call("list", *arguments).stdout
        assert "denoising-alternating" in listed and "denoising-backprop" not in listed
    listed = call("list", "*newton*", "back*").stdout
    assert "backprop" in listed and "Datasets" not in listed and "Experiments" not in listed
    done = call("list", "datasets", "2a-*")
    assert done.returncode == 2 and "nothing matches 2a-*: `pudle list datasets`" in done.stderr
