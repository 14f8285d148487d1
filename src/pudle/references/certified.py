"""The exact gradient, in float64, with a certificate and a bound on its error.

Accelerated proximal gradient finds the support of a lasso, the active normal equations are then solved exactly, and the
optimality conditions decide whether the support was right (`pudle.references.lasso`). Nothing here uses an estimator or an
algorithm under test; the one target that is a matter of the algorithm, its limit, lives in `pudle.references.limits` and is
never certified.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InvalidArgument, UnsupportedProblem
from ..problems import Problem, Ridge, SparseCoding
from ..problems.convolutional import ConvolutionalSparseCoding
from ..problems.learned_penalties import ThresholdedConvolutionalSparseCoding
from ..problems.penalty_selection import PenaltySelection
from ..validation import check_choice
from .convolutional import ConvolutionalModel
from .lasso import ROUNDING, DenseModel, LassoSolution, LinearModel, implicit_gradient, lasso_gradient, solve_lasso

if TYPE_CHECKING:
    from ..algorithms import Algorithm

TARGETS = {
    "exact": "gradient of theta -> loss(z(theta), theta) at the minimizer z(theta)",
    "ghat": "exact gradient of the lasso loss, whatever the problem's loss",
    "gstar": "the lasso formula with the lasso codes under the generating dictionary",
    "gtilde": "the lasso formula with the generating codes themselves",
    "limit": "gradient of theta -> loss(z(theta), theta) at the codes z(theta) that the same algorithm comes to rest at",
}
#: Targets that rest on the minimizer of the inner problem: wrong for a rule that does not lead there.
MINIMIZER_TARGETS = ("exact", "ghat")
#: Statuses of a reference that estimates are scored against.
SCORED = ("certified", "limit")


@dataclass(frozen=True)
class Certificate:
    """Evidence that a reference is what it claims to be; extremes over the samples.

    Attributes
    ----------
    samples : int
    uncertified : int
        Samples for which the evidence does not suffice.
    kkt_residual : float
        Largest violation of the optimality conditions.
    smallest_eigenvalue : float
        Of the active Gram (Hessian) matrices; infinite where no sample has an active entry.
    condition_number : float
        Largest of the active Gram matrices.
    dual_margin : float
        Smallest distance of an inactive correlation from the threshold.
    smallest_amplitude : float
        Smallest active code entry.
    code_error : float
        Largest bound on the Euclidean error of a code.
    zero_codes : float
        Share of samples whose code is all zero.
    iterations : int
        Accelerated iterations that the slowest sample took.
    """

    samples: int
    uncertified: int = 0
    kkt_residual: float = 0.0
    smallest_eigenvalue: float = float("inf")
    condition_number: float = 1.0
    dual_margin: float = float("inf")
    smallest_amplitude: float = float("inf")
    code_error: float = 0.0
    zero_codes: float = 0.0
    iterations: int = 0


@dataclass(frozen=True, eq=False)
class Reference:
    """The truth that estimates are scored against, in float64 on the CPU.

    Attributes
    ----------
    gradient : Tensor
        Shape of theta.
    codes : Tensor
        The codes it was computed from.
    target : str
        Which truth: a key of `TARGETS`.
    bound : float
        Bound on ``|gradient - truth| / |truth|`` in the Euclidean (Frobenius) norm.
    certificate : Certificate
    status : str
        ``certified``, ``limit`` (where the algorithm came to rest: scored against, but its bound is an estimate), or, not
        to be scored against, ``uncertified`` or ``degenerate`` (the gradient is zero).
    reason : str
        Why it is not certified; empty where it is.
    """

    gradient: Tensor
    codes: Tensor
    target: str
    bound: float
    certificate: Certificate
    status: str = "certified"
    reason: str = ""


def reference(problem: Problem, target: str = "exact", algorithm: Algorithm | None = None) -> Reference:
    """Compute the exact gradient of a problem, certified; or the limit of an algorithm, which is not.

    Parameters
    ----------
    problem : Problem
        Tensors of any dtype and device; the computation is in float64 on the CPU.
    target : {"exact", "ghat", "gstar", "gtilde", "limit"}
        Which truth; see `TARGETS`.
    algorithm : Algorithm, optional
        Whose limit; needed for the target limit, of no influence on the others.

    Raises
    ------
    InvalidArgument
        If the target is unknown, or the generating dictionary, the generating codes or the algorithm it needs is missing.
    UnsupportedProblem
        If no exact solution is known for this kind of problem.
    """
    check_choice("target", target, TARGETS)
    if target != "limit":
        return solve(problem, target)
    if algorithm is None:
        raise InvalidArgument("target='limit' is the limit of an algorithm: pass it, or use target='exact'")
    # Imported late: it builds on the records above.
    from .limits import limit_reference

    return limit_reference(problem, algorithm)


@functools.singledispatch
def solve(problem: Problem, target: str) -> Reference:
    """Dispatch on the kind of problem; register a solver here to make a new kind of problem scorable."""
    raise UnsupportedProblem(
        f"reference: no exact solution is known for {type(problem).__name__}: "
        f"register one with pudle.references.certified.solve.register"
    )


@solve.register
def _solve_sparse_coding(problem: SparseCoding, target: str) -> Reference:
    observations = _exactly(problem.observations)
    return _solve_l1(problem, target, lambda dictionary: DenseModel(observations, dictionary, problem.l2_penalty))


@solve.register
def _solve_convolutional(problem: ConvolutionalSparseCoding, target: str) -> Reference:
    observations = _exactly(problem.observations)

    def model(dictionary: Tensor) -> LinearModel:
        return ConvolutionalModel(
            ConvolutionalSparseCoding(
                observations=observations,
                dictionary=dictionary,
                penalty=problem.penalty,
                stride=problem.stride,
                l2_penalty=problem.l2_penalty,
            )
        )

    return _solve_l1(problem, target, model)


@solve.register
def _solve_thresholded(problem: ThresholdedConvolutionalSparseCoding, target: str) -> Reference:
    raise UnsupportedProblem(
        f"reference: target={target!r} is not known for {type(problem).__name__}: use target='limit', or learn a penalty by "
        f"PenaltySelection"
    )


def _solve_l1(
    problem: SparseCoding | ConvolutionalSparseCoding, target: str, model_at: Callable[[Tensor], LinearModel]
) -> Reference:
    """Gradient in the dictionary, for any linear model of it."""
    model = model_at(_exactly(problem.dictionary))
    if problem.targets is not None and target in ("gstar", "gtilde"):
        raise InvalidArgument(
            f"target={target!r} is the lasso's formula, which does not hold for a problem with targets: use target='exact'"
        )
    if target == "gtilde":
        codes = _exactly(_generating(problem, "generating_codes", target)).flatten(1)
        rounding = torch.zeros(len(codes), dtype=torch.float64)
        certificate = Certificate(samples=len(codes), zero_codes=float((codes == 0).all(1).double().mean()))
        gradient, error = lasso_gradient(model, codes, rounding)
        return _finish(gradient, error, codes.reshape(problem.code_shape), target, certificate, "")
    at = model_at(_exactly(_generating(problem, "generating_dictionary", target))) if target == "gstar" else model
    solution = solve_lasso(at, problem.penalty, problem.nonnegative)
    penalized = target != "exact" or problem.loss == "lasso"
    if problem.targets is not None:
        targets = _exactly(problem.targets).flatten(1)
        gradient, error = implicit_gradient(model, problem.penalty, solution, targets=targets, penalized=penalized)
    elif not penalized:
        gradient, error = implicit_gradient(model, problem.penalty, solution)
    else:
        gradient, error = lasso_gradient(model, solution.codes, solution.errors)
    codes = solution.codes.reshape(problem.code_shape)
    return _finish(gradient, error, codes, target, _certificate(solution), solution.reason)


@solve.register
def _solve_penalty_selection(problem: PenaltySelection, target: str) -> Reference:
    """Gradient of the mean of ``1/2 |y' - B z|^2`` in the logarithm of the penalty.

    On a support S with signs s the code is ``z_S = (A_S^T A_S)^{-1} (A_S^T y - penalty s)``, so that with
    ``v_S = (A_S^T A_S)^{-1} (B^T (B z - y'))_S`` the gradient in the logarithm of entry j's penalty is the mean of
    ``-penalty_j s_j v_j``; a penalty that all entries share collects their sum. The error of v is at most
    ``(|B|^2 |dz| + |A_S^T A_S v - b|) / lambda_min``.
    """
    if target != "exact":
        raise InvalidArgument(
            f"target={target!r} is defined for sparse coding only: use target='exact' for PenaltySelection"
        )
    model = DenseModel(_exactly(problem.observations), _exactly(problem.design))
    held_out, design = _exactly(problem.held_out_observations), _exactly(problem.held_out_design)
    penalty = _exactly(problem.log_penalty).exp()
    solution = solve_lasso(model, penalty, problem.nonnegative)
    codes, active = solution.codes, solution.codes != 0
    residual = codes @ design.T - held_out
    right = (residual @ design) * active
    v = torch.zeros_like(codes)
    for _ in range(2):
        v = v + model.solve_active(active, right - model.hessian_product(v) * active).solution
    norm_v, spectral = torch.linalg.norm(v, dim=1), float(torch.linalg.matrix_norm(design, 2))
    linear_residual = torch.linalg.norm(right - model.hessian_product(v) * active, dim=1)
    rounding = ROUNDING * (
        model.values**0.5 * model.spectral_norm**2 * norm_v
        + len(design) ** 0.5 * spectral * (torch.linalg.norm(held_out, dim=1) + 2 * torch.linalg.norm(residual, dim=1))
    )
    errors = (spectral**2 * solution.errors + linear_residual + rounding) / solution.smallest_eigenvalues
    weights = penalty * codes.sign()
    # Their own roundings, and that of the penalty's exponential, follow the sizes of the terms that are summed.
    summed = ROUNDING * (codes.shape[1] + len(codes)) ** 0.5 * (weights * v).abs().sum(1)
    error = (torch.linalg.norm(weights, dim=1) * errors + summed).mean()
    gradient = -(weights * v).mean(0)
    if not problem.log_penalty.ndim:
        gradient = gradient.sum()
    return _finish(gradient, float(error), codes, target, _certificate(solution), solution.reason)


def _certificate(solution: LassoSolution) -> Certificate:
    return Certificate(
        samples=len(solution.codes),
        uncertified=int((~solution.certified).sum()),
        kkt_residual=float(solution.kkt.max()),
        smallest_eigenvalue=float(solution.smallest_eigenvalues.min()),
        condition_number=float(solution.condition_numbers.max()),
        dual_margin=float(solution.dual_margins.min()),
        smallest_amplitude=float(solution.amplitudes.min()),
        code_error=float(solution.errors.max()),
        zero_codes=float((solution.codes == 0).all(1).double().mean()),
        iterations=solution.iterations,
    )


@solve.register
def _solve_ridge(problem: Ridge, target: str) -> Reference:
    if target != "exact":
        raise InvalidArgument(f"target={target!r} is defined for sparse coding only: use target='exact' for Ridge")
    x, d, c = (_exactly(tensor) for tensor in (problem.observations, problem.dictionary, problem.weights))
    strength = problem.strength + float(problem.theta)
    hessian = d.T @ d + strength * torch.eye(d.shape[1], dtype=torch.float64)
    eigenvalues, vectors = torch.linalg.eigh(hessian)
    smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])

    def solve_refined(right: Tensor) -> tuple[Tensor, Tensor]:
        solution = torch.zeros_like(right)
        for _ in range(3):
            solution = solution + ((right - solution @ hessian) @ vectors / eigenvalues) @ vectors.T
        residual = torch.linalg.norm(right - solution @ hessian, dim=-1)
        rounding = (
            ROUNDING * len(c) ** 0.5 * (torch.linalg.norm(right, dim=-1) + largest * torch.linalg.norm(solution, dim=-1))
        )
        return solution, (residual + rounding) / smallest

    codes, code_errors = solve_refined(x @ d)
    sensitivity, sensitivity_error = solve_refined(c[None, :])
    gradient = -(codes @ sensitivity[0]).mean()
    error = (code_errors * torch.linalg.norm(sensitivity) + torch.linalg.norm(codes, dim=1) * sensitivity_error).mean()
    certificate = Certificate(
        samples=len(codes),
        kkt_residual=float((x @ d - codes @ hessian).abs().max()),
        smallest_eigenvalue=smallest,
        condition_number=largest / smallest,
        code_error=float(code_errors.max()),
    )
    return _finish(gradient, float(error), codes, target, certificate, "")


def _exactly(tensor: Tensor) -> Tensor:
    return tensor.detach().to(device="cpu", dtype=torch.float64)


def _generating(problem: SparseCoding | ConvolutionalSparseCoding, name: str, target: str) -> Tensor:
    tensor = getattr(problem, name)
    if tensor is None:
        raise InvalidArgument(f"target={target!r} needs {name}, which this problem lacks: pass it, or use target='ghat'")
    return tensor


def _finish(gradient: Tensor, error: float, codes: Tensor, target: str, certificate: Certificate, reason: str) -> Reference:
    norm = float(torch.linalg.norm(gradient))
    status = "uncertified" if certificate.uncertified else "certified"
    bound = error / norm if norm > 0 else float("inf")
    if status == "certified" and not math.isfinite(norm):
        # Dividing by an infinite norm would make every error zero.
        status, bound = "uncertified", float("inf")
        reason = "the norm of the exact gradient exceeds float64: scale the observations and the penalty down"
    if status == "certified" and bound >= 1:
        status = "degenerate"
        zero = f" ({certificate.zero_codes:.0%} of the codes are all zero)" if certificate.zero_codes else ""
        reason = f"the exact gradient is zero{zero}: relative errors have no meaning; lower the penalty or change the data"
    return Reference(gradient, codes, target, bound, certificate, status, reason)
