"""Problems and layers in numpy, and their derivatives, to check estimators against.

Nothing here uses an estimator, automatic differentiation or a kernel. Functions of the parameter
continue analytically off the real axis, because every decision looks only at real parts. So a step
into the complex plane differentiates them without cancellation.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..algorithms import Algorithm, Fista, Ista, State
from ..algorithms.thresholding import Decaying, Hard, Soft
from ..problems import (
    ConvolutionalSparseCoding,
    FixedPoint,
    PenaltySelection,
    Problem,
    Ridge,
    SparseCoding,
    ThresholdedConvolutionalSparseCoding,
)

#: Entries are floats, complex numbers or extended floats.
Array = np.ndarray[Any, Any]
#: Step into the complex plane.
TINY = 1e-30
#: Condition number up to which an implicit system is solved to the tolerance of its check.
REGULAR = 1e3


def soft(values: Array, threshold: float | complex | Array, nonnegative: bool = False) -> Array:
    """Apply the two-sided soft threshold, or the one-sided one; a complex step passes through."""
    signs = np.ones_like(values.real) if nonnegative else np.sign(values.real)
    return np.where(signs * values.real > np.real(threshold), values - threshold * signs, 0)


def prox(values: Array, threshold: Any, rule: Any, iteration: int, nonnegative: bool) -> Array:
    """Apply a thresholding rule."""
    match rule:
        case Soft():
            return soft(values, threshold, nonnegative)
        case Decaying():
            return soft(values, threshold * rule.decay**iteration, nonnegative)
        case Hard():
            sizes = values.real if nonnegative else np.abs(values.real)
            return np.where(sizes > np.real(rule.threshold or threshold), values, 0)
    raise NotImplementedError(f"no closed form of the thresholding rule {rule}")


def unroll(
    observations: Array,
    parts: tuple[Array, Any, Any],
    algorithm: Algorithm,
    step: float,
    iterations: Iterable[int],
    state: State | None = None,
    nonnegative: bool = False,
) -> State:
    """Run some layers of ISTA or FISTA with a matrix, a penalty and an l2_penalty.

    With `restart` each sample drops its momentum where it points uphill by more than rounding.
    """
    matrix, penalty, l2_penalty = parts
    if state is None:
        shape = len(observations), matrix.shape[1]
        initial: Any = np.zeros(shape) if algorithm.initial is None else array(algorithm.initial)
        initial = initial.reshape(shape)
        state = State(initial, initial, np.ones((shape[0], 1)))  # type: ignore[arg-type]
    codes, point, momentum = map(np.asarray, (state.codes, state.point, state.momentum))
    for iteration in iterations:
        slope = (point @ matrix.T - observations) @ matrix + l2_penalty * point
        values, threshold = point - step * slope, step * penalty
        after = prox(values, threshold, algorithm.thresholding, iteration, nonnegative)
        pull, following = np.zeros_like(momentum), momentum
        if isinstance(algorithm, Fista):
            following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            pull = (momentum - 1) / following
        if getattr(algorithm, "restart", False):
            back, moved, size = (point - after).real, (after - codes).real, np.abs(after.real)
            noise = (size * (np.abs(back) + np.abs(moved))).sum(1, keepdims=True)
            uphill = (back * moved).sum(1, keepdims=True) > 1e-12 * noise
            pull, following = np.where(uphill, 0.0, pull), np.where(uphill, 1.0, following)
        codes, point, momentum = after, after + pull * (after - codes), following
    return State(codes, point, momentum)  # type: ignore[arg-type]


def array(tensor: torch.Tensor) -> Array:
    """Return a tensor as an array that shares its memory."""
    return tensor.detach().numpy()


def complex_step(function: Callable[[Array], Any], at: Array, direction: Array) -> float:
    """Return a directional derivative, exact to rounding, of a function that continues analytically
    off the real axis.
    """
    return complex(function(at + 1j * TINY * direction)).imag / TINY


def derivative(function: Callable[[Array], Any], at: Array, direction: Array | None = None) -> Any:
    """Return the derivative along a direction, or all partial derivatives in the shape of `at`;
    exact to rounding.
    """
    if direction is not None:
        return complex_step(function, at, direction)
    directions = np.eye(at.size).reshape(-1, *at.shape)
    return np.array([complex_step(function, at, each) for each in directions]).reshape(at.shape)


def lipschitz_constant(matrix: Array) -> float:
    """Return the largest eigenvalue of ``A^T A``."""
    return float(np.linalg.eigvalsh(matrix.T @ matrix)[-1])


@dataclass(frozen=True, eq=False)
class ClosedForm(ABC):
    """The layers of an algorithm on a problem, the outer loss, and their derivatives in theta.

    Codes are flat: one row per sample, whatever axes the problem has. With a `direction` a gradient
    is only its product with that.
    """

    problem: Any
    algorithm: Algorithm

    @functools.cached_property
    def theta(self) -> Array:
        """The value of the outer parameter."""
        return array(self.problem.theta)

    @abstractmethod
    def loss(self, codes: Array, theta: Array) -> Any:
        """Return the mean loss over the samples."""

    @abstractmethod
    def run(self, theta: Array, iterations: range, state: Any = None) -> Any:
        """Run layers from a state, by default from the start, and return the state after them."""

    @abstractmethod
    def implicit(self, depth: int, direction: Array | None = None) -> Any:
        """Return the gradient of the implicit function theorem at the codes of a depth."""

    #: Whether all implicit systems are well conditioned, whatever the supports.
    regular = True

    @functools.lru_cache(maxsize=64)  # noqa: B019  # states of large problems must not add up
    def state(self, depth: int) -> Any:
        """Return the state after `depth` layers at the problem's own theta."""
        return self.run(self.theta, range(depth))

    def codes(self, depth: int, theta: Array | None = None, window: int | None = None) -> Array:
        """Return the codes after `depth` layers, the last `window` of them, or all, at `theta`."""
        if theta is None:
            return np.asarray(self.state(depth).codes).real
        first = 0 if window is None else max(depth - window, 0)
        return np.asarray(self.run(theta, range(first, depth), self.state(first)).codes)

    def unrolled(
        self, depth: int, window: int | None = None, direction: Array | None = None
    ) -> Any:
        """Return the gradient through the last `window` layers, or all; a window of 0 leaves the
        direct part.
        """

        def loss(theta: Array) -> Any:
            return self.loss(self.codes(depth, theta, window), theta)

        return derivative(loss, self.theta, direction)


