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
        """Return a bound, shape (n,), on the Euclidean norm of the rounding error of ``x - A z``.

        Independent roundings add up like a random walk: of terms of the sizes ``|x|`` and ``|a_j|
        |z_j|``, k of which are not zero, it is ``u sqrt(m + k) (|x| + |(|a_j| z_j)_j|)``, with u
        the rounding unit. Times ``|a_j|`` it bounds that of ``a_j^T (x - A z)``.
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
    parts, iterations = zip(*chunks, strict=True)
    codes = torch.cat(parts)
    active = codes != 0
    # Refine once more, against residuals computed from the observations instead of the Gram matrix.
    step, eigenvalues, condition = model.solve_active(
        active, (model.negative_gradient(codes) - penalty * codes.sign()) * active
    )
    refined = codes + step
    codes = torch.where(refined.sign() == codes.sign(), refined, codes)

    correlation = model.negative_gradient(codes)
    excess = correlation if nonnegative else correlation.abs()
    stationarity = ((correlation - penalty * codes.sign()).abs() * active).amax(1)
    slacks = penalty - excess
    margins = torch.where(active, torch.inf, slacks).amin(1)
    kkt = torch.maximum(stationarity, (-margins).clamp(min=0))
    amplitudes = torch.where(active, codes.abs(), torch.inf).amin(1)
    # The residual itself is known only up to rounding: without this term a zero residual would mean
    # a perfect code.
    rounding = (
        model.residual_rounding(codes)[:, None] * model.column_norms
        + ROUNDING * model.l2_penalty * codes.abs()
    )
    smallest, sizes = eigenvalues.clamp(min=0), active.sum(1)
    violation = sizes.double().sqrt() * (stationarity + (rounding * active).amax(1))
    errors = violation / smallest
    moves = rounding + (violation / smallest.sqrt())[:, None] * model.column_norms
    scale = model.column_norms.max() * row_norms(model.observations)
    oversized = sizes > model.max_active
    safe = (active | (slacks > SAFETY * moves)).all(1) & (amplitudes > SAFETY * errors)
    failed = ~((kkt <= KKT_TOLERANCE * scale) & (condition < SINGULAR) & safe & ~oversized)
    reason, count, large = "", int(failed.sum()), int(oversized.sum())
    if count:
        singular = int((failed & ~oversized & (condition >= SINGULAR)).sum())
        reason = (
            f"{count} of {len(codes)} samples are not certified: {singular} have a singular active"
            f" Gram matrix, {count - singular - large} miss the optimality conditions or a safe"
            " margin from a change of support"
        )
    if large:
        reason += (
            f", {large} have more active entries (up to {int(sizes.max())}) than are solved"
            " exactly: raise the penalty or take smaller images"
        )
    largest = torch.where(active.any(1) & condition.isfinite(), eigenvalues * condition, 0)
    certificate = Certificate(
        samples=len(codes),
        uncertified=count,
        kkt_residual=float(kkt.max()),
        smallest_eigenvalue=float(eigenvalues.min()),
        largest_eigenvalue=float(largest.max()),
        condition_number=float(condition.max()),
        dual_margin=float(margins.min()),
        smallest_amplitude=float(amplitudes.min()),
        code_error=float(errors.max()),
        zero_codes=float((sizes == 0).double().mean()),
        iterations=max(iterations),
    )
    return LassoSolution(codes, errors, eigenvalues, certificate, reason)


def _solve_chunk(
    model: LinearModel, correlation: Tensor, penalty: float | Tensor, nonnegative: bool
) -> tuple[Tensor, int]:
    """Return codes (n, p), optimal for every sample that could be solved, and the number of
    iterations; samples that could not keep their last iterate.

    Runs accelerated proximal gradient with adaptive restart (O'Donoghue and Candes 2015) per
    sample. At checkpoints that grow geometrically, it solves the active normal equations of each
    sample whose signs did not change since the last checkpoint. A sample is done when the solution
    has these signs and meets the dual inequality; it is given up when its active matrix was
    singular at five checkpoints in a row, or after `MAX_ITERATIONS`.
    """
    codes = torch.zeros_like(correlation)
    todo = torch.arange(len(codes))
    z = y = signs = torch.zeros_like(correlation)
    momentum = correlation.new_ones(len(codes), 1)
    step = 1 / model.lipschitz_constant
    bound: Any = step * penalty
    stuck = torch.zeros_like(todo)
    iteration, checkpoint = 0, 50
    while len(todo) and iteration < MAX_ITERATIONS:
        while iteration < checkpoint:
            values = y + step * (correlation - model.hessian_product(y))
            if nonnegative:
                after = (values - bound).clamp(min=0)
            else:
                after = values - values.clamp(-bound, bound)
            restart = ((y - after) * (after - z)).sum(1, keepdim=True) > 0
            next_momentum = (1 + (1 + 4 * momentum**2).sqrt()) / 2
            pull = torch.where(restart, 0, (momentum - 1) / next_momentum)
            momentum = torch.where(restart, 1, next_momentum)
            y = torch.addcmul(after, pull, after - z)
            z = after
            iteration += 1
        checkpoint = min(int(checkpoint * 1.3), MAX_ITERATIONS)
        previous, signs = signs, z.sign()
        settled = (signs == previous).all(1)
        # On the support S: H_SS z_S = A_S^T x - penalty sign_S. It is right if the signs and the
        # dual inequality hold.
        solved, singular = model.solve_definite(
            (signs != 0) & settled[:, None], correlation - penalty * signs
        )
        inactive = (correlation - model.hessian_product(solved)) * (signs == 0)
        excess = inactive if nonnegative else inactive.abs()
        is_minimizer = (
            settled & ~singular & (solved.sign() == signs).all(1) & (excess <= penalty).all(1)
        )
        stuck = torch.where(settled & singular, stuck + 1, 0)
        finished = is_minimizer | (stuck >= 5)
        codes[todo[finished]] = torch.where(
            is_minimizer[finished, None], solved[finished], z[finished]
        )
        todo, z, y, momentum, correlation, signs, stuck = (
            tensor[~finished] for tensor in (todo, z, y, momentum, correlation, signs, stuck)
        )
    codes[todo] = z
    return codes, iteration


def lasso_gradient(model: LinearModel, codes: Tensor, code_errors: Tensor) -> tuple[Tensor, float]:
    """Return the gradient of ``mean_i 1/2 |x_i - A z_i|^2`` in the parameter at constant codes, and
    a bound on its error, from bounds (n,) on the errors of the codes.
    """
    nothing = torch.zeros_like(codes)
    shift = torch.zeros_like(model.observations)
    return _gradient(model, codes, code_errors, shift, nothing, nothing[:, 0])


def _gradient(
    model: LinearModel, codes: Tensor, code_errors: Tensor, shift: Tensor, v: Tensor, dv: Tensor
) -> tuple[Tensor, float]:
    """Return the gradient of `implicit_gradient` for the shift x - y and the adjoints v, and its
    bound; `dv` (n,) are bounds on the errors of v.

    An error dr of the computed residual changes a term by ``|dr| (|z| + |v|)``. Forming and summing
    the samples' terms rounds like a random walk.
    """
    r = model.synthesize(codes) - model.observations
    spectral = model.spectral_norm
    norm_e, norm_r, norm_z, norm_v, norm_shift = map(row_norms, (r + shift, r, codes, v, shift))
    terms = (
        (norm_e + spectral * norm_z + 2 * spectral * norm_v) * code_errors
        + (norm_r + spectral * norm_z) * dv
        + model.residual_rounding(codes) * (norm_z + norm_v)
    )
    gradient = (
        model.contract(r, codes - v)
        - model.contract(model.synthesize(v), codes)
        + model.contract(shift, codes)
    )
    sizes = norm_e * norm_z + norm_r * norm_v + norm_shift * norm_z + spectral * norm_v * norm_z
    summing = ROUNDING * model.summands**0.5 * sizes.mean()
    return gradient / len(codes), model.overlap * float(terms.mean() + summing)


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
    gradient is ``mean_i b(e, z) - b(r, v) - b(A v, z)``. Errors dz and dv change a term by at most
    ``(|e| + |A| |z| + 2 |A| |v|) |dz| + (|r| + |A| |z|) |dv|`` to first order, times the overlap,
    with ``|dv| <= (|H_SS v - (partial_z loss)_S| + l2 |dz|) / lambda_min``.

    The targets y, shape (n, m), are the observations x by default. `penalized` adds the penalties
    to the loss; without targets the codes then minimize it: use `lasso_gradient`.
    """
    codes = solution.codes
    active = codes != 0
    right = torch.zeros_like(codes)
    if not penalized:
        right = -penalty * codes.sign() - model.l2_penalty * codes
    shift = model.observations - (model.observations if targets is None else targets.flatten(1))
    v, linear_residual = model.solve_refined(active, right + model.correlate(shift) * active)
    sizes = (model.spectral_norm**2 + model.l2_penalty) * row_norms(v)
    sizes = sizes + model.spectral_norm * row_norms(shift)
    rounding = ROUNDING * (model.values + active.sum(1).double()).sqrt() * sizes
    if model.l2_penalty and not penalized:
        linear_residual = linear_residual + model.l2_penalty * solution.errors
    dv = (linear_residual + rounding) / solution.smallest_eigenvalues
    return _gradient(model, codes, solution.errors, shift, v, dv)
