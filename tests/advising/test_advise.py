"""`pudle.advise`: what it chooses against closed forms, and what it says where nothing can be
chosen.
"""

import dataclasses
import functools
import math
import re
from dataclasses import dataclass

import numpy as np
import oracles
import pytest

import pudle
from pudle.advising.advise import Choice, check_scorable, compared
from pudle.advising.search import Candidate, Draws, Search, candidates
from pudle.answers import Requirement
from pudle.datasets.ridge import RidgeRegression
from pudle.errors import InvalidArgument

KAPPA = 8
STEP = 2 * KAPPA / (KAPPA + 1)
RIDGE, ISTA = f"ridge(kappa={KAPPA}.0)", f"ista(step={STEP!r})"
SMALL = "sparse_gaussian(n_samples=20, n_features=10, n_components=15, n_nonzero_coefs=2)"


def candidate(spec):
    return Candidate(pudle.make_estimator(spec), pudle.Ista())


#: The relative error of backpropagation on `RIDGE` by depth: L is 1.
unrolled_error = functools.partial(oracles.burn_in, STEP)


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
    assert chosen.kept == chosen.seeds == 4
    # The first test has half of the risk.
    assert chosen.share == pytest.approx(0.025 ** (1 / 4))
    assert "4 seeds decide little" in str(advice)


def test_a_window_that_nobody_asked_for_is_found():
    """On the reconstruction loss a short window has a floor and a long one costs time: one between
    is chosen.
    """
    dataset = "sparse_gaussian(n_samples=100, n_features=20, n_components=30, n_nonzero_coefs=3)"
    options = {"loss": "reconstruction", "estimators": ["truncated"]}
    advice = pudle.advise(dataset, "ista", error=0.05, **options)
    chosen, draws = advice.chosen, Draws(dataset, loss="reconstruction")
    pair = Candidate(chosen.estimator, chosen.algorithm)
    fresh = draws.errors(pair, range(100, 160), [chosen.depth])
    assert 2 < chosen.estimator.window < chosen.depth
    assert chosen.share > 0.7 and (fresh <= 0.05).mean(axis=None) >= 0.9


def test_within_a_time_the_most_accurate_is_chosen():
    both = ["backprop", "alternating"]
    advice = pudle.advise(RIDGE, ISTA, seconds=60.0, estimators=both, seeds=3, most_depth=50)
    assert advice.chosen.name == "backprop" and advice.chosen.depth == 50
    assert unrolled_error(50) <= advice.chosen.error <= 1.1 * unrolled_error(50)


def test_within_a_memory_the_deepest_that_fits_is_chosen(monkeypatch):
    monkeypatch.setattr(Search, "memory_of", lambda self, candidate, depth: 1e6 * depth)
    options = {"estimators": ["backprop"], "seeds": 3}
    advice = pudle.advise(RIDGE, ISTA, memory=30e6, **options)
    assert advice.chosen.depth == 20
    assert advice.chosen.median == pytest.approx(unrolled_error(20), rel=1e-6)
    advice = pudle.advise(RIDGE, ISTA, error=1e-3, memory=3e6, **options)
    assert advice.chosen is None and advice.closest.memory > 3e6
    assert "Nothing meets the requirement (error 1e-3, within 2.86 MiB)" in str(advice)


@dataclass(frozen=True)
class Worse(RidgeRegression):
    """Ridge regression that is far worse conditioned on the new seeds."""

    name = "worse"

    def problem(self, loss="linear", **options):
        kappa = 10.0 if self.seed < 12 else 300.0
        drawn = RidgeRegression(observations="random", kappa=kappa, seed=self.seed)
        return drawn.problem(loss, **options)


def test_a_promise_that_new_seeds_break_is_not_made():
    options = {"estimators": ["backprop"], "seeds": 5, "most_depth": 200}
    advice = pudle.advise(Worse(), "ista", error=1e-4, **options)
    assert advice.chosen is None and advice.undecided.kept < advice.undecided.seeds
    assert str(advice).startswith("The data do not decide: backprop with ista at ")


@dataclass(frozen=True)
class Fixed(RidgeRegression):
    """Ridge regression whose seed does nothing."""

    name = "fixed"

    def problem(self, loss="linear", **options):
        return RidgeRegression(observations="random", kappa=5.0, seed=0).problem(loss, **options)


@pytest.mark.parametrize("problem", [Fixed(), Fixed().problem()], ids=["dataset", "problem"])
def test_one_problem_promises_nothing_about_others(problem):
    advice = pudle.advise(problem, "ista", error=0.01, estimators=["backprop", "alternating"])
    assert math.isnan(advice.chosen.share) and advice.chosen.seeds == 1
    assert advice.chosen.median <= 0.01
    assert "This holds for this one problem" in str(advice) and "confidence" not in str(advice)


@dataclass(frozen=True)
class Gaps(RidgeRegression):
    """Ridge regression whose gradient is zero on the first seeds: nothing is scored there."""

    name = "gaps"
    empty: int = 3

    def problem(self, loss="linear", **options):
        drawn = RidgeRegression(observations="random", kappa=5.0, seed=self.seed).problem()
        return dataclasses.replace(
            drawn, observations=drawn.observations * (self.seed >= self.empty)
        )


def test_seeds_without_a_reference_are_left_aside_and_counted():
    options = {"error": 0.01, "estimators": ["backprop"], "seeds": 3, "most_depth": 50}
    advice = pudle.advise(Gaps(), "ista", **options)
    assert advice.chosen.kept == 3 and advice.unscorable == 3
    assert "3 seeds have no reference" in str(advice)
    with pytest.raises(InvalidArgument, match="of 12 seeds none has a reference"):
        pudle.advise(Gaps(empty=99), "ista", **options)


