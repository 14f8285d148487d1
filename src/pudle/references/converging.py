"""An algorithm that is run until it stops, and derivatives of where it stops."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from .. import streams
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
#: Layers after which the fixed point of a step is looked for by acceleration, and again after
#: twice as many. It is the limit if the second half of these layers came nearer to it, to this
#: share of the distance, and if layers that begin at the square of this share of the distance from
#: it stay within the share.
PATIENCE, NEARER, CLOSE = 1000, 0.999, 1e-3
#: Most steps of acceleration, and how many steps it remembers.
ACCELERATED, MEMORY = 1000, 100

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
        """Return the codes, which samples (n,) have not converged, and the number of layers; rows
        that form one system count as one sample.
        """
        state, first = self.algorithm.start(self.problem, initial), self.problem.initial_codes()
        first_change = (self.layer(first, 0) - first).abs().max()
        moving = torch.ones(1 if self.problem.joint else len(first), dtype=torch.bool)
        still, due, halfway = 0, PATIENCE, first
        while still < STILL_LAYERS and state.iteration < MAX_LAYERS:
            before, state = state.codes, self.algorithm.advance(self.problem, state, self.step)
            scale = torch.maximum(state.codes.abs().max(), first_change)
            if not torch.isfinite(scale):
                return state.codes, torch.ones_like(moving), state.iteration
            changes = (state.codes - before).abs().reshape(len(moving), -1).amax(1)
            moving = changes > TOLERANCE * scale
            still = 0 if moving.any() else still + 1
            if self.problem.joint and state.iteration == due:
                fixed = self._accelerated(state.codes, TOLERANCE * scale)
                if self._attracts(fixed, halfway, state.codes):
                    state = dataclasses.replace(state, codes=fixed, point=fixed)
                due *= 2
            if 2 * state.iteration == due:
                halfway = state.codes
        return state.codes, moving, state.iteration

    def _accelerated(self, codes: Tensor, tolerance: Tensor) -> Tensor:
        """Return a fixed point of the layer by Anderson's acceleration; where it finds none, NaN.

        References
        ----------
        Walker and Ni, "Anderson acceleration for fixed-point iterations", SIAM Journal on Numerical
        Analysis 2011.
        """
        pairs = list[tuple[Tensor, Tensor]]()
        for _ in range(ACCELERATED):
            image = self.layer(codes, 0)
            change = (image - codes).flatten()
            if change.abs().max() <= tolerance:
                return codes
            if pairs and not change.norm() < 2 * pairs[-1][1].norm():
                # What led to a worse place is forgotten.
                pairs = []
            pairs = [*pairs[-MEMORY:], (image.flatten(), change)]
            images, changes = (torch.stack(each, 1).diff() for each in zip(*pairs, strict=True))
            # The combination of the last images whose change is smallest.
            weights = torch.linalg.lstsq(changes, change[:, None]).solution
            codes = image - (images @ weights).reshape(image.shape)
        return codes * torch.nan

    def _attracts(self, fixed: Tensor, halfway: Tensor, codes: Tensor) -> bool:
        """Return whether the layers from `halfway` to `codes` came nearer to a fixed point, and
        layers from a place close to it do not leave it.
        """
        distance = (halfway - fixed).norm()
        random = streams.generator(0, "push off a fixed point").standard_normal(fixed.shape)
        pushed = fixed + CLOSE**2 * distance * torch.as_tensor(random / np.linalg.norm(random))
        for _ in range(PATIENCE // 2):
            pushed = self.layer(pushed, 0)
        nearer = (codes - fixed).norm() < NEARER * distance
        return bool(nearer & ((pushed - fixed).norm() < CLOSE * distance))

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
