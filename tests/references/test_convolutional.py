"""References of convolutional sparse coding, against those of the dense problem and differences of
the exact loss.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import oracles
import pytest
import tolerances
import torch
from comparisons import relative
from convolutions import chain, convolutional, dense, dense_twin

import pudle
from pudle.references.convolutional import ConvolutionalModel

VARIANTS = {
    "plain": {},
    "nonnegative": {"nonnegative": True},
    "elastic": {"l2_penalty": 0.1},
    "nonnegative-elastic": {"nonnegative": True, "l2_penalty": 0.1},
}


class TestConvolutionalReference:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_equals_the_dense_one(self, loss, variant):
        problem = convolutional(loss, **VARIANTS[variant])
        twin, entries = dense_twin(problem)
        mine, other = pudle.reference(problem), pudle.reference(twin)
        assert mine.status == other.status == "certified", mine.reason
        truth = chain(other.gradient, entries, problem.dictionary.shape)
        assert relative(mine.gradient, truth) < tolerances.SAME_ARITHMETIC
        assert mine.bound < tolerances.USEFUL_BOUND
        assert mine.codes.shape == problem.code_shape
        assert relative(mine.codes.flatten(1), other.codes) < tolerances.SAME_ARITHMETIC
        for name in (
            "smallest_eigenvalue",
            "condition_number",
            "dual_margin",
            "smallest_amplitude",
        ):
            expected = getattr(other.certificate, name)
            assert getattr(mine.certificate, name) == pytest.approx(expected, rel=1e-9), name
        assert mine.certificate.zero_codes == other.certificate.zero_codes

    def test_codes_meet_the_conditions_in_extended_precision(self):
        problem = convolutional()
        twin, _ = dense_twin(problem)
        codes = pudle.reference(problem).codes.flatten(1).numpy()
        x, d = twin.observations.numpy(), twin.dictionary.numpy()
        assert oracles.kkt_violation(x, d, problem.penalty, codes).max() < tolerances.KKT

    def test_central_differences(self, loss):
        """Compare with differences of the loss at the exact minimizer, in extended precision."""
        problem = convolutional(loss)
        twin, entries = dense_twin(problem)
        reference = pudle.reference(problem)
        signs = reference.codes.flatten(1).sign().numpy().astype(float)
        filters, random = problem.dictionary.numpy(), np.random.default_rng(3)
        for _ in range(3):
            direction = random.standard_normal(filters.shape)
            truth = oracles.central_difference(
                lambda at: oracles.exact_loss(
                    twin.observations.numpy(), dense(at, entries), problem.penalty, loss, signs
                ),
                filters,
                direction,
            )
            mine = float((reference.gradient.numpy() * direction).sum())
            size = float(reference.gradient.norm()) * np.linalg.norm(direction)
            assert abs(mine - float(truth)) < tolerances.EXACT_CENTRAL_DIFFERENCES * size

    def test_other_targets(self):
        problem = convolutional("reconstruction")
        generating = problem.dictionary + 0.02
        codes = torch.where(
            torch.arange(problem.code_shape[1])[:, None, None] == 1, 0.3, 0.0
        ).double()
        codes = codes.expand(problem.code_shape).contiguous()
        problem = dataclasses.replace(
            problem, generating_dictionary=generating, generating_codes=codes
        )
        twin, entries = dense_twin(problem)
        twin = dataclasses.replace(
            twin,
            generating_dictionary=torch.as_tensor(dense(generating.numpy(), entries)),
            generating_codes=codes.flatten(1),
        )
        for target in ("ghat", "gstar", "gtilde"):
            mine, other = pudle.reference(problem, target), pudle.reference(twin, target)
            truth = chain(other.gradient, entries, problem.dictionary.shape)
            assert relative(mine.gradient, truth) < tolerances.SAME_ARITHMETIC

    def test_too_large_a_system_is_not_certified(self, loss, monkeypatch):
        exact = pudle.reference(convolutional(loss))
        monkeypatch.setattr(ConvolutionalModel, "max_active", 4)
        reference = pudle.reference(convolutional(loss))
        assert reference.status == "uncertified"
        assert "more active entries" in reference.reason and "\n" not in reference.reason
        # The gradient is as accurate as before; only the evidence is missing.
        assert relative(reference.gradient, exact.gradient) < tolerances.CONVERGED

    def test_singular_active_systems_are_not_certified(self):
        problem = convolutional()
        twins = torch.cat([problem.dictionary, problem.dictionary[:1]])
        reference = pudle.reference(dataclasses.replace(problem, dictionary=twins))
        assert reference.status == "uncertified"
        assert reference.certificate.uncertified

    def test_zero_gradient_is_degenerate(self):
        reference = pudle.reference(convolutional(penalty=1e3))
        assert reference.status == "degenerate"
        assert not reference.codes.any()
