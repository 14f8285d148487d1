"""Exact gradients where the inner objective is smooth and strongly convex, and bounds on the error
of any gradient there.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from .. import streams
from ..algorithms.smooth import newton_step
from ..algorithms.unrolling import direct_gradients, through_minimizer
from ..problems import StronglyConvex
from ..problems.linearized import MAX_DENSE, Linearized, conjugate_gradients, norm
from ..problems.strongly_convex import Constants
from .differences import (
    LOSS_IN_STATE,
    LOSS_IN_THETA,
    NEARBY,
    Along,
    FunctionOnLine,
    Move,
    derivative_fault,
    loss_along,
    objective_along,
    part_at_fault,
    random_move,
    stationarity_along,
)
from .records import Certificate, Reference, exactly, finish
from .rounding import rounding_errors

#: Roundings that a sum may collect, in rounding units of the sizes of its terms.
ROUNDINGS = 64
#: Newton steps after which an objective is given up, and turns in which the adjoint is refined.
STEPS, TURNS = 200, 3
#: A Newton step that no longer halves a gradient below this share of its terms changes rounding.
SMALL = 1e-8
#: Random vectors by whose products the norm of the cross derivative is estimated.
PRODUCTS = 10
#: Names of derivatives that differences are compared with.
IN_STATE, HESSIAN = "the objective in the state", "the objective's derivative in the state"
CROSS = "the objective's derivative in theta"
#: Residual of the direction in which the minimizer moves with theta, and most iterations for it.
ROUGHLY, FEW = 1e-2, 100
#: States are moved by at least this many times what the derivative at the minimizer is off, or by
#: one.
RESIDUES = 1e10
#: A claimed modulus is refuted by a curvature below it by more than this share of the largest one.
REFUTED = 1e-10


@dataclass(frozen=True)
class BoundedGradient:
    """A gradient, and bounds on the distance of its state, of its adjoint and of itself from the
    exact ones, in the Euclidean norm.
    """

    gradient: Tensor
    state: float
    adjoint: float
    error: float


class Parts(NamedTuple):
    """Derivatives of objective and loss at a state z, and for an adjoint v."""

    #: ``partial_theta f``, ``partial_z f``, ``H v`` and ``-C^T v``.
    direct: Tensor
    outer: Tensor
    curved: Tensor
    through: Tensor

    @property
    def gradient(self) -> Tensor:
        """The gradient ``partial_theta f - C^T v``, whatever z and v are."""
        return self.direct + self.through

    @property
    def residual(self) -> Tensor:
        """Residual of the system of the adjoint: ``partial_z f - H v``."""
        return self.outer - self.curved


class Roundings(NamedTuple):
    """Bounds on the norms of what rounding changes: in the objective's slope ``partial_z g``, and
    in the derivatives that have the same names in `Parts`.
    """

    slope: float
    direct: float
    outer: float
    curved: float
    through: float


def parts_at(problem: StronglyConvex, codes: Tensor, adjoint: Tensor) -> Parts:
    """Return the derivatives of objective and loss at a state and for an adjoint, without graph."""
    curved = problem.linearized(codes).transposed(adjoint)
    through = through_minimizer(problem, codes, adjoint)
    return Parts(*direct_gradients(problem, codes), curved, through)


def bounded_gradient(problem: StronglyConvex, codes: Tensor, adjoint: Tensor) -> BoundedGradient:
    r"""Bound the error of the gradient G for a state z and an adjoint v, whatever they are.

    With mu the modulus, b the derivative of the outer loss, r = b - H v, and Lipschitz constants in
    the ball of radius d around z,

    .. math:: |z - z^*| \le d = |\partial_z g(z)| / \mu, \qquad
              |v - v^*| \le d_v = (|r| + (L_{Hv} + L_b) d) / \mu, \qquad
              |G - G^*| \le (L_\theta + L_{Cv}) d + |C| d_v ,

    where rounding is added to every norm that was computed, in proportion to the sizes of terms
    before cancellation. The last one does not know in which
    direction z is off, and is often a hundred times the error. One Newton step leads to a state and
    an adjoint whose bound is of second order; the distance of the two gradients, which is computed,
    and that bound are a bound for the first gradient as well, and the smaller one is returned.

    Where the problem has no constants, they are those that differences show, and all this is an
    estimate.
    """
    plain = _first_order_bound(problem, codes, adjoint)
    improved = newton_step(problem, codes)
    residual = parts_at(problem, improved, adjoint).residual
    improved_adjoint = adjoint + problem.solve_active(improved, residual)[0]
    improved_bound = _first_order_bound(problem, improved, improved_adjoint)
    # The difference and its norm are rounded too.
    moved = norm(plain.gradient.double() - improved_bound.gradient) * (1 + 1e-14)
    return replace(plain, error=min(plain.error, moved + improved_bound.error))


def _first_order_bound(problem: StronglyConvex, codes: Tensor, adjoint: Tensor) -> BoundedGradient:
    """Return the gradient for a state and an adjoint with the bounds of first order; a bound that
    is NaN becomes infinite.

    With the names of `bounded_gradient`, and e for the rounding of what its index names,

        d = (|partial_z g| + e_slope) / mu,
        d_v = (|r| + e_outer + e_curved + (L_Hv + L_b) d) / mu,
        |G - G*| <= (L_theta + L_Cv) d + |C| d_v + e_direct + e_through.
    """
    parts, slope = parts_at(problem, codes, adjoint), problem.smooth_gradient(codes)
    # Sums of millions of squares in float32 are off by more than this many roundings.
    residual_size, slope_size, adjoint_size = (
        norm(tensor.double()) for tensor in (parts.residual, slope, adjoint)
    )
    measured = measured_roundings(problem, codes, adjoint, slope, parts)
    mu, unit = problem.curvature, ROUNDINGS * torch.finfo(codes.dtype).eps / 2

    def radius_for(terms: float) -> float:
        """Return d, for the size of the terms of the slope before they cancel."""
        return (slope_size + max(unit * terms, measured.slope)) / mu

    if problem.constants:
        # Constants hold in a ball, whose radius rests on the terms; these do not depend on it.
        radius = radius_for(problem.constants_at(codes).terms)
        constants = problem.constants_at(codes, adjoint, radius)
    else:
        constants = measured_constants(problem, codes, adjoint, parts)
        radius = radius_for(constants.terms)
    rounding = rounding_bounds(constants, unit, adjoint_size, measured)
    system_error = (
        residual_size
        + rounding.outer
        + rounding.curved
        + (constants.hessian + constants.outer) * radius
    )
    adjoint_error = system_error / mu
    error = (constants.direct + constants.cross) * radius + constants.cross_norm * adjoint_error
    error += rounding.direct + rounding.through
    # The bounds are rounded themselves; what is no number bounds nothing.
    bounds = (
        math.inf if math.isnan(bound) else bound * (1 + unit)
        for bound in (radius, adjoint_error, error)
    )
    return BoundedGradient(parts.gradient, *bounds)


def measured_roundings(
    problem: StronglyConvex, codes: Tensor, adjoint: Tensor, slope: Tensor, parts: Parts
) -> Roundings:
    """Estimate how much rounding changes the slope ``partial_z g`` and each of the `Parts`: norms,
    64 times those of the changes that random roundings of all that is computed show.

    The user's functions are called again, with the same seeds at each call. A norm is zero if they
    fail on rounded numbers, or if it is not finite: zero then means that it was not measured.
    """

    def compute() -> tuple[Tensor, ...]:
        return problem.smooth_gradient(codes), *parts_at(problem, codes, adjoint)

    errors = rounding_errors(compute, (slope, *parts))
    return Roundings(*(ROUNDINGS * error for error in errors))


def rounding_bounds(
    constants: Constants, unit: float, adjoint_size: float, measured: Roundings
) -> Roundings:
    """Return the rounding of each part, by the sizes of terms that a problem claims or by
    measurement, whichever is larger: a claim that leaves out terms that cancel is too small.
    """
    hessian = constants.gradient if constants.hessian_terms is None else constants.hessian_terms
    cross = constants.cross_norm if constants.cross_terms is None else constants.cross_terms
    claimed = Roundings(
        slope=constants.terms,
        direct=constants.direct_terms or 0.0,
        outer=constants.outer_terms,
        curved=hessian * adjoint_size,
        through=cross * adjoint_size,
    )
    pairs = zip(claimed, measured, strict=True)
    return Roundings(*(max(unit * claim, estimate) for claim, estimate in pairs))


def measured_constants(
    problem: StronglyConvex, codes: Tensor, adjoint: Tensor, parts: Parts
) -> Constants:
    """Return the constants that differences to a random place around the state show, and for the
    cross derivative an estimate of its Frobenius norm, by its products with random vectors; one
    that is NaN becomes infinite.

    The place is as far away as the minimizer may be, but not so near that rounding is seen. Random
    vectors come from named streams, and are the same in every run.
    """
    random, _ = problem.linearized(codes).random("constants")
    scale, steepness = norm(codes) or 1.0, norm(problem.smooth_gradient(codes))
    eps = torch.finfo(codes.dtype).eps
    distance = max(steepness / problem.curvature, eps ** (1 / 3) * scale)
    distant_parts = parts_at(problem, codes + distance / norm(random) * random, adjoint)
    direct, outer, hessian, cross = (
        norm(part - distant_part) / distance
        for part, distant_part in zip(parts, distant_parts, strict=True)
    )
    vectors = streams.generator(0, "cross derivative").standard_normal((PRODUCTS, *codes.shape))
    images = [through_minimizer(problem, codes, vector) for vector in codes.new_tensor(vectors)]
    constants = {
        "gradient": problem.lipschitz_constant,
        "hessian": hessian,
        "outer": outer,
        "cross": cross,
        "direct": direct,
        "cross_norm": norm(torch.stack(images)) / PRODUCTS**0.5,
        # Terms may cancel in these: random roundings tell more.
        "terms": problem.lipschitz_constant * scale + steepness,
        "outer_terms": norm(parts.outer),
        "direct_terms": norm(parts.direct),
    }
    # At a state that diverged differences overflow, and are no number: nothing bounds the constant.
    return Constants(
        **{name: math.inf if math.isnan(size) else size for name, size in constants.items()}
    )


def strongly_convex_reference(problem: StronglyConvex, target: str) -> Reference:
    """Return the gradient at the minimizer, by Newton's method and conjugate gradients in float64.

    It is certified by `bounded_gradient` where the problem has all constants; otherwise the bound
    is an estimate, and the status ``limit``. The modulus is what the problem claims: curvature at
    the minimizer that is smaller refutes it, and nothing proves it. Where the smallest curvature is
    unknown nothing can refute it either: the status is ``limit`` then. A claim that is refuted, a
    derivative that differences contradict, and an error as large as the gradient make it
    ``uncertified`` or ``degenerate``, with the reason.
    """
    problem = exactly(problem)
    codes, steps = _minimizer(problem)
    adjoint, system = torch.zeros_like(codes), problem.linearized(codes)
    for _ in range(TURNS):
        residual = parts_at(problem, codes, adjoint).residual
        adjoint = adjoint + system.solve(residual)[0]
    bounded, smallest = (
        bounded_gradient(problem, codes, adjoint),
        problem.extreme_curvature(codes, largest=False),
    )
    reason = _fault_of_derivatives(problem, system, codes, adjoint)
    reason, size = reason or _refutation(problem, codes, smallest), norm(bounded.gradient)
    if not (bounded.gradient.isfinite().all() and problem.outer_loss(codes).isfinite()):
        reason = "the outer loss or its derivative is NaN or infinite at the minimizer"
    elif size and not (reason or bounded.error < size):
        reason = (
            f"the error of the gradient may be {bounded.error / size:.2g} times its norm: it is"
            " zero, or give a better conditioned objective, or an initial state nearer to the"
            " minimizer"
        )
    certificate = Certificate(
        samples=1,
        uncertified=int(bool(reason)),
        kkt_residual=norm(problem.smooth_gradient(codes)),
        smallest_eigenvalue=smallest,
        largest_eigenvalue=problem.lipschitz_constant,
        condition_number=problem.lipschitz_constant / problem.curvature,
        code_error=bounded.state,
        iterations=steps,
        modulus=problem.curvature,
    )
    certified = smallest is not None and not problem.lacks_for_certificate
    status = "certified" if certified else "limit"
    return finish(bounded.gradient, bounded.error, codes, target, certificate, reason, status)


def _minimizer(problem: StronglyConvex) -> tuple[Tensor, int]:
    """Return the state that Newton steps from the initial one lead to, until rounding is all that
    they change, 200 at most, and their number.
    """
    codes = problem.initial_codes()
    size = norm(problem.smooth_gradient(codes))
    for steps in range(STEPS):
        after = newton_step(problem, codes)
        remaining = norm(problem.smooth_gradient(after))
        small = remaining <= SMALL * problem.lipschitz_constant * norm(after)
        if not remaining < size / 2 and (small or not remaining < size):
            return codes, steps
        codes, size = after, remaining
    return codes, STEPS


def _refutation(problem: StronglyConvex, codes: Tensor, smallest: float | None) -> str:
    """Return why the claims about the objective, convexity and the modulus, do not hold at codes
    where its curvature is `smallest`; an empty text if they may hold, or it is unknown.
    """
    if smallest is None:
        return ""
    if smallest <= 0:
        return (
            f"the objective is not convex: its curvature is {smallest:.2g} in some direction of the"
            " last state; add a term such as a squared norm"
        )
    if smallest < problem.curvature - REFUTED * problem.lipschitz_constant:
        return (
            f"modulus(theta)={problem.curvature:.6g} is above the curvature {smallest:.6g} at the"
            " minimizer: give a lower bound"
        )
    return ""


def _fault_of_derivatives(
    problem: StronglyConvex, system: Linearized, codes: Tensor, adjoint: Tensor
) -> str:
    """Return why a derivative of objective or loss, which the text names, is contradicted by
    differences; an empty text if all agree. The first that is contradicted ends the comparison.

    Objective, Hessian and loss are compared along random lines, and what the gradient is made of
    along the one that the minimizer takes when theta moves in a random direction. Directions come
    from named streams, and are the same in every run.
    """
    # What is left of the derivative at the minimizer is rounding.
    remaining = norm(problem.smooth_gradient(codes)) / problem.lipschitz_constant
    nearby = random_move(problem, codes, min(RESIDUES * remaining / codes.numel() ** 0.5, 1.0))
    random, moved = nearby.codes, nearby.theta
    assert random is not None and moved is not None

    def line(function: Along, move: Move) -> FunctionOnLine:
        return FunctionOnLine(function, codes, problem.theta, move, nearby)

    curvature = line(stationarity_along(problem, random), Move(random))
    tangent = Move(_tangent(problem, system, codes, moved), moved)
    return (
        derivative_fault(IN_STATE, line(objective_along(problem), Move(random)))
        or derivative_fault(HESSIAN, curvature, exact=True)
        or part_at_fault(line(stationarity_along(problem, adjoint), tangent), HESSIAN, CROSS)
        or part_at_fault(line(loss_along(problem), nearby), LOSS_IN_STATE, LOSS_IN_THETA)
        or part_at_fault(line(loss_along(problem), tangent), LOSS_IN_STATE, LOSS_IN_THETA)
    )


def _tangent(problem: StronglyConvex, system: Linearized, codes: Tensor, moved: Tensor) -> Tensor:
    """Return about the direction, ``dz/dtheta moved``, in which the minimizer moves when theta
    moves in another one; zero where that is not finite.
    """
    below, above = (
        problem.with_theta(problem.theta + sign * NEARBY * moved).smooth_gradient(codes)
        for sign in (-1, 1)
    )
    pull = (below - above) / (2 * NEARBY)
    if not pull.isfinite().all():
        return torch.zeros_like(codes)
    if codes.numel() <= MAX_DENSE:
        return system.solve(pull)[0]
    return conjugate_gradients(
        system.transposed,
        pull,
        problem.active(codes),
        tolerance=ROUGHLY,
        iterations=FEW,
        flat=0.0,
        joint=True,
    ).solution
