"""Gaussian smoothing: its mean, its standard error and its random stream."""

from __future__ import annotations

import pytest
import torch
from estimator_specs import estimate
from examples import sparse_problem
from tolerances import SAME_ARITHMETIC

import pudle
from pudle import streams


@pytest.mark.parametrize("scale", [1e-4, 1e-3, 1e-2])
def test_mean_along_the_gradient_is_right(scale):
    """2000 samples in 20 batches, whose spread gives the standard error; several scales show a missing 1/scale."""
    problem, depth = sparse_problem("reconstruction"), 5
    expected = estimate("backprop", problem, pudle.Ista(), depth).gradient
    specs = [f"spsa(samples=100, scale={scale}, seed={seed})" for seed in range(20)]
    unit = expected / expected.norm()
    batches = torch.stack([(estimate(spec, problem, pudle.Ista(), depth).gradient * unit).sum() for spec in specs])
    standard_error = batches.std() / len(batches) ** 0.5
    assert standard_error < 0.06 * expected.norm(), "the check has power"
    assert abs(batches.mean() - expected.norm()) < 4 * standard_error


def test_standard_error_is_right(problem):
    spsa = estimate("spsa(samples=200)", problem, pudle.Ista(), 10)
    error = (spsa.gradient - estimate("backprop", problem, pudle.Ista(), 10).gradient).norm()
    assert 0.7 < float(error) / spsa.diagnostics["standard_error"] < 1.4
    assert "standard_error" not in estimate("spsa(samples=1)", problem, pudle.Ista(), 2).diagnostics


def test_draws_come_from_its_own_stream(problem):
    gradient = estimate("spsa(samples=1, seed=4)", problem, pudle.Ista(), 10).gradient
    draw = torch.as_tensor(streams.generator(4, "estimator spsa").standard_normal(tuple(gradient.shape)))
    cosine = float(torch.cosine_similarity(gradient.reshape(-1), draw.reshape(-1), dim=0))
    assert abs(cosine) == pytest.approx(1, abs=SAME_ARITHMETIC)
