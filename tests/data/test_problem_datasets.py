"""The datasets of convolutional sparse coding and of penalty selection."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from comparisons import refusal

import pudle

DATASETS = {
    "convolutional": ("convolutional(n_samples=3)", ("lasso", "reconstruction")),
    "convolutional-color": (
        "convolutional(n_samples=2, channels=3, stride=1, kernel=4, size=13, nonnegative=True)",
        ("lasso",),
    ),
    "image_crops": ("image_crops(n_samples=2)", ("lasso", "reconstruction")),
    "penalty_selection": ("penalty_selection(n_samples=5)", ("held_out",)),
    "penalty_selection-weighted": ("penalty_selection(n_samples=5, weighted=True)", ("held_out",)),
}


class TestDatasets:
    @pytest.mark.parametrize("which", DATASETS)
    def test_reference_is_certified(self, which):
        spec, losses = DATASETS[which]
        for loss in losses:
            reference = pudle.reference(pudle.make_dataset(spec).problem(loss))
            assert reference.status == "certified", reference.reason
            assert reference.bound < 1e-8

    @pytest.mark.parametrize("which", DATASETS)
    def test_same_seed_same_bits(self, which):
        spec, losses = DATASETS[which]
        dataset = pudle.make_dataset(spec)
        first, again = (pudle.make_dataset(spec).problem() for _ in range(2))
        other = dataclasses.replace(dataset, seed=1).problem()
        assert dataset.references and dataset == pudle.make_dataset(spec) and hash(dataset) == hash(pudle.make_dataset(spec))
        assert first.loss == losses[0] and set(losses) <= set(dataset.losses)
        assert torch.equal(first.observations, again.observations) and torch.equal(first.theta, again.theta)
        assert not torch.equal(first.observations, other.observations)
        assert dataset.problem(dtype=torch.float32).theta.dtype == torch.float32

    def test_unknown_losses_are_refused(self):
        assert "choose from held_out" in refusal(lambda: pudle.make_dataset("penalty_selection").problem("lasso"))
        for name in ("convolutional", "image_crops"):
            assert "choose from lasso" in refusal(
                lambda name=name: pudle.make_dataset(f"{name}(n_samples=1)").problem("held_out")
            )

    @pytest.mark.parametrize(
        ("spec", "text"),
        [
            ("convolutional(kernel=30)", "kernel=30 is above size=24"),
            ("convolutional(stride=8)", "stride=8 is above kernel=7"),
            ("convolutional(density=2)", "density=2"),
            ("convolutional(n_samples=0)", "n_samples=0"),
            ("image_crops(kernel=40)", "kernel=40 is above size=32"),
            ("image_crops(penalty=0)", "penalty=0"),
            ("image_crops(folder=3)", "folder=3"),
            ("penalty_selection(n_nonzero_coefs=200)", "n_nonzero_coefs=200 is above n_components=100"),
            ("penalty_selection(penalty_fraction=1)", "penalty_fraction=1"),
            ("penalty_selection(correlation=-1)", "correlation=-1"),
            ("penalty_selection(weighted=2)", "weighted=2"),
        ],
    )
    def test_bad_options_are_refused(self, spec, text):
        assert f": {text}" in refusal(lambda: pudle.make_dataset(spec))

    def test_convolutional_model(self):
        """Images are the generating filters times the codes, plus noise; filters have unit norm."""
        problem = pudle.make_dataset("convolutional(n_samples=4, noise=0.001)").problem()
        clean = dataclasses.replace(problem, dictionary=problem.generating_dictionary)
        assert float(clean.residual(problem.generating_codes).std()) == pytest.approx(0.001, rel=0.1)
        assert torch.allclose(problem.dictionary.flatten(1).norm(dim=1), torch.ones(8, dtype=torch.float64))
        for target in ("gstar", "gtilde"):
            assert pudle.reference(problem, target).status == "certified"

    def test_a_penalty_above_the_largest_correlation_leaves_nothing(self):
        """The penalty is a fraction of the smallest penalty at which all codes are zero."""
        problem = pudle.make_dataset("penalty_selection(n_samples=5, penalty_fraction=0.999)").problem()
        codes = pudle.reference(problem).codes
        assert 1 <= int((codes != 0).sum()) <= 3
        above = dataclasses.replace(problem, log_penalty=problem.log_penalty + np.log(1.01))
        assert not pudle.reference(above).codes.any()
