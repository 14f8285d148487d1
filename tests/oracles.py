"""Closed forms and exact minimizers in numpy to test against; `pudle.conformance.closed_forms`
has the unrolled layers.
"""

from types import SimpleNamespace

import numpy as np
import torch

import pudle
from pudle.conformance import closed_forms
from pudle.conformance.closed_forms import complex_step as complex_step
from pudle.conformance.closed_forms import soft


class Plain(closed_forms.ClosedForm):
    """Layers of the lasso in a dictionary."""

    def parts(self, theta):
        return theta, self.problem.penalty, 0.0


def unroll(
    observations,
    dictionary,
    penalty,
    step,
    depth,
    *,
    accelerated=False,
    nonnegative=False,
):
    """Run `depth` layers from zero codes, and return the codes."""
    problem = SimpleNamespace(
        is_lipschitz=bool,
        observations=torch.as_tensor(observations),
        penalty=penalty,
        nonnegative=nonnegative,
    )
    algorithm = pudle.Fista(step=step) if accelerated else pudle.Ista(step=step)
    return Plain(problem, algorithm).run(dictionary, range(depth)).codes


def burn_in(step, depth):
    """Return the relative error of the derivative through layers of gradient steps along a
    direction of curvature one (Scieur et al. 2022, see MATH in docs); one without any layer.
    """
    return abs(1 - step) ** (depth - 1) * abs(1 + (depth - 1) * step) if depth else 1.0


def outer_loss(observations, dictionary, codes, penalty, loss):
    """Return the mean lasso or reconstruction loss over the samples; analytic in its arguments away
    from zero codes.
    """
    residual = observations - codes @ dictionary.T
    total = 0.5 * (residual * residual).sum()
    if loss == "lasso":
        total = total + penalty * (codes * np.sign(codes.real)).sum()
    return total / len(observations)


def central_difference(function, at, direction, step=1e-5):
    """Return a directional derivative with an error of the order of the squared step."""
    return (function(at + step * direction) - function(at - step * direction)) / (2 * step)


def exact_codes(observations, dictionary, penalty, *, nonnegative=False):
    """Minimize the lasso of every sample in extended precision, by coordinate descent and a refined
    active-set solve.

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
            codes[:, j] = soft(partial, penalty, nonnegative) / gram[j, j]
        if np.abs(codes - before).max() < 1e-12:
            break
    polished = polish(observations, dictionary, penalty, np.sign(codes))
    violation = kkt_violation(observations, dictionary, penalty, polished, nonnegative=nonnegative)
    assert violation.max() < 1e-14, "the oracle did not find the minimizer"
    return polished


def polish(observations, dictionary, penalty, signs):
    """Solve the active normal equations for given signs, refined until exact in extended precision.

    The penalty is one number, or one for each entry of a code.
    """
    penalties = np.broadcast_to(np.longdouble(penalty), signs.shape[1:])
    x, d = observations.astype(np.longdouble), dictionary.astype(np.longdouble)
    codes = np.zeros(signs.shape, dtype=np.longdouble)
    for i, sign in enumerate(signs):
        support = np.flatnonzero(sign)
        if len(support) == 0:
            continue
        atoms = d[:, support]
        inverse = np.linalg.inv((atoms.T @ atoms).astype(float))
        right = atoms.T @ x[i] - penalties[support] * sign[support]
        z = np.zeros(len(support), dtype=np.longdouble)
        for _ in range(6):
            z = z + inverse @ (right - atoms.T @ (atoms @ z))
        codes[i, support] = z
    return codes


def kkt_violation(
    observations,
    dictionary,
    penalty,
    codes,
    *,
    nonnegative=False,
):
    """Return each sample's violation of the lasso's conditions, in extended precision."""
    x, d, z = (array.astype(np.longdouble) for array in (observations, dictionary, codes))
    threshold = np.longdouble(penalty)
    correlation = (x - z @ d.T) @ d
    inactive = np.maximum((correlation if nonnegative else np.abs(correlation)) - threshold, 0)
    violation = np.where(z != 0, np.abs(correlation - threshold * np.sign(z)), inactive)
    if nonnegative:
        violation = np.maximum(violation, np.maximum(-z, 0))
    return violation.max(1)


def exact_loss(
    observations,
    dictionary,
    penalty,
    loss,
    signs,
    *,
    nonnegative=False,
):
    """Return the loss at the exact minimizer with the given signs, and verify these."""
    codes = polish(observations, dictionary, penalty, signs)
    assert (np.sign(codes) == signs).all(), "the support moved within the difference step"
    violation = kkt_violation(observations, dictionary, penalty, codes, nonnegative=nonnegative)
    assert violation.max() < 1e-14
    return outer_loss(observations, dictionary, codes, np.longdouble(penalty), loss)
