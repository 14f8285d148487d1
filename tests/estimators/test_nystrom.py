"""The Nystrom hypergradient: the inverse of a low-rank matrix, and the exact solve that it becomes
at full rank.
"""

import numpy as np
import pytest
from support.estimators.estimator_specs import on
from support.oracles import tolerances
from support.oracles.comparisons import relative
from support.oracles.in_numpy import TINY, derivative, form_of

from pudle import streams
from pudle.conformance.specimens import specimens

DEPTH = 60


def low_rank_gradient(specimen, rank, regularization, seed=0):
    """Return the estimate with plain inverses and pseudo-inverses, sample by sample."""
    model, codes = form_of(specimen), form_of(specimen).codes(DEPTH)
    matrix, penalty, l2_penalty = model.parts(model.theta)
    hessian = matrix.T @ matrix + l2_penalty * np.eye(matrix.shape[1])
    order = streams.generator(seed, "estimator nystrom").permutation(matrix.shape[1])
    columns = TINY * 1j * np.eye(codes.shape[1])
    slopes = [model.losses(codes + column, model.theta).imag for column in columns]
    slope = np.stack(slopes, 1) / TINY
    solution = np.zeros_like(codes)
    for row, code, right in zip(solution, codes, slope / len(codes), strict=True):
        active = np.flatnonzero(code) if np.any(penalty) else np.arange(len(code))
        chosen = [index for index in order if index in active][:rank]
        if len(active):
            tall, small = hessian[np.ix_(active, chosen)], hessian[np.ix_(chosen, chosen)]
            approximation = tall @ np.linalg.pinv(small, rcond=1e-12) @ tall.T
            shift = regularization * model.lipschitz_constant * np.eye(len(active))
            row[active] = np.linalg.solve(approximation + shift, right[active])

    def contracted(theta):
        matrix, penalty, l2_penalty = model.parts(theta)
        residual = (codes @ matrix.T - model.observations) @ matrix
        return ((residual + l2_penalty * codes + penalty * np.sign(codes)) * solution).sum()

    return model.unrolled(DEPTH, 0) - derivative(contracted, model.theta)


@pytest.mark.parametrize(
    "specimen", specimens("elastic net", "convolutional", "penalty", "ridge"), ids=str
)
@pytest.mark.parametrize("rank, regularization, seed", [(3, 0.01, 5), (50, 0.3, 0)])
def test_is_the_inverse_of_the_low_rank_matrix(specimen, rank, regularization, seed):
    spec = f"nystrom(rank={rank}, regularization={regularization}, seed={seed})"
    expected = low_rank_gradient(specimen, rank, regularization, seed)
    assert relative(on(specimen, spec, DEPTH).gradient, expected) < tolerances.CLOSED_FORM
