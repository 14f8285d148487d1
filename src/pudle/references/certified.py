"""Exact gradients in float64, with a certificate and a bound on their error; none uses what is
under test.

The limit of an algorithm depends on that algorithm and is never certified: see
`pudle.references.limits`.
"""

import dataclasses
import functools
from collections.abc import Callable

import torch
from torch import Tensor

from ..algorithms import Algorithm, Iteration
from ..algorithms.unrolling import differentiable, gradients
from ..errors import InvalidArgument, UnsupportedProblem
from ..problems import (
    ConvolutionalSparseCoding,
    FixedPoint,
    PenaltySelection,
    Problem,
    Ridge,
    SparseCoding,
    StronglyConvex,
)
from ..problems.linearized import norm
from ..validation import check_choice
from .convolutional import ConvolutionalModel
from .differences import (
    LOSS_IN_STATE,
    LOSS_IN_THETA,
    NEARBY,
    STEP_IN_STATE,
    STEP_IN_THETA,
    FunctionOnLine,
    Move,
    fault_of_user_functions,
    loss_along,
    part_at_fault,
    random_move,
    stationarity_along,
)
from .lasso import (
    KKT_TOLERANCE,
    ROUNDING,
    DenseModel,
    LinearModel,
    implicit_gradient,
    lasso_gradient,
    row_norms,
    solve_lasso,
    spectral_norm,
)
from .limits import Converging, limit_reference
from .records import MINIMIZER_TARGETS as MINIMIZER_TARGETS
from .records import SCORED as SCORED
from .records import TARGETS, Certificate, Reference, T, exactly, finish
from .stability import stability
from .strongly_convex import strongly_convex_reference

#: Largest distance, relative to the gradient, between the derivative of a user's solution and the
#: implicit one.
AGREEMENT = 1e-8


def reference(
    problem: Problem, target: str | None = None, algorithm: Algorithm | None = None
) -> Reference:
    """Compute the exact gradient of a problem, certified, or the limit of an algorithm, which is
    not certified.

    The problem is not changed, and nothing is stored. Evidence that does not suffice is no error:
    the reference then has the status ``uncertified`` or ``degenerate``, and the reason.

    Parameters
    ----------
    problem : Problem
        Tensors of any dtype and device; the computation is in float64 on the CPU.
    target : {"exact", "ghat", "gstar", "gtilde", "limit"}, optional
        Which gradient; see `TARGETS`. By default that of `default_target`.
    algorithm : Algorithm, optional
        The algorithm whose limit is wanted; only the target limit uses it. A `FixedPoint` brings
        its own.

    Raises
    ------
    InvalidArgument
        If the target is unknown, or the generating dictionary, the generating codes or the
        algorithm it needs is missing.
    UnsupportedProblem
        If no exact solution is known for this kind of problem.
    """
    target = check_choice("target", target or default_target(problem, algorithm), TARGETS)
    if target != "limit":
        return _solver(problem)(problem, target)
    if isinstance(problem, StronglyConvex):
        # Whatever converges there has one limit.
        return strongly_convex_reference(problem, target)
    if algorithm is None:
        if not isinstance(problem, FixedPoint):
            raise InvalidArgument(
                "no exact solution is known or wanted here, and target='limit' is the limit of an"
                " algorithm: pass it, such as algorithm=pudle.Ista()"
            )
        algorithm = Iteration()
    return limit_reference(problem, algorithm)


def default_target(problem: Problem, algorithm: Algorithm | None = None) -> str:
    """Return ``exact`` where an exact solution is known and the algorithm leads there, else
    ``limit``.

    None is known of a `FixedPoint` without `solution`, of a `StronglyConvex` without all constants,
    of a loss that is a function, and of a kind of problem without a registered solver. Without an
    algorithm only the problem counts.
    """
    if isinstance(problem, FixedPoint):
        solved = problem.solution is not None
    elif isinstance(problem, StronglyConvex):
        solved = not problem.lacks_for_certificate
    else:
        solved = _solver(problem) is not solve.dispatch(object)
        solved = solved and not callable(getattr(problem, "loss", None))
    leads_there = algorithm is None or algorithm.thresholding.proximal
    return "exact" if solved and leads_there else "limit"


