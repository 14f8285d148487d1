"""The curse of unrolling: with the step that is best for the codes, the error of an unrolled
gradient grows before it falls.
"""

import numpy as np
import pytest
from support.oracles import in_numpy

import pudle

#: The step that contracts the codes fastest, 2/(L + mu), for L = 1 and L/mu = 100.
FASTEST = 200 / 101


@pytest.mark.parametrize("spec", ["backprop", "forward"])
@pytest.mark.parametrize(
    "step, options",
    [
        (FASTEST, ""),
        (0.5, ""),
        (2000 / 1001, ", kappa=1000.0, n_samples=3, n_components=5, seed=4"),
    ],
)
def test_scores_follow_the_whole_curve_of_the_closed_form(spec, step, options):
    problem = pudle.make_dataset(f"ridge(observations='top'{options})").problem()
    reference, depths = pudle.reference(problem), range(0, 300, 10)
    estimates = pudle.make_estimator(spec).sweep(problem, pudle.Ista(step=step), depths)
    errors = [pudle.score(estimate, reference).relative_error for estimate in estimates]
    expected = np.array([in_numpy.burn_in(step, depth) for depth in depths])
    # The reference is off by no more than its bound.
    assert (np.abs(errors - expected) <= reference.bound * (1 + expected)).all()
    if step == FASTEST:
        assert depths[np.argmax(errors)] == 50 and round(max(errors), 2) == 36.79
