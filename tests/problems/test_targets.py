"""Outer losses that compare with targets, such as clean images, instead of the observations."""

import dataclasses

import numpy as np
import pytest
from support.oracles import in_numpy, tolerances
from support.oracles.comparisons import directional_error, relative
from support.problems.convolutions import convolutional, dense, dense_twin, supervised

import pudle


@pytest.mark.parametrize("nonnegative", [False, True])
def test_central_differences(loss, nonnegative):
    """Compare with differences of the loss at the exact minimizer, in extended precision."""
    problem = supervised(loss, nonnegative=nonnegative)
    twin, entries = dense_twin(problem)
    reference = pudle.reference(problem)
    assert reference.status == "certified", reference.reason
    assert reference.bound < tolerances.USEFUL_BOUND
    signs = reference.codes.flatten(1).sign().numpy().astype(float)
    x, y = twin.observations.numpy(), problem.targets.flatten(1).numpy()

    def value(filters):
        matrix = dense(filters, entries)
        codes = in_numpy.polish(x, matrix, problem.penalty, signs)
        assert (np.sign(codes) == signs).all()
        return in_numpy.outer_loss(y, matrix, codes, problem.penalty, loss)

    error = directional_error(reference.gradient, value, problem.dictionary.numpy())
    assert error < tolerances.EXACT_CENTRAL_DIFFERENCES


@pytest.mark.parametrize("l2_penalty", [0.0, 0.1])
def test_observations_as_targets_change_nothing(loss, l2_penalty):
    """With targets the lasso loss is differentiated implicitly, without targets by its envelope
    formula.
    """
    plain = convolutional(loss, l2_penalty=l2_penalty)
    same = pudle.reference(dataclasses.replace(plain, targets=plain.observations))
    truth = pudle.reference(plain)
    assert relative(same.gradient, truth.gradient) <= tolerances.CLOSED_FORM
