"""One penalty per filter, learned with the filters: gradients against autograd on plain
convolutions and differences.
"""

from support.estimators.estimator_specs import estimate
from support.oracles import tolerances
from support.oracles.comparisons import relative
from support.problems.convolutions import convolutional, replaced, thresholded

import pudle


def test_implicit_gradients_are_those_of_many_layers(loss):
    problem, algorithm = thresholded(loss), pudle.Fista(restart=True)
    truth = estimate("backprop", problem, algorithm, 150).gradient
    for spec in (
        "analytic",
        "conjugate_gradient(iterations=300, rtol=1e-15)",
        "fixed_point(terms=1500)",
    ):
        mine = estimate(spec, problem, algorithm, 150).gradient
        assert relative(mine, truth) <= tolerances.CONVERGED, spec
    assert (
        relative(pudle.reference(problem, "limit", algorithm).gradient, truth)
        <= tolerances.CONVERGED
    )


def test_equal_penalties_are_one_penalty(loss):
    plain = convolutional(loss)
    problem = replaced(plain, pudle.ThresholdedConvolutionalSparseCoding)
    truth, mine = (estimate("backprop", each, pudle.Ista(), 9) for each in (plain, problem))
    assert relative(mine.codes, truth.codes) <= tolerances.SAME_ARITHMETIC
    assert (
        relative(problem.dictionary_of(mine.gradient), truth.gradient) <= tolerances.SAME_ARITHMETIC
    )
