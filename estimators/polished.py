"""Implicit differentiation at codes that one Newton step on their support has improved."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pudle.estimator import (
    ActiveSystemEstimator,
    Algorithm,
    Contribution,
    Diagnostics,
    Problem,
    State,
)


@dataclass(frozen=True)
class Polished(ActiveSystemEstimator):
    r"""The gradient of `analytic` one Newton step beyond the codes z_T, on their active set S.

    With F the gradient of the inner objective on S, and H its Jacobian there,

    .. math:: \tilde z_S = (z_T)_S - H_{SS}^{-1} F(z_T), \qquad
              v_S = H_{SS}^{-1} (\partial_z \ell(\tilde z))_S, \qquad
              g = \partial_\theta \ell(\tilde z) - (\partial_\theta F(\tilde z))_S^\top v_S .

    Where the smooth part is quadratic, as in sparse coding, F is linear as long as no sign changes:
    the step ends in the minimizer, and the gradient is exact up to rounding, from the depth at
    which S and its signs are right. Elsewhere it squares the error of the codes.

    A sample keeps z_T where the step cannot be trusted, and the diagnostics count why:
    ``kept_flipped``, an entry would change its sign; ``kept_singular``, the system is singular and
    has no solution; ``kept_rising``, F would not become smaller. The codes of the estimate are z_T.

    Cost: T layers forward, two solves per sample; memory independent of T.
    """

    name = "polished"
    references = (
        "Mairal, Bach and Ponce, Task-driven dictionary learning, IEEE Transactions on Pattern"
        " Analysis and Machine Intelligence 2012",
    )
    computes = "approximate"

    def gradients_at(
        self, problem: Problem, algorithm: Algorithm, states: list[State]
    ) -> Iterator[Contribution]:
        """Yield the gradient of `analytic` at the codes after a Newton step; the diagnostics count
        both solves, and the samples that keep their codes.
        """
        for state in states:
            codes, unpolished = newton_step(problem, state.codes)
            at = [replace(state, codes=codes, point=codes)]
            for gradient, diagnostics, *_ in super().gradients_at(problem, algorithm, at):
                yield gradient, {**diagnostics, "solves": 2 * diagnostics["solves"], **unpolished}


@torch.no_grad()
def newton_step(problem: Problem, codes: Tensor) -> tuple[Tensor, Diagnostics]:
    """Return the codes after a Newton step on their active set, and how many samples keep theirs,
    by reason.

    The diagnostics are ``kept_flipped``, ``kept_singular`` and ``kept_rising``; all samples are one
    if the problem is `joint`.
    """
    active, rows = problem.active(codes), 1 if problem.joint else len(codes)

    def slope(codes: Tensor) -> Tensor:
        return torch.where(active, problem.stationarity(codes), 0)

    step, solved = problem.solve_tangent(codes, slope(codes))
    after = codes - step
    flipped = (problem.piece(after) != problem.piece(codes)).reshape(rows, -1).any(1)
    before: Tensor = slope(codes).reshape(rows, -1).norm(dim=1)
    remaining: Tensor = slope(after).reshape(rows, -1).norm(dim=1)
    # What a solve leaves of F is what no solution has: rounding, unless the system is singular.
    unsolved: Tensor = remaining > torch.finfo(codes.dtype).eps ** 0.5 * before
    singular = ~flipped & unsolved & bool(solved["singular"])
    rising = ~flipped & ~singular & ~(remaining <= before)
    unchanged = (flipped | singular | rising).reshape(-1, *[1] * (codes.ndim - 1))
    return torch.where(unchanged, codes, after), {
        "kept_flipped": int(flipped.sum()),
        "kept_singular": int(singular.sum()),
        "kept_rising": int(rising.sum()),
    }
