"""Linear systems that are known only by their products with vectors: with the Jacobian of a map,
symmetric or not, and many symmetric ones at once, by conjugate gradients.
"""

import contextlib
import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .. import streams
from ..errors import InvalidArgument, UnsupportedProblem

#: Number of unknowns up to which the matrix is formed, by one vector-Jacobian product for each.
MAX_DENSE = 256
#: Products that are computed at once for a larger matrix.
PRODUCTS_AT_ONCE = 64
#: Krylov vectors kept between two restarts of GMRES, most restarts, and the share of the residual
#: that one may leave for another to follow.
RESTART, MAX_RESTARTS, HELP = 100, 20, 0.9
#: Iterations of conjugate gradients, times the number of unknowns: rounding delays them.
ITERATIONS = 4

Product = Callable[[Tensor], Tensor]
Array = npt.NDArray[np.float64]
#: The solution of a linear system, and numbers about it by name.
Solution = tuple[Tensor, dict[str, float]]


class Linearized:
    """The Jacobian ``A = dF/dz`` of a map F at some codes; rows of the codes are separate systems
    unless `joint`.

    Only products with vectors are computed: with the transposed by reverse mode, with A itself by
    differentiating that product in its vector, in which it is linear, so that no forward mode is
    asked of the map.

    Parameters
    ----------
    function : callable
        F, from codes to a tensor of their shape.
    codes : Tensor
        Where it is linearized.
    joint : bool
        Whether all samples form one system.
    known_symmetric : bool
        Whether A is known to be symmetric.
    """

    def __init__(
        self, function: Product, codes: Tensor, *, joint: bool, known_symmetric: bool = False
    ) -> None:
        self.shape, self.like = codes.shape, codes.detach()
        self._known_symmetric = known_symmetric
        self.rows = 1 if joint else len(codes)
        self._function = function

    @functools.cached_property
    def _graph(self) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = self.like.clone().requires_grad_()
            return leaf, self._function(leaf)

    def transposed(self, vectors: Tensor) -> Tensor:
        """Return ``A^T v``; shape of the codes, without graph. The first call runs the map, which
        is kept.
        """
        leaf, image = self._graph
        return gradients(image, (leaf,), vectors, keep_graph=True)[0]

    def product(self, vectors: Tensor) -> Tensor:
        """Return ``A v``; shape of the codes, without graph.

        Raises
        ------
        UnsupportedProblem
            If torch cannot differentiate the map twice, which is tested once at random vectors.
        """
        if not self._twice_differentiable:
            raise UnsupportedProblem.lacking(
                "the product of a Jacobian with a vector",
                "a step that torch can differentiate twice",
                "this one",
                "use analytic or fixed_point, which need the transposed product alone",
            )
        return self._product(vectors)

    def _product(self, vectors: Tensor) -> Tensor:
        """Return ``A v`` as torch computes it, whether or not it is right; RuntimeError says that
        torch cannot.
        """
        leaf, image = self._graph
        with torch.enable_grad():
            weights = torch.zeros_like(image, requires_grad=True)
            (along,) = torch.autograd.grad(
                image, leaf, weights, create_graph=True, materialize_grads=True
            )
        return gradients(along, (weights,), vectors, keep_graph=True)[0]

    @functools.cached_property
    def _twice_differentiable(self) -> bool:
        """Tell whether the product with A is right: where torch cannot go on, it may leave a part
        out without a word.
        """
        try:
            return self._is_transpose(self._product, "second derivative of a map")
        except RuntimeError:
            return False

    @functools.cached_property
    def symmetric(self) -> bool:
        """Whether A is known to be symmetric, or looks so."""
        purpose = "symmetry of a Jacobian"
        return self._known_symmetric or self._is_transpose(self.transposed, purpose)

    def _is_transpose(self, product: Product, purpose: str) -> bool:
        """Tell whether ``u^T product(w) = (A^T u)^T w`` up to rounding, for the random u and w of a
        purpose, the same in every run.
        """
        u, w = self.random(purpose)
        image_w, image_u = product(w), self.transposed(u)
        size = norm(u) * norm(image_w) + norm(w) * norm(image_u)
        rounding = self._rounding / math.sqrt(self.like.numel())
        return bool(((u * image_w).sum() - (w * image_u).sum()).abs() <= rounding * size)

    def random(self, purpose: str) -> tuple[Tensor, Tensor]:
        """Return two random vectors in the codes' shape, from a stream that the purpose names: the
        same in every run.
        """
        drawn: Array = streams.generator(0, purpose).standard_normal((2, *self.shape))
        vectors = torch.as_tensor(drawn).to(self.like)
        return vectors[0], vectors[1]

    def solve(
        self, right_hand_side: Tensor, *, transposed: bool = True, negligible: float = 0.0
    ) -> Solution:
        """Solve ``A^T v = r`` or, unless `transposed`, ``A v = r``, as one system: by the dense
        matrix if it is small, else by conjugate gradients where A is known to be symmetric, and
        then definite, or by GMRES, until the residual is `negligible`, an absolute size, or is
        rounding.

        Returns
        -------
        solution : Tensor
            Shape of the codes. For a singular small system that of least squares and minimum norm.
        diagnostics : dict
            ``solves`` (one), ``singular`` (0 or 1; 0 where no matrix is formed),
            ``largest_relative_residual``, evaluated at the solution, and ``condition_number``, of a
            singular matrix that on its range, for GMRES the lower estimate ``|A^T| |v| / |r|``.

        Notes
        -----
        A residual that stays large is returned, not refused. A right-hand side of zero has the
        solution zero. A system that is not finite, as at a state that diverged, has a solution that
        is NaN.
        """
        size = norm(right_hand_side)
        if size and not self._is_finite(size):
            undefined = torch.full_like(right_hand_side, torch.nan)
            return undefined, _diagnostics(torch.inf, torch.inf, singular=True)
        if size and self.like.numel() <= MAX_DENSE:
            return self._solve_dense(right_hand_side, transposed)
        if size and self._known_symmetric:
            return self._solve_symmetric(right_hand_side)
        if size > negligible:
            apply = self.transposed if transposed else self.product
            solution = self._gmres(apply, right_hand_side, negligible)
            condition = max(1.0, norm(solution) / size * self.norm_estimate)
            residual = norm(apply(solution) - right_hand_side) / size
            return solution, _diagnostics(condition, residual)
        return torch.zeros_like(right_hand_side), _diagnostics(1.0, 0.0)

    def _solve_dense(self, right_hand_side: Tensor, transposed: bool) -> Solution:
        """Solve by the matrix: a singular one by its pseudo-inverse, with the condition number of
        its range. The right-hand side is not zero.
        """
        matrix, right = self.matrix.T if transposed else self.matrix, right_hand_side.ravel()
        singular_values: Tensor = torch.linalg.svdvals(matrix)
        rank = int((singular_values > self._rounding * singular_values[0]).sum())
        condition = float(singular_values[0] / singular_values[rank - 1])
        is_singular = rank < len(matrix)
        if is_singular:
            inverse: Tensor = torch.linalg.pinv(matrix, rtol=self._rounding)
            flat = inverse @ right
        else:
            flat = torch.linalg.solve(matrix, right)
        residual = norm(matrix @ flat - right) / norm(right_hand_side)
        return flat.reshape(self.shape), _diagnostics(condition, residual, singular=is_singular)

    def _solve_symmetric(self, right_hand_side: Tensor) -> Solution:
        """Solve by conjugate gradients, all samples as one system, until the residual is rounding;
        A is symmetric and positive definite.
        """
        solved = conjugate_gradients(
            self.transposed,
            right_hand_side,
            torch.ones_like(right_hand_side, dtype=torch.bool),
            tolerance=torch.finfo(self.like.dtype).eps,
            iterations=ITERATIONS * self.like.numel(),
            flat=0.0,
            joint=True,
        )
        condition, residual = float(solved.condition_numbers), float(solved.residuals)
        return solved.solution, _diagnostics(condition, residual)

    def _is_finite(self, size: float) -> bool:
        """Tell whether the state, a right-hand side of this norm and, of at most `MAX_DENSE`
        unknowns, the matrix are finite.
        """
        if not (math.isfinite(size) and self.like.isfinite().all()):
            return False
        return self.like.numel() > MAX_DENSE or bool(self.matrix.isfinite().all())

    @property
    def _rounding(self) -> float:
        """What counts as zero, relative to the largest singular value or eigenvalue of A."""
        rounding: float = torch.finfo(self.like.dtype).eps ** 0.75
        return rounding

    @functools.cached_property
    def matrix(self) -> Tensor:
        """A as a matrix, shape (N, N), for all samples in one; formed once, whatever its size, by N
        vector-Jacobian products.
        """
        units = torch.eye(self.like.numel()).to(self.like).reshape(-1, *self.shape)
        if len(units) > MAX_DENSE:
            # Many products at once take half of the time, where torch can do that.
            with contextlib.suppress(RuntimeError), warnings.catch_warnings():
                # It warns of operations that it computes one by one.
                warnings.simplefilter("ignore")
                chunks = torch.split(units, PRODUCTS_AT_ONCE)
                return torch.cat([self._transposed_many(chunk) for chunk in chunks])
        return torch.stack([self.transposed(unit).ravel() for unit in units])

    def _transposed_many(self, vectors: Tensor) -> Tensor:
        """Return ``A^T v``, as a row, for each of some vectors at once; RuntimeError says that
        torch cannot.
        """
        leaf, image = self._graph
        (rows,) = torch.autograd.grad(
            image,
            leaf,
            vectors,
            retain_graph=True,
            materialize_grads=True,
            is_grads_batched=True,
        )
        return rows.reshape(len(vectors), -1)

    @functools.cached_property
    def norm_estimate(self) -> float:
        """``|A^T w| / |w|`` for a random w, the same in every run: the size of A, never above its
        norm.
        """
        random, _ = self.random("norm of a Jacobian")
        return norm(self.transposed(random)) / norm(random)

    def spectral_radius(self) -> float | None:
        """Return the largest modulus of the eigenvalues of ``I - A``, those aside that are one up
        to rounding; None for more than `MAX_DENSE` unknowns, where no matrix is formed.
        """
        if self.like.numel() > MAX_DENSE:
            return None
        values: Tensor = torch.linalg.eigvals(self.matrix)
        zero = values.abs() <= self._rounding * values.abs().max()
        return float(torch.where(zero, 0, 1 - values).abs().max())

    def operator(self, apply: Product) -> Any:
        """Return a product with vectors, `transposed` or `product`, as SciPy's linear operator on
        flat vectors in double precision.
        """
        from scipy.sparse.linalg import LinearOperator  # slow to import

        size = self.like.numel()
        return LinearOperator(
            (size, size), matvec=lambda vector: _flat(apply(self._tensor(vector))), dtype=float
        )

    def _tensor(self, vector: Array) -> Tensor:
        """Return SciPy's vector as a tensor of the codes' shape."""
        return torch.as_tensor(vector.reshape(self.shape)).to(self.like)

    def _gmres(self, apply: Product, right_hand_side: Tensor, negligible: float) -> Tensor:
        """Return the solution by restarted GMRES from zero, which goes on while a restart lowers
        the residual by a tenth, 20 times at most.

        It stops early where the residual is `negligible`. What is left is not checked here.
        """
        from scipy.sparse.linalg import gmres  # slow to import

        operator = self.operator(apply)
        stop = max(10 * torch.finfo(self.like.dtype).eps * norm(right_hand_side), negligible)
        solution, residual = torch.zeros_like(right_hand_side), right_hand_side
        for _ in range(MAX_RESTARTS):
            change: Array = gmres(
                operator,
                _flat(residual),
                restart=min(RESTART, self.like.numel()),
                maxiter=1,
                rtol=0,
                atol=stop,
            )[0]
            improved = solution + self._tensor(change)
            remainder = right_hand_side - apply(improved)
            if not norm(remainder) < HELP * norm(residual):
                # What is left has no solution: it may be rounding.
                break
            solution, residual = improved, remainder
        return solution


