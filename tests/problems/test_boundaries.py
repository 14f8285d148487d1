"""What every problem refuses at its boundary, and how it is shown."""

import dataclasses

import pytest
import torch
from support.oracles.comparisons import refusal
from support.problems.convolutions import PENALTIES, convolutional, supervised, thresholded
from support.problems.small_problems import (
    elastic_net,
    penalty_selection,
    ridge_problem,
    sparse_problem,
)

import pudle
from pudle.conformance.specimens import tensors_of


def fixed_point():
    theta = torch.ones(2, 3)
    return pudle.FixedPoint(theta, lambda z, theta: theta * z, lambda z, theta: z.sum(), theta)


PROBLEMS = [
    sparse_problem,
    elastic_net,
    convolutional,
    lambda: penalty_selection(True),
    ridge_problem,
    fixed_point,
]


def ones(*shape):
    return torch.ones(shape, dtype=torch.float64)


@pytest.mark.parametrize(
    "make, changes, words",
    [
        (convolutional, {"observations": ones(1, 2, 2, 20)}, "smaller than the 3 x 4 filters"),
        (convolutional, {"stride": 4}, "stride=4 leaves pixels that no filter reaches"),
        (convolutional, {"dictionary": ones(3, 1, 3, 4)}, "with c = 2, as in obs"),
        (convolutional, {"generating_codes": ones(1, 1, 2, 3)}, "generating_codes has shape"),
        (
            supervised,
            {"targets": ones(1, 2, 9, 12)},
            "targets has shape (1, 2, 9, 12): give (n, c, H, W) with n = 3, as in observations (n,"
            " c, H, W)",
        ),
        (thresholded, {"penalty": PENALTIES[:2]}, "one for each filter"),
        (thresholded, {"penalty": -PENALTIES}, "the smallest -0.2"),
        (penalty_selection, {"held_out_design": ones(15, 11)}, "(m2, p) with p = 12, as in design"),
        (penalty_selection, {"observations": ones(2, 20)}, "held_out_observations has shape (6,"),
        (penalty_selection, {"log_penalty": ones(5)}, "give (p,) with p = 12, as in design (m, p)"),
        (penalty_selection, {"log_penalty": 800 * ones()}, "zero or infinite"),
        (ridge_problem, {"weights": ones(4)}, "(4,): give (p,) with p = 8, as in dictionary"),
        (ridge_problem, {"strength": -1.0}, "strength=-1.0 is out of range: give a number >= 0"),
        (
            ridge_problem,
            {"strength": 0.0, "dictionary": ones(12, 8)},
            "leaves the inner problem flat: give a larger strength",
        ),
        (ridge_problem, {"theta": ones(1)}, "theta has shape (1,): give a tensor of shape ()"),
        (fixed_point, {"initial": ones(2, 3)}, "initial and theta differ in dtype"),
        (fixed_point, {"step": 3}, "step is a int: give a function"),
    ],
)
def test_a_field_that_does_not_fit_is_refused(make, changes, words):
    assert words in refusal(lambda: dataclasses.replace(make(), **changes))


@pytest.mark.parametrize("make", PROBLEMS)
def test_complex_tensors_are_refused_and_not_cut(make):
    """In every field, in place of theta, and as codes to start from."""
    problem = make()
    tensors = tensors_of(problem)
    assert len(tensors) >= 2
    for name, tensor in tensors.items():
        for value in (tensor.to(torch.complex128), tensor.to(torch.complex128).numpy()):
            text = refusal(
                lambda name=name, value=value: dataclasses.replace(problem, **{name: value})
            )
            assert name in text and "complex128" in text
    assert "complex" in refusal(lambda: problem.with_theta(problem.theta + 1j))
    algorithm = pudle.make_algorithm(problem.default_algorithm)
    assert "complex" in refusal(
        lambda: algorithm.run(problem, 1, initial=problem.initial_codes() + 1j)
    )
