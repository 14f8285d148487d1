"""The recipes of CONTRIBUTING, carried out in a copy: each file that a row names is changed as the
row says, and what was added works.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from support.paths import ROOT

RECIPES = (ROOT / "CONTRIBUTING.md").read_text().partition("## Which files a change touches")[2]
FOLDERS = ("estimators", "datasets", "bench", "reports")
ESTIMATOR = '''
from dataclasses import dataclass

from ..algorithms.unrolling import check_depths, direct_gradients
from ..estimator import Estimate, GradientEstimator


@dataclass(frozen=True)
class Mine(GradientEstimator):
    """The direct part."""

    name = "mine"
    computes = "direct"
    consistent_for = ("lasso",)

    def estimate(self, problem, algorithm, depth):
        codes = algorithm.run(problem, *check_depths([depth])).codes
        gradient, _ = direct_gradients(problem, codes)
        return Estimate(gradient, codes)
'''
DATASET = '''
from dataclasses import dataclass

from ..data import ArraysDataset
from ..problems import {problem}


@dataclass(frozen=True)
class Mine(ArraysDataset):
    """Ten samples along the axes."""

    seed: int = 0
    name = "mine"
    references = ("nobody",)
    losses = ("linear",)

    def make(self, loss, tensor):
        axes = self.generator().standard_normal((10, 4))
        dictionary = self.generator("dictionary").standard_normal((4, 4))
        return {problem}(
            observations=tensor(axes), dictionary=tensor(dictionary), strength=1.0,
            weights=tensor(axes[0]),
        )
'''
ALGORITHM = '''
from dataclasses import dataclass

from .ista import Ista


@dataclass(frozen=True)
class Mine(Ista):
    """The same under another name."""

    name = "mine"
'''
PROBLEM = '''
from .ridge import Ridge


class OwnRidge(Ridge):
    """The same under another name."""
'''
CHECK = '''

@register(FALLING)
def check_size(subject: Subject) -> Measurements:
    """The gradient is below a million."""
    size = norm(subject.gradient(2))
    require(size < 1e6, f"the gradient has the norm {size:.3g}", size, 1e6)
    yield Measurement(size, 1e6)
'''
STUDY = """
from ..learning_experiment import LearningExperiment

EXPERIMENTS = {"mine-small": LearningExperiment("sparse_gaussian(n_samples=30)", epochs=2)}
"""


class House:
    """A copy of the package as it is installed: in one folder, with its entry points beside it."""

    def __init__(self, folder, server):
        self.server = server
        self.folder, self.package = folder, folder / "pudle"
        # With what is compiled already, which holds for files that are copied with their times.
        shutil.copytree(ROOT / "src" / "pudle", self.package)
        for name in FOLDERS:
            shutil.copytree(ROOT / name, self.package / name)
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        self.entry_points = project["entry-points"]

    def path(self, name):
        """Return a file of the repository in the copy; the recipe has to name it."""
        assert f"`{name}`" in RECIPES or f"`{name.rpartition('/')[0]}/`" in RECIPES, name
        return self.package / name.removeprefix("src/pudle/")

    def add(self, name, content):
        self.path(name).write_text(content)

    def edit(self, name, old, new):
        path = self.path(name)
        assert path.read_text().count(old) == 1, (name, old)
        path.write_text(path.read_text().replace(old, new))

    def register(self, group, name, target):
        assert "`pyproject.toml`" in RECIPES
        self.entry_points[f"pudle.{group}"][name] = target

    def python(self, code):
        """Run code with the copy, and return what it prints."""
        metadata = self.folder / "pudle-0.dist-info"
        metadata.mkdir(exist_ok=True)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: pudle\nVersion: 0\n")
        lines = []
        for group, entries in self.entry_points.items():
            lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
        (metadata / "entry_points.txt").write_text("\n".join(lines))
        self.server.stdin.write(json.dumps([str(self.folder), code]) + "\n")
        self.server.stdin.flush()
        status = int(self.server.stdout.readline())
        printed, errors = ((self.folder / name).read_text() for name in ("printed", "errors"))
        assert status == 0, printed + errors
        assert str(self.package) in printed.splitlines()[0]
        return printed.partition("\n")[2]


#: Runs the code of each line of its input in a copy of itself, which has imported what takes long,
#: and nothing of this package.
SERVER = """
import json, os, sys
import numpy, pandas, scipy.optimize, torch

