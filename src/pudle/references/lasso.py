"""Lasso problems solved to rounding error, with the evidence for it, and the exact gradients that
follow from them.

Written for any linear model ``A z ~ x`` with A linear in the parameter. Accelerated proximal
gradient finds the support, the active normal equations are then solved exactly, and the optimality
conditions decide whether the support was right. Nothing here uses an estimator or an algorithm
under test. All tensors are in float64 on the CPU.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..problems.active_set import ActiveSystems, Groups, groups_by_size, solve_active_systems
from ..problems.l1 import DenseL1Problem
from .records import Certificate

#: Rounding unit of float64.
ROUNDING = torch.finfo(torch.float64).eps / 2
#: Largest KKT residual of a certified code, relative to its natural scale ``max_j |a_j| |x|``.
KKT_TOLERANCE = 1e-12
#: A support counts as right when amplitudes and margins exceed this many times the bounds on their
#: errors.
SAFETY = 1000.0
#: Iterations after which the solver gives up a sample whose support still changes.
MAX_ITERATIONS = 50_000
#: Iterations before the first look whether supports are right, and how many singular systems in a
#: row give up a sample.
FIRST_CHECKPOINT, GIVEN_UP = 50, 5
#: Condition number from which an active Gram matrix counts as singular: half of float64's digits
#: are lost.
SINGULAR = 1e12
#: Samples solved at once, so that the working set stays in cache.
CHUNK = 4096


def row_norms(matrix: Tensor) -> Tensor:
    """Return the Euclidean norms of a matrix's rows."""
    norms: Tensor = torch.linalg.vector_norm(matrix, dim=1)
    return norms


def spectral_norm(matrix: Tensor) -> float:
    """Return the largest singular value."""
    return float(torch.linalg.matrix_norm(matrix, 2))


