"""Independent truth, in numpy: nothing here uses the rest of the package, whose estimators it is there to judge.

Functions of the parameter continue analytically off the real axis, all decisions resting on real parts, so that a step into
the complex plane differentiates them without cancellation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Entries are floats, complex numbers or extended floats, as the comments say.
Array = np.ndarray[Any, Any]


def soft(values: Array, level: float | complex | Array) -> Array:
    """Soft threshold whose decisions rest on the real part, so that a complex step passes through it."""
    return np.where(np.abs(values.real) > np.real(level), values - level * np.sign(values.real), 0)


def soft_nonnegative(values: Array, level: float | complex | Array) -> Array:
    """One-sided soft threshold, with decisions on the real part."""
    return np.where(values.real > np.real(level), values - level, 0)


def outer_loss(observations: Array, dictionary: Array, codes: Array, penalty: float, loss: str) -> complex:
    """Mean over samples of the lasso or reconstruction loss; analytic in its arguments away from zero codes."""
    residual = observations - codes @ dictionary.T
    total = 0.5 * (residual * residual).sum()
    if loss == "lasso":
        total = total + penalty * (codes * np.sign(codes.real)).sum()
    return total / len(observations)


def unroll(
    observations: Array,
    dictionary: Array,
    penalty: float | complex | Array,
    step: float,
    depth: int,
    *,
    accelerated: bool = False,
    restart: bool = False,
    nonnegative: bool = False,
    l2_penalty: float | complex = 0.0,
    decay: float = 1.0,
    state: tuple[Array, Array, float | Array] | None = None,
    first: int = 0,
) -> tuple[Array, Array, float | Array]:
    """Run `depth` proximal gradient layers; a state is (codes, extrapolated point, momentum).

    The penalty falls by the factor `decay` from layer to layer, the first of these being number `first`. With `restart`
    each sample drops its momentum, one per sample then, where it points uphill.
    """
    if state is None:
        zeros = np.zeros((len(observations), dictionary.shape[1]))
        state = (zeros, zeros, 1.0)
    codes, point, momentum = state
    threshold = soft_nonnegative if nonnegative else soft
    for iteration in range(first, first + depth):
        gradient = (point @ dictionary.T - observations) @ dictionary + l2_penalty * point
        after = threshold(point - step * gradient, step * penalty * decay**iteration)
        if accelerated:
            following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            pull = (momentum - 1) / following
            if restart:
                uphill = ((point - after) * (after - codes)).real.sum(1, keepdims=True) > 0
                pull, following = np.where(uphill, 0.0, pull), np.where(uphill, 1.0, following)
            point, momentum = after + pull * (after - codes), following
        else:
            point = after
        codes = after
    return codes, point, momentum


def unrolled_loss(
    observations: Array,
    at: Array,
    penalty: float,
    loss: str,
    step: float,
    depth: int,
    *,
    accelerated: bool = False,
    window: int | None = None,
    frozen: Array | None = None,
) -> complex:
    """Loss of dictionary `at` after `depth` layers, all but the last `window` of which run in the dictionary `frozen`."""
    window = depth if window is None else min(window, depth)
    state = None
    if window < depth:
        assert frozen is not None, "a window needs the dictionary of the layers before it"
        state = unroll(observations, frozen, penalty, step, depth - window, accelerated=accelerated)
    codes, _, _ = unroll(observations, at, penalty, step, window, accelerated=accelerated, state=state)
    return outer_loss(observations, at, codes, penalty, loss)


def central_difference(function: Callable[[Array], Any], at: Array, direction: Array, step: float = 1e-5) -> Any:
    """Directional derivative with an error of the order of the squared step."""
    return (function(at + step * direction) - function(at - step * direction)) / (2 * step)


def complex_step(function: Callable[[Array], Any], at: Array, direction: Array) -> float:
    """Directional derivative to rounding error, for functions that continue analytically off the real axis."""
    tiny = 1e-30
    return complex(function(at + 1j * tiny * direction)).imag / tiny


def complex_gradient(function: Callable[[Array], Any], at: Array) -> Array:
    """All partial derivatives to rounding error, shape of `at`."""
    gradient = np.zeros(at.shape)
    for index in np.ndindex(at.shape):
        direction = np.zeros(at.shape)
        direction[index] = 1.0
        gradient[index] = complex_step(function, at, direction)
    return gradient


def largest_curvature(dictionary: Array) -> float:
    """Largest eigenvalue of ``D^T D``."""
    return float(np.linalg.eigvalsh(dictionary.T @ dictionary)[-1])


def exact_codes(observations: Array, dictionary: Array, penalty: float, *, nonnegative: bool = False) -> Array:
    """Minimizers of every sample's lasso, in extended precision, by coordinate descent and a refined active-set solve.

    Raises
    ------
    AssertionError
        If a code misses the optimality conditions in extended precision.
    """
    gram, correlation = dictionary.T @ dictionary, observations @ dictionary
    codes = np.zeros_like(correlation)
    for _ in range(20_000):
        before = codes.copy()
        for j in range(codes.shape[1]):
            partial = correlation[:, j] - codes @ gram[:, j] + gram[j, j] * codes[:, j]
            shrunk = np.maximum(partial - penalty, 0) if nonnegative else soft(partial, penalty)
            codes[:, j] = shrunk / gram[j, j]
        if np.abs(codes - before).max() < 1e-12:
            break
    polished = polish(observations, dictionary, penalty, np.sign(codes))
    violation = kkt_violation(observations, dictionary, penalty, polished, nonnegative=nonnegative)
    assert violation.max() < 1e-14, "the oracle did not find the minimizer"
    return polished


def polish(observations: Array, dictionary: Array, penalty: float, signs: Array) -> Array:
    """Solve the active normal equations for given signs, refined until exact in extended precision."""
    x, d = observations.astype(np.longdouble), dictionary.astype(np.longdouble)
    codes = np.zeros(signs.shape, dtype=np.longdouble)
    for i, sign in enumerate(signs):
        support = np.flatnonzero(sign)
        if len(support) == 0:
            continue
        atoms = d[:, support]
        inverse = np.linalg.inv((atoms.T @ atoms).astype(float))
        right = atoms.T @ x[i] - np.longdouble(penalty) * sign[support]
        z = np.zeros(len(support), dtype=np.longdouble)
        for _ in range(6):
            z = z + inverse @ (right - atoms.T @ (atoms @ z))
        codes[i, support] = z
    return codes


def kkt_violation(
    observations: Array, dictionary: Array, penalty: float, codes: Array, *, nonnegative: bool = False
) -> Array:
    """Violation of the lasso's optimality conditions per sample, in extended precision."""
    x, d, z = (array.astype(np.longdouble) for array in (observations, dictionary, codes))
    level = np.longdouble(penalty)
    correlation = (x - z @ d.T) @ d
    inactive = np.maximum((correlation if nonnegative else np.abs(correlation)) - level, 0)
    violation = np.where(z != 0, np.abs(correlation - level * np.sign(z)), inactive)
    if nonnegative:
        violation = np.maximum(violation, np.maximum(-z, 0))
    return violation.max(1)


