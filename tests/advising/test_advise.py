"""`pudle.advise`: what it chooses against closed forms, and what it says where nothing can be
chosen.
"""

import dataclasses
import functools
import math
import re
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from support.oracles import in_numpy

import pudle
from pudle.advising.advice import Advice, Choice
from pudle.advising.advise import compare_times, train_shortly
from pudle.advising.candidates import list_candidates, suitable_algorithms
from pudle.answers import NO_CURVE, Line, Measured, Requirement, Rounds
from pudle.datasets.ridge import RidgeRegression
from pudle.errors import InvalidArgument
from pudle.estimators.alternating import Alternating
from pudle.measuring import check_results
from pudle.measuring.results import cost

KAPPA = 8
STEP = 2 * KAPPA / (KAPPA + 1)
RIDGE, ISTA = f"ridge(kappa={KAPPA}.0)", f"ista(step={STEP!r})"
SMALL = "sparse_gaussian(n_samples=20, n_features=10, n_components=15, n_nonzero_coefs=2)"
#: The relative error of backpropagation on `RIDGE` by depth: L is 1.
unrolled_error = functools.partial(in_numpy.burn_in, STEP)


@pytest.mark.parametrize("error", [0.1, 1e-3])
def test_the_depth_is_that_of_the_closed_form(error):
    advice = pudle.advise(RIDGE, ISTA, error=error, estimators=["backprop"], seeds=4)
    chosen = advice.chosen
    least = next(
        depth
        for depth in range(2, 1000)
        if unrolled_error(depth) <= error and unrolled_error(depth + 1) <= error
    )
    assert chosen.name == "backprop" and advice.runner_up is None
    assert least <= chosen.depth <= 1.25 * least
    assert chosen.median == pytest.approx(unrolled_error(chosen.depth), rel=1e-6)
    assert chosen.seeds_within_error == chosen.seeds == 4
    # The first test has half of the risk.
    assert chosen.share == pytest.approx(0.025 ** (1 / 4))
    assert "4 seeds decide little" in str(advice)


def test_a_window_that_nobody_asked_for_is_found_and_keeps_its_error():
    """On the reconstruction loss a short window has a floor and a long one costs time: one between
    is chosen.
    """
    dataset = "sparse_gaussian(n_samples=30, n_features=20, n_components=20, n_nonzero_coefs=2)"
    options = {"loss": "reconstruction", "estimators": ["truncated"], "seeds": 12}
    chosen = pudle.advise(dataset, "ista", error=0.05, most_depth=200, **options).chosen
    assert 2 < chosen.estimator.window < chosen.depth and chosen.share > 0.7
    fresh = [dataclasses.replace(pudle.make_dataset(dataset), seed=100 + k) for k in range(60)]
    problems = [each.problem("reconstruction") for each in fresh]
    estimates = [chosen.estimator.estimate(each, pudle.Ista(), chosen.depth) for each in problems]
    scores = map(pudle.score, estimates, map(pudle.reference, problems))
    assert np.mean([score.relative_error <= 0.05 for score in scores]) >= 0.9


def test_within_a_time_the_most_accurate_is_chosen():
    both = ["backprop", "alternating"]
    advice = pudle.advise(RIDGE, ISTA, seconds=60.0, estimators=both, seeds=3, most_depth=50)
    assert advice.chosen.name == "backprop" and advice.chosen.depth == 50
    assert unrolled_error(50) <= advice.chosen.error <= 1.1 * unrolled_error(50)


def test_within_a_memory_the_deepest_that_fits_is_chosen(monkeypatch):
    def peak(estimate, device):
        return int(1e6 * estimate.args[-1]), 0, estimate()

    monkeypatch.setattr(cost, "peak_memory", peak)
    options = {"estimators": ["backprop"], "seeds": 3}
    advice = pudle.advise(RIDGE, ISTA, memory=30e6, **options)
    assert advice.chosen.depth == 25 and advice.chosen.memory == 25e6
    assert advice.chosen.median == pytest.approx(unrolled_error(25), rel=1e-6)
    advice = pudle.advise(RIDGE, ISTA, error=1e-9, memory=30e6, **options)
    assert advice.chosen is None and advice.closest.memory > 30e6
    assert "Nothing meets the requirement (error 1e-9, within 28.6 MiB)" in str(advice)


