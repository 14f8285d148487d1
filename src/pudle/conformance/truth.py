"""The truth that estimators are compared with, by torch alone: plain layers, automatic
differentiation through them, and dense implicit solves, all in float64.

No estimator and no kernel is used. Tests hold it to closed forms in numpy, on every specimen.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from ..algorithms import Algorithm, State
from ..algorithms.algorithm import run_layers
from ..auditing.distances import Array
from ..errors import UnsupportedProblem
from ..problems import Problem
from ..problems.linearized import gradients
from ..references import certified

#: Singular values up to this share of the largest count as zero.
SINGULAR = 1e-12
#: No singular value is called smaller.
LEAST = 1e-200
#: Condition number up to which an implicit system is solved to the tolerance of its check.
REGULAR = 1e3
#: Layers after which codes count as converged where no reference is known.
CONVERGED = 1000


class Implicit(NamedTuple):
    """A gradient of the implicit function theorem, and the largest condition number of its systems
    on the active sets.
    """

    gradient: Array
    condition: float = 1.0


class LinearSystem(NamedTuple):
    """What an implicit gradient is made of: the loss and the slope of the inner objective as
    functions of a theta and of codes (`leaf`) that require gradients, the derivative of the loss in
    the codes, and the active set.
    """

    loss: Tensor
    slope: Tensor
    theta: Tensor
    leaf: Tensor
    code_gradient: Tensor
    active: Tensor


def array(tensor: Tensor) -> Array:
    """Return a tensor as an array."""
    return tensor.numpy(force=True)


@dataclass(frozen=True, eq=False)
class Truth:
    """Codes and gradients of an algorithm on a problem.

    For what a mistake leads to, the outer loss may be that of another problem, and the codes may be
    those of another truth.
    """

    problem: Problem
    algorithm: Algorithm
    outer: Problem
    reached: Self | None = None

    @cached_property
    def step(self) -> float:
        """The step, which is a constant of the layers."""
        return self.algorithm.step_size(self.problem)

    def run(self, problem: Problem, state: State, layers: int) -> State:
        """Return the state after some layers from another, on the problem at some theta."""
        return run_layers.plain(problem, self.algorithm, state, layers, (), self.step)[layers]

    @cache  # noqa: B019  # specimens are few, and live as long as the process
    @torch.no_grad()
    def state(self, depth: int) -> State:
        """Return the state after `depth` layers, the same object at each call: that of the other
        truth where there is one.
        """
        if self.reached:
            return self.reached.state(depth)
        return self.run(self.problem, self.algorithm.start(self.problem), depth)

    def codes(self, depth: int) -> Array:
        """Return the codes after `depth` layers, one row per sample."""
        return array(self.state(depth).codes.flatten(1))

    @cache  # noqa: B019
    @torch.no_grad()
    def scale(self, depth: int) -> float:
        """Return the size of the parts of a gradient, which may nearly cancel: the loss at the
        start or at a depth per size of theta, all without signs. Of a theta of zeros it is the loss
        itself.
        """
        theta = self.problem.theta.detach()
        outer = self.problem.with_theta(theta.abs())
        losses = [outer.outer_loss(self.state(at).codes.abs()).abs() for at in (0, depth)]
        return float(max(losses)) / (float(theta.norm()) or 1.0)

    @cache  # noqa: B019
    @torch.enable_grad()
    def unrolled(self, depth: int, window: int | None = None) -> Array:
        """Return the gradient through the last `window` layers, or all; a window of 0 leaves the
        direct part. The step is held constant, and so is the state that enters the window.

        It is computed once; the array is not to be changed.
        """
        layers = depth if window is None else min(window, depth)
        theta = self.problem.theta.detach().requires_grad_()
        live = self.problem.with_theta(theta)
        codes = self.run(live, self.state(depth - layers), layers).codes
        return array(gradients(self.outer.with_theta(theta).outer_loss(codes), (theta,))[0])

    @cache  # noqa: B019
    def implicit(self, depth: int, *, ahead: bool = False) -> Implicit:
        """Return the gradient of the implicit function theorem at the codes of a depth, from
        minimum-norm solves on their active sets, or on those of the plain layer `ahead` of them,
        with the largest condition number. It is computed once.
        """
        return self._implicit(depth, ahead, alternating=False)

    @cache  # noqa: B019
    def alternating(self, depth: int, *, ahead: bool = False) -> Array:
        """Return the implicit gradient that there would be if the terms of its Neumann series had
        alternating signs: the system is I + J in place of I - J, J the Jacobian of a layer. It is
        computed once.
        """
        return self._implicit(depth, ahead, alternating=True).gradient

    def series(self, depth: int, *, ahead: bool = False) -> Iterator[Array]:
        """Yield the terms of the Neumann series of the implicit gradient's part through the codes,
        without an end: term k has the power k - 1 of J, the Jacobian of a layer, on the active sets
        of the codes or of the plain layer `ahead` of them.
        """
        system = self._system(depth, ahead)
        # I - J is the step times the derivative of the slope.
        vector = system.code_gradient * system.active
        while True:
            by_theta, by_codes = gradients(
                system.slope, (system.theta, system.leaf), vector, keep_graph=True
            )
            yield array(-self.step * by_theta)
            vector = (vector - self.step * by_codes) * system.active

    @torch.enable_grad()
    def _implicit(self, depth: int, ahead: bool, alternating: bool) -> Implicit:
        """Return the implicit gradient at the codes of a depth, and the condition of its systems,
        with I + J in place of I - J if `alternating`.
        """
        loss, slope, theta, leaf, right, active = self._system(depth, ahead)
        # I - J is the step times the derivative of the slope, and so I + J is 2 I less that.
        system = 2 / self.step * leaf - slope if alternating else slope
        solution, condition = self._solve(system, leaf, active, right)
        (gradient,) = gradients(loss - (slope * solution).sum(), (theta,))
        return Implicit(array(gradient), condition)

    @torch.enable_grad()
    def _system(self, depth: int, ahead: bool) -> LinearSystem:
        """Return the system of the implicit gradient at the codes of a depth: where the problem has
        a penalty on the active sets of the layer `ahead`, if asked for.
        """
        problem, codes = self.problem, self.state(depth).codes
        theta, leaf = problem.theta.detach().requires_grad_(), codes.clone().requires_grad_()
        live, last = problem.with_theta(theta), codes
        loss, slope = self.outer.with_theta(theta).outer_loss(leaf), live.stationarity(leaf)
        if ahead and hasattr(live, "penalty"):
            last = self.algorithm.plain_layer(problem, codes, self.step, depth)
            # Signs that the codes do not have yet.
            slope = slope + live.penalty * (problem.piece(last) - problem.piece(codes))
        (right,) = gradients(loss, (leaf,), keep_graph=True)
        return LinearSystem(loss, slope, theta, leaf, right, problem.active(last))

    def _solve(
        self, slope: Tensor, leaf: Tensor, active: Tensor, right: Tensor
    ) -> tuple[Tensor, float]:
        """Solve the transposed systems of the derivative of `slope` in `leaf` on the active sets,
        by least squares of minimum norm; return the solution, zero off them, and the largest
        condition number.
        """
        rows = 1 if self.problem.joint else len(leaf)
        mask, rights = active.reshape(rows, -1), right.reshape(rows, -1)
        # Rows depend on no other row: one product differentiates an entry in all rows.
        columns = [
            gradients(slope, (leaf,), unit.expand_as(mask).reshape_as(leaf), keep_graph=True)[0]
            for unit in torch.eye(mask.shape[1]).to(leaf)
        ]
        matrices = torch.stack([column.reshape(rows, -1) for column in columns], -1)
        solution, condition = torch.zeros_like(rights), 1.0
        for row, on in enumerate(mask):
            if on.any():
                system = array(matrices[row][on][:, on]), array(rights[row][on])
                adjoint, _, _, sizes = np.linalg.lstsq(*system, rcond=SINGULAR)
                solution[row, on] = torch.from_numpy(adjoint)
                condition = max(condition, sizes[0] / max(sizes[-1], LEAST))
        return solution.reshape_as(leaf), float(condition)

    @cached_property
    def limit(self) -> Array:
        """The gradient at the minimizer or the fixed point: certified, or checked by central
        differences, where there is such a reference, else the implicit one after `CONVERGED`
        layers.
        """
        with suppress(UnsupportedProblem):
            reference = certified.reference(self.problem, algorithm=self.algorithm)
            if reference.status in certified.SCORED:
                return array(reference.gradient)
        return self.implicit(CONVERGED).gradient