def exact_loss(
    observations: Array, dictionary: Array, penalty: float, loss: str, signs: Array, *, nonnegative: bool = False
) -> np.longdouble:
    """Loss at the exact minimizer, whose signs are known and verified."""
    codes = polish(observations, dictionary, penalty, signs)
    assert (np.sign(codes) == signs).all(), "the support moved within the difference step"
    assert kkt_violation(observations, dictionary, penalty, codes, nonnegative=nonnegative).max() < 1e-14
    d, x = dictionary.astype(np.longdouble), observations.astype(np.longdouble)
    residual = x - codes @ d.T
    total = (residual * residual).sum() / 2
    if loss == "lasso":
        total = total + np.longdouble(penalty) * np.abs(codes).sum()
    return total / len(x)


class RidgeOracle:
    """Gradient steps on ``1/2 |x - D z|^2 + (strength + theta)/2 |z|^2`` from zero codes, in its eigenbasis.

    There ``z_t = b (1 - (1 - eta h)^t) / h`` per eigenvalue h, with b the coefficients of ``D^T x``; everything else is a
    derivative of that in h.
    """

    def __init__(self, observations: Array, dictionary: Array, strength: float, weights: Array, step: float) -> None:
        gram = dictionary.T @ dictionary
        values, self.vectors = np.linalg.eigh(gram)
        self.h = values + strength
        self.b = observations @ dictionary @ self.vectors
        self.c = self.vectors.T @ weights
        self.step = step

    def _coordinates(self, depth: int) -> Array:
        return self.b * (1 - (1 - self.step * self.h) ** depth) / self.h

    def codes(self, depth: int) -> Array:
        return self._coordinates(depth) @ self.vectors.T

    def unrolled(self, depth: int) -> float:
        """Mean of ``c^T dz_T/dtheta``."""
        return self.truncated(depth, depth)

    def truncated(self, depth: int, window: int) -> float:
        """The same with the codes that enter the last `window` layers held constant."""
        window = min(window, depth)
        if window == 0:
            return 0.0
        h, step = self.h, self.step
        entering = self._coordinates(depth - window)
        contraction = 1 - step * h
        slope = -window * step * contraction ** (window - 1)
        sensitivity = entering * slope - self.b * slope / h - self.b * (1 - contraction**window) / h**2
        return float((sensitivity @ self.c).mean())

    def implicit(self, depth: int) -> float:
        """Mean of ``-c^T H^{-1} z_T``."""
        return float((-self._coordinates(depth) / self.h @ self.c).mean())

    def exact(self) -> float:
        """Mean of ``c^T dz/dtheta`` at the minimizer."""
        return float((-self.b / self.h**2 @ self.c).mean())