@dataclass(frozen=True)
class Drawn(RidgeRegression):
    """Ridge regression that is far worse conditioned from a seed on, and whose gradient is zero
    before another, where nothing is scored.
    """

    name = "drawn"
    worse: int = 10**6
    first: int = 1
    alike: bool = False

    def problem(self, loss="linear", **options):
        kappa = 5.0 if self.seed < self.worse else 300.0
        seed = 0 if self.alike else self.seed
        made = RidgeRegression(observations="random", kappa=kappa, seed=seed).problem(loss)
        return dataclasses.replace(made, observations=made.observations * (seed + 1 >= self.first))


def test_a_promise_that_new_seeds_break_is_not_made():
    options = {"estimators": ["backprop"], "seeds": 5, "most_depth": 200}
    advice = pudle.advise(Drawn(worse=12), "ista", error=1e-4, **options)
    assert advice.chosen is None and advice.undecided.seeds_within_error < advice.undecided.seeds
    assert str(advice).startswith("The data do not decide: backprop with ista at ")


ALIKE = Drawn(alike=True)


@pytest.mark.parametrize("problem", [ALIKE, ALIKE.problem()], ids=["dataset", "problem"])
def test_one_problem_promises_nothing_about_others(problem):
    advice = pudle.advise(problem, "ista", error=0.01, estimators=["backprop", "alternating"])
    assert math.isnan(advice.chosen.share) and advice.chosen.seeds == 1
    assert advice.chosen.median <= 0.01
    assert "This holds for this one problem" in str(advice) and "confidence" not in str(advice)


def test_seeds_without_a_reference_are_left_aside_and_counted():
    options = {"error": 0.01, "estimators": ["backprop"], "seeds": 3, "most_depth": 50}
    advice = pudle.advise(Drawn(first=4), "ista", **options)
    assert advice.chosen.seeds_within_error == 3 and advice.unscorable == 3
    assert "3 seeds have no reference" in str(advice)
    with pytest.raises(
        InvalidArgument, match="no seed of 12 has a reference to score against: deg"
    ):
        pudle.advise(Drawn(first=99), "ista", **options)


def test_a_limit_is_no_certified_reference_and_a_bound_is_no_error():
    """Along one curvature a step of 1/L ends at the minimizer: one layer is enough."""
    advice = pudle.advise("ridge", "ista", error=0.01, estimators=["analytic"], seeds=3)
    assert advice.chosen.depth == 1 and "(median at the certified bound, " in str(advice)
    own = pudle.make_dataset(SMALL).problem("reconstruction")
    own = dataclasses.replace(own, loss=lambda codes, theta: (codes**2).sum(1).mean())
    advice = pudle.advise(own, "ista", error=0.1, estimators=["backprop"])
    assert advice.reference == "limit" and "the gradient at the algorithm's limit" in str(advice)


@pytest.mark.parametrize(
    ("requirement", "slower", "chosen"),
    [
        (Requirement(0.1), 1.5, "backprop"),
        (Requirement(0.1), 1.0, "analytic"),  # neither is faster
        (Requirement(None, seconds=9.0), 1.5, "analytic"),  # the more accurate one
    ],
)
def test_of_two_that_keep_the_error_the_final_times_choose(requirement, slower, chosen):
    """The first of the search is slower by the final times."""

    def measure(calls, *_):
        rows = {}
        for each in calls:
            seconds = slower if each.name == "analytic" else 1.0
            curve = dataclasses.replace(
                NO_CURVE, depths=np.array([20]), seeds=np.array([0]), values=np.array([[0.1]])
            )
            line, rounds = Line({20: seconds}), Rounds({20: [seconds] * 7}, "turns")
            rows[each] = Measured(each.name, curve, line, Line({}), rounds)
        return rows

    search = SimpleNamespace(measure=measure, requirement=requirement, seeds=[0], costs=())
    pair = [
        Choice(
            pudle.make_estimator(name),
            pudle.Ista(),
            20,
            0.1,
            seeds_within_error=4,
            seeds=4,
            share=0.5,
        )
        for name in ("analytic", "backprop")
    ]
    advice = compare_times(Advice("ridge", requirement), search, pair)
    assert advice.chosen.name == chosen != advice.runner_up.name
    assert advice.base_ratio.value == pytest.approx(advice.chosen.seconds)
    assert (advice.next_ratio.value == 1.0) == (slower == 1.0) == advice.is_tied


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"error": -1.0}, "error=-1.0 is out of range"),
        ({"error": 1e-18}, "below the references' bound"),
        ({"estimators": ["spsa"]}, "spsa' is stochastic"),
        ({"loss": "ridge"}, "loss='ridge' is unknown"),
    ],
)
def test_wrong_requirements_are_refused(options, text):
    with pytest.raises(InvalidArgument, match=text):
        pudle.advise(SMALL, **options)


