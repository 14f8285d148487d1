"""Problems that a function or a class in a user's file makes: datasets like any other."""

import numpy as np
import pytest
import torch
from support.oracles.comparisons import refusal

import pudle
from pudle import names
from pudle.measuring.case import Case
from pudle.measuring.options import Options
from pudle.measuring.results.reference import CaseReference
from pudle.measuring.results.score import Scores
from pudle.measuring.selection import select
from pudle.measuring.stages import Task
from pudle.measuring.store import Store

#: A contraction to exp(theta): z_t = e^theta (1 - (1 - rate)^t), with two losses; and problems that
#: are made otherwise.
OWN = """
import os
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Literal

import numpy as np
import torch

import pudle


Loss = Literal["square", "linear"]


def problem(seed: int, goal: float = 1.0, rate: float = 0.5, loss: Loss = "square"):
    target = goal + seed
    outer = {
        "square": lambda z, theta: (z - target).square().sum() / 2,
        "linear": lambda z, theta: z.sum(),
    }[loss]
    step = lambda z, theta: z - rate * (z - theta.exp())
    zero = torch.zeros(1, dtype=torch.float64)
    return pudle.FixedPoint(torch.tensor(0.5, dtype=torch.float64), step, outer, zero)


def table(path: Path, penalty: float = 0.1, dtype=torch.float64):
    rows = torch.as_tensor(np.load(path), dtype=dtype)
    atoms = torch.eye(rows.shape[1], dtype=dtype)
    return pudle.SparseCoding(observations=rows, dictionary=atoms, penalty=penalty)


def wrong(n_samples: int = 3):
    return n_samples


def contraction(factor, goal=1.0):
    return pudle.FixedPoint(
        torch.tensor(0.5, dtype=torch.float64),
        lambda z, theta: 0.5 * factor() * z + theta,
        lambda z, theta: (z - goal).square().sum(),
        torch.zeros(1, dtype=torch.float64),
    )


def unseeded():
    factor = float(torch.rand(()))
    return contraction(lambda: factor)


def of_the_process():
    factor = float(torch.rand((), generator=torch.Generator().manual_seed(os.getpid())))
    return contraction(lambda: factor)


def at_each_call():
    return contraction(lambda: float(torch.rand(())))


def counted():
    calls = count()
    return contraction(lambda: 1 / (1 + next(calls)))


def of_the_folder():
    goal = float(Path("goal").read_text())
    return contraction(lambda: 1.0, goal)


@dataclass(frozen=True, eq=False)
class Drawn(pudle.Ridge):
    observations: torch.Tensor = field(default_factory=lambda: torch.ones(2, 3).double())
    dictionary: torch.Tensor = field(default_factory=lambda: torch.ones(3, 2).double())
    weights: torch.Tensor = field(default_factory=lambda: torch.ones(2).double())
    strength: float = 0.5
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN)
    np.save(tmp_path / "rows.npy", np.arange(6.0).reshape(2, 3))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_function_is_a_dataset_whose_options_are_its_arguments():
    made = pudle.make_dataset("own.py(goal=2.0)")
    assert (
        names.text(made) == "own.py:problem(goal=2.0)"
        and pudle.make_dataset(names.text(made)) == made
    )
    assert made.losses == ("square", "linear") and type(made).__name__ == "problem"
    problem = pudle.make_dataset("own.py(goal=2.0, seed=3)").problem("square")
    # By hand: half the square of the distance from 0 to 2 + 3.
    assert float(problem.outer_loss(problem.initial_codes())) == 12.5


def test_its_scores_are_those_of_the_closed_form(folder):
    """The gradient of sum z is e^theta, of which T steps from zero have 1 - 2^-T."""
    case = Case(
        "own", "own.py", "iteration", "linear", seeds=(0, 1), depths=(3, 60), targets=("limit",)
    )
    record = Scores(case, "backprop").measure(Store(folder / "store", "quick"))
    assert record.status == "ok"
    # What is stored can be copied to another place.
    stored = [path.read_bytes() for path in (folder / "store").rglob("*") if path.is_file()]
    assert len(stored) == 3 and not any(str(folder).encode() in content for content in stored)
    errors = {(row.seed, row.depth): row.relative_error for row in record.scores}
    for seed in (0, 1):
        assert errors[seed, 3] == pytest.approx(2.0**-3, rel=1e-9)
        assert errors[seed, 60] < 1e-9


def test_a_run_takes_it_with_all_its_losses_and_the_algorithm_of_its_problem():
    profile = names.list_profiles()["quick"]
    chosen = select(profile, Options(datasets=("own.py",), seeds=2))
    assert {(case.algorithm, case.loss, case.targets) for case in chosen.cases} == {
        ("iteration", "square", ("limit",)),
        ("iteration", "linear", ("limit",)),
    }


@pytest.mark.parametrize(
    "name, reason",
    [
        ("wrong", "wrong gives no problem but int: return one, such as pudle.FixedPoint"),
        ("unseeded", "another problem when it draws again with the same seed"),
        ("of_the_process", "another problem when it draws again with the same seed"),
        ("at_each_call", "whenever it is asked: leave random draws, clocks and counters out"),
        ("counted", "whenever it is asked: leave random draws, clocks and counters out"),
    ],
)
def test_a_problem_that_is_not_the_same_each_time_is_refused(name, reason):
    with pytest.raises(pudle.InvalidArgument, match=reason):
        select(names.list_profiles()["quick"], Options(datasets=(f"own.py:{name}",)))


def test_no_gradient_is_scored_against_the_reference_of_another_problem(folder):
    """A file that reads what no option names draws the same in one folder, and not in the next."""
    store, records = Store(folder / "store", "quick"), {}
    case = Case("own", "own.py:of_the_folder", "iteration", "own", (0,), (60,), ("limit",))
    for goal, estimator in (("2", "backprop"), ("2", "analytic"), ("3", "one_step")):
        (folder / "goal").write_text(goal)
        records[estimator] = Scores(case, estimator).measure(store)
    assert records["backprop"].status == records["analytic"].status == "ok"
    assert records["backprop"].references[0].probe == records["analytic"].references[0].probe
    assert records["one_step"].status == "error"
    assert "name the files that it reads in its options" in records["one_step"].reason


def test_a_path_is_part_of_the_key_and_travels(folder):
    dataset = pudle.make_dataset("own.py:table(path='rows.npy', penalty=0.2)")
    assert dataset.problem().observations.shape == (2, 3) and dataset.problem().penalty == 0.2
    assert dataset.problem(dtype=torch.float32).theta.dtype == torch.float32
    case = Case("table", names.text(dataset), "ista", "own", (0,), (1,))
    store = Store(folder / "store", "quick")
    files = Task("", [CaseReference(case, 0, "exact")], store, 1.0, print).input_files
    sent = {path.name for path, travels in files if travels}
    assert sent == {"own.py", "rows.npy"}
    before = store.path(case, "backprop")
    np.save(folder / "rows.npy", np.ones((2, 3)))
    assert store.path(case, "backprop") != before


def test_a_class_of_problem_whose_fields_have_defaults_is_a_dataset_too(folder):
    made = pudle.make_dataset("own.py:Drawn(strength=0.25)")
    assert type(made.problem()).__name__ == "Drawn" and made.problem().strength == 0.25
    (folder / "alone.py").write_text(
        OWN[: OWN.index("def problem")] + OWN[OWN.index("@dataclass") :]
    )
    assert (
        names.text(pudle.make_dataset("alone.py(strength=0.25)")) == "alone.py:Drawn(strength=0.25)"
    )


@pytest.mark.parametrize(
    "spec, reason",
    [
        (
            "own.py(gaol=2)",
            "own.py has no argument 'gaol' (did you mean 'goal'?); it takes seed, goal, rate",
        ),
        ("own.py:table", "own.py:table needs path: write own.py:table(path=...)"),
        (
            "own.py:problems",
            "own.py holds the datasets problem (did you mean 'problem'?): name one of them",
        ),
        (
            "needs.py:Needs",
            (
                "Needs needs observations: give it a default, or write a function `problem` that"
                " makes it"
            ),
        ),
        (
            "needs.py",
            "implement all of its methods, or write a function `problem` that returns a problem",
        ),
    ],
)
def test_what_makes_no_problem_is_refused_in_one_line(spec, reason, folder):
    (folder / "needs.py").write_text("import pudle\nclass Needs(pudle.SparseCoding): ...\n")
    assert reason in refusal(lambda: pudle.make_dataset(spec))


@pytest.mark.parametrize("option", [{"dtype": torch.float32}, {"device": "meta"}])
def test_what_it_does_not_follow_is_unsupported(option):
    (name,) = option
    with pytest.raises(pudle.UnsupportedProblem, match=f"let it take {name}"):
        pudle.make_dataset("own.py").problem("square", **option)
