"""The elastic net, against scikit-learn and against the lasso on an augmented dictionary."""

import numpy as np
import pytest
from sklearn.linear_model import ElasticNet
from support.oracles import tolerances
from support.problems.small_problems import elastic_net

import pudle


@pytest.mark.parametrize("nonnegative", [False, True])
def test_codes_are_scikit_learns(nonnegative):
    problem = elastic_net(nonnegative=nonnegative)
    reference = pudle.reference(problem)
    assert reference.status == "certified"
    rows = len(problem.dictionary)
    alpha = (problem.penalty + problem.l2_penalty) / rows
    model = ElasticNet(
        alpha=alpha,
        l1_ratio=problem.penalty / (problem.penalty + problem.l2_penalty),
        fit_intercept=False,
        tol=1e-15,
        max_iter=200_000,
        positive=nonnegative,
    )
    for x, code in zip(problem.observations.numpy(), reference.codes.numpy(), strict=True):
        theirs = model.fit(problem.dictionary.numpy(), x).coef_
        assert np.abs(theirs - code).max() < tolerances.SOLVER_CODES
