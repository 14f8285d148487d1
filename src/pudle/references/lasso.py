"""Lasso problems solved to rounding error, with the evidence for it, and the exact gradients that follow from them.

Written for any linear model ``A z ~ x`` with A linear in the parameter; nothing here uses an estimator or an algorithm
under test. All tensors are in float64 on the CPU.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from ..problems.active_set import ActiveSystems, groups_by_size, solve_active_systems

#: Largest KKT residual of a certified code, relative to the scale max(1, max |A^T x|).
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


class LinearModel(ABC):
    """A linear model ``A z ~ x`` with A linear in a parameter, and ``l2_penalty/2 |z|^2`` in the smooth part.

    Samples are rows; codes and observations have one axis beside that.

    Attributes
    ----------
    observations : Tensor, shape (n, m)
    l2_penalty : float
    max_active : float
        Active systems with more entries than this are not solved exactly, and what rests on them is not certified.
    """

    observations: Tensor
    l2_penalty: float = 0.0
    max_active: float = float("inf")

    @property
    def values(self) -> int:
        """Number m of values of an observation."""
        return self.observations.shape[1]

    @property
    @abstractmethod
    def spectral_norm(self) -> float:
        """Spectral norm of A, or a bound on it."""

    @property
    @abstractmethod
    def column_norm(self) -> float:
        """Largest Euclidean norm of a column of A, or a bound on it."""

    @property
    @abstractmethod
    def overlap(self) -> float:
        """A constant c with ``|contract(r, z)| <= c |r| |z|`` for one sample."""

    @property
    @abstractmethod
    def summands(self) -> int:
        """How many products one entry of a gradient sums over, samples and the residual's own sum included."""

    @property
    @abstractmethod
    def lipschitz_constant(self) -> float:
        """Largest eigenvalue of the smooth part's Hessian."""

    @abstractmethod
    def synthesize(self, codes: Tensor) -> Tensor:
        """``A z`` per sample: (n, p) to (n, m)."""

    @abstractmethod
    def correlate(self, residual: Tensor) -> Tensor:
        """``A^T r`` per sample: (n, m) to (n, p)."""

    @abstractmethod
    def hessian_product(self, vectors: Tensor) -> Tensor:
        """``(A^T A + l2_penalty I) v`` per sample, shape (n, p)."""

    @abstractmethod
    def contract(self, residual: Tensor, codes: Tensor) -> Tensor:
        """Gradient of ``sum_i <r_i, A z_i>`` in the parameter."""

    @abstractmethod
    def solve_definite(self, active: Tensor, right: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Solve the active systems of the wanted samples, and tell which of them are not positive definite.

        Returns
        -------
        solution : Tensor, shape (n, p)
            Zero off the active set, and for samples that are not wanted or not definite.
        singular : Tensor of bool, shape (n,)
        """

    @abstractmethod
    def solve_active(self, active: Tensor, right: Tensor) -> ActiveSystems:
        """Solve all active systems, with their extreme eigenvalues."""

    def negative_gradient(self, codes: Tensor) -> Tensor:
        """``A^T (x - A z) - l2_penalty z`` per sample, computed from the observations; shape (n, p)."""
        correlation = self.correlate(self.observations - self.synthesize(codes))
        return correlation - self.l2_penalty * codes if self.l2_penalty else correlation


class DenseModel(LinearModel):
    """``D z ~ x`` with a dictionary D of shape (m, p) as the parameter."""

    def __init__(self, observations: Tensor, dictionary: Tensor, l2_penalty: float = 0.0) -> None:
        self.observations = observations
        self.dictionary = dictionary
        self.l2_penalty = l2_penalty
        self.hessian = dictionary.T @ dictionary
        if l2_penalty:
            self.hessian = self.hessian + l2_penalty * torch.eye(len(self.hessian), dtype=torch.float64)

    @functools.cached_property
    def spectral_norm(self) -> float:
        return float(torch.linalg.matrix_norm(self.dictionary, 2))

    @functools.cached_property
    def column_norm(self) -> float:
        return float(torch.linalg.norm(self.dictionary, dim=0).max())

    @property
    def overlap(self) -> float:
        return 1.0

    @property
    def summands(self) -> int:
        return len(self.observations) + self.values

    @functools.cached_property
    def lipschitz_constant(self) -> float:
        return float(torch.linalg.eigvalsh(self.hessian)[-1])

    def synthesize(self, codes: Tensor) -> Tensor:
        return codes @ self.dictionary.T

    def correlate(self, residual: Tensor) -> Tensor:
        return residual @ self.dictionary

    def hessian_product(self, vectors: Tensor) -> Tensor:
        return vectors @ self.hessian

    def contract(self, residual: Tensor, codes: Tensor) -> Tensor:
        return residual.T @ codes

    def solve_definite(self, active: Tensor, right: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        solution, singular = torch.zeros_like(right), torch.zeros(len(right), dtype=torch.bool)
        candidates = wanted.nonzero().squeeze(1)
        for group, indices in groups_by_size(active[candidates]):
            rows = candidates[group]
            factor, info = torch.linalg.cholesky_ex(self.hessian[indices[:, :, None], indices[:, None, :]])
            singular[rows] = info > 0
            values = torch.cholesky_solve(right[rows[:, None], indices][:, :, None], factor).squeeze(2)
            solution[rows[:, None], indices] = torch.where(info[:, None] > 0, 0, values)
        return solution, singular

    def solve_active(self, active: Tensor, right: Tensor) -> ActiveSystems:
        return solve_active_systems(self.hessian, active, right)


class LassoSolution(NamedTuple):
    """Codes and, per sample, the evidence for them.

    Attributes
    ----------
    codes : Tensor, shape (n, p)
    kkt : Tensor, shape (n,)
        Violation of the optimality conditions.
    smallest_eigenvalues, condition_numbers : Tensor, shape (n,)
        Of the active Hessians.
    dual_margins : Tensor, shape (n,)
        Smallest distance of an inactive correlation from the threshold.
    amplitudes : Tensor, shape (n,)
        Smallest active entry.
    errors : Tensor, shape (n,)
        Bound on the Euclidean error of the code.
    certified : Tensor of bool, shape (n,)
    oversized : Tensor of bool, shape (n,)
        Where the active system is too large for an exact solve.
    iterations : int
        Accelerated iterations that the slowest sample took.
    """

    codes: Tensor
    kkt: Tensor
    smallest_eigenvalues: Tensor
    condition_numbers: Tensor
    dual_margins: Tensor
    amplitudes: Tensor
    errors: Tensor
    certified: Tensor
    oversized: Tensor
    iterations: int

    @property
    def reason(self) -> str:
        """Why samples are not certified; empty where all are."""
        bad = ~self.certified
        if not bad.any():
            return ""
        large = int(self.oversized.sum())
        singular = int((bad & ~self.oversized & (self.condition_numbers >= SINGULAR)).sum())
        others = int(bad.sum()) - singular - large
        text = (
            f"{int(bad.sum())} of {len(self.codes)} samples are not certified: {singular} have a singular active Gram "
            f"matrix, {others} miss the optimality conditions or a safe margin from a change of support"
        )
        if large:
            text += (
                f", {large} have more active entries (up to {int((self.codes != 0).sum(1).max())}) than are solved exactly: "
                f"raise the penalty or take smaller images"
            )
        return text


def solve_lasso(model: LinearModel, penalty: float | Tensor, nonnegative: bool) -> LassoSolution:
    """Solve every sample's lasso to rounding error, and gather the evidence.

    Parameters
    ----------
    model : LinearModel
    penalty : float or Tensor of shape () or (p,)
        Weight of the l1 norm, or of each entry.
    nonnegative : bool
        Restrict the codes to the non-negative orthant.
    """
    chunks = [
        _solve_chunk(model, model.correlate(rows), penalty, nonnegative) for rows in torch.split(model.observations, CHUNK)
    ]
    codes = torch.cat([chunk for chunk, _ in chunks])
    active = codes != 0
    # One more refinement against residuals that are computed from the observations, not from the Gram matrix.
    step = model.solve_active(active, (model.negative_gradient(codes) - penalty * codes.sign()) * active)
    refined = codes + step.solution
    codes = torch.where(refined.sign() == codes.sign(), refined, codes)

    correlation = model.negative_gradient(codes)
    excess = correlation if nonnegative else correlation.abs()
    stationarity = ((correlation - penalty * codes.sign()).abs() * active).amax(1)
    margins = torch.where(active, torch.inf, penalty - excess).amin(1)
    kkt = torch.maximum(stationarity, (-margins).clamp(min=0))
    amplitudes = torch.where(active, codes.abs(), torch.inf).amin(1)
    # The residual itself is only known up to rounding; without this term a lucky zero would claim a perfect code.
    rounding = (
        ROUNDING
        * model.values**0.5
        * (torch.linalg.norm(model.observations, dim=1) + torch.linalg.norm(codes, dim=1) * model.column_norm)
    )
    condition = torch.where(step.singular, torch.inf, step.condition_numbers)
    errors = active.sum(1).sqrt() * (stationarity + rounding) / step.smallest_eigenvalues.clamp(min=0)
    scale = model.correlate(model.observations).abs().amax(1).clamp(min=1)
    oversized = active.sum(1) > model.max_active
    certified = (
        (kkt <= KKT_TOLERANCE * scale)
        & (condition < SINGULAR)
        & (margins > SAFETY * errors)
        & (amplitudes > SAFETY * errors)
        & ~oversized
    )
    return LassoSolution(
        codes, kkt, step.smallest_eigenvalues, condition, margins, amplitudes, errors, certified, oversized,
        max(iterations for _, iterations in chunks),
    )  # fmt: skip


def _solve_chunk(model: LinearModel, correlation: Tensor, penalty: float | Tensor, nonnegative: bool) -> tuple[Tensor, int]:
    """Return codes (n, p) that satisfy the optimality conditions where they could be reached, and the iterations run.

    Accelerated proximal gradient with adaptive restart (O'Donoghue and Candes 2015), per sample. At checkpoints that grow
    geometrically, each sample whose support has settled gets its active normal equations solved; it is done when signs
    and dual inequality hold at that solution. A sample whose settled support is singular cannot be finished that way.
    """
    codes = torch.zeros_like(correlation)
    todo = torch.arange(len(codes))
    z = y = torch.zeros_like(correlation)
    momentum = correlation.new_ones(len(codes), 1)
    step = 1 / model.lipschitz_constant
    support = torch.zeros_like(correlation, dtype=torch.int8)
    stuck = torch.zeros(len(codes), dtype=torch.int64)
    target = correlation
    iteration, checkpoint = 0, 50
    while len(todo) and iteration < MAX_ITERATIONS:
        while iteration < checkpoint:
            values = y + step * (target - model.hessian_product(y))
            if nonnegative:
                after = (values - step * penalty).clamp(min=0)
            else:
                after = values - values.clamp(-step * penalty, step * penalty)  # type: ignore[arg-type]
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
        solved, done, singular = _solve_on_support(model, z, target, penalty, nonnegative, settled)
        stuck = torch.where(settled & singular, stuck + 1, 0)
        finished = done | (stuck >= 5)
        codes[todo[finished]] = torch.where(done[finished, None], solved[finished], z[finished])
        keep = ~finished
        todo, z, y, momentum, target = todo[keep], z[keep], y[keep], momentum[keep], target[keep]
        support, stuck = support[keep], stuck[keep]
    codes[todo] = z
    return codes, iteration


def _solve_on_support(
    model: LinearModel, z: Tensor, correlation: Tensor, penalty: float | Tensor, nonnegative: bool, wanted: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve ``H_SS z_S = A_S^T x - penalty sign_S`` for the wanted samples.

    Returns
    -------
    solved : Tensor, shape (n, p)
    done : Tensor of bool, shape (n,)
        Where the solution has the signs it was computed from and meets the dual inequality.
    singular : Tensor of bool, shape (n,)
        Where the matrix is not positive definite.
    """
    signs = z.sign()
    solved, singular = model.solve_definite(signs != 0, correlation - penalty * signs, wanted)
    inactive = (correlation - model.hessian_product(solved)) * (signs == 0)
    excess = inactive if nonnegative else inactive.abs()
    done = wanted & ~singular & (solved.sign() == signs).all(1) & (excess <= penalty).all(1)
    return solved, done, singular


def lasso_gradient(model: LinearModel, codes: Tensor, code_errors: Tensor) -> tuple[Tensor, float]:
    """Return the gradient of ``mean_i 1/2 |x_i - A z_i|^2``, codes held constant, and a bound on its error.

    An error dz in a code changes its term by at most ``(|r| + |A| |z|) |dz|`` to first order, times the model's overlap.
    """
    residual = model.synthesize(codes) - model.observations
    gradient = model.contract(residual, codes) / len(codes)
    r, z = torch.linalg.norm(residual, dim=1), torch.linalg.norm(codes, dim=1)
    error = ((r + model.spectral_norm * z) * code_errors).mean() + _summation_error(r * z, model)
    return gradient, model.overlap * float(error)


def implicit_gradient(
    model: LinearModel,
    penalty: float,
    solution: LassoSolution,
    *,
    targets: Tensor | None = None,
    penalized: bool = False,
) -> tuple[Tensor, float]:
    """Return the gradient of ``mean_i 1/2 |y_i - A z_i(A)|^2`` in the parameter of A, and a bound on its error.

    With e = A z - y, r = A z - x, H = A^T A + l2 I and b(r, z) the model's contraction, the optimality conditions give
    ``A_S^T e = A_S^T (x - y) - penalty sign(z_S) - l2 z_S``; where the penalties are part of the loss, its derivative in
    the codes is ``A_S^T (x - y)`` alone. So ``v_S = H_SS^{-1} (partial_z loss)_S`` depends on the error dz of the code at
    most through l2, and the gradient is ``mean_i b(e, z) - b(r, v) - b(A v, z)``. Errors dz and dv change its term by at
    most ``(|e| + |A| |z| + 2 |A| |v|) |dz| + (|r| + |A| |z|) |dv|`` to first order, times the overlap, where
    ``|dv| <= (|H_SS v - (partial_z loss)_S| + l2 |dz|) / lambda_min``.

    Parameters
    ----------
    targets : Tensor, shape (n, m), optional
        The y; the observations x where not given.
    penalized : bool
        Whether the loss contains the penalties. Without targets the codes minimize it then: see `lasso_gradient`.
    """
    codes = solution.codes
    active = codes != 0
    right = torch.zeros_like(codes) if penalized else -penalty * codes.sign()
    coupling = 0.0 if penalized else model.l2_penalty
    if coupling:
        right = right - coupling * codes
    shift = torch.zeros_like(model.observations) if targets is None else model.observations - targets
    if targets is not None:
        right = right + model.correlate(shift) * active
    v = torch.zeros_like(codes)
    for _ in range(2):
        v = v + model.solve_active(active, right - model.hessian_product(v) * active).solution
    synthesis = model.synthesize(v)
    r = model.synthesize(codes) - model.observations
    e = r if targets is None else r + shift
    spectral = model.spectral_norm
    norm_e, norm_r, norm_z, norm_v, norm_shift = (torch.linalg.norm(tensor, dim=1) for tensor in (e, r, codes, v, shift))
    linear_residual = torch.linalg.norm((right - model.hessian_product(v)) * active, dim=1)
    rounding = ROUNDING * model.values**0.5 * ((spectral**2 + model.l2_penalty) * norm_v + spectral * norm_shift)
    if coupling:
        linear_residual = linear_residual + coupling * solution.errors
    dv = (linear_residual + rounding) / solution.smallest_eigenvalues
    terms = (norm_e + spectral * norm_z + 2 * spectral * norm_v) * solution.errors + (norm_r + spectral * norm_z) * dv
    gradient = model.contract(r, codes - v) - model.contract(synthesis, codes)
    if targets is not None:
        gradient = gradient + model.contract(shift, codes)
    gradient = gradient / len(codes)
    sizes = norm_e * norm_z + norm_r * norm_v + norm_shift * norm_z + spectral * norm_v * norm_z
    return gradient, model.overlap * float(terms.mean() + _summation_error(sizes, model))


def _summation_error(sizes: Tensor, model: LinearModel) -> Tensor:
    """Rounding error of forming and summing the samples' terms, which behaves like a random walk."""
    return ROUNDING * model.summands**0.5 * sizes.mean()