def _solver(problem: Problem) -> Callable[..., Reference]:
    """Return the registered solver of a kind of problem, `solve` itself, which refuses, where there
    is none.

    A class that is derived may have another loss, so that it needs its own; only those of
    `FixedPoint` share one.
    """
    kind = FixedPoint if isinstance(problem, FixedPoint) else type(problem)
    return solve.registry.get(kind, solve.dispatch(object))


@functools.singledispatch
def solve(problem: Problem, target: str) -> Reference:
    """Return the reference of one kind of problem, or refuse a kind without a solver
    (UnsupportedProblem); register a solver to make another kind certifiable.

    A solver is registered by the type of problem that it takes::

        @pudle.references.certified.solve.register
        def solve_mine(problem: Mine, target: str) -> pudle.Reference:
            certificate = pudle.Certificate(samples=len(codes))
            return pudle.Reference(gradient, codes, target, bound, certificate)

    Its gradient is that of ``theta -> loss(z(theta), theta)`` in float64, and the bound holds for
    its relative error.
    """
    raise UnsupportedProblem(
        f"reference: no exact solution is known for {type(problem).__name__}: use target='limit',"
        " or register a solver with pudle.references.certified.solve.register"
    )


@solve.register
def _solve_fixed_point(problem: FixedPoint, target: str) -> Reference:
    """Return the gradient of ``theta -> loss(solution(theta), theta)``, for the target ``exact``
    alone.

    The codes must be a fixed point to rounding, stable, and step and loss must agree with their
    differences; otherwise the reference is uncertified. The gradient by automatic differentiation
    of the solver and that by the implicit function theorem share nothing but the loss; the error is
    their distance, and what the solve may have lost. UnsupportedProblem says that there is no
    `solution`.
    """
    problem = _exactly(problem, target)
    if problem.solution is None:
        raise UnsupportedProblem(
            "reference: no exact solution is known for FixedPoint: use target='limit', or give"
            " solution=, a function from theta to the exact state"
        )
    with torch.enable_grad():
        live, theta = differentiable(problem)
        solved = problem.pack(problem.solution(theta))
        (gradient,) = gradients(live.outer_loss(solved), (theta,))
    codes = solved.detach()
    with torch.no_grad():
        residual = float(problem.stationarity(codes).abs().max())
    running = Converging(problem, Iteration(), 1.0)
    implicit = running.implicit(codes, 0)
    condition, size = float(implicit.diagnostics["condition_number"]), norm(gradient)
    # Both gradients have the same loss, and may lose the same digits.
    distance, lost = norm(gradient - implicit.gradient), running.rounding(codes, 0, implicit)
    reason = ""
    if not residual <= KKT_TOLERANCE * max(1.0, float(codes.abs().max())) * len(codes[0]) ** 0.5:
        reason = (
            f"solution(theta) is no fixed point: the step moves it by {residual:.1e}; repair it, or"
            " use target='limit'"
        )
    elif fault := _fault_at_solution(problem, codes, implicit.adjoint):
        reason = fault
    elif not distance <= AGREEMENT * size + lost:
        reason = (
            f"solution(theta) and the implicit function theorem differ by {distance:.1e}: the step"
            " has another derivative than the solution; pudle.audit(problem) tells whether it is"
            " wrong, or use target='limit'"
        )
    elif not (step_stability := stability(problem.linearized(codes))).stable:
        reason = f"the step does not lead to solution(theta), where {step_stability}: damp the step"
    certificate = Certificate(
        1, uncertified=int(bool(reason)), kkt_residual=residual, condition_number=condition
    )
    return finish(gradient, distance + lost, codes, target, certificate, reason)


def _fault_at_solution(problem: FixedPoint, codes: Tensor, adjoint: Tensor) -> str:
    """Return why the loss or the step differs from its derivative, in random directions or where
    the solution goes when theta moves; an empty text if both agree.
    """
    if reason := fault_of_user_functions(problem, codes):
        return reason
    nearby = random_move(problem, codes)
    assert problem.solution is not None and nearby.theta is not None
    with torch.no_grad():
        above, below = (
            problem.pack(problem.solution(problem.theta + sign * NEARBY * nearby.theta))
            for sign in (1, -1)
        )
    moved = (above - below) / (2 * NEARBY)
    if not moved.isfinite().all():
        return ""
    tangent = Move(moved, nearby.theta)
    loss, step = (
        FunctionOnLine(function, codes, problem.theta, tangent, nearby)
        for function in (loss_along(problem), stationarity_along(problem, adjoint))
    )
    return part_at_fault(loss, LOSS_IN_STATE, LOSS_IN_THETA) or part_at_fault(
        step, STEP_IN_STATE, STEP_IN_THETA
    )