for line in sys.stdin:
    folder, code = json.loads(line)
    copy = os.fork()
    if copy == 0:
        os.chdir(folder)
        sys.path.insert(0, folder)
        for number, name in ((1, "printed"), (2, "errors")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        exec(code, {})
        raise SystemExit
    print(os.waitpid(copy, 0)[1], flush=True)
"""


@pytest.fixture(scope="module")
def server():
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        # Kernels would be compiled anew for each copy.
        env=os.environ | {"PUDLE_KERNELS": "torch"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        process.stdin.close()


@pytest.fixture
def house(tmp_path, server):
    return House(tmp_path, server)


BEGINNING = "import pudle; print(pudle.__file__)\n"
SCORED = """
problem = pudle.make_dataset("sparse_gaussian(n_samples=20)").problem()
estimate = pudle.make_estimator({estimator!r}).estimate(problem, {algorithm}, depth=3)
print(pudle.score(estimate, pudle.reference(problem)))
"""


def test_an_estimator(house):
    house.add("estimators/mine.py", ESTIMATOR)
    house.register("estimators", "mine", "pudle.estimators.mine:Mine")
    call = SCORED.format(estimator="mine", algorithm="pudle.Ista()")
    expected = SCORED.format(estimator="alternating", algorithm="pudle.Ista()")
    origin = "import pudle.names\nprint(pudle.names.entries('estimators').origins['mine'])"
    mine, alternating, where = house.python(BEGINNING + call + expected + origin).splitlines()
    assert mine == alternating
    assert "built-in" in where


def test_a_dataset_and_a_problem(house):
    house.add("src/pudle/problems/mine.py", PROBLEM)
    house.register("problems", "mine", "pudle.problems.mine:OwnRidge")
    made = DATASET.format(problem="OwnRidge").replace("problems import", "problems.mine import")
    house.add("datasets/mine.py", made)
    house.register("datasets", "mine", "pudle.datasets.mine:Mine")
    house.edit(
        "src/pudle/conformance/specimens.py",
        "ROUNDS = 7",
        'DATASETS = [*DATASETS, "mine"]\nROUNDS = 7',
    )
    printed = house.python(
        BEGINNING + "problem = pudle.make_dataset('mine').problem()\n"
        "reference = pudle.reference(problem, 'limit', algorithm=pudle.Ista())\n"
        "print(type(problem).__name__, reference.status)\n"
        "from pudle.conformance.specimens import DRAWN\n"
        "print(sum(specimen.problem.startswith('mine') for specimen in DRAWN))\n"
    )
    assert printed.split() == ["OwnRidge", "limit", "7"]


def test_an_algorithm(house):
    house.add("src/pudle/algorithms/mine.py", ALGORITHM)
    house.register("algorithms", "mine", "pudle.algorithms.mine:Mine")
    specimens = "src/pudle/conformance/specimens.py"
    house.edit(
        specimens,
        "for algorithm in (Ista, Fista, HeavyBall, ActiveSet, CoordinateDescent)",
        "for algorithm in (Ista, Fista, HeavyBall, ActiveSet, CoordinateDescent, Mine)",
    )
    house.edit(
        specimens,
        "from .brought import",
        "from ..algorithms.mine import Mine\nfrom .brought import",
    )
    call = SCORED.format(estimator="backprop", algorithm="pudle.make_algorithm('mine')")
    expected = SCORED.format(estimator="backprop", algorithm="pudle.Ista()")
    mine, ista, drawn = house.python(
        BEGINNING + call + expected + "from pudle.conformance.specimens import DRAWN\n"
        "print(any(specimen.algorithm == 'mine' for specimen in DRAWN))"
    ).splitlines()
    assert mine == ista and drawn == "True"


def test_a_metric(house):
    """It stands in the stored record, and in what a report reads."""
    scoring = "src/pudle/measuring/scoring.py"
    house.edit(
        scoring,
        "    support_error: float = NAN\n",
        "    support_error: float = NAN\n    largest_error: float = NAN\n",
    )
    house.edit(
        scoring,
        "        absolute_error=reported * norm,\n",
        "        absolute_error=reported * norm,\n"
        "        largest_error=float((gradient - reference.gradient).abs().max()),\n",
    )
    house.edit(
        "src/pudle/measuring/results/score.py",
        "    support_error: Share | None = None\n",
        "    support_error: Share | None = None\n    largest_error: Error | None = None\n",
    )
    assert "`docs/schema.md`" in RECIPES
    code = """
from pathlib import Path
from pudle.measuring.case import Case
from pudle.measuring.run import Run
from pudle.measuring.selection import Selection
from pudle.measuring.store import Store
from pudle.workers import InProcess
case = Case("one", "sparse_gaussian(n_samples=20)", "ista", "lasso", (0,), (2,))
store = Store(Path("home/quick/store"), "quick")
run = Run(Selection("quick", (case,), ("backprop",), (2,), (), costs=()), store)
run.begin()
run.fill(InProcess())
from pudle.reports.load import load
frame = load(Path("home"), "quick").frame
print(frame[frame.metric == "largest_error"].value.item() > 0)
"""
    assert house.python(BEGINNING + code).split() == ["True"]


def test_a_column_of_the_summary(house):
    house.edit(
        "reports/tables.py",
        'COLUMNS = (\n    Column("error at the deepest depth", _error),\n',
        'COLUMNS = (\n    Column("error at the deepest depth", _error),\n'
        '    Column("seeds", lambda row: number_cell(row.numbers.seeds)),\n',
    )
    code = "from pudle.reports.tables import COLUMNS; print([each.label for each in COLUMNS][:2])"
    assert "seeds" in house.python(BEGINNING + code)


def test_a_check(house):
    path = house.path("src/pudle/conformance/claims.py")
    path.write_text(path.read_text() + CHECK)
    assert "`tests/support/estimators/planted.py`" in RECIPES
    code = """
from pudle import conformance
records = conformance.check(pudle.make_estimator("alternating"), names=("size",))
print({record.status for record in records}, len(records) > 3)
"""
    assert house.python(BEGINNING + code).split() == ["{'passed'}", "True"]


def test_a_study(house):
    house.add("src/pudle/learning/studies/mine.py", STUDY)
    house.register("experiments", "mine", "pudle.learning.studies.mine:EXPERIMENTS")
    code = "print(pudle.names.list_experiments()['mine-small'].epochs)"
    assert house.python(BEGINNING + "import pudle.names\n" + code).split() == ["2"]


def test_every_row_that_adds_something_is_carried_out():
    rows = {*re.findall(r"^\| a new ([\w ]+?)(?: of [\w ]+| in [\w ]+)?(?:,.*)? \|", RECIPES, re.M)}
    carried_out = {"estimator", "dataset", "algorithm", "problem", "metric", "column", "check"}
    not_here = {
        "thresholding rule": "a class and a line, as an algorithm",
        "case": "tests of selections add many",
        "field": "tests of files add many",
        "page": "`make site` builds all",
    }
    assert rows == carried_out | {"study"} | not_here.keys()
