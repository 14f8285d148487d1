"""Specs that name classes in a user's own files: every kind, found, told apart, refused in one
line, keyed by content.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from examples import TINY

import pudle
from pudle import registry, source_files, specs
from pudle.measuring.list_command import list_command
from pudle.measuring.selection import Selection, select
from pudle.measuring.store import Store
from pudle.measuring.tasks import input_files

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
        draw = torch.as_tensor(self.generator().standard_normal((self.n_samples, 3))).to(device, dtype)
        return pudle.SparseCoding(observations=draw, dictionary=torch.eye(3, dtype=dtype), penalty=0.1, loss=loss)


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
    "estimators": (registry.make_estimator, "Estimator"),
    "datasets": (registry.make_dataset, "Dataset"),
    "algorithms": (registry.make_algorithm, "Algorithm"),
    "thresholding": (registry.make_thresholding, "Rule"),
    "optimizers": (registry.make_optimizer, "Optimizer"),
    "schedules": (registry.make_schedule, "Schedule"),
}
PROFILE = Selection("quick", (TINY,), ("backprop",), (1,), (5,))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with one file in a folder of its own."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "every.py").write_text(EVERY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_kind_that_a_spec_can_name_has_a_line_here():
    assert MAKERS.keys() == registry.KINDS.keys()


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
        assert type(made).__name__ == name and specs.text(made) == f"lib/every.py:{name}"
    assert make(specs.text(made)) == made
    assert not (folder / "lib" / "__pycache__").exists()


def test_options_are_read_as_those_of_any_name(folder):
    made = pudle.make_estimator("lib/every.py:Estimator(weight=0.5)")
    assert made.weight == 0.5 and specs.text(made) == "lib/every.py:Estimator(weight=0.5)"
    assert pudle.make_estimator("lib/every.py(weight=0.5)") == made
    nested = pudle.make_algorithm("ista(step=0.1, thresholding='lib/every.py:Rule(scale=2.0)')")
    assert nested.thresholding.scale == 2.0
    assert specs.text(nested) == "ista(step=0.1, thresholding='lib/every.py:Rule(scale=2.0)')"
    assert pudle.make_algorithm(specs.text(nested)) == nested


WRONG = {
    "lib/every.py:Estimatr": (
        "lib/every.py holds no estimator 'Estimatr' (did you mean 'Estimator'?): it has Estimator"
    ),
    "lib/every.py(wait=1)": "lib/every.py has no argument 'wait' (did you mean 'weight'?)",
    "lib/every.py(1)": "give each argument once, by its name",
    "lib/every.py(weight=open('x'))": "weight is not a literal",
    "lib/none.py": (
        "lib/none.py cannot be read (No such file or directory): give the path of a .py file"
    ),
    "lib.py": "lib.py cannot be read (Is a directory)",
    "broken.py": "broken.py cannot be imported (line 2): ZeroDivisionError: division by zero",
    "beside.py": (
        "beside.py cannot be imported (line 1): ImportError: cannot import name 'nothing' from"
    ),
    "package.py": (
        "No module named 'folder': a file imports files beside it, not folders; put . on PYTHONPATH"
    ),
    "nameless.py": "nameless.py: Mine lacks name, computes: correct the file",
    "two.py": "two.py holds 2 estimators (One, Two): name one of them, as two.py:One",
    "nothing.py": (
        "nothing.py holds 0 estimators (none): derive a class from pudle's GradientEstimator and"
        " implement all"
    ),
}


@pytest.mark.parametrize("spec", WRONG)
def test_what_cannot_be_used_is_one_line(spec, folder):
    base = (
        "import pudle\nclass Mine(pudle.GradientEstimator):\n    def estimate(self, problem,"
        " algorithm, depth): ...\n"
    )
    named = (
        "import pudle\nclass One(pudle.GradientEstimator):\n    name, computes = 'one', 'direct'\n "
        "   estimate = print\n"
    )
    for name in ("lib.py", "folder"):
        (folder / name).mkdir()
    for name, text in {
        "broken.py": "def f():\n    1 / 0\nf()\n",
        "beside.py": "from helper import nothing\n",
        "helper.py": "",
        "nameless.py": base,
        "package.py": "import folder.part\n",
        "two.py": f"{named}class Two(One): ...\n",
        "nothing.py": "import pudle\nfrom pudle import Ista\nclass Other: ...\n",
    }.items():
        (folder / name).write_text(text)
    with pytest.raises(pudle.SpecError) as caught:
        pudle.make_estimator(spec)
    assert WRONG[spec] in str(caught.value) and "\n" not in str(caught.value)


def test_two_files_with_one_name_in_them_are_two_estimators_and_two_datasets(folder):
    (folder / "other").mkdir()
    (folder / "other" / "every.py").write_text(EVERY)
    paths = ("lib/every.py", "other/every.py")
    chosen = select(PROFILE, estimators=paths, datasets=paths, algorithms=paths, losses=["lasso"])
    assert chosen.estimators[1:] == ("lib/every.py:Estimator", "other/every.py:Estimator")
    assert len({case.name for case in chosen.cases}) == len(chosen.cases) == 4
    store = Store(folder / "store", "quick")
    assert len({store.path(*pair) for pair in chosen.pairs}) == len(chosen.pairs) == 12


def test_the_bytes_of_a_file_are_in_the_key_and_the_place_of_the_folder_is_not(folder, monkeypatch):
    spec, case = (
        "lib/every.py:Estimator",
        dataclasses.replace(TINY, dataset="lib/every.py:Dataset", algorithm="lib/every.py"),
    )
    store = Store(folder / "store", "quick")

    def keys():
        return (
            store.path(case, "backprop"),
            store.path(TINY, spec),
            store.reference_path(case, 0, "exact"),
        )

    before, builtin = keys(), store.path(TINY, "backprop")
    (folder / "lib" / "every.py").write_text(EVERY + "\nADDED = 1\n")
    assert not set(before) & set(keys()) and store.path(TINY, "backprop") == builtin
    moved = folder / "moved"
    (moved / "lib").mkdir(parents=True)
    (moved / "lib" / "every.py").write_text(EVERY)
    monkeypatch.chdir(moved)
    assert keys() == before


def test_a_changed_file_is_read_again_in_the_same_process(folder):
    assert pudle.make_estimator("lib/every.py").weight == 1.0
    (folder / "lib" / "every.py").write_text(
        EVERY.replace("weight: float = 1.0", "weight: float = 3.0")
    )
    assert pudle.make_estimator("lib/every.py").weight == 3.0


#: An estimator with files beside it, one of which is imported when it estimates.
WITH_NEIGHBORS = """
import json
from dataclasses import dataclass