@dataclass(frozen=True, eq=False)
class LeastSquares(ClosedForm):
    """``min_z 1/2 |x - A z|^2 + l2_penalty/2 |z|^2 + penalty |z|_1``, the matrix A and the
    penalties given by theta.

    Attributes
    ----------
    parts_of : callable
        Returns the matrix A (m, p), the penalty (a number, or one per entry of a code) and the
        l2_penalty, of a problem and theta.
    losses_of : callable
        Returns the loss of each sample, of a closed form, codes and theta; analytic where no code
        entry changes sign.
    """

    parts_of: Callable[[Any, Array], tuple[Array, Any, Any]]
    losses_of: Callable[[LeastSquares, Array, Array], Array]

    def parts(self, theta: Array) -> tuple[Array, Any, Any]:
        """Return the matrix, the penalty and the l2_penalty."""
        return self.parts_of(self.problem, theta)

    def losses(self, codes: Array, theta: Array) -> Array:
        """Return the loss of each sample."""
        return self.losses_of(self, codes, theta)

    def loss(self, codes: Array, theta: Array) -> Any:
        return self.losses(codes, theta).mean()

    @functools.cached_property
    def observations(self) -> Array:
        """The observations, shape (n, m)."""
        return flat(self.problem.observations)

    @property
    def nonnegative(self) -> bool:
        """Return whether all codes are >= 0."""
        return getattr(self.problem, "nonnegative", False)

    @functools.cached_property
    def lipschitz_constant(self) -> float:
        """Lipschitz constant L of the gradient of the smooth part."""
        matrix, _, l2_penalty = self.parts(self.theta)
        return lipschitz_constant(matrix) + float(l2_penalty)

    @functools.cached_property
    def regular(self) -> bool:  # type: ignore[override]
        """Return whether the Hessian is as well conditioned as accurate solves need."""
        matrix, _, l2_penalty = self.parts(self.theta)
        values = np.linalg.eigvalsh(matrix.T @ matrix) + l2_penalty
        return bool(values[0] * REGULAR > values[-1])

    @property
    def frobenius(self) -> float:
        """The wrong L that comes from the Frobenius norm in place of the largest singular value."""
        matrix, _, l2_penalty = self.parts(self.theta)
        return float((matrix**2).sum() + l2_penalty)

    def run(self, theta: Array, iterations: range, state: Any = None) -> Any:
        parts, step = self.parts(theta), self.algorithm.step or 1 / self.lipschitz_constant
        if type(self.algorithm) in (Ista, Fista):
            arguments = (self.observations, parts, self.algorithm, step, iterations, state)
            return unroll(*arguments, self.nonnegative)
        # Any other algorithm runs its own layers, on arrays and at a complex theta.
        state, live = state or self.algorithm.start(self.problem), _Live(self, parts)
        for _ in iterations:
            state = self.algorithm.advance(live, state, step)  # type: ignore[arg-type]
        return state

    def implicit(self, depth: int, direction: Array | None = None) -> Any:
        """Return the implicit gradient, from a minimum-norm solve on the active set."""
        codes, (matrix, penalty, l2_penalty) = self.codes(depth), self.parts(self.theta)
        hessian = matrix.T @ matrix + l2_penalty * np.eye(matrix.shape[1])
        # A sample's loss depends on no other sample's codes: a step in one column differentiates
        # all rows at once.
        columns = 1j * TINY * np.eye(codes.shape[1])
        slopes = [np.asarray(self.losses(codes + column, self.theta)).imag for column in columns]
        slope = np.stack(slopes, 1) / TINY / len(codes)
        # Without a penalty nothing sets entries to zero, and all of them are active.
        active = codes != 0 if np.any(penalty) else np.ones_like(codes, dtype=bool)
        solution = np.zeros_like(codes)
        for row, support, right in zip(solution, active, slope, strict=True):
            system = hessian[np.ix_(support, support)]
            row[support] = np.linalg.lstsq(system, right[support], rcond=1e-12)[0]

        def remaining(theta: Array) -> Any:
            matrix, penalty, l2_penalty = self.parts(theta)
            slope = (codes @ matrix.T - self.observations) @ matrix + l2_penalty * codes
            through_codes = ((slope + penalty * np.sign(codes)) * solution).sum()
            return self.loss(codes, theta) - through_codes

        return derivative(remaining, self.theta, direction)


