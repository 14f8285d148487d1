"""The exact gradient, in float64, with a certificate and a bound on its error.

Sparse coding: accelerated proximal gradient finds the support, the active normal equations are then solved exactly, and
the optimality conditions decide whether the support was right. Nothing here uses an estimator or an algorithm under test;
the one target that is a matter of the algorithm, its limit, lives in `pudle.limits` and is never certified.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .active_set import groups_by_size, solve_active_systems
from .errors import InvalidArgument, UnsupportedProblem
from .problems import Problem, Ridge, SparseCoding
from .validation import check_choice

if TYPE_CHECKING:
    from .algorithms import Algorithm

TARGETS = {
    "exact": "gradient of theta -> loss(z(theta), theta) at the minimiser z(theta)",
    "ghat": "exact gradient of the lasso loss, whatever the problem's loss",
    "gstar": "the lasso formula with the lasso codes under the generating dictionary",
    "gtilde": "the lasso formula with the generating codes themselves",
    "limit": "gradient of theta -> loss(z(theta), theta) at the codes z(theta) that the same algorithm comes to rest at",
}
#: Targets that rest on the minimiser of the inner problem: wrong for a rule that does not lead there.
MINIMISER_TARGETS = ("exact", "ghat")
#: Statuses of a reference that estimates are scored against.
SCORED = ("certified", "limit")

#: Largest KKT residual of a certified code, relative to the scale max(1, max |D^T x|).
KKT_TOLERANCE = 1e-12
#: A support counts as right when its margins exceed this many times the bound on the code's error.
SAFETY = 1000.0
#: Iterations after which a sample whose support still changes is given up.
MAX_ITERATIONS = 50_000
#: Condition number of the active Gram matrix from which it counts as singular: half of float64's digits are gone.
SINGULAR = 1e12
#: Samples solved at once; keeps the working set in cache.
CHUNK = 4096
ROUNDING = torch.finfo(torch.float64).eps / 2


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
        f"register one with pudle.references.solve.register"
    )


class _LassoSolution(NamedTuple):
    """Codes and, per sample, the evidence for them."""

    codes: Tensor
    kkt: Tensor
    smallest_eigenvalues: Tensor
    condition_numbers: Tensor
    dual_margins: Tensor
    amplitudes: Tensor
    errors: Tensor
    certified: Tensor
    iterations: int

    @property
    def certificate(self) -> Certificate:
        return Certificate(
            samples=len(self.codes),
            uncertified=int((~self.certified).sum()),
            kkt_residual=float(self.kkt.max()),
            smallest_eigenvalue=float(self.smallest_eigenvalues.min()),
            condition_number=float(self.condition_numbers.max()),
            dual_margin=float(self.dual_margins.min()),
            smallest_amplitude=float(self.amplitudes.min()),
            code_error=float(self.errors.max()),
            zero_codes=float((self.codes == 0).all(1).double().mean()),
            iterations=self.iterations,
        )

    @property
    def reason(self) -> str:
        bad = ~self.certified
        if not bad.any():
            return ""
        singular = int((bad & (self.condition_numbers >= SINGULAR)).sum())
        return (
            f"{int(bad.sum())} of {len(self.codes)} samples are not certified: {singular} have a singular active Gram "
            f"matrix, {int(bad.sum()) - singular} miss the optimality conditions or a safe margin from a change of support"
        )


@solve.register
def _solve_sparse_coding(problem: SparseCoding, target: str) -> Reference:
    observations, dictionary = _exactly(problem.observations), _exactly(problem.dictionary)
    if target == "gtilde":
        codes = _exactly(_generating(problem, "generating_codes", target))
        rounding = torch.zeros(len(codes), dtype=torch.float64)
        certificate = Certificate(samples=len(codes), zero_codes=float((codes == 0).all(1).double().mean()))
        return _finish(*_lasso_gradient(observations, dictionary, codes, rounding), codes, target, certificate, "")
    at = _exactly(_generating(problem, "generating_dictionary", target)) if target == "gstar" else dictionary
    solution = _lasso_solution(observations, at, problem.penalty, problem.nonnegative)
    if target == "exact" and problem.loss == "reconstruction":
        gradient, error = _reconstruction_gradient(observations, dictionary, problem.penalty, solution)
    else:
        gradient, error = _lasso_gradient(observations, dictionary, solution.codes, solution.errors)
    return _finish(gradient, error, solution.codes, target, solution.certificate, solution.reason)


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


def _generating(problem: SparseCoding, name: str, target: str) -> Tensor:
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


def _lasso_gradient(observations: Tensor, dictionary: Tensor, codes: Tensor, code_errors: Tensor) -> tuple[Tensor, float]:
    """Return ``-mean_i (x_i - D z_i) z_i^T`` and a bound on its error in the Frobenius norm.

    An error dz in a code changes its term by at most ``(|r| + |D| |z|) |dz|`` to first order.
    """
    residual = codes @ dictionary.T - observations
    gradient = residual.T @ codes / len(codes)
    r, z = torch.linalg.norm(residual, dim=1), torch.linalg.norm(codes, dim=1)
    spectral = float(torch.linalg.matrix_norm(dictionary, 2))
    error = ((r + spectral * z) * code_errors).mean() + _summation_error(r * z, dictionary)
    return gradient, float(error)


def _reconstruction_gradient(
    observations: Tensor, dictionary: Tensor, penalty: float, solution: _LassoSolution
) -> tuple[Tensor, float]:
    """Return the gradient of ``mean_i 1/2 |x_i - D z_i(D)|^2`` and a bound on its error in the Frobenius norm.

    With e = D z - x the optimality conditions give ``(partial_z loss)_S = D_S^T e = -penalty sign(z_S)``, so that
    ``v_S = -penalty (D_S^T D_S)^{-1} sign(z_S)`` does not depend on the error dz of the code, and the gradient is
    ``mean_i e (z - v)^T - D v z^T``. Errors dz and dv change its term by at most
    ``(|e| + |D| |z| + 2 |D| |v|) |dz| + (|e| + |D| |z|) |dv|`` to first order, where
    ``|dv| <= |D_S^T D_S v - b| / lambda_min``.
    """
    codes = solution.codes
    active = codes != 0
    gram = dictionary.T @ dictionary
    right = -penalty * codes.sign()
    v = torch.zeros_like(codes)
    for _ in range(2):
        v = v + solve_active_systems(gram, active, right - (v @ gram) * active).solution
    e = codes @ dictionary.T - observations
    spectral = float(torch.linalg.matrix_norm(dictionary, 2))
    norm_e, norm_z, norm_v = (torch.linalg.norm(tensor, dim=1) for tensor in (e, codes, v))
    linear_residual = torch.linalg.norm((right - v @ gram) * active, dim=1)
    rounding = ROUNDING * dictionary.shape[0] ** 0.5 * spectral**2 * norm_v
    dv = (linear_residual + rounding) / solution.smallest_eigenvalues
    terms = (norm_e + spectral * norm_z + 2 * spectral * norm_v) * solution.errors + (norm_e + spectral * norm_z) * dv
    gradient = (e.T @ (codes - v) - (v @ dictionary.T).T @ codes) / len(codes)
    sizes = norm_e * (norm_z + norm_v) + spectral * norm_v * norm_z
    return gradient, float(terms.mean() + _summation_error(sizes, dictionary))


def _summation_error(sizes: Tensor, dictionary: Tensor) -> Tensor:
    """Rounding error of forming and summing the samples' terms, which behaves like a random walk."""
    return ROUNDING * (len(sizes) + dictionary.shape[0]) ** 0.5 * sizes.mean()


