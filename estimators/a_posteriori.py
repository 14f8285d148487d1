"""Implicit differentiation at the first state whose gradient is known to be accurate enough."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, log

import torch

from pudle.algorithms.requirements import SMOOTH
from pudle.algorithms.unrolling import check_depths, direct_gradients
from pudle.estimator import Algorithm, Estimate, Problem, State, SweepEstimator
from pudle.problems import StronglyConvex
from pudle.problems.linearized import norm
from pudle.references.strongly_convex import bounded_gradient
from pudle.validation import check_options

#: Layers before the first check.
FIRST = 4
#: No check waits for a bound smaller by more than this factor: early ones say little.
LEAST = 1e-6


@dataclass(frozen=True)
class APosteriori(SweepEstimator):
    r"""The gradient G of `analytic` at the first checked state where a bound says that its relative
    error is at most `error`.

    .. math:: \mathrm{bound} \le \mathrm{error} \cdot (|G| - \mathrm{bound})

    with the bound of `pudle.references.strongly_convex.bounded_gradient`, which holds where the
    problem has constants, and is an estimate elsewhere. The depth is a cap: where it is reached
    first, the estimate is that of `analytic` there, and ``unfinished`` in the diagnostics is one.

    A check costs an adjoint solve, and for the bound a Newton step and another solve. So few are
    made. The first comes after 4 layers. The bound falls with :math:`|\partial_z g|`, in proportion
    to it near the minimizer and to its square before: the next check is due where that is small
    enough by the power p in between that the last two checks show, at first 2. What a
    layer changes stands for :math:`|\partial_z g|`, because it is there at no cost.

    The bound's Newton step leads to a better gradient. That is not returned, because it belongs to
    no state of the algorithm; whoever wants Newton steps runs `newton_cg`.

    Cost: at most T layers forward, three solves for each of ``checks`` in the diagnostics; memory
    independent of T.

    Parameters
    ----------
    error : float
        Largest relative error, in (0, 1).
    """

    error: float = 1e-3

    name = "a_posteriori"
    aliases = ("maid",)
    references = (
        "Salehi, Mukherjee, Roberts and Ehrhardt, An adaptively inexact first-order method for"
        " bilevel optimization with application to hyperparameter learning, 2023",
    )
    computes = "approximate"
    consistent_for = ()
    needs = (SMOOTH,)
    instead = "analytic"

    def __post_init__(self) -> None:
        check_options(self, below_one=("error",))

    def sweep(
        self, problem: Problem, algorithm: Algorithm, depths: Sequence[int]
    ) -> Iterator[Estimate]:
        """Run the algorithm once, to the state that is accurate enough or to the largest depth, and
        yield the estimate at each depth, in the order given.
        """
        depths = check_depths(depths)
        caps = sorted({*depths})
        ends = dict(zip(caps, self._ends(problem, algorithm, caps), strict=True))
        for depth in depths:
            # Caps beyond the end share a tensor, which a caller may change in place.
            yield replace(ends[depth], gradient=ends[depth].gradient.clone())

    @torch.no_grad()
    def _ends(
        self, problem: Problem, algorithm: Algorithm, caps: Sequence[int]
    ) -> Iterator[Estimate]:
        """Run the algorithm, and yield the estimate for each of some caps, which ascend: at the
        first checked state that is accurate enough, or at the cap.

        A check at one cap counts for the later ones; checks are few, see the class.
        """
        state, step = algorithm.start(problem), algorithm.step_size(problem)
        checks: list[Estimate] = []
        is_accurate, due, earlier = False, inf, None
        for cap in caps:
            while not is_accurate and state.iteration < cap:
                codes_before = state.codes
                state = algorithm.advance(problem, state, step)
                change = norm(state.codes - codes_before)
                if state.iteration < FIRST or not change < due:
                    continue
                estimate, share = self._estimate_at(problem, state, len(checks) + 1)
                checks.append(estimate)
                is_accurate, share = share >= 1, max(share, LEAST)
                due = due_change(change, share, earlier)
                earlier = change, share
            at_cap = checks and checks[-1].codes is state.codes
            yield checks[-1] if at_cap else self._estimate_at(problem, state, len(checks) + 1)[0]

    def _estimate_at(self, problem: Problem, state: State, checks: int) -> tuple[Estimate, float]:
        """Return the estimate at a state, and the largest bound allowed as a share of its bound,
        infinite if that is zero: accurate enough from one on.

        Allowed is ``error / (1 + error)`` times the gradient's norm. The adjoint system is solved
        for; `checks` goes to the diagnostics.
        """
        assert isinstance(problem, StronglyConvex)  # as `needs` says
        _, code_gradient = direct_gradients(problem, state.codes)
        adjoint, _ = problem.solve_active(state.codes, code_gradient)
        bounded = bounded_gradient(problem, state.codes, adjoint)
        bound, allowed = bounded.error, self.error / (1 + self.error) * norm(bounded.gradient)
        diagnostics = {
            "layers": state.iteration,
            "checks": checks,
            "bound": bound,
            "unfinished": int(not bound <= allowed),
        }
        return Estimate(
            bounded.gradient, state.codes, diagnostics
        ), allowed / bound if bound else inf


def due_change(change: float, share: float, earlier: tuple[float, float] | None) -> float:
    """Return the change by a layer below which the next check is due, after one at `change`, whose
    bound is ``1 / share`` times the largest one allowed.

    Where the bound falls as a power p of the change, it is small enough at ``change share^(1/p)``.
    The power is what this check and the one before, its change and its share in `earlier`, show, at
    least 1 and at most 2; without one before it is 2.
    """
    power = 2.0
    # A layer that changes nothing is the last to be checked.
    if earlier and change:
        earlier_change, earlier_share = earlier
        power = log(share / earlier_share) / log(earlier_change / change)
    target: float = change * share ** (1 / min(max(power, 1.0), 2.0))
    return target
