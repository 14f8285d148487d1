"""DrMAD: its derivative on the line in numpy, and a problem whose codes do move on a line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import tolerances
import torch
from comparisons import relative
from estimator_specs import VISIBLE
from torch import Tensor

import pudle
from pudle.conformance.oracles import complex_step, unroll
from pudle.conformance.random_problems import directions
from pudle.conformance.specimens import Specimen, specimens

DEPTH = 12


def derivative_on_the_line(specimen: Specimen, direction: np.ndarray) -> float:
    """Carry a tangent forward through layers that are linearized on the line, with steps into the
    complex plane.
    """
    model, layers, tiny = specimen.model, specimen.layers, 1e-30
    states = [
        unroll(model.observations, model.parts(model.theta), layers, range(depth))
        for depth in range(DEPTH + 1)
    ]
    tangents = np.zeros((2, *states[0][0].shape))
    parts = model.parts(model.theta + 1j * tiny * direction)
    for index, (_, _, momentum) in enumerate(states[:-1]):
        share = index / DEPTH
        on_line = [
            (1 - share) * first + share * last
            for first, last in zip(states[0][:2], states[-1][:2], strict=True)
        ]
        codes, point = (
            tensor + 1j * tiny * tangent for tensor, tangent in zip(on_line, tangents, strict=True)
        )
        after = unroll(
            model.observations, parts, layers, range(index, index + 1), (codes, point, momentum)
        )
        tangents = np.stack([tensor.imag for tensor in after[:2]]) / tiny
    codes = states[-1][0]
    through_codes = complex(model.loss(codes + 1j * tiny * tangents[0], model.theta)).imag / tiny
    return float(model.direct(codes, direction) + through_codes)


@pytest.mark.parametrize(
    "specimen",
    specimens("sparse coding", "penalty", "ridge", algorithms=("ista", "fista", "warm start")),
    ids=str,
)
def test_layers_are_differentiated_on_the_line(specimen):
    gradient = specimen.estimate(pudle.make_estimator("drmad"), DEPTH).gradient.numpy()
    assert relative(gradient, specimen.unrolled(DEPTH)) > VISIBLE, "the codes are not on the line"
    for direction in directions(specimen):
        expected = derivative_on_the_line(specimen, direction)
        assert abs(
            (gradient * direction).sum() - expected
        ) < tolerances.COMPLEX_STEP * np.linalg.norm(gradient)


@dataclass(frozen=True, eq=False, kw_only=True)
class Drifting(pudle.Ridge):
    """Layers ``z + 1 + sin(2 pi z) / 10 + theta sin(z)`` under a unit step: from an integer they
    count upwards at theta = 0.

    Their Jacobian ``1 + 2 pi cos(2 pi z) / 10`` is not one, and the derivative in theta depends on
    z.
    """

    @property
    def lipschitz_constant(self) -> float:
        return 1.0

    def smooth_gradient(self, codes: Tensor) -> Tensor:
        return -(1 + torch.sin(2 * torch.pi * codes) / 10 + self.theta * torch.sin(codes))

    def outer_loss(self, codes: Tensor) -> Tensor:
        return (torch.cos(codes) * (1 + self.theta)).mean()


def loss_of_drifting(start: float, theta: complex) -> complex:
    codes = np.full((1, 1), start, dtype=complex)
    for _ in range(DEPTH):
        codes = codes + 1 + np.sin(2 * np.pi * codes) / 10 + theta * np.sin(codes)
    return complex((np.cos(codes) * (1 + theta)).mean())


@pytest.mark.parametrize("start, on_line", [(0.0, True), (3.0, True), (0.3, False)])
def test_it_is_exact_where_the_codes_move_on_a_line(start, on_line):
    one = torch.ones(1, 1, dtype=torch.float64)
    problem = Drifting(observations=one, dictionary=one, strength=0.0, weights=one[0])
    found = pudle.make_estimator("drmad").estimate(problem, pudle.Ista(initial=start * one), DEPTH)
    exact = complex_step(lambda theta: loss_of_drifting(start, theta), np.zeros(()), np.ones(()))
    error = abs(float(found.gradient) - exact) / abs(exact)
    assert error < tolerances.CLOSED_FORM if on_line else error > VISIBLE


def test_the_error_falls_as_one_over_the_depth_where_the_loss_keeps_its_derivative():
    """On ridge regression, by a factor of about two from one depth to its double; rates of layers
    would give far more.
    """
    specimen = Specimen("ridge", "linear")
    errors = [
        relative(found.gradient, specimen.unrolled(depth))
        for depth, found in zip(
            (200, 400), specimen.sweep(pudle.make_estimator("drmad"), (200, 400)), strict=True
        )
    ]
    assert 1.8 < errors[0] / errors[1] < 2.2