def _diagnostics(condition: float, residual: float, *, singular: bool = False) -> dict[str, float]:
    """Return the diagnostics of `Linearized.solve`."""
    return {
        "solves": 1,
        "singular": int(singular),
        "condition_number": condition,
        "largest_relative_residual": residual,
    }


def _flat(tensor: Tensor) -> Array:
    """Return a tensor as SciPy's vector, a copy: SciPy writes into the vectors that it is given,
    and the product with an identity may be the very tensor that was multiplied.
    """
    flat: Array = tensor.detach().cpu().double().numpy().flatten()
    return flat


def norm(tensor: Tensor) -> float:
    """Return the Euclidean norm of all entries."""
    return float(tensor.norm())


def check_recording() -> None:
    """Refuse to differentiate where torch keeps no graph, whatever is enabled inside."""
    if torch.is_inference_mode_enabled():
        raise InvalidArgument("inference_mode keeps no graph to differentiate: use torch.no_grad()")


def gradients(
    output: Tensor,
    inputs: Sequence[Tensor],
    weights: Tensor | None = None,
    *,
    keep_graph: bool = False,
) -> tuple[Tensor, ...]:
    """Return the gradients of `output` (contracted with `weights`, which a scalar needs none of) in
    `inputs`, without graph; zeros where there is no dependence.

    The graph of `output` is freed unless `keep_graph`. InvalidArgument refuses inference mode.
    """
    check_recording()
    if not output.requires_grad:
        return tuple(torch.zeros_like(tensor) for tensor in inputs)
    return torch.autograd.grad(
        output, inputs, weights, retain_graph=keep_graph, materialize_grads=True
    )