class _Live:
    """A problem at a complex parameter, as far as layers ask for it."""

    def __init__(self, form: LeastSquares, parts: tuple[Array, Any, Any]) -> None:
        self.form, (self.matrix, self.penalty, self.l2_penalty) = form, parts

    def smooth_gradient(self, codes: torch.Tensor) -> torch.Tensor:
        point = codes.numpy()
        residual = point @ self.matrix.T - self.form.observations
        return torch.from_numpy(residual @ self.matrix + self.l2_penalty * point)

    def prox(self, values: torch.Tensor, step: float, rule: Any, iteration: int) -> torch.Tensor:
        threshold = step * self.penalty
        return torch.from_numpy(
            prox(values.numpy(), threshold, rule, iteration, self.form.nonnegative)
        )


def flat(tensor: torch.Tensor) -> Array:
    """Return a tensor as an array with one row per sample."""
    return array(tensor.flatten(1))


def half_squares(residual: Array) -> Array:
    """Return half the squared norm of each row, analytically."""
    return (residual * residual).sum(1) / 2


def dictionary_losses(form: LeastSquares, codes: Array, theta: Array) -> Array:
    """Return the losses of sparse coding."""
    (matrix, penalty, l2_penalty), targets = form.parts(theta), form.problem.targets
    targets = form.observations if targets is None else flat(targets)
    losses = half_squares(targets - codes @ matrix.T)
    if form.problem.loss == "reconstruction":
        return losses
    penalties = penalty * codes * np.sign(codes.real) + l2_penalty * codes * codes / 2
    return losses + penalties.sum(1)