def test_candidates_are_deterministic_and_families_are_searched():
    named = {each.name: each.estimator for each in list_candidates([pudle.Ista()])}
    assert {"alternating", "analytic", "backprop", "conjugate_gradient"} <= named.keys()
    assert not {"spsa", "noodl", "jaxopt_unrolled"} & named.keys()
    assert named["truncated(window=16)"].window == 16 and "fixed_point(terms=2)" in named
    (one,) = list_candidates([pudle.Ista()], ["truncated(window=30)"])
    assert one.estimator.window == 30


class Mine(Alternating):
    name = "mine"


def test_a_plugin_that_failed_its_check_takes_no_part(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    mine = Mine()
    assert [each.estimator for each in list_candidates([pudle.Ista()], [mine])] == [mine]
    check_results.remember({check_results.key_of(mine): ["claim[ridge-linear-ista]"]})
    with pytest.raises(InvalidArgument, match="failed `pudle check`: mend what it names"):
        list_candidates([pudle.Ista()], [mine])


def test_without_an_algorithm_the_best_pair_is_advised_and_its_line_of_python_runs():
    """On this loss the gradient at a solution has no error, which layers approach slowly."""
    options = {"seeds": 4, "most_depth": 20, "loss": "reconstruction"}
    names = ["analytic", "backprop", "finite_difference(max_evaluations=9)"]
    advice = pudle.advise(SMALL, error=1e-6, estimators=names, **options)
    chosen, line = advice.chosen, re.search(r"In Python: (.*)", str(advice))[1]
    assert chosen.algorithm == pudle.ActiveSet() and chosen.name == "analytic"
    problem = pudle.make_dataset(SMALL).problem("reconstruction")
    estimate = eval(line, {"pudle": pudle, "problem": problem})
    assert pudle.score(estimate, pudle.reference(problem)).relative_error <= 1e-6
    ((name, reason),) = advice.left_out.items()
    assert name == "finite_difference" and reason.startswith("unsupported: finite_difference needs")


@pytest.mark.parametrize(
    ("dataset", "lead"),
    [
        (SMALL, ["ista", "active_set", "fista"]),
        ("ridge", ["ista", "fista"]),
        ("logistic", ["gradient_descent", "accelerated", "newton_cg"]),
    ],
)
def test_algorithms_that_suit_a_problem_lead_to_its_minimizer(dataset, lead):
    made = pudle.make_dataset(dataset)
    found = [each.name for each in suitable_algorithms(made.problem(made.losses[0]))]
    assert found[0] == lead[0] and {*lead} <= {*found}
    assert not {"noodl", "iteration"} & {*found} - {*lead}


@dataclass(frozen=True)
class BreaksInTraining(pudle.GradientEstimator):
    """Backpropagation, and NaN from the step on that begins so far from the start."""

    distance: float

    name = "breaks_in_training"
    computes = "unrolled"

    def estimate(self, problem, algorithm, depth):
        result = pudle.make_estimator("backprop").estimate(problem, algorithm, depth)
        moved = (problem.dictionary - pudle.make_dataset(SMALL).problem("lasso").dictionary).norm()
        gradient = result.gradient * (math.nan if moved >= self.distance else 1)
        return dataclasses.replace(result, gradient=gradient)


@pytest.mark.parametrize("distance", [0.0, 1e-9, 0.1])
def test_a_short_training_that_diverges_confirms_nothing(distance):
    """The loss of the steps before stood for that of all: the advice then held with half of the
    decrease.
    """
    start = pudle.make_dataset(SMALL).problem("lasso")
    breaks = Choice(BreaksInTraining(distance), pudle.Ista(), 20, 0.1)
    whole = Choice(pudle.make_estimator("backprop"), pudle.Ista(), 20, 0.1)
    empty = Advice(SMALL, Requirement(0.1))
    for chosen, rival, holds, verdict in (
        (breaks, whole, False, "the advice does not hold in this training: prefer the other"),
        (whole, breaks, True, "the advice holds"),
        (breaks, breaks, False, "this training says nothing about the advice"),
    ):
        advice = dataclasses.replace(empty, chosen=chosen, runner_up=rival)
        check = train_shortly(advice, start)
        for training in check.trainings:
            diverged = training.choice is breaks
            assert ("diverged in step" in training.divergence) == diverged
            assert math.isnan(training.decrease) == diverged
        assert check.confirms_advice == holds
        line = str(dataclasses.replace(empty, training=check)).splitlines()[1]
        assert line.endswith(f": {verdict}.")
        assert f"the training with {breaks} diverged" in line
