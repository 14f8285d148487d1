"""The dataset of noisy crops."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from learning_helpers import refusal
from tolerances import CLOSED_FORM

import pudle


class TestDataset:
    def test_noise_and_targets(self):
        dataset = pudle.make_dataset("noisy_crops(n_samples=30, size=40, sigma=20)")
        problem = dataset.problem("reconstruction")
        noise = problem.observations - problem.targets
        # Of 48000 draws: the sample deviation scatters by 0.3 percent.
        assert float(noise.std()) * 255 == pytest.approx(20, rel=0.02)
        assert torch.allclose(
            problem.observations.mean((2, 3)), torch.zeros(30, 1).double(), atol=1e-12
        )
        again = dataclasses.replace(dataset, sigma=10.0).problem()
        ratio = (again.observations - again.targets) / noise
        assert torch.allclose(ratio, torch.full_like(ratio, 0.5), rtol=1e-6)
        unsupervised = dataclasses.replace(dataset, supervised=False).problem()
        assert unsupervised.targets is None and torch.equal(
            unsupervised.observations, problem.observations
        )
        assert torch.equal(torch.as_tensor(dataset.draw().observations), problem.observations)

    def test_the_loss_compares_with_the_clean_crops(self):
        problem = pudle.make_dataset("noisy_crops(n_samples=2, size=20)").problem("reconstruction")
        codes = torch.zeros(problem.code_shape, dtype=torch.float64)
        assert float(problem.outer_loss(codes)) == pytest.approx(
            float(0.5 * problem.targets.square().sum() / 2)
        )

    def test_first_filters(self):
        filters = pudle.make_dataset("noisy_crops").filters()[:, 0].reshape(64, 81)
        expected = np.kron(np.eye(32), [[1, -1], [-1, 1]])
        assert np.abs(filters @ filters.T - expected).max() < CLOSED_FORM
        assert np.allclose(filters[0], 1 / 9)
        both = (
            pudle.make_dataset("noisy_crops(nonnegative=False, n_components=81)")
            .filters()[:, 0]
            .reshape(81, 81)
        )
        assert np.abs(both @ both.T - np.eye(81)).max() < CLOSED_FORM
        random = (
            pudle.make_dataset("noisy_crops(start='random', n_components=7)")
            .filters()[:, 0]
            .reshape(7, 81)
        )
        assert np.allclose(np.linalg.norm(random, axis=1), 1) and np.allclose(
            random[:2], [[1 / 9] * 81, [-1 / 9] * 81]
        )
        assert np.abs(random[2:].sum(1)).max() < CLOSED_FORM

    @pytest.mark.parametrize(
        ("spec", "text"),
        [
            ("stride=10", "stride=10 is above kernel=9"),
            ("n_components=163", "n_components=163 is above the 162 cosines"),
            ("supervised=1", "supervised=1"),
            ("start='patches'", "start='patches' is unknown"),
        ],
    )
    def test_bad_options_are_refused(self, spec, text):
        assert text in refusal(lambda: pudle.make_dataset(f"noisy_crops({spec})"))
