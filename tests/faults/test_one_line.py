"""What a user's classes and files get wrong ends in one line that says what to do, and never in a
traceback.
"""

import json
import math

import pytest
import torch
from support.processes import commands
from support.records import synthetic

import pudle
from pudle import names
from pudle.declared import with_values
from pudle.problems import Constants
from pudle.reports.load import load
from pudle.reports.summary import summarize

#: A class of each kind that has no options: what it derives from, and what it does.
BODIES = {
    "datasets": (
        "pudle.Dataset",
        """
    def problem(self, loss="lasso", *, dtype=torch.float64, device="cpu"):
        n_samples = {option}
        return pudle.make_dataset(
            f"sparse_gaussian(n_samples={{n_samples}}, n_features=4, n_components=5,"
            f" n_nonzero_coefs=2, seed={{self.seed}})"
        ).problem(loss)
""",
    ),
    "estimators": (
        "pudle.GradientEstimator",
        """
    computes = "unrolled"
    def estimate(self, problem, algorithm, depth):
        return pudle.make_estimator("backprop").estimate(problem, algorithm, depth + {option} - 30)
""",
    ),
    "algorithms": (
        "pudle.Ista",
        """
    def step_size(self, problem):
        return super().step_size(problem) * {option} / 30
""",
    ),
    "thresholding": (
        "thresholding.Soft",
        """
    def __call__(self, values, threshold, iteration, nonnegative):
        return super().__call__(values, threshold * {option} / 30, iteration, nonnegative)
""",
    ),
    "optimizers": (
        "optimizers.Optimizer",
        """
    def make(self, theta):
        return torch.optim.SGD([theta], lr={option} / 300)
""",
    ),
    "schedules": (
        "optimizers.Schedule",
        """
    def make(self, optimizer, epochs):
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor={option} / 30)
""",
    ),
}
HEAD = """
import torch
import pudle
from pudle.algorithms import thresholding
from pudle.learning import optimizers

class Mine({base}):
    name = "mine"
"""
LEARN = {
    "datasets": "sparse_gaussian(n_samples=30, n_features=4, n_components=5, n_nonzero_coefs=2)",
    "estimators": "backprop",
    "algorithms": "ista",
    "optimizers": "adam",
    "schedules": "constant",
}
RECORDS = (
    "own.py: Mine has the option strength and is no dataclass: write @dataclass(frozen=True) above"
    " the class, and each option as a field in it"
)


def learn(place, **parts):
    """Learn with some parts of a training in place of the usual ones."""
    options = [
        option
        for group, spec in (LEARN | parts).items()
        for option in (f"--{group.removesuffix('s')}", spec)
    ]
    return commands.call("learn", *options, "--epochs", 2, "--depth", 3, "--out", "out", cwd=place)


def write(place, group, body=None, option="30", more=""):
    """Write a file with a class of a group."""
    base, usual = BODIES[group]
    content = HEAD.format(base=base) + more + (body or usual).format(option=option)
    (place / "own.py").write_text(content)


def parts_of(group):
    """Return what makes a training use the file."""
    if group == "thresholding":
        return {"algorithms": "ista(thresholding='own.py')"}
    return {group: "own.py"}


def refusal(ended):
    """Return the one line of an error."""
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("pudle: error: ") and ended.stderr.count("\n") == 1
    return ended.stderr


@pytest.mark.parametrize("group", BODIES)
def test_a_class_without_options_need_not_be_a_dataclass(group, tmp_path):
    write(tmp_path, group)
    ended = learn(tmp_path, **parts_of(group))
    assert ended.returncode == 0 and "results in out" in ended.stdout, ended.stderr


@pytest.mark.parametrize("group", BODIES)
@pytest.mark.parametrize(
    "more",
    [
        "    strength: int = 30\n",
        "    def __init__(self, strength=30):\n        self.strength = strength\n",
    ],
)
def test_a_class_whose_options_would_be_lost_is_refused(group, more, tmp_path):
    write(tmp_path, group, option="self.strength", more=more)
    assert RECORDS in refusal(learn(tmp_path, **parts_of(group)))
    mine = names.load(tmp_path / "own.py").Mine
    with pytest.raises(pudle.SpecError, match="has the option strength and is no dataclass"):
        names.text(mine())


@pytest.mark.parametrize("group", BODIES)
def test_what_is_added_is_all_that_lacks(group, tmp_path):
    write(tmp_path, group, option="self.strength", more="    strength: int = 30\n")
    path = tmp_path / "own.py"
    head, body = path.read_text().split("class Mine")
    path.write_text(
        f"from dataclasses import dataclass\n{head}@dataclass(frozen=True)\nclass Mine{body}"
    )
    ended = learn(tmp_path, **parts_of(group))
    assert ended.returncode == 0 and "results in out" in ended.stdout, ended.stderr


