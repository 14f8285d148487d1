"""An algorithm that is run until it stops, and derivatives of where it stops."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..algorithms.unrolling import differentiable, direct_gradients, gradients
from ..problems import Problem
from .records import exactly

#: A sample has converged when no entry of its code changes by more than this times the largest
#: entry of all codes, or of the first layer's change where that is larger.
TOLERANCE = 1e-13
#: Consecutive layers for which that must hold: an accelerated method pauses where its momentum
#: turns.
STILL_LAYERS = 10
#: Layers after which a sample that has not converged is given up.
MAX_LAYERS = 20_000

#: What a solve of linear systems tells, such as the condition number.
Diagnostics = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Converging:
    """An algorithm on a problem. Its step is a constant: it is the same at another theta."""

    problem: Problem
    algorithm: Algorithm
    step: float

    @classmethod
    def exactly(cls, problem: Problem, algorithm: Algorithm) -> Self:
        """Return it in float64 on the CPU."""
        problem, algorithm = exactly(problem), exactly(algorithm)
        return cls(problem, algorithm, algorithm.step_size(problem))

    def at(self, theta: Tensor) -> Self:
        """Return it at another value of the parameter."""
        return dataclasses.replace(self, problem=self.problem.with_theta(theta))

    def layer(self, codes: Tensor, iteration: int) -> Tensor:
        """Return the codes after one plain layer, the map whose fixed point they converge to."""
        return self.algorithm.plain_layer(self.problem, codes, self.step, iteration)

    @torch.no_grad()
    def run(self, initial: Tensor | None = None) -> tuple[Tensor, Tensor, int]:
        """Return the codes, which samples (n,) have not converged, and the number of layers."""
        state, first = self.algorithm.start(self.problem, initial), self.problem.initial_codes()
        first_change = (self.layer(first, 0) - first).abs().max()
        moving = torch.ones(len(state.codes), dtype=torch.bool)
        still = 0
        while still < STILL_LAYERS and state.iteration < MAX_LAYERS:
            before, state = state.codes, self.algorithm.advance(self.problem, state, self.step)
            scale = torch.maximum(state.codes.abs().max(), first_change)
            if not torch.isfinite(scale):
                return state.codes, torch.ones_like(moving), state.iteration
            moving = (state.codes - before).flatten(1).abs().amax(1) > TOLERANCE * scale
            still = 0 if moving.any() else still + 1
        return state.codes, moving, state.iteration

    @torch.no_grad()
    def newton_step(self, codes: Tensor, iteration: int) -> tuple[Tensor, Tensor, Diagnostics]:
        """Return the Newton step towards the fixed point, on the active set, and the residual
        ``Phi(z) - z`` before it.
        """
        residual = self.layer(codes, iteration) - codes
        newton, diagnostics = self.problem.solve_tangent(codes, residual / self.step)
        return newton, residual, diagnostics

    def gradient(self, codes: Tensor, iteration: int) -> tuple[Tensor, Diagnostics]:
        """Return the gradient by the implicit function theorem at a fixed point."""
        direct, code_gradient = direct_gradients(self.problem, codes)
        adjoint, diagnostics = self.problem.solve_active(codes, code_gradient / self.step)
        with torch.enable_grad():
            live, theta = differentiable(self.problem)
            moving = dataclasses.replace(self, problem=live)
            (through_codes,) = gradients(moving.layer(codes, iteration), (theta,), adjoint)
        return direct + through_codes, diagnostics