def _lasso_solution(observations: Tensor, dictionary: Tensor, penalty: float, nonnegative: bool) -> _LassoSolution:
    """Solve every sample's lasso to rounding error, and gather the evidence."""
    gram = dictionary.T @ dictionary
    chunks = [_solve_chunk(rows @ dictionary, gram, penalty, nonnegative) for rows in torch.split(observations, CHUNK)]
    codes = torch.cat([chunk for chunk, _ in chunks])
    active = codes != 0
    # One more refinement against residuals that are computed from the observations, not from the Gram matrix.
    correlation = (observations - codes @ dictionary.T) @ dictionary
    step = solve_active_systems(gram, active, (correlation - penalty * codes.sign()) * active)
    refined = codes + step.solution
    codes = torch.where(refined.sign() == codes.sign(), refined, codes)

    residual = observations - codes @ dictionary.T
    correlation = residual @ dictionary
    excess = correlation if nonnegative else correlation.abs()
    stationarity = ((correlation - penalty * codes.sign()).abs() * active).amax(1)
    margins = torch.where(active, torch.inf, penalty - excess).amin(1)
    kkt = torch.maximum(stationarity, (-margins).clamp(min=0))
    amplitudes = torch.where(active, codes.abs(), torch.inf).amin(1)
    # The residual itself is only known up to rounding; without this term a lucky zero would claim a perfect code.
    rounding = (
        ROUNDING
        * dictionary.shape[0] ** 0.5
        * (
            torch.linalg.norm(observations, dim=1)
            + torch.linalg.norm(codes, dim=1) * torch.linalg.norm(dictionary, dim=0).max()
        )
    )
    condition = torch.where(step.singular, torch.inf, step.condition_numbers)
    errors = active.sum(1).sqrt() * (stationarity + rounding) / step.smallest_eigenvalues.clamp(min=0)
    scale = (observations @ dictionary).abs().amax(1).clamp(min=1)
    certified = (
        (kkt <= KKT_TOLERANCE * scale)
        & (condition < SINGULAR)
        & (margins > SAFETY * errors)
        & (amplitudes > SAFETY * errors)
    )
    return _LassoSolution(
        codes, kkt, step.smallest_eigenvalues, condition, margins, amplitudes, errors, certified,
        max(iterations for _, iterations in chunks),
    )  # fmt: skip


