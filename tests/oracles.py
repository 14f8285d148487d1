"""Independent truth, in numpy: nothing here uses the package under test."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def soft(values: Array, level: float) -> Array:
    """Soft threshold whose decisions rest on the real part, so that a complex step passes through it."""
    return np.where(np.abs(values.real) > level, values - level * np.sign(values.real), 0)


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
    penalty: float,
    step: float,
    depth: int,
    *,
    accelerated: bool = False,
    nonnegative: bool = False,
    state: tuple[Array, Array, float] | None = None,
) -> tuple[Array, Array, float]:
    """Run `depth` proximal gradient layers; a state is (codes, extrapolated point, momentum)."""
    if state is None:
        zeros = np.zeros((len(observations), dictionary.shape[1]))
        state = (zeros, zeros, 1.0)
    codes, point, momentum = state
    for _ in range(depth):
        moved = point - step * (point @ dictionary.T - observations) @ dictionary
        if nonnegative:
            after = np.where(moved.real > step * penalty, moved - step * penalty, 0)
        else:
            after = soft(moved, step * penalty)
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        point = after + (momentum - 1) / following * (after - codes) if accelerated else after
        codes, momentum = after, following
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
        state = unroll(observations, frozen, penalty, step, depth - window, accelerated=accelerated)
    codes, _, _ = unroll(observations, at, penalty, step, window, accelerated=accelerated, state=state)
    return outer_loss(observations, at, codes, penalty, loss)


def central_difference(function, at: Array, direction: Array, step: float = 1e-5) -> float:
    """Directional derivative with an error of the order of the squared step."""
    return (function(at + step * direction) - function(at - step * direction)) / (2 * step)


def complex_step(function, at: Array, direction: Array) -> float:
    """Directional derivative to rounding error, for functions that continue analytically off the real axis."""
    tiny = 1e-30
    return complex(function(at + 1j * tiny * direction)).imag / tiny


def largest_curvature(dictionary: Array) -> float:
    """Largest eigenvalue of ``D^T D``."""
    return float(np.linalg.eigvalsh(dictionary.T @ dictionary)[-1])


def exact_codes(observations: Array, dictionary: Array, penalty: float, *, nonnegative: bool = False) -> Array:
    """Minimisers of every sample's lasso, in extended precision, by coordinate descent and a refined active-set solve.

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
    assert violation.max() < 1e-14, "the oracle did not find the minimiser"
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
    """Loss at the exact minimiser, whose signs are known and verified."""
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
        """Mean of ``c^T dz/dtheta`` at the minimiser."""
        return float((-self.b / self.h**2 @ self.c).mean())
