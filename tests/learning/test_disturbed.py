"""Trainings whose gradient has an error of a chosen size and direction."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.oracles.comparisons import refusal
from support.problems.learning import planted

import pudle
from pudle.learning.disturbed import DIRECTIONS, Disturbed, DisturbedExperiment
from pudle.learning.studies import accuracy

SIZE = 0.3
EXPERIMENT = DisturbedExperiment(
    "sparse_gaussian(n_samples=100, n_features=12, n_components=18, n_nonzero_coefs=2,"
    " perturbation=0.1)",
    "lasso",
    "analytic",
    "active_set",
    100,
    "sgd(learning_rate=1)",
    epochs=12,
    gradient_error=3,
    error=SIZE,
)


def errors(direction, seeds=(0, 0)):
    """Return the errors of a disturbed gradient with each seed relative to the norm of the true
    gradient, and the way from the dictionary to the generating one.
    """
    problem, exact = planted("lasso"), pudle.make_estimator("analytic")
    goals = {"noise": None, "fixed": torch.ones_like(problem.dictionary)}
    goal = goals.get(direction, problem.generating_dictionary)
    run = problem, pudle.make_algorithm("active_set"), 100
    true = exact.estimate(*run).gradient.numpy()
    disturbed = (Disturbed(exact, SIZE, direction, goal, seed).estimate(*run) for seed in seeds)
    way = (problem.generating_dictionary - problem.dictionary).numpy()
    return [(each.gradient.numpy() - true) / np.linalg.norm(true) for each in disturbed], way


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_error_has_the_size_that_was_asked_for(direction):
    (first, again), _ = errors(direction)
    assert np.linalg.norm(first) == pytest.approx(SIZE, rel=1e-12)
    assert (first == again).all()


def test_a_step_goes_away_from_the_generating_dictionary_or_toward_it():
    for direction, sign in (("away", -1), ("toward", 1)):
        (error, _), way = errors(direction)
        # A step subtracts the gradient.
        assert -error == pytest.approx(sign * SIZE * way / np.linalg.norm(way), rel=1e-9)


def test_only_noise_depends_on_the_seed_of_the_step():
    (first, other), _ = errors("noise", seeds=(0, 1))
    # Directions drawn apart from each other in 600 dimensions.
    assert abs((first * other).sum()) < 0.2 * SIZE**2
    (fixed, other), _ = errors("fixed", seeds=(0, 1))
    assert (fixed == other).all() and fixed == pytest.approx(SIZE / np.sqrt(600), rel=1e-9)


def trained(folder, **changes):
    return replace(EXPERIMENT, **changes).run(folder)


def test_a_training_is_disturbed_in_every_step_as_much_and_ends_where_the_error_points(tmp_path):
    ends = {}
    for direction, called in DIRECTIONS.items():
        result = trained(tmp_path / direction, direction=direction)
        assert result.status == "ok"
        measured = [row["gradient_error"] for row in result.rows if row["gradient_gap"] == 0]
        assert measured == pytest.approx([SIZE] * 4, rel=1e-9)
        assert result.summary["method"] == f"analytic, error 0.3 {called}"
        ends[direction] = result.summary["dictionary_error"]
    assert ends["toward"] < 0.9 * ends["noise"] < 0.9 * ends["away"]


def test_the_same_training_repeats_bit_for_bit_and_another_seed_draws_another_direction(tmp_path):
    first, again, other = (
        trained(tmp_path / name, direction="fixed", epochs=3, seed=seed).arrays["dictionary"]
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert (first == again).all() and (first != other).any()


def test_a_checkpoint_of_another_direction_is_not_continued(tmp_path):
    trained(tmp_path, direction="away", epochs=2)
    said = refusal(lambda: trained(tmp_path, direction="toward", epochs=4), pudle.PudleError)
    assert "estimator" in said


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"direction": "sideways"}, "noise"),
        ({"error": 0.0}, "error"),
        ({"error": float("nan")}, "error"),
        ({"direction": "away", "dataset": "digits"}, "needs the generating dictionary"),
    ],
)
def test_what_cannot_be_disturbed_so_is_refused(changes, says, tmp_path):
    assert says in refusal(lambda: trained(tmp_path, **changes))


def test_the_study_has_three_seeds_of_everything_and_an_exact_gradient_beside_it():
    names = set(accuracy.EXPERIMENTS)
    assert {name[-1] for name in names} == set("012")
    for name in names:
        assert {f"{name[:-1]}{seed}" for seed in range(3)} <= names
        head, *_ = name.split("-backprop")
        if name.startswith("transfer-"):
            assert f"{head}-exact-T1000-s0" in names or "-exact-" in name