class KrylovSolution(NamedTuple):
    """Result of `conjugate_gradients`, one entry per sample."""

    #: The iterate of smallest residual; the minimum-norm solution of a singular system that has
    #: solutions.
    solution: Tensor
    #: ``|r - H v| / |r|``, evaluated at the solution and not by the recursion; zero if r is zero.
    residuals: Tensor
    #: Whether the recursion's residual reached the tolerance; rounding can keep the evaluated
    #: residual above it.
    converged: Tensor
    iterations: int
    #: Step lengths, and the factors by which directions are carried over, zero where a sample has
    #: stopped; shape (n, iterations).
    lengths: Tensor
    ratios: Tensor

    @property
    def condition_numbers(self) -> Tensor:
        """Ratio of the extreme Ritz values, per sample; one if the right-hand side is zero.

        Ritz values are the eigenvalues of the tridiagonal matrices that conjugate gradients build
        (Lanczos): with step lengths a_k and ratios b_k, ``1 / a_k + b_{k-1} / a_{k-1}`` on the
        diagonal and ``sqrt(b_k) / a_k`` beside it. They lie inside the spectrum of H on the space
        that the right-hand side reaches: their ratio is at most the condition number.

        References
        ----------
        Saad, "Iterative methods for sparse linear systems", 2nd edition, 2003, section 6.7.
        """
        from scipy.linalg import eigvalsh_tridiagonal  # slow to import, and only needed here

        conditions = torch.ones(len(self.lengths), dtype=torch.float64)
        lengths: Array = self.lengths.double().cpu().numpy()
        ratios: Array = self.ratios.double().cpu().numpy()
        for sample in range(len(lengths)):
            sample_lengths: Array = lengths[sample][lengths[sample] > 0]
            sample_ratios: Array = ratios[sample][: max(len(sample_lengths) - 1, 0)]
            if len(sample_lengths):
                diagonal = 1 / sample_lengths
                diagonal[1:] += sample_ratios / sample_lengths[:-1]
                values: Array = eigvalsh_tridiagonal(
                    diagonal, np.sqrt(sample_ratios) / sample_lengths[:-1]
                )
                conditions[sample] = values[-1] / values[0]
        return conditions.to(self.solution)


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    right: Tensor,
    active: Tensor,
    *,
    tolerance: float,
    iterations: int,
    flat: float,
    joint: bool = False,
    start: Tensor | None = None,
) -> KrylovSolution:
    """Solve ``H_SS v_S = r_S`` for all samples at once, each with its own step lengths; v is zero
    outside the active set S.

    From ``q = d = r - H v``, an iteration with the step length a and the ratio b is

        a = |q|^2 / d^T H d,    v' = v + a d,    q' = q - a H d,
        b = |q'|^2 / |q|^2,     d' = q' + b d.

    A sample stops when its residual is at most `tolerance` times r, at a direction d in which the
    curvature ``d^T H d / |d|^2`` is at most `flat`, where H is singular, or after `iterations`. The
    iterate of smallest residual is returned with that residual, which may be large: nothing is
    refused here.

    Parameters
    ----------
    product : callable
        Multiplies each sample, in the codes' shape, by its symmetric positive semi-definite H.
    right, active : Tensor
        r, and the mask of S; shape of the codes.
    joint : bool
        Whether all samples are one.
    start : Tensor, optional
        The first v, shape of the codes; by default zero.

    References
    ----------
    Hestenes and Stiefel, "Methods of conjugate gradients for solving linear systems", J. Research
    of the National Bureau of Standards 1952.
    """
    rows = 1 if joint else len(active)

    def restricted(vectors: Tensor) -> Tensor:
        """Return ``H_SS v_S``, zero outside S, for vectors with one row per sample."""
        return torch.where(active, product(vectors.reshape(active.shape)), 0).reshape(rows, -1)

    def squared_norm(vectors: Tensor) -> Tensor:
        return vectors.square().sum(1, keepdim=True)

    # From here on one row per sample, and right-hand sides of unit norm, because squared norms of
    # tiny ones would underflow.
    right = torch.where(active, right, 0).reshape(rows, -1)
    scale: Tensor = right.norm(dim=1, keepdim=True)
    right = right / torch.where(scale > 0, scale, 1)
    best = solution = torch.zeros_like(right)
    residual = right
    if start is not None:
        start = torch.where(active, start, 0).reshape(rows, -1)
        best = solution = start / torch.where(scale > 0, scale, 1)
        residual = right - restricted(solution)
    direction = residual
    squared_residual = best_squared_residual = squared_norm(residual)
    running = squared_residual > tolerance**2
    lengths, ratios = [right[:, :0]], [right[:, :0]]
    while running.any() and len(lengths) <= iterations:
        image = restricted(direction)
        curvature = (direction * image).sum(1, keepdim=True)
        running = running & (curvature > flat * squared_norm(direction))
        # Samples that have stopped take steps of length zero.
        length = torch.where(running, squared_residual / curvature, 0)
        solution = solution + length * direction
        residual = residual - length * image
        squared_before, squared_residual = squared_residual, squared_norm(residual)
        improves = squared_residual < best_squared_residual
        best = torch.where(improves, solution, best)
        best_squared_residual = torch.where(improves, squared_residual, best_squared_residual)
        ratio = torch.where(running, squared_residual / squared_before, 0)
        direction = residual + ratio * direction
        lengths.append(length)
        ratios.append(ratio)
        running = running & (squared_residual > tolerance**2)
    residuals: Tensor = (right - restricted(best)).norm(dim=1)
    return KrylovSolution(
        solution=(scale * best).reshape(active.shape),
        residuals=residuals,
        converged=(best_squared_residual <= tolerance**2).squeeze(1),
        iterations=len(lengths) - 1,
        lengths=torch.cat(lengths, 1),
        ratios=torch.cat(ratios, 1),
    )