def test_constants_of_a_class_are_no_options(tmp_path):
    write(tmp_path, "datasets", more="    name: str = 'mine'\n    losses: tuple = ('lasso',)\n")
    dataset = pudle.make_dataset(str(tmp_path / "own.py"))
    one, other = (dataset.reseeded(seed).problem() for seed in (1, 2))
    assert not torch.equal(one.observations, other.observations)


def test_a_problem_that_is_no_dataclass_is_refused(tmp_path):
    (tmp_path / "own.py").write_text(
        """
import torch
import pudle
class Mine(pudle.FixedPoint):
    def __init__(self, rate=0.5):
        one = torch.ones(2, dtype=torch.float64)
        super().__init__(one, lambda z, t: rate * z + t, lambda z, t: (z**2).sum(), one)
"""
    )
    command = "run --only --scores-only --seeds 1 --depth 3 --estimator backprop --dataset own.py"
    line = refusal(commands.call(*command.split(), cwd=tmp_path))
    assert "Mine has the option rate and is no dataclass" in line


def test_a_dataclass_without_a_seed_gets_one_all_the_same(tmp_path):
    write(tmp_path, "datasets")
    path = tmp_path / "own.py"
    path.write_text(
        path.read_text().replace(
            "class Mine", "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass Mine"
        )
    )
    dataset = pudle.make_dataset(str(path))
    assert with_values(dataset, seed=3).seed == 3 and dataset.seed == 0
    assert learn(tmp_path, datasets="own.py").returncode == 0


#: What methods return or raise that is of no use, by kind, and what is said.
USELESS = {
    ("optimizers", "def make(self, theta):\n        return 3"): (
        "make returns int: return a torch.optim.optimizer.Optimizer"
    ),
    ("optimizers", "def make(self, theta):\n        return theta.nothing"): (
        "has no attribute 'nothing', at own.py, line 11: correct the code there"
    ),
    ("optimizers", "def make(self, theta, rate):\n        return 3"): (
        "missing 1 required positional argument: 'rate': give the method the arguments"
    ),
    ("schedules", "def make(self, optimizer, epochs):\n        return 3"): (
        "make returns int: return a torch.optim.lr_scheduler.LRScheduler"
    ),
    (
        "datasets",
        "def problem(self, loss='lasso', *, dtype=None, device='cpu'):\n        return 3",
    ): ("a int has no dictionary to learn"),
    ("datasets", "def problem(self, loss='lasso'):\n        return 3"): (
        "unexpected keyword argument 'dtype': give the method the arguments"
    ),
    ("datasets", "def problem(self, loss, *, dtype, device):\n        1 / 0"): (
        "ZeroDivisionError: division by zero, at own.py, line 11: correct the code there"
    ),
    ("estimators", "computes = 'unrolled'\n    def estimate(self, *_):\n        return 3"): (
        "own.py:Mine returns int: return a pudle.Estimate"
    ),
    (
        "estimators",
        "computes = 'unrolled'\n    def estimate(self, problem, *_):\n"
        "        return pudle.Estimate(problem.theta.T, problem.initial_codes())",
    ): "gives a gradient of shape (5, 4): give one of shape (4, 5)",
    ("estimators", "computes = 'unrolled'\n    def estimate(self, *_):\n        1 / 0"): (
        "ZeroDivisionError: division by zero, at own.py, line 12"
    ),
    ("algorithms", "def step_size(self, problem):\n        return [][1]"): (
        "IndexError: list index out of range, at own.py, line 11"
    ),
}


@pytest.mark.parametrize("group, body", USELESS)
def test_what_a_method_gets_wrong_is_said_in_one_line(group, body, tmp_path):
    write(tmp_path, group, f"\n    {body}\n")
    assert USELESS[group, body] in refusal(learn(tmp_path, **parts_of(group)))


#: A problem whose objective may have a mistake, in line 7.
MISTAKEN = """import torch

import pudle


def objective(state, theta):
    return {expression}


def problem(seed: int = 0):
    theta, initial = torch.zeros(3, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    return pudle.StronglyConvex(
        theta, objective, lambda state, _: state.sum(), initial, lambda _: 2.0
    )
"""


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("softplusx(state - theta).sum()", "NameError: name 'softplusx' is not defined"),
        ("(state - theta).square().sum()", "RuntimeError: The size of tensor a (4) must match"),
    ],
)
def test_a_run_says_once_in_which_line_of_a_users_file_a_problem_breaks(expression, says, tmp_path):
    (tmp_path / "own.py").write_text(MISTAKEN.format(expression=expression))
    command = "run --only --scores-only --seeds 1 --depth 3 --estimator backprop --dataset own.py"
    ended = commands.call(*command.split(), "--home", "home", cwd=tmp_path)
    line = ended.stderr.splitlines()[-1]
    assert line.count(says) == 1 and line.endswith(", at own.py, line 7"), line
    # A file's name alone: what is stored of two folders or machines is the same.
    (record,) = load(tmp_path / "home", "quick").records
    assert says in record.reason and record.reason.endswith(", at own.py, line 7")


