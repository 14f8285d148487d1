"""Linear systems with the Jacobian of a map that is known only by its products, symmetric or not."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import streams
from ..errors import UnsupportedProblem

#: Number of unknowns up to which the matrix is formed, by one vector-Jacobian product for each.
MAX_DENSE = 256
#: Krylov vectors kept between two restarts of GMRES, and most restarts.
RESTART, MAX_RESTARTS = 100, 20


class Linearized:
    """The Jacobian ``A = dF/dz`` of a map F at some codes; rows of the codes are separate systems
    unless `joint`.

    Only products with vectors are computed, and counted in `products`: with the transposed by
    reverse mode, with A itself by differentiating that product in its vector, in which it is
    linear, so that no forward mode is asked of the map.

    Parameters
    ----------
    function : callable
        F, from codes to a tensor of their shape.
    codes : Tensor
        Where it is linearized.
    joint : bool
        Whether all samples form one system.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], codes: Tensor, *, joint: bool) -> None:
        self.shape, self.like = codes.shape, codes.detach()
        self.rows = 1 if joint else len(codes)
        self.products = 0
        self._function = function

    @functools.cached_property
    def _graph(self) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = self.like.clone().requires_grad_()
            return leaf, self._function(leaf)

    def transposed(self, vectors: Tensor) -> Tensor:
        """Return ``A^T v``; shape of the codes."""
        leaf, image = self._graph
        self.products += 1
        if not image.requires_grad:
            return torch.zeros_like(vectors)
        (product,) = torch.autograd.grad(
            image, leaf, vectors, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return product

    def product(self, vectors: Tensor) -> Tensor:
        """Return ``A v``; shape of the codes.

        Raises
        ------
        UnsupportedProblem
            If torch cannot differentiate the map twice.
        """
        if not self._twice_differentiable:
            raise UnsupportedProblem(
                "the product of a Jacobian with a vector needs a step that torch can differentiate"
                " twice, which this one is not: use analytic or fixed_point, which need the"
                " transposed product alone"
            )
        return self._product(vectors)

    def _product(self, vectors: Tensor) -> Tensor:
        leaf, image = self._graph
        self.products += 1
        with torch.enable_grad():
            weights = torch.zeros_like(image, requires_grad=True)
            (along,) = torch.autograd.grad(
                image, leaf, weights, create_graph=True, materialize_grads=True
            )
        if not along.requires_grad:
            return torch.zeros_like(vectors)
        (product,) = torch.autograd.grad(
            along, weights, vectors, retain_graph=True, materialize_grads=True
        )
        return product

    @functools.cached_property
    def _twice_differentiable(self) -> bool:
        """Return whether ``u^T (A w) = (A^T u)^T w``: where torch cannot go on, it may leave a part
        out without a word.
        """
        u, w = self._random("second derivative of a map")
        try:
            image_w = self._product(w)
        except RuntimeError:
            return False
        image_u = self.transposed(u)
        return self._agree(
            (u * image_w).sum(),
            (w * image_u).sum(),
            u.norm() * image_w.norm() + w.norm() * image_u.norm(),
        )

    def is_symmetric(self) -> bool:
        """Return whether A looks symmetric: ``u^T A^T w = w^T A^T u`` for random u and w."""
        u, w = self._random("symmetry of a Jacobian")
        image_u, image_w = self.transposed(u), self.transposed(w)
        return self._agree(
            (u * image_w).sum(),
            (w * image_u).sum(),
            u.norm() * image_w.norm() + w.norm() * image_u.norm(),
        )

    def _random(self, purpose: str) -> tuple[Tensor, Tensor]:
        u, w = streams.generator(0, purpose).standard_normal((2, *self.shape))
        return torch.as_tensor(u).to(self.like), torch.as_tensor(w).to(self.like)

    def _agree(self, one: Tensor, other: Tensor, size: Tensor) -> bool:
        """Return whether two products with random vectors are equal, up to rounding of numbers of
        that size.
        """
        return bool(
            (one - other).abs()
            <= torch.finfo(self.like.dtype).eps ** 0.75 * size / self.like.numel() ** 0.5
        )

    def solve(
        self, right_hand_side: Tensor, *, transposed: bool = True
    ) -> tuple[Tensor, dict[str, Any]]:
        """Solve ``A^T v = r``, or ``A v = r``, as one system: by the dense matrix if it is small,
        else by GMRES.

        Returns
        -------
        solution : Tensor
            Shape of the codes. For a singular small system it has minimum norm.
        diagnostics : dict
            ``solves`` (one), ``singular`` (0 or 1), ``largest_relative_residual``, evaluated at the
            solution, ``condition_number``, for GMRES the lower estimate ``|A^T| |v| / |r|``, and
            ``vector_products``.

        Raises
        ------
        UnsupportedProblem
            If the residual stays above the square root of the rounding unit.
        """
        norm = float(right_hand_side.norm())
        singular, condition, residual, solution = False, 1.0, 0.0, torch.zeros_like(right_hand_side)
        if norm and self.like.numel() <= MAX_DENSE:
            matrix = self.matrix.T if transposed else self.matrix
            values = torch.linalg.svdvals(matrix)
            condition = float(values[0] / values[-1]) if values[-1] > 0 else float("inf")
            singular = condition * torch.finfo(matrix.dtype).eps * len(matrix) >= 1
            right = right_hand_side.reshape(-1)
            solved = (
                torch.linalg.pinv(matrix) @ right if singular else torch.linalg.solve(matrix, right)
            )
            solution, residual = (
                solved.reshape(self.shape),
                float((matrix @ solved - right).norm()) / norm,
            )
        elif norm:
            apply = self.transposed if transposed else self.product
            solution = _gmres(apply, right_hand_side)
            condition = max(1.0, float(solution.norm()) / norm * self.norm_estimate)
            residual = float((apply(solution) - right_hand_side).norm()) / norm
        if not residual <= torch.finfo(self.like.dtype).eps ** 0.5:
            raise UnsupportedProblem(
                f"a linear system of {self.like.numel()} unknowns keeps a relative residual of"
                f" {residual:.1e} after {self.products} products: the Jacobian of the step has an"
                " eigenvalue near one; use a greater depth, or backprop, which solves no system"
            )
        return solution, {
            "solves": 1,
            "singular": int(singular),
            "condition_number": condition,
            "largest_relative_residual": residual,
            "vector_products": self.products,
        }

    @functools.cached_property
    def matrix(self) -> Tensor:
        """A as a matrix, shape (N, N)."""
        units = torch.eye(self.like.numel(), dtype=self.like.dtype, device=self.like.device)
        return torch.stack(
            [self.transposed(unit.reshape(self.shape)).reshape(-1) for unit in units]
        )

    @functools.cached_property
    def norm_estimate(self) -> float:
        """``|A^T w| / |w|`` for a random w: the size of A, never above its norm."""
        random, _ = self._random("norm of a Jacobian")
        return float(self.transposed(random).norm() / random.norm())

    def spectral_radius(self) -> float | None:
        """Return the largest modulus of the eigenvalues of ``I - A``, to about 1e-6; None where
        ARPACK does not find it.
        """
        from scipy.sparse.linalg import (
            ArpackError,
            LinearOperator,
            eigs,
        )  # slow to import, and only needed here

        count = self.like.numel()
        if count <= MAX_DENSE:
            identity = torch.eye(count, dtype=self.like.dtype, device=self.like.device)
            return float(torch.linalg.eigvals(identity - self.matrix).abs().max())

        def image(vector: Any) -> Any:
            tensor = torch.as_tensor(vector.reshape(self.shape)).to(self.like)
            return (tensor - self.transposed(tensor)).cpu().double().numpy().ravel()

        start = streams.generator(0, "spectral radius").standard_normal(count)
        try:
            operator = LinearOperator((count, count), matvec=image, dtype=float)
            return float(
                np.abs(
                    eigs(operator, k=1, v0=start, tol=1e-6, maxiter=300, return_eigenvectors=False)[
                        0
                    ]
                )
            )
        except ArpackError:
            return None


def _gmres(apply: Callable[[Tensor], Tensor], right_hand_side: Tensor) -> Tensor:
    """Return the solution by restarted GMRES, which may not have converged."""
    from scipy.sparse.linalg import LinearOperator, gmres  # slow to import, and only needed here

    def image(vector: Any) -> Any:
        tensor = torch.as_tensor(vector).reshape(right_hand_side.shape).to(right_hand_side)
        return apply(tensor).cpu().double().numpy().ravel()

    right = right_hand_side.detach().cpu().double().numpy().ravel()
    operator = LinearOperator((right.size, right.size), matvec=image, dtype=float)
    rounding = 10 * torch.finfo(right_hand_side.dtype).eps
    solution, _ = gmres(
        operator, right, rtol=rounding, restart=min(RESTART, right.size), maxiter=MAX_RESTARTS
    )
    return torch.as_tensor(solution).reshape(right_hand_side.shape).to(right_hand_side)
