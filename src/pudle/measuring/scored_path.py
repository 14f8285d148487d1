"""Times and memories belong to scored gradients: the parameter that a measured call gets, and the
comparison of its result with the one that `sweep`, the scored path, returns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..errors import InvalidArgument
from ..estimator import Estimate, GradientEstimator
from ..problems import Problem
from ..validation import plain_tensor

#: Relative distance between a problem's theta and the one that a measured call gets; in low
#: precision so many rounding units, which rounding cannot hide.
MOVE, MOVE_IN_ROUNDING_UNITS = 1e-6, 1000.0
#: Two gradients are equal up to this share of `MOVE`: one of another theta usually differs by more
#: than half of `MOVE`.
EQUAL = 1 / 64
#: Otherwise they are equal up to this many times the change that rounding theta causes, measured
#: by this many sweeps.
AMPLIFIED, ROUNDED_SWEEPS = 30.0, 3
#: Draws of a stochastic estimator, from each of its two methods; how many standard errors the means
#: may differ by, and how many times the spread of one may be that of the other.
DRAWS, STANDARD_ERRORS, SPREADS = 8, 4.0, 5.0


#: What messages call the tensors of an estimate.
NOUNS = "gradients", "codes"


class Returned(NamedTuple):
    """The tensors of an estimate, copied before the estimator can change them."""

    gradient: Tensor
    codes: Tensor

    @classmethod
    def of(cls, estimate: Estimate) -> Returned:
        """Copy the tensors of an estimate. InvalidArgument refuses what is no dense tensor."""
        copies = []
        for name in cls._fields:
            tensor = plain_tensor(getattr(estimate, name))
            if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
                raise InvalidArgument(f"the {name} of an estimate is no dense tensor")
            copies.append(tensor.detach().clone())
        return cls(*copies)


class OtherGradient(InvalidArgument):
    """An estimator's `estimate` returns something else than its `sweep`."""


def relative_move(dtype: torch.dtype) -> float:
    """Return the relative distance by which theta moves between measured calls."""
    return max(MOVE, MOVE_IN_ROUNDING_UNITS * torch.finfo(dtype).eps)


def at_unseen_theta(problem: Problem, seed: int, move: float | None = None) -> Problem:
    """Return the problem at a parameter that no estimator has seen, as the next step of a training
    would have it.

    Each entry of theta changes by a random relative amount of size `move`, `relative_move` by
    default; if theta is zero, by that amount itself. What a problem keeps between steps stays: its
    Lipschitz constant, and so the step of the unrolled program.
    """
    theta = problem.theta.detach()
    move = relative_move(theta.dtype) if move is None else move
    normal = np.random.default_rng(seed).standard_normal(tuple(theta.shape))
    change = torch.as_tensor(move * normal).to(theta)
    return problem.with_theta(theta + (theta * change if theta.any() else change))


def require_scored(
    estimator: GradientEstimator,
    problem: Problem,
    algorithm: Algorithm,
    depth: int,
    returned: Returned,
    sweep: Callable[[Problem], Estimate],
) -> None:
    """Raise OtherGradient unless `estimate` has returned, at a depth, the gradient and the codes
    that a `sweep` over this and maybe other depths returns there.

    The two may differ by rounding: by `EQUAL`, or by `AMPLIFIED` times as much as the sweep's own
    result changes if theta is rounded differently. Draws of a stochastic estimator are compared by
    their means and spreads.
    """
    scored = Returned.of(sweep(problem))
    for noun, tensor, expected in zip(NOUNS, returned, scored, strict=True):
        if tensor.shape != expected.shape:
            shapes = f"their shapes are {tuple(tensor.shape)} and {tuple(expected.shape)}"
            raise OtherGradient(_disagreement(noun, shapes))
    limits = [EQUAL * relative_move(part.dtype) * _size(part) for part in scored]
    if _first_above(limits, returned, scored) is None:
        return
    if estimator.computes == "stochastic":
        # Draws of the two methods alternate, so that a drift from call to call is in both.
        estimates, sweeps = [], []
        for _ in range(DRAWS):
            estimates.append(estimator.estimate(problem, algorithm, depth))
            sweeps.append(sweep(problem))
        _require_same_distribution(_gradients(estimates), _gradients(sweeps))
        return
    for seed in range(ROUNDED_SWEEPS):
        rounded_problem = at_unseen_theta(problem, seed, torch.finfo(problem.theta.dtype).eps)
        rounded = Returned.of(sweep(rounded_problem))
        changes = [AMPLIFIED * _distance(*pair) for pair in zip(rounded, scored, strict=True)]
        limits = [max(pair) for pair in zip(limits, changes, strict=True)]
    place = _first_above(limits, returned, scored)
    if place is not None:
        tensor, expected = returned[place], scored[place]
        share = _distance(tensor, expected) / max(_size(expected), torch.finfo().tiny)
        numbers = (
            f"they differ by {share:.2g} relatively, with norms {_size(tensor):.3g} and"
            f" {_size(expected):.3g}"
        )
        raise OtherGradient(_disagreement(NOUNS[place], numbers))


def _disagreement(noun: str, difference: str) -> str:
    return (
        f"`estimate` and `sweep` return different {noun} for the same theta: {difference}; scores"
        " are those of `sweep`, times and memories those of `estimate`, so both must compute the"
        " same, and from their arguments only"
    )


def _first_above(limits: Sequence[float], returned: Returned, scored: Returned) -> int | None:
    """Return the index of the first tensor that differs by more than its limit."""
    for place, (limit, tensor, expected) in enumerate(zip(limits, returned, scored, strict=True)):
        # NaN and infinity are scored as such; here they must only agree.
        if not _distance(tensor, expected) <= limit and not torch.equal(
            tensor.nan_to_num(), expected.nan_to_num()
        ):
            return place
    return None


def _gradients(estimates: Iterable[Estimate]) -> Tensor:
    """Stack the gradients of estimates as rows."""
    return torch.stack([Returned.of(each).gradient.double().flatten() for each in estimates])


def _size(tensor: Tensor) -> float:
    return float(tensor.double().norm())


def _distance(first: Tensor, second: Tensor) -> float:
    return float((first.double() - second.double()).norm())


def _require_same_distribution(estimated: Tensor, swept: Tensor) -> None:
    """Raise OtherGradient if draws of `estimate` and of `sweep`, in rows, have different means or
    spreads.
    """
    spreads = [float(draws.var(0).sum().sqrt()) for draws in (estimated, swept)]
    difference = _distance(estimated.mean(0), swept.mean(0))
    standard_error = math.hypot(*spreads) / DRAWS**0.5
    if difference > STANDARD_ERRORS * standard_error or max(spreads) > SPREADS * min(spreads):
        numbers = (
            f"over {DRAWS} draws of each, the means differ by {difference:.2g} (standard error"
            f" {standard_error:.2g}), and the spreads are {spreads[0]:.2g} and {spreads[1]:.2g}"
        )
        raise OtherGradient(_disagreement("gradients", numbers))
