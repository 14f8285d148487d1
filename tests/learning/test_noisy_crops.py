"""The dataset of noisy crops."""

import dataclasses

import numpy as np
import pytest
import torch
from tolerances import CLOSED_FORM

import pudle


def test_noise_and_targets():
    dataset = pudle.make_dataset("noisy_crops(n_samples=30, size=40, sigma=20)")
    problem = dataset.problem("reconstruction")
    noise = problem.observations - problem.targets
    # Of 48000 draws: the sample deviation scatters by 0.3 percent.
    assert float(noise.std()) * 255 == pytest.approx(20, rel=0.02)
    assert float(problem.observations.mean((2, 3)).abs().max()) < 1e-12
    again = dataclasses.replace(dataset, sigma=10.0).problem()
    torch.testing.assert_close(again.observations - again.targets, noise / 2, rtol=1e-6, atol=1e-9)
    unsupervised = dataclasses.replace(dataset, supervised=False).problem()
    assert unsupervised.targets is None
    assert torch.equal(unsupervised.observations, problem.observations)
    # The loss compares with the clean crops.
    codes = torch.zeros(problem.code_shape, dtype=torch.float64)
    expected = 0.5 * float(problem.targets.square().sum()) / 30
    assert float(problem.outer_loss(codes)) == pytest.approx(expected)


def test_first_filters():
    def filters(options):
        drawn = pudle.make_dataset(f"noisy_crops({options})").filters()
        return drawn.reshape(len(drawn), 81)

    cosines = filters("")
    expected = np.kron(np.eye(32), [[1, -1], [-1, 1]])
    assert np.abs(cosines @ cosines.T - expected).max() < CLOSED_FORM
    assert np.allclose(cosines[0], 1 / 9)
    both = filters("nonnegative=False, n_components=81")
    assert np.abs(both @ both.T - np.eye(81)).max() < CLOSED_FORM
