"""`pudle.advise`: what it chooses against closed forms, and what it says where nothing can be
chosen.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import pytest

import pudle
from pudle.advising import timing
from pudle.advising.advise import _check_scorable
from pudle.advising.candidates import candidates
from pudle.advising.promises import Promises, rounded_up
from pudle.advising.race import Race
from pudle.advising.records import Contender, Promise, Wish
from pudle.advising.trials import Trials
from pudle.datasets.ridge import RidgeRegression
from pudle.errors import InvalidArgument

KAPPA = 8
STEP = 2 * KAPPA / (KAPPA + 1)
RIDGE = f"ridge(kappa={KAPPA}.0)"
SMALL = "sparse_gaussian(n_samples=20, n_features=10, n_components=15, n_nonzero_coefs=2)"


def unrolled_error(depth: int) -> float:
    """The relative error of backpropagation on `RIDGE` at `STEP`, with L = 1 (Scieur et al. 2022,
    see MATH in docs).
    """
    return abs(1 - STEP) ** (depth - 1) * abs(1 + (depth - 1) * STEP)


@pytest.mark.parametrize("error", [0.1, 1e-3])
def test_the_depth_is_that_of_the_closed_form(error):
    advice = pudle.advise(
        RIDGE, f"ista(step={STEP!r})", error=error, estimators=["backprop"], seeds=4
    )
    least = next(
        depth
        for depth in range(2, 1000)
        if unrolled_error(depth) <= error and unrolled_error(depth + 1) <= error
    )
    contender = advice.chosen.contender
    assert contender.name == "backprop" and advice.runner_up is None
    assert least <= contender.depth <= 1.25 * least
    assert advice.chosen.median == pytest.approx(unrolled_error(contender.depth), rel=1e-6)
    assert advice.chosen.kept == advice.chosen.seeds == 4
    assert advice.chosen.share == pytest.approx(0.025 ** (1 / 4)), (
        "the first test has half of the risk"
    )
    assert "4 seeds decide little" in str(advice)


def test_a_window_that_nobody_asked_for_is_found():
    """On the reconstruction loss a short window has a floor and a long one costs time: one between
    is chosen.
    """
    dataset = "sparse_gaussian(n_samples=100, n_features=20, n_components=30, n_nonzero_coefs=3)"
    advice = pudle.advise(dataset, error=0.05, loss="reconstruction", estimators=["truncated"])
    window = pudle.make_estimator(advice.chosen.contender.name).window
    trials = Trials.of(dataset, "ista", "reconstruction")
    fresh = trials.errors(
        f"truncated(window={window})", range(100, 110), [advice.chosen.contender.depth]
    )
    assert 2 < window < advice.chosen.contender.depth and (fresh <= 0.05).sum() >= 9
    assert "seeds that had no part" not in str(advice) and "had no part in the choice" in str(
        advice
    )


def test_nothing_within_the_error_is_said_with_what_comes_nearest():
    advice = pudle.advise(
        SMALL,
        error=1e-3,
        loss="reconstruction",
        estimators=["alternating"],
        seeds=2,
        most_depth=200,
    )
    text = str(advice)
    assert advice.chosen is None and advice.nearest.name == "alternating"
    assert (
        text.startswith("Nothing meets the wish (error at most 0.1 %)")
        and "Nearest: alternating at " in text
    )
    assert "nothing meets the wish" in repr(advice)


def test_within_a_time_the_most_accurate_is_chosen():
    advice = pudle.advise(
        RIDGE,
        f"ista(step={STEP!r})",
        seconds=60.0,
        estimators=["backprop", "alternating"],
        seeds=3,
        most_depth=50,
    )
    assert advice.chosen.contender.name == "backprop" and advice.chosen.contender.depth == 50
    assert unrolled_error(50) <= advice.chosen.error <= 1.1 * unrolled_error(50)


def test_no_time_is_too_little():
    advice = pudle.advise(SMALL, seconds=1e-9, estimators=["backprop", "alternating"], seeds=2)
    assert advice.chosen is None and advice.nearest.seconds > 1e-9 and "Nearest" in str(advice)


def test_within_a_memory_the_deepest_that_fits_is_chosen(monkeypatch):
    monkeypatch.setattr(timing, "memory", lambda estimator, problem, algorithm, depth: 1e6 * depth)
    advice = pudle.advise(
        RIDGE, f"ista(step={STEP!r})", memory=30e6, estimators=["backprop"], seeds=3
    )
    assert advice.chosen.contender.depth == 20 and advice.chosen.median == pytest.approx(
        unrolled_error(20), rel=1e-6
    )
    with_error = pudle.advise(
        RIDGE, f"ista(step={STEP!r})", error=1e-3, memory=3e6, estimators=["backprop"], seeds=3
    )
    assert with_error.chosen is None and with_error.nearest.memory > 3e6
    assert "Nothing meets the wish (error at most 0.1 %, at most 2.86 MiB)" in str(with_error)


@dataclass(frozen=True)
class Worse(RidgeRegression):
    """Ridge regression that is far worse conditioned from the seed on at which the new seeds begin."""

    name = "worse"

    def problem(self, loss="linear", **options):
        kappa = 10.0 if self.seed < 12 else 300.0
        return RidgeRegression(observations="random", kappa=kappa, seed=self.seed).problem(
            loss, **options
        )


def test_a_promise_that_new_seeds_break_is_not_made():
    advice = pudle.advise(
        Worse(), "ista", error=1e-4, estimators=["backprop"], seeds=5, most_depth=200
    )
    assert advice.chosen is None and advice.undecided.kept < advice.undecided.seeds
    assert str(advice).startswith(
        "The data do not decide: backprop at "
    ) and "of 5 new seeds" in str(advice)


def test_one_problem_promises_nothing_about_others():
    problem = pudle.make_dataset(SMALL).problem()
    advice = pudle.advise(problem, error=0.05, estimators=["backprop", "alternating"])
    assert math.isnan(advice.chosen.share) and advice.chosen.median <= 0.05
    assert "This holds for this one problem" in str(advice)


@dataclass(frozen=True)
class Fixed(RidgeRegression):
    """Ridge regression whose seed does nothing."""

    name = "fixed"

    def problem(self, loss="linear", **options):
        return RidgeRegression(observations="random", kappa=5.0, seed=0).problem(loss, **options)


def test_seeds_that_all_draw_the_same_problem_count_as_one():
    advice = pudle.advise(Fixed(), "ista", error=0.01, estimators=["backprop", "alternating"])
    assert math.isnan(advice.chosen.share) and advice.chosen.seeds == 1
    assert "This holds for this one problem" in str(advice) and "confidence" not in str(advice)
    assert advice.problem == "fixed, ista, linear loss, the same problem for every seed"


@pytest.mark.parametrize(
    ("wish", "slower", "chosen"),
    [
        (Wish(error=0.1), 1.5, "backprop"),
        (Wish(error=0.1), 1.0, "analytic"),  # neither is faster
        (Wish(seconds=9.0), 1.5, "analytic"),  # the more accurate one
    ],
)
def test_of_two_that_keep_the_error_the_final_times_choose(monkeypatch, wish, slower, chosen):
    """The first of the race is slower by the final times."""
    monkeypatch.setattr(timing, "times", lambda calls, *others: np.tile([slower, 1.0, 1.0], (7, 1)))
    first, second = (
        Promise(Contender(name, 20), 0.1, 4, 4, 0.5, 0.05) for name in ("analytic", "backprop")
    )
    fields = Promises(Race(Trials.of(RIDGE, "ista"), wish, 50), 4).compared([first, second])
    assert (
        fields["chosen"].contender.name == chosen and fields["runner_up"].contender.name != chosen
    )
    assert fields["relative_time"] == fields["chosen"].contender.seconds and fields["tied"] is (
        slower == 1.0
    )


def test_certified_and_limit_references_are_not_ranked_together():
    trials = Trials.of(SMALL, "ista")
    race = Race(trials, Wish(error=0.1), 10)
    problem, truth = trials._drawn[1]
    trials._drawn[1] = problem, dataclasses.replace(truth, status="limit")
    with pytest.raises(
        InvalidArgument, match="different kinds .certified, limit. are not ranked together"
    ):
        _check_scorable(trials, race)


def test_a_rule_without_a_minimizer_is_judged_by_its_limit():
    trials = Trials.of(SMALL, "ista(thresholding='hard(threshold=0.1)')")
    assert trials.reference(0).status == "limit"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"error": -1.0}, "error=-1.0 is out of range"),
        ({"error": 1e-18}, "below the references' bound"),
        ({"seconds": 0.0}, "seconds=0.0 is out of range"),
        ({"seeds": 1}, "seeds=1 is too small"),
        ({"loss": "lasoo"}, "loss='lasoo' is unknown"),
        ({"estimators": ["spsa"]}, "spsa' is stochastic"),
        ({"estimators": ["truncted"]}, "unknown estimator 'truncted'"),
    ],
)
def test_wrong_wishes_are_refused(options, text):
    with pytest.raises(InvalidArgument, match=text):
        pudle.advise(SMALL, **options)


def test_candidates_are_deterministic_and_families_are_searched():
    single, families = candidates()
    assert {"alternating", "analytic", "backprop", "conjugate_gradient"} <= set(single)
    assert not {"spsa", "noodl", "jaxopt_unrolled"} & set(single)
    assert {("truncated", "window"), ("fixed_point", "terms")} <= {
        (each.name, each.option) for each in families
    }
    assert candidates(["truncated(window=30)"]) == (["truncated(window=30)"], [])


def test_times_are_measured_in_turns():
    problem, algorithm = (
        pudle.make_dataset("sparse_gaussian(n_samples=100)").problem(),
        pudle.make_algorithm("ista"),
    )
    seconds = timing.times([("backprop", 2), ("backprop", 200)], problem, algorithm, 3)
    assert seconds.shape == (3, 2) and (seconds[:, 0] < seconds[:, 1]).all()


def test_the_memory_of_recorded_layers_grows_with_the_depth(monkeypatch):
    monkeypatch.setenv("PUDLE_KERNELS", "torch")
    problem, algorithm = (
        pudle.make_dataset("sparse_gaussian(n_samples=500)").problem(),
        pudle.make_algorithm("ista"),
    )
    shallow, deep = (timing.memory("backprop", problem, algorithm, depth) for depth in (5, 55))
    # Each layer keeps at least its output: 500 x 100 numbers of 8 bytes.
    assert deep - shallow > 0.9 * 50 * 500 * 100 * 8


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0201, 0.021), (0.02, 0.02), (3.14e-7, 3.2e-7), (99.5, 100.0)]
)
def test_promises_are_rounded_up(value, expected):
    assert rounded_up(value) == pytest.approx(expected, rel=1e-12)


def test_errors_of_what_cannot_be_estimated_are_infinite_with_the_reason():
    trials = Trials.of("sparse_gaussian(n_samples=20)", "ista")
    assert np.isinf(trials.errors("finite_difference", [0], [5])).all()
    assert "unsupported at depth 5" in trials.failures["finite_difference"]