def shifted(problem: Any, filters: Array) -> Array:
    """Return all shifted copies of the filters as columns, filter by filter."""
    axes, stride = [], problem.stride
    for axis in (2, 3):
        length, side = problem.observations.shape[axis], filters.shape[axis]
        positions = -(-(length - side) // stride) + 1
        cropped = -(-((positions - 1) * stride + side - length) // 2)
        # Whether pixel y lies under filter entry i at code position a, for all y, a and i.
        entries = np.arange(length)[:, None] + cropped - stride * np.arange(positions)
        axes.append((entries[..., None] == np.arange(side)).astype(float))
    copies = np.einsum("yai,xbj,fcij->fabcyx", *axes, filters, optimize=True)
    return copies.reshape(-1, copies[0, 0, 0].size).T


def learned_parts(problem: Any, theta: Array) -> tuple[Array, Any, Any]:
    """Return the parts of a problem whose theta ends with the logarithms of the penalties."""
    matrix = shifted(problem, theta[:, :-1].reshape(problem.dictionary.shape))
    penalty = np.repeat(np.exp(theta[:, -1]), matrix.shape[1] // len(theta))
    return matrix, penalty, problem.l2_penalty


class Steps(ClosedForm):
    """Steps of a fixed point, which take complex numbers."""

    def step(self, codes: Any, theta: Any) -> Array:
        """Return the codes after one step."""
        tensors = (torch.as_tensor(each, dtype=torch.complex128) for each in (codes, theta))
        return array(self.problem.step(*tensors))

    def loss(self, codes: Array, theta: Array) -> Any:
        return self.problem.loss(torch.as_tensor(codes), torch.as_tensor(theta)).item()

    def run(self, theta: Array, iterations: range, state: Any = None) -> Any:
        codes = array(self.problem.initial_codes()) if state is None else state.codes
        for _ in iterations:
            codes = self.step(codes, theta)
        return State(codes, codes)  # type: ignore[arg-type]

    def implicit(self, depth: int, direction: Array | None = None) -> Any:
        """Return the implicit gradient, from the Jacobian of the step as a matrix."""
        codes, theta = self.codes(depth), self.theta
        units = np.eye(codes.size).reshape(-1, *codes.shape)
        columns = [self.step(codes + 1j * TINY * unit, theta).imag.ravel() / TINY for unit in units]
        slope = derivative(lambda at: self.loss(at, theta), codes).ravel()
        adjoint = np.linalg.solve(np.eye(codes.size) - np.array(columns), slope)

        def through(theta: Array) -> Any:
            return self.loss(codes, theta) + adjoint @ self.step(codes, theta).ravel()

        return derivative(through, theta, direction)


def least_squares(parts_of: Any, losses_of: Any = dictionary_losses) -> Any:
    """Return what makes the closed form of a problem and an algorithm."""
    return functools.partial(LeastSquares, parts_of=parts_of, losses_of=losses_of)


#: The closed form of each class of problems: a new class needs one.
FORMS: dict[type[Problem], Callable[[Problem, Algorithm], ClosedForm]] = {
    FixedPoint: Steps,
    SparseCoding: least_squares(
        lambda problem, theta: (theta, problem.penalty, problem.l2_penalty)
    ),
    ConvolutionalSparseCoding: least_squares(
        lambda problem, theta: (shifted(problem, theta), problem.penalty, problem.l2_penalty)
    ),
    ThresholdedConvolutionalSparseCoding: least_squares(learned_parts),
    PenaltySelection: least_squares(
        lambda problem, theta: (array(problem.design), np.exp(theta), 0.0),
        lambda form, codes, theta: half_squares(
            codes @ array(form.problem.held_out_design).T
            - array(form.problem.held_out_observations)
        ),
    ),
    Ridge: least_squares(
        lambda problem, theta: (array(problem.dictionary), 0.0, problem.strength + theta),
        lambda form, codes, theta: codes @ array(form.problem.weights),
    ),
}