def _solve_chunk(correlation: Tensor, gram: Tensor, penalty: float, nonnegative: bool) -> tuple[Tensor, int]:
    """Return codes (n, p) that satisfy the optimality conditions where they could be reached, and the iterations run.

    Accelerated proximal gradient with adaptive restart (O'Donoghue and Candes 2015), per sample. At checkpoints that grow
    geometrically, each sample whose support has settled gets its active normal equations solved; it is done when signs
    and dual inequality hold at that solution. A sample whose settled support is singular cannot be finished that way.
    """
    codes = torch.zeros_like(correlation)
    todo = torch.arange(len(codes))
    z = y = torch.zeros_like(correlation)
    momentum = correlation.new_ones(len(codes), 1)
    step = 1 / float(torch.linalg.eigvalsh(gram)[-1])
    support = torch.zeros_like(correlation, dtype=torch.int8)
    stuck = torch.zeros(len(codes), dtype=torch.int64)
    target = correlation
    iteration, checkpoint = 0, 50
    while len(todo) and iteration < MAX_ITERATIONS:
        while iteration < checkpoint:
            values = y + step * (target - y @ gram)
            if nonnegative:
                after = (values - step * penalty).clamp(min=0)
            else:
                after = values - values.clamp(-step * penalty, step * penalty)
            restart = ((y - after) * (after - z)).sum(1, keepdim=True) > 0
            following = (1 + (1 + 4 * momentum**2).sqrt()) / 2
            pull = torch.where(restart, 0, (momentum - 1) / following)
            momentum = torch.where(restart, 1, following)
            y = torch.addcmul(after, pull, after - z)
            z = after
            iteration += 1
        checkpoint = min(int(checkpoint * 1.3), MAX_ITERATIONS)
        signs = z.sign().to(torch.int8)
        settled = (signs == support).all(1)
        support = signs
        solved, done, singular = _solve_on_support(z, target, gram, penalty, nonnegative, settled)
        stuck = torch.where(settled & singular, stuck + 1, 0)
        finished = done | (stuck >= 5)
        codes[todo[finished]] = torch.where(done[finished, None], solved[finished], z[finished])
        keep = ~finished
        todo, z, y, momentum, target = todo[keep], z[keep], y[keep], momentum[keep], target[keep]
        support, stuck = support[keep], stuck[keep]
    codes[todo] = z
    return codes, iteration


def _solve_on_support(
    z: Tensor, correlation: Tensor, gram: Tensor, penalty: float, nonnegative: bool, wanted: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve ``G_SS z_S = D_S^T x - penalty sign_S`` for the wanted samples.

    Returns
    -------
    solved : Tensor, shape (n, p)
    done : Tensor of bool, shape (n,)
        Where the solution has the signs it was computed from and meets the dual inequality.
    singular : Tensor of bool, shape (n,)
        Where the matrix is not positive definite.
    """
    signs = z.sign()
    solved, singular = torch.zeros_like(z), torch.zeros(len(z), dtype=torch.bool)
    candidates = wanted.nonzero().squeeze(1)
    right = correlation - penalty * signs
    for group, indices in groups_by_size(signs[candidates] != 0):
        rows = candidates[group]
        factor, info = torch.linalg.cholesky_ex(gram[indices[:, :, None], indices[:, None, :]])
        singular[rows] = info > 0
        values = torch.cholesky_solve(right[rows[:, None], indices][:, :, None], factor).squeeze(2)
        solved[rows[:, None], indices] = torch.where(info[:, None] > 0, 0, values)
    inactive = (correlation - solved @ gram) * (signs == 0)
    excess = inactive if nonnegative else inactive.abs()
    done = wanted & ~singular & (solved.sign() == signs).all(1) & (excess <= penalty).all(1)
    return solved, done, singular