class LinearModel(ABC):
    """A linear model ``A z ~ x`` with A linear in a parameter, and ``l2_penalty/2 |z|^2`` in the
    smooth part.

    Samples are rows; observations have the shape (n, m), codes (n, p). All tensors are in float64
    on the CPU.
    """

    observations: Tensor
    l2_penalty: float
    #: Largest eigenvalue of the smooth part's Hessian H, ``A^T A + l2_penalty I``.
    lipschitz_constant: float
    #: Spectral norm of A and the Euclidean norms of its columns, shape (p,), or bounds on them.
    spectral_norm: float
    column_norms: Tensor
    #: A constant c with ``|contract(r, z)| <= c |r| |z|`` for one sample.
    overlap: float
    #: Number of products that one entry of a gradient sums over: over the samples, and within the
    #: residual.
    summands: int
    #: Largest number of active entries for which a sample is certified.
    max_active: float = float("inf")

    @property
    def values(self) -> int:
        """Number m of values of an observation."""
        return self.observations.shape[1]

    @abstractmethod
    def synthesize(self, codes: Tensor) -> Tensor:
        """Return ``A z`` per sample: (n, p) to (n, m)."""

    @abstractmethod
    def correlate(self, residual: Tensor) -> Tensor:
        """Return ``A^T r`` per sample: (n, m) to (n, p)."""

    @abstractmethod
    def contract(self, residual: Tensor, codes: Tensor) -> Tensor:
        """Return the gradient of ``sum_i <r_i, A z_i>`` in the parameter."""

    @abstractmethod
    def active_hessians(self, active: Tensor) -> Groups:
        """Yield the active Hessians H_SS of samples with an active entry, in groups of one size."""

    @abstractmethod
    def solve_active(self, active: Tensor, right: Tensor) -> ActiveSystems:
        """Solve all active systems, and compute their extreme eigenvalues."""

    def solve_definite(self, active: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Solve the active systems by Cholesky factors; return the solution (n, p) and which are
        singular (n,).

        Singular means not positive definite, or too large to be certified. The solution is zero for
        these samples.
        """
        singular = active.sum(1) > self.max_active
        solution, active = torch.zeros_like(right), active & ~singular[:, None]
        for rows, indices, hessians in self.active_hessians(active):
            factor, info = torch.linalg.cholesky_ex(hessians)
            singular[rows] = info > 0
            at = rows[:, None], indices
            values = torch.cholesky_solve(right[at][..., None], factor).squeeze(2)
            solution[at] = torch.where(info[:, None] > 0, 0, values)
        return solution, singular

    def hessian_product(self, vectors: Tensor) -> Tensor:
        """Return ``(A^T A + l2_penalty I) v`` per sample, shape (n, p)."""
        return self.correlate(self.synthesize(vectors)) + self.l2_penalty * vectors

    def negative_gradient(self, codes: Tensor) -> Tensor:
        """Return ``A^T (x - A z) - l2_penalty z`` per sample, computed from the observations and
        not from the Gram matrix, whose rounding is larger; shape (n, p).
        """
        return self.correlate(self.observations - self.synthesize(codes)) - self.l2_penalty * codes

    def residual_rounding(self, codes: Tensor) -> Tensor:
        """Return how large the Euclidean norm of the rounding error of ``x - A z`` is likely to be
        at most, per sample, shape (n,).

        It is ``u sqrt(m + k) (|x| + |(|a_j| z_j)_j|)``, with the rounding unit u of float64, m
        values of x, and k codes that are not zero: independent roundings add up like a random walk.
        Times ``|a_j|`` it says the same of ``a_j^T (x - A z)``.
        """
        sizes = row_norms(self.observations) + row_norms(codes * self.column_norms)
        return ROUNDING * (self.values + (codes != 0).sum(1).double()).sqrt() * sizes

    def solve_refined(self, active: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Solve all active systems with one refinement; return the solution (n, p) and its residual
        norms (n,).

        The right-hand side must be zero outside the active set.
        """
        solution, residual = torch.zeros_like(right), right
        for _ in range(2):
            solution = solution + self.solve_active(active, residual).solution
            residual = right - self.hessian_product(solution) * active
        return solution, row_norms(residual)


class DenseModel(LinearModel):
    """The linear model of a problem with a matrix A, shape (m, p), which is also the parameter."""

    def __init__(self, problem: DenseL1Problem) -> None:
        self.observations, self.matrix = problem.observations, problem.matrix
        self.l2_penalty = problem.l2_penalty
        self.hessian = problem.hessian
        self.lipschitz_constant = float(torch.linalg.eigvalsh(self.hessian)[-1])
        self.spectral_norm = spectral_norm(self.matrix)
        self.column_norms = row_norms(self.matrix.T)
        self.overlap = 1.0
        self.summands = len(self.observations) + self.values

    def synthesize(self, codes: Tensor) -> Tensor:
        return codes @ self.matrix.T

    def correlate(self, residual: Tensor) -> Tensor:
        return residual @ self.matrix

    def hessian_product(self, vectors: Tensor) -> Tensor:
        return vectors @ self.hessian

    def contract(self, residual: Tensor, codes: Tensor) -> Tensor:
        """Return ``sum_i r_i z_i^T``, shape (m, p), summed by halves."""
        # Rows that repeat round alike, so that the rounding of a longer sum would exceed a random
        # walk's.
        if len(codes) <= 64:
            return residual.T @ codes
        first, second = map(self.contract, residual.tensor_split(2), codes.tensor_split(2))
        return first + second

    def active_hessians(self, active: Tensor) -> Groups:
        return groups_by_size(self.hessian, active)

    def solve_active(self, active: Tensor, right: Tensor) -> ActiveSystems:
        return solve_active_systems(self.hessian, active, right)


class LassoSolution(NamedTuple):
    """Codes, with a certificate for all of them and the per-sample numbers on which error bounds of
    gradients depend.
    """

    codes: Tensor
    #: Bound on the Euclidean error of each code.
    errors: Tensor
    #: Smallest eigenvalue of each active Hessian.
    smallest_eigenvalues: Tensor
    certificate: Certificate
    #: Why samples are not certified; empty if all are certified.
    reason: str


class _Evidence(NamedTuple):
    """What tells whether codes are those of a minimizer: one entry per sample, shape (n,)."""

    #: Largest violation of the optimality conditions.
    kkt_residuals: Tensor
    #: Smallest distance of an inactive correlation from the penalty; infinite without one.
    dual_margins: Tensor
    #: Smallest magnitude of an active entry; infinite without one.
    amplitudes: Tensor
    #: Bound on the Euclidean error of the code.
    code_errors: Tensor
    #: Whether amplitudes and margins exceed `SAFETY` times what they may be off by.
    support_is_safe: Tensor


def solve_lasso(model: LinearModel, penalty: float | Tensor, nonnegative: bool) -> LassoSolution:
    """Solve every sample's lasso to rounding error and certify it; samples that cannot be certified
    are counted, with the reason, and nothing is raised.

    `penalty` is one number for all entries of a code, or one for each, shape (p,).

    On the right support S an error e in the optimality conditions moves the code by ``dz_S =
    H_SS^{-1} e``. With e at most ``sqrt|S| (kkt + rounding)`` this gives ``|dz| <= |e| /
    lambda_min``. The correlation of an inactive atom moves by ``|a_j^T A dz| <= |a_j| |e| /
    sqrt(lambda_min)``, because ``|A dz|^2 <= e^T H_SS^{-1} e``. The support is right if all
    amplitudes and dual margins exceed `SAFETY` times these bounds. Every inequality here, and the
    bounds of gradients that follow from it, keeps its sense in other units: for ``A -> s A``, ``x
    -> q x`` and ``penalty -> s q penalty`` codes scale by ``q / s``, correlations by ``s q``,
    gradients by ``q^2 / s``, and relative bounds stay the same.
    """
    chunks = [
        _solve_chunk(model, model.correlate(rows), penalty, nonnegative)
        for rows in torch.split(model.observations, CHUNK)
    ]
    chunk_codes, iterations = zip(*chunks, strict=True)
    codes, systems = _refine(model, penalty, torch.cat(chunk_codes))
    evidence = _evidence(model, penalty, nonnegative, codes, systems)

    _, smallest_eigenvalues, conditions = systems
    sizes = (codes != 0).sum(1)
    oversized = sizes > model.max_active
    scale = model.column_norms.max() * row_norms(model.observations)
    certified = (
        (evidence.kkt_residuals <= KKT_TOLERANCE * scale)
        & (conditions < SINGULAR)
        & evidence.support_is_safe
        & ~oversized
    )
    regular = (sizes > 0) & conditions.isfinite()
    largest_eigenvalues = torch.where(regular, smallest_eigenvalues * conditions, 0)
    certificate = Certificate(
        samples=len(codes),
        uncertified=int((~certified).sum()),
        kkt_residual=float(evidence.kkt_residuals.max()),
        smallest_eigenvalue=float(smallest_eigenvalues.min()),
        largest_eigenvalue=float(largest_eigenvalues.max()),
        condition_number=float(conditions.max()),
        dual_margin=float(evidence.dual_margins.min()),
        smallest_amplitude=float(evidence.amplitudes.min()),
        code_error=float(evidence.code_errors.max()),
        zero_codes=float((sizes == 0).double().mean()),
        iterations=max(iterations),
    )
    reason = _why_uncertified(certified, conditions, oversized, sizes)
    return LassoSolution(codes, evidence.code_errors, smallest_eigenvalues, certificate, reason)


def _refine(
    model: LinearModel, penalty: float | Tensor, codes: Tensor
) -> tuple[Tensor, ActiveSystems]:
    """Return the codes after one refinement, ``z_S + H_SS^{-1} F(z)_S`` with F the negative slope
    of the objective, and the systems; an entry whose sign would change stays as it is.

    The residual is computed from the observations, not from the Gram matrix as in the solver. The
    support is that of the given codes.
    """
    active = codes != 0
    slope = (model.negative_gradient(codes) - penalty * codes.sign()) * active
    systems = model.solve_active(active, slope)
    refined = codes + systems.solution
    return torch.where(refined.sign() == codes.sign(), refined, codes), systems


def _evidence(
    model: LinearModel,
    penalty: float | Tensor,
    nonnegative: bool,
    codes: Tensor,
    systems: ActiveSystems,
) -> _Evidence:
    """Return the evidence for codes, shape (n, p), by the bounds of `solve_lasso`; `systems` are
    those of their supports.
    """
    active = codes != 0
    correlations = model.negative_gradient(codes)
    slopes = (correlations - penalty * codes.sign()).abs() * active
    stationarity = slopes.amax(1)
    slacks = penalty - (correlations if nonnegative else correlations.abs())
    dual_margins = torch.where(active, torch.inf, slacks).amin(1)
    amplitudes = torch.where(active, codes.abs(), torch.inf).amin(1)
    # The residual itself is known only up to rounding: without this term a zero residual would mean
    # a perfect code.
    rounding = (
        model.residual_rounding(codes)[:, None] * model.column_norms
        + ROUNDING * model.l2_penalty * codes.abs()
    )
    # The bound on |e|: sqrt|S| (kkt + rounding).
    violations = active.sum(1).double().sqrt() * (stationarity + (rounding * active).amax(1))
    smallest_eigenvalues = systems.smallest_eigenvalues.clamp(min=0)
    code_errors = violations / smallest_eigenvalues
    spread = violations / smallest_eigenvalues.sqrt()  # bounds |A dz|
    correlation_errors = rounding + spread[:, None] * model.column_norms
    margins_are_safe = (active | (slacks > SAFETY * correlation_errors)).all(1)
    return _Evidence(
        kkt_residuals=torch.maximum(stationarity, (-dual_margins).clamp(min=0)),
        dual_margins=dual_margins,
        amplitudes=amplitudes,
        code_errors=code_errors,
        support_is_safe=margins_are_safe & (amplitudes > SAFETY * code_errors),
    )


def _why_uncertified(
    certified: Tensor, conditions: Tensor, oversized: Tensor, sizes: Tensor
) -> str:
    """Return why samples are not certified, with their numbers by reason; an empty text if all are.

    All arguments have the shape (n,); `sizes` are those of the supports.
    """
    n_uncertified, n_oversized = int((~certified).sum()), int(oversized.sum())
    if not n_uncertified:
        return ""
    n_singular = int((~certified & ~oversized & (conditions >= SINGULAR)).sum())
    reason = (
        f"{n_uncertified} of {len(certified)} samples are not certified: {n_singular} have a"
        f" singular active Gram matrix, {n_uncertified - n_singular - n_oversized} miss the"
        " optimality conditions or a safe margin from a change of support"
    )
    if n_oversized:
        reason += (
            f", {n_oversized} have more active entries (up to {int(sizes.max())}) than are solved"
            " exactly: raise the penalty or take smaller images"
        )
    return reason


def _solve_chunk(
    model: LinearModel, products: Tensor, penalty: float | Tensor, nonnegative: bool
) -> tuple[Tensor, int]:
    """Return codes (n, p), optimal for every sample that could be solved, and the number of
    iterations; samples that could not keep their last iterate.

    `products` are the correlations ``A^T x``, shape (n, p). Runs accelerated proximal gradient, see
    `_accelerate`. At checkpoints that grow geometrically, it solves the active normal equations of
    each sample whose signs did not change since the last checkpoint. A sample is done when the
    solution has these signs and meets the dual inequality; it is given up when its active matrix
    was singular at `GIVEN_UP` checkpoints in a row, or after `MAX_ITERATIONS`.
    """
    codes = torch.zeros_like(products)
    # The samples that are not solved yet, and what is known of them, one row each.
    unsolved = torch.arange(len(codes))
    z = y = signs = torch.zeros_like(products)
    momentum = products.new_ones(len(codes), 1)
    n_singular = torch.zeros_like(unsolved)
    iteration, checkpoint = 0, FIRST_CHECKPOINT
    while len(unsolved) and iteration < MAX_ITERATIONS:
        z, y, momentum = _accelerate(
            model, products, penalty, nonnegative, (z, y, momentum), checkpoint - iteration
        )
        iteration = checkpoint
        checkpoint = min(int(checkpoint * 1.3), MAX_ITERATIONS)
        signs_before, signs = signs, z.sign()
        settled = (signs == signs_before).all(1)
        # On the support S: H_SS z_S = A_S^T x - penalty sign_S. It is right if the signs and the
        # dual inequality hold.
        solved, singular = model.solve_definite(
            (signs != 0) & settled[:, None], products - penalty * signs
        )
        inactive = (products - model.hessian_product(solved)) * (signs == 0)
        correlations = inactive if nonnegative else inactive.abs()
        same_signs = (solved.sign() == signs).all(1)
        is_minimizer = settled & ~singular & same_signs & (correlations <= penalty).all(1)
        n_singular = torch.where(settled & singular, n_singular + 1, 0)
        finished = is_minimizer | (n_singular >= GIVEN_UP)
        codes[unsolved[finished]] = torch.where(
            is_minimizer[finished, None], solved[finished], z[finished]
        )
        unsolved, z, y, momentum, products, signs, n_singular = (
            tensor[~finished] for tensor in (unsolved, z, y, momentum, products, signs, n_singular)
        )
    codes[unsolved] = z
    return codes, iteration


def _accelerate(
    model: LinearModel,
    products: Tensor,
    penalty: float | Tensor,
    nonnegative: bool,
    state: tuple[Tensor, Tensor, Tensor],
    n_iterations: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run some iterations of accelerated proximal gradient, with an adaptive restart per sample.

    ``z' = S(y + eta (A^T x - H y))`` and ``y' = z' + (a - 1) / a' (z' - z)`` with ``a' = (1 +
    sqrt(1 + 4 a^2)) / 2``, where eta = 1/L and S is the soft threshold at ``eta penalty``. Where
    ``(y - z')^T (z' - z) > 0`` the sample restarts: ``y' = z'`` and ``a' = 1``.

    Parameters
    ----------
    products : Tensor, shape (n, p)
        The correlations ``A^T x``.
    state : tuple of Tensor
        Codes z (n, p), points y (n, p) and momenta a (n, 1). The next state is returned.

    Source: O'Donoghue and Candes, "Adaptive restart for accelerated gradient schemes", Found. of
    Computational Mathematics 2015.
    """
    z, y, momentum = state
    step = 1 / model.lipschitz_constant
    threshold: Any = step * penalty
    for _ in range(n_iterations):
        values = y + step * (products - model.hessian_product(y))
        if nonnegative:
            after = (values - threshold).clamp(min=0)
        else:
            after = values - values.clamp(-threshold, threshold)
        restarts = ((y - after) * (after - z)).sum(1, keepdim=True) > 0
        next_momentum = (1 + (1 + 4 * momentum**2).sqrt()) / 2
        pull = torch.where(restarts, 0, (momentum - 1) / next_momentum)
        momentum = torch.where(restarts, 1, next_momentum)
        y = torch.addcmul(after, pull, after - z)
        z = after
    return z, y, momentum


def lasso_gradient(model: LinearModel, codes: Tensor, code_errors: Tensor) -> tuple[Tensor, float]:
    """Return the gradient of ``mean_i 1/2 |x_i - A z_i|^2`` in the parameter at constant codes, and
    a bound on its error, from bounds (n,) on the errors of the codes.
    """
    no_shift, no_adjoints = torch.zeros_like(model.observations), torch.zeros_like(codes)
    no_errors = no_adjoints[:, 0]
    return _bounded_gradient(model, codes, code_errors, no_shift, no_adjoints, no_errors)


def _bounded_gradient(
    model: LinearModel,
    codes: Tensor,
    code_errors: Tensor,
    shift: Tensor,
    adjoints: Tensor,
    adjoint_errors: Tensor,
) -> tuple[Tensor, float]:
    """Return ``mean_i b(e, z) - b(r, v) - b(A v, z)``, the gradient of `implicit_gradient` in the
    parameter, and a bound on its error to first order.

    Here b(r, z) is what `contract` of the model returns, the gradient of ``r^T A z`` in the
    parameter. With the residual ``r = A z - x`` of the inner problem and the shift ``x - y``, the
    residual of the loss is ``e = A z - y = r + (x - y)``. To first order a sample's term is off by
    at most

    - ``(|e| + |A| |z| + 2 |A| |v|) |dz|``, by the error of its code,
    - ``(|r| + |A| |z|) |dv|``, by that of its adjoint, and
    - ``|dr| (|z| + |v|)``, by the rounding of its residual,

    times the model's `overlap`, with the spectral norm ``|A|``. Forming and summing the samples'
    terms rounds like a random walk.

    Parameters
    ----------
    model : LinearModel
        A, with the observations x.
    codes, adjoints : Tensor, shape (n, p)
        z, and v, see `implicit_gradient`.
    code_errors, adjoint_errors : Tensor, shape (n,)
        Bounds on ``|dz|`` and ``|dv|``.
    shift : Tensor, shape (n, m)
        ``x - y``, observations minus targets.
    """
    residual = model.synthesize(codes) - model.observations
    spectral = model.spectral_norm
    norm_e, norm_r = row_norms(residual + shift), row_norms(residual)
    norm_z, norm_v, norm_shift = row_norms(codes), row_norms(adjoints), row_norms(shift)
    errors = (
        (norm_e + spectral * norm_z + 2 * spectral * norm_v) * code_errors
        + (norm_r + spectral * norm_z) * adjoint_errors
        + model.residual_rounding(codes) * (norm_z + norm_v)
    )
    # b(e, z) - b(r, v) in two terms that do not need e: b(r, z - v) + b(x - y, z).
    gradient = (
        model.contract(residual, codes - adjoints)
        - model.contract(model.synthesize(adjoints), codes)
        + model.contract(shift, codes)
    )
    term_sizes = (
        norm_e * norm_z + norm_r * norm_v + norm_shift * norm_z + spectral * norm_v * norm_z
    )
    summing = ROUNDING * model.summands**0.5 * term_sizes.mean()
    return gradient / len(codes), model.overlap * float(errors.mean() + summing)


def implicit_gradient(
    model: LinearModel,
    penalty: float | Tensor,
    solution: LassoSolution,
    *,
    targets: Tensor | None,
    penalized: bool,
) -> tuple[Tensor, float]:
    """Return the gradient of ``mean_i 1/2 |y_i - A z_i(A)|^2`` in the parameter of A, and a bound
    on its error.

    With e = A z - y, r = A z - x, H = A^T A + l2 I and b(r, z) the model's contraction, the
    optimality conditions give ``A_S^T e = A_S^T (x - y) - penalty sign(z_S) - l2 z_S``. If the
    penalties are part of the loss, its derivative in the codes is ``A_S^T (x - y)`` alone. So ``v_S
    = H_SS^{-1} (partial_z loss)_S`` depends on the error dz of the code at most through l2, and the
    gradient is ``mean_i b(e, z) - b(r, v) - b(A v, z)``; `_bounded_gradient` bounds its error, with
    ``|dv| <= (|H_SS v - (partial_z loss)_S| + l2 |dz|) / lambda_min``.

    The targets y, shape (n, m), are the observations x by default. `penalized` adds the penalties
    to the loss; without targets the codes then minimize it: use `lasso_gradient`.
    """
    codes = solution.codes
    active = codes != 0
    penalty_slope = torch.zeros_like(codes)
    if not penalized:
        penalty_slope = -penalty * codes.sign() - model.l2_penalty * codes
    shift = model.observations - (model.observations if targets is None else targets.flatten(1))
    code_gradient = penalty_slope + model.correlate(shift) * active
    adjoints, linear_residuals = model.solve_refined(active, code_gradient)
    if model.l2_penalty and not penalized:
        linear_residuals = linear_residuals + model.l2_penalty * solution.errors
    # Products of H with v, and of A with the shift, are rounded in proportion to these.
    sizes = (model.spectral_norm**2 + model.l2_penalty) * row_norms(adjoints)
    sizes = sizes + model.spectral_norm * row_norms(shift)
    rounding = ROUNDING * (model.values + active.sum(1).double()).sqrt() * sizes
    adjoint_errors = (linear_residuals + rounding) / solution.smallest_eigenvalues
    return _bounded_gradient(model, codes, solution.errors, shift, adjoints, adjoint_errors)