@dataclass(frozen=True)
class Layers:
    """What is unrolled: proximal gradient layers, plain or accelerated.

    Attributes
    ----------
    step : float
        A constant of the program: it does not move while theta is differentiated.
    accelerated, restart, decay
        As in `unroll`.
    initial : array, optional
        Codes before the first layer, shape (n, p); zeros where not given.
    """

    step: float
    accelerated: bool = False
    restart: bool = False
    decay: float = 1.0
    initial: Array | None = None


@dataclass(frozen=True, eq=False)
class Model:
    """A problem ``min_z 1/2 |x - A z|^2 + l2_penalty/2 |z|^2 + penalty |z|_1`` per sample, all of it depending on theta.

    Codes and observations are flat: one row per sample, whatever axes the problem has.

    Attributes
    ----------
    observations : array, shape (n, m)
    theta : array
        The outer parameter; gradients have its shape.
    parts : callable
        Maps theta to the matrix A (m, p), the penalty and the l2_penalty, analytically.
    loss : callable
        Maps codes (n, p) and theta to the outer loss, analytically where no code entry changes sign.
    nonnegative : bool
        Whether the codes are restricted to the non-negative orthant.
    """

    observations: Array
    theta: Array
    parts: Callable[[Array], tuple[Array, Any, Any]]
    loss: Callable[[Array, Array], Any]
    nonnegative: bool = False

    @property
    def lipschitz_constant(self) -> float:
        """Largest curvature L of the smooth part."""
        matrix, _, l2_penalty = self.parts(self.theta)
        return largest_curvature(matrix) + float(l2_penalty)

    @property
    def frobenius(self) -> float:
        """What takes the place of L where a Frobenius norm is mistaken for the largest singular value."""
        matrix, _, l2_penalty = self.parts(self.theta)
        return float((matrix**2).sum() + l2_penalty)

    def codes(self, layers: Layers, depth: int, theta: Array | None = None, window: int | None = None) -> Array:
        """Codes after `depth` layers, the last `window` of which run at `theta` and the others at the model's own."""
        theta = self.theta if theta is None else theta
        window = depth if window is None else min(window, depth)
        state = None
        if layers.initial is not None:
            state = (layers.initial, layers.initial, np.ones((len(self.observations), 1)) if layers.restart else 1.0)
        for at, first, count in ((self.theta, 0, depth - window), (theta, depth - window, window)):
            matrix, penalty, l2_penalty = self.parts(at)
            state = unroll(
                self.observations,
                matrix,
                penalty,
                layers.step,
                count,
                accelerated=layers.accelerated,
                restart=layers.restart,
                nonnegative=self.nonnegative,
                l2_penalty=l2_penalty,
                decay=layers.decay,
                state=state,
                first=first,
            )
        assert state is not None
        return state[0]

    def direct(self, codes: Array) -> Array:
        """``partial_theta loss`` at given codes."""
        return complex_gradient(lambda theta: self.loss(codes, theta), self.theta)

    def unrolled(self, layers: Layers, depth: int, window: int | None = None) -> Array:
        """Gradient of ``theta -> loss(z_T(theta), theta)`` through the last `window` layers, or through all of them."""
        return complex_gradient(lambda theta: self.loss(self.codes(layers, depth, theta, window), theta), self.theta)

    def implicit(self, codes: Array) -> Array:
        """The implicit function theorem at given codes, on their active set, solved in the minimum-norm sense."""
        matrix, penalty, l2_penalty = self.parts(self.theta)
        hessian = matrix.T @ matrix + l2_penalty * np.eye(matrix.shape[1])
        slope = complex_gradient(lambda z: self.loss(z, self.theta), codes)
        # Without a penalty nothing sets entries to zero, and all of them are active.
        active = codes != 0 if np.any(penalty) else np.ones_like(codes, dtype=bool)
        solution = np.zeros_like(codes)
        for row, support, right in zip(solution, active, slope, strict=True):
            row[support] = np.linalg.lstsq(hessian[np.ix_(support, support)], right[support], rcond=1e-12)[0]

        def contracted(theta: Array) -> Any:
            matrix, penalty, l2_penalty = self.parts(theta)
            stationarity = (codes @ matrix.T - self.observations) @ matrix + l2_penalty * codes + penalty * np.sign(codes)
            return (stationarity * solution).sum()

        return self.direct(codes) - complex_gradient(contracted, self.theta)
