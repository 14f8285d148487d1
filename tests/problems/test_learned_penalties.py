"""One penalty per filter, learned with the filters: gradients against autograd on plain
convolutions and differences.
"""

import dataclasses

import tolerances
from comparisons import refusal, relative
from convolutions import PENALTIES, convolutional, thresholded

import pudle


class TestGradient:
    def test_implicit_gradients_are_those_of_many_layers(self, loss):
        problem, algorithm = thresholded(loss), pudle.Fista(restart=True)
        truth = pudle.make_estimator("backprop").estimate(problem, algorithm, 150).gradient
        for spec in (
            "analytic",
            "conjugate_gradient(iterations=300, rtol=1e-15)",
            "fixed_point(terms=1500)",
        ):
            mine = pudle.make_estimator(spec).estimate(problem, algorithm, 150).gradient
            assert relative(mine, truth) <= tolerances.CONVERGED, spec
        assert (
            relative(pudle.reference(problem, "limit", algorithm).gradient, truth)
            <= tolerances.CONVERGED
        )

    def test_equal_penalties_are_one_penalty(self, loss):
        plain = convolutional(loss)
        kept = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
        problem = pudle.ThresholdedConvolutionalSparseCoding(**kept)
        truth = pudle.make_estimator("backprop").estimate(plain, pudle.Ista(), 9)
        mine = pudle.make_estimator("backprop").estimate(problem, pudle.Ista(), 9)
        assert relative(mine.codes, truth.codes) <= tolerances.SAME_ARITHMETIC
        assert (
            relative(problem.dictionary_of(mine.gradient), truth.gradient)
            <= tolerances.SAME_ARITHMETIC
        )


def test_refusals():
    problem = thresholded()
    for wrong, text in (
        (PENALTIES[:2], "one for each filter"),
        (-PENALTIES, "the smallest -0.2"),
        (0.0, "penalty=0"),
        (PENALTIES.float(), "penalty"),
        (PENALTIES * float("nan"), "penalty"),
    ):
        assert text in refusal(lambda wrong=wrong: dataclasses.replace(problem, penalty=wrong))
