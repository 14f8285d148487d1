"""References of convolutional sparse coding, against those of the dense problem and differences of
the exact loss.
"""

import dataclasses

import pytest
import torch
from support.oracles import tolerances
from support.oracles.comparisons import relative
from support.problems.convolutions import chain, convolutional, dense_twin

import pudle

VARIANTS = {
    "plain": {},
    "nonnegative": {"nonnegative": True},
    "elastic": {"l2_penalty": 0.1},
    "nonnegative-elastic": {"nonnegative": True, "l2_penalty": 0.1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_reference_equals_the_dense_one(loss, variant):
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


def test_singular_active_systems_are_not_certified():
    problem = convolutional()
    twins = torch.cat([problem.dictionary, problem.dictionary[:1]])
    reference = pudle.reference(dataclasses.replace(problem, dictionary=twins))
    assert reference.status == "uncertified"