import pudle
from scales import FACTOR


@dataclass(frozen=True)
class Scaled(pudle.GradientEstimator):
    name, computes, factor = "scaled", "heuristic", FACTOR

    def estimate(self, problem, algorithm, depth):
        import late
        return pudle.Estimate(late.times(problem.theta), problem.initial_codes())
"""


def test_a_file_imports_the_files_beside_it_and_no_other_file_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, factor in (("one", 2), ("two", 3)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(WITH_NEIGHBORS)
        (tmp_path / folder / "scales.py").write_text(f"import late\nFACTOR = {factor}\n")
        (tmp_path / folder / "late.py").write_text(
            f"import scales\ndef times(theta):\n    return {factor} * theta\n"
        )
        # The standard library keeps its names.
        (tmp_path / folder / "json.py").write_text("1 / 0")
    path, modules = (
        list(sys.path),
        {name for name in sys.modules if not name.startswith(source_files.PREFIX)},
    )
    problem = TINY.make_problem(0)
    made = [pudle.make_estimator(f"{folder}/mine.py") for folder in ("one", "two")]
    for estimator, factor in zip(made, (2, 3), strict=True):
        assert estimator.factor == factor
        assert torch.equal(
            estimator.estimate(problem, pudle.Ista(), 1).gradient, factor * problem.theta
        )
    assert sys.path == path and not {"scales", "late"} & (sys.modules.keys() - modules)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("scales")
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_file_with_the_name_of_a_library_imports_the_library(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "click.py").write_text(f"import click\nassert click.Command\n{EVERY}")
    assert specs.text(pudle.make_estimator("click.py")) == "click.py:Estimator"


def test_a_file_beside_a_file_is_in_its_key_and_travels_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(WITH_NEIGHBORS)
    (tmp_path / "scales.py").write_text("FACTOR = 2\n")
    (tmp_path / "late.py").write_text("def times(theta):\n    return theta\n")
    (tmp_path / "unused.py").write_text("")
    store = Store(tmp_path / "store", "quick")
    spec = specs.text(pudle.make_estimator("mine.py"))
    keys = {store.path(TINY, spec)}
    sent = {path.name for path, travels in input_files("score", (TINY, spec, store)) if travels}
    assert sent == {"mine.py", "scales.py", "late.py"}
    for name, text in (
        ("scales.py", "FACTOR = 5\n"),
        ("late.py", "def times(theta):\n    return 5 * theta\n"),
    ):
        (tmp_path / name).write_text(text)
        keys.add(store.path(TINY, spec))
    assert len(keys) == 3 and pudle.make_estimator("mine.py").factor == 5
    (tmp_path / "unused.py").write_text("CHANGED = 1\n")
    assert store.path(TINY, spec) in keys


def test_only_concrete_public_classes_of_the_file_itself_count(folder):
    (folder / "some.py").write_text(
        f"{EVERY}\nfrom pudle import Fista\nclass _Hidden(Estimator): ...\nAlias = Estimator\n"
    )
    found = [cls.__name__ for cls in source_files.classes_in(Path("some.py"))]
    assert found == ["Estimator", "Dataset", "Algorithm", "Rule", "Optimizer", "Schedule"]


def test_pudle_list_shows_what_a_file_offers_and_where_everything_comes_from(folder):
    run = CliRunner().invoke
    done = run(list_command, ["lib/every.py"])
    assert done.exit_code == 0, done.output
    for _, name in MAKERS.values():
        assert f"lib/every.py:{name}" in done.output
    assert "weight=1.0" in done.output and "built-in" not in done.output
    everything = run(list_command, []).output
    for word in (
        "truncated",
        "array",
        "fista",
        "hard",
        "adamw",
        "cosine",
        "FixedPoint",
        "built-in",
        "sparse_gaussian-ista-lasso",
    ):
        assert word in everything
    (folder / "nothing.py").write_text("")
    for arguments, text in {
        "nothing.py": "holds nothing that a spec can name",
        "algorithm": "did you mean 'algorithms'?",
    }.items():
        assert text in str(run(list_command, [arguments]).exception)
