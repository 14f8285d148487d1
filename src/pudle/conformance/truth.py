"""The truth that estimators are compared with, by torch alone: plain layers, automatic
differentiation through them, and dense implicit solves, all in float64.

No estimator and no kernel is used. Tests hold it to closed forms in numpy, on every specimen.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ..algorithms import Algorithm, State
from ..errors import UnsupportedProblem
from ..problems import Problem
from ..problems.linearized import gradients
from ..references import certified
from .explanations import Array

#: Singular values up to this share of the largest count as zero.
SINGULAR = 1e-12
#: Condition number up to which an implicit system is solved to the tolerance of its check.
REGULAR = 1e3
#: Layers after which codes count as converged where no reference is known.
CONVERGED = 1000


class Implicit(NamedTuple):
    """A gradient of the implicit function theorem, and the largest condition number of its systems
    on the active sets.
    """

    gradient: Array
    condition: float


def array(tensor: Tensor) -> Array:
    """Return a tensor as an array."""
    return tensor.numpy(force=True)


def flat(tensor: Tensor) -> Array:
    """Return a tensor as an array with one row per sample."""
    return array(tensor.flatten(1))


@dataclass(frozen=True, eq=False)
class Truth:
    """Codes and gradients of an algorithm on a problem."""

    problem: Problem
    algorithm: Algorithm

    @property
    def theta(self) -> Array:
        """The value of the outer parameter."""
        return array(self.problem.theta)

    @cached_property
    def step(self) -> float:
        """The step, which is a constant of the layers."""
        return self.algorithm.step_size(self.problem)

    def run(self, problem: Problem, state: State, layers: int) -> State:
        """Return the state after some layers from another, on the problem at some theta."""
        for _ in range(layers):
            state = self.algorithm.advance(problem, state, self.step)
        return state

    @cached_property
    def _states(self) -> dict[int, State]:
        return {0: self.algorithm.start(self.problem)}

    @torch.no_grad()
    def state(self, depth: int) -> State:
        """Return the state after `depth` layers, from the deepest before it that is known."""
        known = max(each for each in self._states if each <= depth)
        if known < depth:
            later = self.run(self.problem, self._states[known], depth - known)
            self._states[depth] = later
        return self._states[depth]

    def codes(self, depth: int) -> Array:
        """Return the codes after `depth` layers, one row per sample."""
        return flat(self.state(depth).codes)

    @cached_property
    @torch.no_grad()
    def scale(self) -> float:
        """The size of the parts of a gradient, which may nearly cancel: the loss at the start per
        size of theta, all without signs.
        """
        theta, codes = self.problem.theta.detach(), self.state(0).codes
        loss = float(self.problem.with_theta(theta.abs()).outer_loss(codes.abs()).abs())
        return loss / (float(theta.norm()) or 1.0)

    @cache  # noqa: B019  # specimens are few, and live as long as the process
    @torch.enable_grad()
    def unrolled(self, depth: int, window: int | None = None) -> Array:
        """Return the gradient through the last `window` layers, or all; a window of 0 leaves the
        direct part.
        """
        layers = depth if window is None else min(window, depth)
        theta = self.problem.theta.detach().requires_grad_()
        live = self.problem.with_theta(theta)
        state = self.run(live, self.state(depth - layers), layers)
        return array(gradients(live.outer_loss(state.codes), (theta,))[0])

    @cache  # noqa: B019
    @torch.enable_grad()
    def implicit(self, depth: int, *, ahead: bool = False) -> Implicit:
        """Return the gradient of the implicit function theorem at the codes of a depth, from
        minimum-norm solves on their active sets, or on those of the plain layer `ahead` of them.
        """
        problem, codes = self.problem, self.state(depth).codes.detach()
        last = codes
        if ahead:
            last = self.algorithm.plain_layer(problem, codes, self.step, depth).detach()
        theta = problem.theta.detach().requires_grad_()
        live, leaf = problem.with_theta(theta), codes.clone().requires_grad_()
        loss, slope = live.outer_loss(leaf), live.stationarity(leaf)
        if ahead and hasattr(live, "penalty"):
            # Signs that the codes do not have yet.
            slope = slope + live.penalty * (problem.piece(last) - problem.piece(codes))
        (right,) = gradients(loss, (leaf,), keep_graph=True)
        solution, condition = self._solve(slope, leaf, problem.active(last), right)
        (gradient,) = gradients(loss - (slope * solution).sum(), (theta,))
        return Implicit(array(gradient), condition)

    def _solve(
        self, slope: Tensor, leaf: Tensor, active: Tensor, right: Tensor
    ) -> tuple[Tensor, float]:
        """Solve the transposed systems of the derivative of `slope` in `leaf` on the active sets;
        return the solution and the largest condition number.
        """
        if self.problem.joint:
            # The derivative of a contraction and the identity, whose difference is regular.
            (matrix,) = _jacobians(slope, leaf, 1)
            return torch.linalg.solve(matrix.mT, right.flatten()).reshape(leaf.shape), 1.0
        matrices, mask = _jacobians(slope, leaf, len(leaf)).mT, active.flatten(1)
        matrices = matrices * (mask[:, :, None] & mask[:, None, :])
        left, values, others = torch.linalg.svd(matrices)
        kept = values > SINGULAR * values[:, :1]
        scaled = (left.mT @ (mask * right.flatten(1))[..., None])[..., 0]
        scaled = torch.where(kept, scaled / torch.where(kept, values, 1), 0)
        solution = (others.mT @ scaled[..., None]).reshape(leaf.shape)
        smallest = values.gather(1, (mask.sum(1, keepdim=True) - 1).clamp(min=0))[:, 0]
        conditions = torch.where(mask.any(1), values[:, 0] / smallest, 1)
        return solution, float(conditions.max())

    @cached_property
    def regular(self) -> bool:
        """Tell whether a minimization is as well conditioned as accurate solves need, whatever is
        active.
        """
        if self.problem.joint:
            return True
        leaf = self.problem.initial_codes().requires_grad_()
        hessian = _jacobians(self.problem.stationarity(leaf), leaf, len(leaf))[0]
        values = torch.linalg.eigvalsh(hessian)
        return bool(values[0] * REGULAR > values[-1])

    @cached_property
    def limit(self) -> Array:
        """The gradient at the minimizer or the fixed point: certified, or checked by central
        differences, where there is such a reference.
        """
        with suppress(UnsupportedProblem):
            reference = certified.reference(self.problem, algorithm=self.algorithm)
            if reference.status in certified.SCORED:
                return array(reference.gradient)
        return self.implicit(CONVERGED).gradient


def _jacobians(image: Tensor, leaf: Tensor, rows: int) -> Tensor:
    """Return the derivative of each of some rows in the same row of a leaf, on which no other row
    depends; shape (rows, p, p).
    """
    units = torch.eye(leaf.numel() // rows, dtype=leaf.dtype)
    lines = [
        gradients(image, (leaf,), unit.expand(rows, -1).reshape(leaf.shape), keep_graph=True)[0]
        for unit in units
    ]
    return torch.stack([line.reshape(rows, -1) for line in lines], 1)