def test_a_dataset_that_cannot_be_drawn_is_refused_with_its_line(tmp_path):
    mistaken = MISTAKEN.format(expression="state.sum()").replace("_: 2.0", "_: 2.0, print=3")
    (tmp_path / "own.py").write_text(mistaken)
    command = "run --only --scores-only --seeds 1 --depth 3 --estimator backprop --dataset own.py"
    line = refusal(commands.call(*command.split(), cwd=tmp_path))
    assert "cannot be drawn (TypeError: " in line and "'print', at own.py, line 12)" in line, line


def test_an_error_of_this_package_keeps_its_traceback(monkeypatch, tmp_path):
    monkeypatch.setattr("pudle.learning.run.check_learnable", lambda _: [][1])
    monkeypatch.setattr("pudle.learning.learning_experiment.check_learnable", lambda _: [][1])
    assert "Traceback" in learn(tmp_path).stderr


def test_a_largest_curvature_of_zero_is_refused():
    """It ended in a division by zero in the step, which is its inverse."""
    theta = torch.tensor([0.3, 0.5], dtype=torch.float64)
    problem = pudle.StronglyConvex(
        theta,
        lambda state, theta: (state - theta).square().sum(),
        lambda state, theta: state.square().sum(),
        torch.zeros(2, dtype=torch.float64),
        lambda theta: 2.0,
        lambda *_: Constants(0, 0, 2, 0, 2, 1, 1),
    )
    algorithm = pudle.make_algorithm("gradient_descent")
    for use in (
        lambda: pudle.reference(problem),
        lambda: algorithm.run(problem, 3),
        lambda: pudle.make_estimator("a_posteriori").estimate(problem, algorithm, 5),
    ):
        with pytest.raises(pudle.InvalidArgument, match="Constants: gradient=0.*upper bound"):
            use()


@pytest.mark.parametrize("value", ["x", None, torch.zeros(2), 1j, math.nan])
def test_a_constant_that_is_no_number_is_refused(value):
    with pytest.raises(pudle.InvalidArgument, match="Constants: hessian=.* is (no number|NaN)"):
        Constants(1.0, value, 1.0, 1.0, 1.0, 1.0, 1.0)


def test_a_store_that_leaves_out_an_estimator_in_the_middle_is_reported(tmp_path):
    """The selection leaves one out on one case; the estimators after it keep their numbers."""
    estimators = [*synthetic.CURVES]
    whole, part = synthetic.case(), synthetic.case("synthetic-ista-other", dataset="other(n=10)")
    pairs = [(whole, name) for name in estimators]
    pairs += [(part, name) for name in estimators if name != estimators[1]]
    home = synthetic.write(tmp_path, [synthetic.record(*pair) for pair in pairs])
    selection = json.loads((home / "quick" / "selection.json").read_text())
    del selection["digest"]
    selection["limited"] = [[estimators[1], f"!{part['name']}", "it takes too long"]]
    synthetic.write_run(home / "quick", selection=selection)
    ended = commands.call("report", "--home", home)
    assert (ended.returncode, ended.stderr) == (0, "")
    rows = summarize(load(home, "quick"))
    assert [(row.case, row.estimator) for row in rows] == [(case["name"], it) for case, it in pairs]
    assert all(row.measured.estimator == row.estimator for row in rows)


#: Runs each of its arguments as a command, in one process, because each would import the same.
COMMANDS = """
import sys
from pudle import cli

print([cli.run(command.split()) for command in sys.argv[1:]])
"""


@pytest.mark.slow
def test_warnings_that_are_errors_print_nothing_more(tmp_path, monkeypatch):
    """Of a run, a check, and reports on this run and on another."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    synthetic.write(tmp_path / "other", [synthetic.record(synthetic.case(), "backprop")])
    ended = commands.python(
        COMMANDS,
        "run --only --scores-only --seeds 1 --depth 3 --samples 5 --dataset digits"
        " --estimator backprop",
        "check phantom --quick -k ridge",
        "report",
        "report --home other",
    )
    assert ended.returncode == 0 and "Warning" not in ended.stderr, ended.stderr
    assert ended.stdout.splitlines()[-1] == "[0, 0, 0, 0]"