def test_one_layer_is_enough_where_one_solves_it_and_a_bound_is_no_error():
    """Along one curvature a step of 1/L ends at the minimizer."""
    advice = pudle.advise("ridge", "ista", error=0.01, estimators=["analytic"], seeds=3)
    assert advice.chosen.depth == 1
    assert "(median at the certified bound, " in str(advice)


def test_of_equal_times_the_simplest_estimator_is_chosen(monkeypatch):
    monkeypatch.setattr(Search, "in_turns", lambda self, calls, *_: np.ones((7, len(calls))))
    specs = ["fixed_point(terms=10)", "alternating"]
    advice = pudle.advise(SMALL, "ista", error=0.1, estimators=specs, seeds=3)
    assert advice.chosen.name == "alternating"


@pytest.mark.parametrize(
    ("requirement", "slower", "chosen"),
    [
        (Requirement(0.1), 1.5, "backprop"),
        (Requirement(0.1), 1.0, "analytic"),  # neither is faster
        (Requirement(None, seconds=9.0), 1.5, "analytic"),  # the more accurate one
    ],
)
def test_of_two_that_keep_the_error_the_final_times_choose(
    monkeypatch, requirement, slower, chosen
):
    """The first of the search is slower by the final times."""
    search = Search(Draws(RIDGE, "ista"), requirement, 50)
    taken = np.tile([slower, 1.0, 1.0], (7, 1))
    monkeypatch.setattr(search, "in_turns", lambda calls, *_: taken[:, : len(calls)])
    pair = [
        Choice(pudle.make_estimator(name), pudle.Ista(), 20, 0.1, kept=4, seeds=4, share=0.5)
        for name in ("analytic", "backprop")
    ]
    fields = compared(search, pair)
    assert fields["chosen"].name == chosen != fields["runner_up"].name
    assert fields["base_ratio"].value == pytest.approx(fields["chosen"].seconds)
    assert (fields["next_ratio"].value == 1.0) == (slower == 1.0)


def test_certified_and_limit_references_are_not_ranked_together():
    search = Search(Draws(SMALL, "ista"), Requirement(0.1), 10)
    problem, truth = search.draws.drawn[1]
    search.draws.drawn[1] = problem, dataclasses.replace(truth, status="limit")
    with pytest.raises(InvalidArgument, match="certified, limit. are not ranked together"):
        check_scorable(search)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"error": -1.0}, "error=-1.0 is out of range"),
        ({"error": 1e-18}, "below the references' bound"),
        ({"estimators": ["spsa"]}, "spsa' is stochastic"),
    ],
)
def test_wrong_requirements_are_refused(options, text):
    with pytest.raises(InvalidArgument, match=text):
        pudle.advise(SMALL, **options)


def test_candidates_are_deterministic_and_families_are_searched():
    names = {each.name: each for each in candidates([pudle.Ista()])}
    assert {"alternating", "analytic", "backprop", "conjugate_gradient"} <= names.keys()
    assert not {"spsa", "noodl", "jaxopt_unrolled"} & names.keys()
    assert names["truncated(window=16)"].window == 16 and names["fixed_point(terms=2)"].window == 0
    (one,) = candidates([pudle.Ista()], ["truncated(window=30)"])
    assert one.estimator.window == 30


def test_times_are_measured_in_turns():
    search = Search(Draws("sparse_gaussian(n_samples=100)", "ista"), Requirement(0.1), 10)
    seconds = search.in_turns([(candidate("backprop"), depth) for depth in (2, 200)], 3)
    assert seconds.shape == (3, 2) and (seconds[:, 0] < seconds[:, 1]).all()


def test_the_memory_of_recorded_layers_grows_with_the_depth(monkeypatch):
    monkeypatch.setenv("PUDLE_KERNELS", "torch")
    search = Search(Draws("sparse_gaussian(n_samples=500)", "ista"), Requirement(0.1), 10)
    shallow, deep = (search.memory_of(candidate("backprop"), depth) for depth in (5, 55))
    # Each layer keeps at least its output: 500 x 100 numbers of 8 bytes.
    assert deep - shallow > 0.9 * 50 * 500 * 100 * 8


def test_without_an_algorithm_the_best_pair_is_advised_and_its_line_of_python_runs():
    """On this loss the gradient at a solution has no error, which layers approach slowly."""
    options = {"seeds": 4, "most_depth": 50, "estimators": ["analytic", "backprop"]}
    advice = pudle.advise(SMALL, error=1e-6, loss="reconstruction", **options)
    chosen, line = advice.chosen, re.search(r"In Python: (.*)", str(advice))[1]
    assert chosen.algorithm == pudle.ActiveSet() and chosen.name == "analytic"
    problem = pudle.make_dataset(SMALL).problem("reconstruction")
    estimate = eval(line, {"pudle": pudle, "problem": problem})
    assert pudle.score(estimate, pudle.reference(problem)).relative_error <= 1e-6


def test_algorithms_that_suit_a_problem_lead_to_its_minimizer():
    def suitable(dataset, loss=None):
        return [each.name for each in Draws(dataset, loss=loss).algorithms]

    assert suitable(SMALL)[0] == "ista" and {"active_set", "fista"} < {*suitable(SMALL)}
    assert not {"noodl", "iteration"} & {*suitable(SMALL)}
    assert suitable("ridge") == ["ista", "fista"]
    assert suitable("logistic") == ["iteration"]


def test_errors_of_what_cannot_be_estimated_are_none_with_the_reason():
    draws = Draws("sparse_gaussian(n_samples=20)", "ista")
    assert draws.errors(candidate("finite_difference"), [0], [5]).isna().all(axis=None)
    assert "unsupported at depth 5" in draws.failures[candidate("finite_difference")]
