"""What every problem refuses at its boundary, and how it is shown."""

import dataclasses

import pytest
import torch
from comparisons import refusal
from convolutions import convolutional
from examples import elastic_net, penalty_selection, ridge_problem, sparse_problem

import pudle
from pudle.conformance.specimens import tensors_of

PROBLEMS = [
    sparse_problem,
    elastic_net,
    convolutional,
    lambda: penalty_selection(True),
    ridge_problem,
    lambda: pudle.FixedPoint(
        torch.ones(2, 3), lambda z, theta: theta * z, lambda z, theta: z.sum(), torch.ones(2, 3)
    ),
]


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