@solve.register
def _solve_strongly_convex(problem: StronglyConvex, target: str) -> Reference:
    """Return the gradient at the minimizer, for the target ``exact`` alone; UnsupportedProblem says
    which constants a certificate lacks.
    """
    problem = _exactly(problem, target)
    if lacking := problem.lacks_for_certificate:
        raise UnsupportedProblem(
            f"reference: no exact solution is certified for StronglyConvex without {lacking}: use"
            " target='limit', whose error is estimated, or give them"
        )
    return strongly_convex_reference(problem, target)


@solve.register
def _solve_dictionary(problem: SparseCoding | ConvolutionalSparseCoding, target: str) -> Reference:
    """Return the gradient of a target in the dictionary, from lasso codes solved to rounding error.

    At constant codes, ``gstar`` has those under the generating dictionary, ``gtilde`` the
    generating ones, and ``ghat``, as ``exact`` of the lasso loss without targets, the lasso codes;
    any other is by implicit differentiation. A loss that is a function has no exact gradient
    (UnsupportedProblem), and InvalidArgument says what a target needs.
    """
    if target == "exact" and callable(problem.loss):
        raise UnsupportedProblem(
            "reference: no bound is known for a loss that is a function: use target='limit', whose"
            " error is estimated, or target='ghat' for the lasso's gradient"
        )
    if problem.targets is not None and target in ("gstar", "gtilde"):
        raise InvalidArgument(
            f"target={target!r} is the lasso's formula, which does not hold for a problem with"
            " targets: use target='exact'"
        )
    needed = {"gstar": "generating_dictionary", "gtilde": "generating_codes"}.get(target)
    if needed and getattr(problem, needed) is None:
        raise InvalidArgument(
            f"target={target!r} needs {needed}, which this problem lacks: pass it, or use"
            " target='ghat'"
        )
    problem = exactly(problem)
    model, codes, dictionary = (
        _model(problem),
        problem.generating_codes,
        problem.generating_dictionary,
    )
    if target == "gtilde" and codes is not None:
        zero = float((codes == 0).flatten(1).all(1).double().mean())
        gradient, error = lasso_gradient(model, codes.flatten(1), codes.new_zeros(len(codes)))
        return finish(gradient, error, codes, target, Certificate(len(codes), zero_codes=zero))
    at = model
    if target == "gstar" and dictionary is not None:
        at = _model(dataclasses.replace(problem, dictionary=dictionary))
    solution = solve_lasso(at, problem.penalty, problem.nonnegative)
    penalized = target != "exact" or problem.loss == "lasso"
    if problem.targets is None and penalized:
        gradient, error = lasso_gradient(model, solution.codes, solution.errors)
    else:
        gradient, error = implicit_gradient(
            model, problem.penalty, solution, targets=problem.targets, penalized=penalized
        )
    codes = solution.codes.reshape(problem.code_shape)
    return finish(gradient, error, codes, target, solution.certificate, solution.reason)


def _model(problem: SparseCoding | ConvolutionalSparseCoding) -> LinearModel:
    return DenseModel(problem) if isinstance(problem, SparseCoding) else ConvolutionalModel(problem)


