"""Layers and their derivatives in numpy, to check estimators against: nothing here uses the rest of
the package.

Functions of the parameter continue analytically off the real axis, because every decision looks
only at real parts. So a step into the complex plane differentiates them without cancellation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Entries are floats, complex numbers or extended floats.
Array = np.ndarray[Any, Any]


def soft(values: Array, threshold: float | complex | Array, nonnegative: bool = False) -> Array:
    """Apply the two-sided soft threshold, or the one-sided one; a complex step passes through both."""
    signs = np.ones_like(values.real) if nonnegative else np.sign(values.real)
    return np.where(signs * values.real > np.real(threshold), values - threshold * signs, 0)


def hard(values: Array, threshold: float | complex | Array, nonnegative: bool = False) -> Array:
    """Keep the values above the threshold in full; a complex step passes through."""
    return np.where(
        (values.real if nonnegative else np.abs(values.real)) > np.real(threshold), values, 0
    )


@dataclass(frozen=True, eq=False)
class Layers:
    """Proximal gradient layers, which extrapolate as FISTA does if `accelerated`.

    The step is a constant: it does not change when theta is differentiated. With `restart` each
    sample drops its momentum where it points uphill by more than rounding. The penalty is
    multiplied by `decay` from layer to layer. If `hard`, entries above the threshold are kept in
    full; the threshold is `cutoff`, or the penalty times the step if that is not given. The `first`
    layers have a step and a cutoff of their own. The `initial` codes (n, p) are zero if not given.
    """

    step: float
    accelerated: bool = False
    restart: bool = False
    decay: float = 1.0
    hard: bool = False
    cutoff: float | None = None
    first: tuple[tuple[float, float | None], ...] = ()
    initial: Array | None = None


def unroll(
    observations: Array,
    parts: tuple[Array, Any, Any],
    layers: Layers,
    iterations: range,
    state: tuple[Array, Array, float | Array] | None = None,
    nonnegative: bool = False,
) -> tuple[Array, Array, float | Array]:
    """Run some layers with a matrix, a penalty and an l2_penalty; return the state (codes,
    extrapolated point, momentum).
    """
    matrix, penalty, l2_penalty = parts
    if state is None:
        initial = (
            np.zeros((len(observations), matrix.shape[1]))
            if layers.initial is None
            else layers.initial
        )
        state = (initial, initial, np.ones((len(observations), 1)))
    codes, point, momentum = state
    for iteration in iterations:
        gradient = (point @ matrix.T - observations) @ matrix + l2_penalty * point
        step, cutoff = [*layers.first[iteration : iteration + 1], (layers.step, layers.cutoff)][0]
        threshold = step * penalty * layers.decay**iteration if cutoff is None else cutoff
        after = (hard if layers.hard else soft)(point - step * gradient, threshold, nonnegative)
        if layers.accelerated:
            following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            pull = (momentum - 1) / following
            if layers.restart:
                back, moved, size = (point - after).real, (after - codes).real, np.abs(after.real)
                noise = (size * (np.abs(back) + np.abs(moved))).sum(1, keepdims=True)
                uphill = (back * moved).sum(1, keepdims=True) > 1e-12 * noise
                pull, following = np.where(uphill, 0.0, pull), np.where(uphill, 1.0, following)
            point, momentum = after + pull * (after - codes), following
        else:
            point = after
        codes = after
    return codes, point, momentum


def complex_step(function: Callable[[Array], Any], at: Array, direction: Array) -> float:
    """Return a directional derivative, exact to rounding, of a function that continues analytically
    off the real axis.
    """
    tiny = 1e-30
    return complex(function(at + 1j * tiny * direction)).imag / tiny


def derivative(function: Callable[[Array], Any], at: Array, direction: Array | None = None) -> Any:
    """Return the derivative along a direction, or all partial derivatives in the shape of `at`;
    exact to rounding.
    """
    if direction is not None:
        return complex_step(function, at, direction)
    directions = np.eye(at.size).reshape(-1, *at.shape)
    return np.array([complex_step(function, at, direction) for direction in directions]).reshape(
        at.shape
    )


def lipschitz_constant(matrix: Array) -> float:
    """Return the largest eigenvalue of ``A^T A``."""
    return float(np.linalg.eigvalsh(matrix.T @ matrix)[-1])


@dataclass(frozen=True, eq=False)
class Model:
    """A problem ``min_z 1/2 |x - A z|^2 + l2_penalty/2 |z|^2 + penalty |z|_1`` whose matrix and
    penalties depend on theta.

    Codes (n, p) and observations (n, m) are flat: one row per sample, whatever axes the problem
    has. The callable `parts` maps theta to the matrix A (m, p), the penalty (a number, or one per
    entry of a code) and the l2_penalty, and `losses` maps codes and theta to the outer loss of each
    sample, both analytically (the losses where no code entry changes sign). If `nonnegative`, all
    codes are >= 0.

    Gradients are those of the mean loss in theta; with a `direction`, only their products with it.
    """

    observations: Array
    theta: Array
    parts: Callable[[Array], tuple[Array, Any, Any]]
    losses: Callable[[Array, Array], Array]
    nonnegative: bool = False

    @property
    def lipschitz_constant(self) -> float:
        """Lipschitz constant L of the gradient of the smooth part."""
        matrix, _, l2_penalty = self.parts(self.theta)
        return lipschitz_constant(matrix) + float(l2_penalty)

    @property
    def frobenius(self) -> float:
        """The wrong L that comes from the Frobenius norm in place of the largest singular value."""
        matrix, _, l2_penalty = self.parts(self.theta)
        return float((matrix**2).sum() + l2_penalty)

    def loss(self, codes: Array, theta: Array) -> Any:
        """Return the mean loss over the samples."""
        return self.losses(codes, theta).mean()

    def codes(
        self, layers: Layers, depth: int, theta: Array | None = None, window: int | None = None
    ) -> Array:
        """Return the codes after `depth` layers; the last `window` run at `theta`, the others at
        the model's own theta.
        """
        theta = self.theta if theta is None else theta
        first = 0 if window is None else max(depth - window, 0)
        state = self._entering(layers, first)
        return unroll(
            self.observations,
            self.parts(theta),
            layers,
            range(first, depth),
            state,
            self.nonnegative,
        )[0]

    # All directions of a derivative enter a window in the same state.
    @functools.lru_cache(maxsize=1)  # noqa: B019
    def _entering(self, layers: Layers, depth: int) -> tuple[Array, Array, float | Array]:
        return unroll(
            self.observations, self.parts(self.theta), layers, range(depth), None, self.nonnegative
        )

    def direct(self, codes: Array, direction: Array | None = None) -> Any:
        """Return ``partial_theta loss`` at the given codes."""
        return derivative(lambda theta: self.loss(codes, theta), self.theta, direction)

    def unrolled(
        self, layers: Layers, depth: int, window: int | None = None, direction: Array | None = None
    ) -> Any:
        """Return the gradient of ``theta -> loss(z_T(theta), theta)`` through the last `window`
        layers, or through all.
        """
        return derivative(
            lambda theta: self.loss(self.codes(layers, depth, theta, window), theta),
            self.theta,
            direction,
        )

    def implicit(self, codes: Array, direction: Array | None = None) -> Any:
        """Return the implicit gradient at the given codes, from a minimum-norm solve on their
        active set.
        """
        matrix, penalty, l2_penalty = self.parts(self.theta)
        hessian = matrix.T @ matrix + l2_penalty * np.eye(matrix.shape[1])
        # A sample's loss depends on no other sample's codes: a step in one column differentiates
        # all rows at once.
        columns = 1e-30j * np.eye(codes.shape[1])
        slopes = [np.asarray(self.losses(codes + column, self.theta)).imag for column in columns]
        slope = np.stack(slopes, 1) / 1e-30 / len(codes)
        # Without a penalty nothing sets entries to zero, and all of them are active.
        active = codes != 0 if np.any(penalty) else np.ones_like(codes, dtype=bool)
        solution = np.zeros_like(codes)
        for row, support, right in zip(solution, active, slope, strict=True):
            row[support] = np.linalg.lstsq(
                hessian[np.ix_(support, support)], right[support], rcond=1e-12
            )[0]

        def contracted(theta: Array) -> Any:
            matrix, penalty, l2_penalty = self.parts(theta)
            stationarity = (
                (codes @ matrix.T - self.observations) @ matrix
                + l2_penalty * codes
                + penalty * np.sign(codes)
            )
            return (stationarity * solution).sum()

        return self.direct(codes, direction) - derivative(contracted, self.theta, direction)