@solve.register
def _solve_penalty_selection(problem: PenaltySelection, target: str) -> Reference:
    """Return the gradient of the mean of ``1/2 |y' - B z|^2`` in the logarithm of the penalty, with
    a bound on its error, for the target ``exact`` alone.

    On a support S with signs s the code is ``z_S = (A_S^T A_S)^{-1} (A_S^T y - penalty s)``. With
    ``v_S = (A_S^T A_S)^{-1} (B^T (B z - y'))_S``, the gradient in the logarithm of entry j's
    penalty is therefore the mean of ``-penalty_j s_j v_j``, summed over j if all entries share one
    penalty. The error of v is at most ``(|B|^2 |dz| + |A_S^T A_S v - b| + rounding) / lambda_min``,
    with b the right-hand side.
    """
    problem = _exactly(problem, target)
    model, penalty, design = DenseModel(problem), problem.penalty, problem.held_out_design
    codes, code_errors, eigenvalues, certificate, reason = solve_lasso(
        model, penalty, problem.nonnegative
    )
    active = codes != 0
    residual = codes @ design.T - problem.held_out_observations
    v, linear_residuals = model.solve_refined(active, (residual @ design) * active)

    spectral = spectral_norm(design)
    # The residual's rounding is that of its terms, before they cancel; it is rounded once more in
    # the product with the design.
    residual_terms = row_norms(problem.held_out_observations) + row_norms(residual)
    residual_terms = residual_terms + row_norms(codes * row_norms(design.T))
    right_terms = (len(design) + active.sum(1).double()).sqrt() * spectral * residual_terms
    product_terms = model.values**0.5 * model.spectral_norm**2 * row_norms(v)
    rounding = ROUNDING * (product_terms + right_terms)
    v_errors = (spectral**2 * code_errors + linear_residuals + rounding) / eigenvalues

    weights = penalty * codes.sign()
    terms = weights * v
    # The sum and the penalty's exponential add roundings in proportion to the sizes of the terms.
    summing = ROUNDING * (codes.shape[1] + len(codes)) ** 0.5 * terms.abs().sum(1)
    error = (row_norms(weights) * v_errors + summing).mean()
    gradient = -terms.mean(0).sum_to_size(problem.log_penalty.shape)
    return finish(gradient, float(error), codes, target, certificate, reason)


@solve.register
def _solve_ridge(problem: Ridge, target: str) -> Reference:
    """Return the gradient of the mean of ``c^T z`` in theta, ``-mean (H^{-1} c)^T z``, by
    eigenvectors of the Hessian H, with a bound on its error, for the target ``exact`` alone.

    With the sensitivity ``w = H^{-1} c``, errors dz and dw change a sample's term ``w^T z`` by at
    most ``|dz| (|w| + |dw|) + |z| |dw|``.
    """
    problem = _exactly(problem, target)
    dictionary, weights, hessian = problem.dictionary, problem.weights, problem.hessian
    spectrum = torch.linalg.eigh(hessian)
    smallest, largest = float(spectrum.eigenvalues[0]), float(spectrum.eigenvalues[-1])
    unit = ROUNDING * sum(dictionary.shape) ** 0.5

    def solve_refined(right: Tensor, right_terms: Tensor) -> tuple[Tensor, Tensor]:
        """Solve ``v H = right`` for each row, refined twice, and return v with the bounds ``(|right
        - v H| + rounding) / lambda_min`` on the rows' errors.

        `right_terms` are the sizes of the terms that the rows were summed from.
        """
        eigenvalues, vectors = spectrum
        solution = torch.zeros_like(right)
        for _ in range(3):
            residual = right - solution @ hessian
            solution = solution + (residual @ vectors / eigenvalues) @ vectors.T
        rounding = unit * (right_terms + largest * row_norms(solution))
        # An eigenvalue is known to the rounding of the largest one.
        curvature = max(smallest - unit * largest, 0.0)
        return solution, (row_norms(right - solution @ hessian) + rounding) / curvature

    # The right-hand side D^T x and the Hessian are themselves rounded sums.
    right_terms = spectral_norm(dictionary) * row_norms(problem.observations)
    right = problem.observations @ dictionary
    codes, code_errors = solve_refined(right, right_terms)
    sensitivity, sensitivity_error = solve_refined(weights[None, :], weights.norm())
    errors = code_errors * (sensitivity.norm() + sensitivity_error)
    errors = errors + row_norms(codes) * sensitivity_error
    certificate = Certificate(
        samples=len(codes),
        kkt_residual=float((right - codes @ hessian).abs().max()),
        smallest_eigenvalue=smallest,
        largest_eigenvalue=largest,
        condition_number=largest / smallest,
        code_error=float(code_errors.max()),
    )
    gradient = -(codes @ sensitivity[0]).mean()
    return finish(gradient, float(errors.mean()), codes, target, certificate)


def _exactly(problem: T, target: str) -> T:
    """Return the problem in float64 on the CPU, or refuse, by InvalidArgument, any target but
    ``exact``.
    """
    if target != "exact":
        raise InvalidArgument(
            f"target={target!r} is defined for sparse coding only: use target='exact' for"
            f" {type(problem).__name__}"
        )
    return exactly(problem)
