"""The lasso solved by cyclic coordinate descent."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .stepless import LassoSolver


@dataclass(frozen=True)
class CoordinateDescent(LassoSolver):
    r"""Lasso by coordinate descent: a step minimizes over one code entry after another.

    .. math:: z_j \leftarrow S_{\lambda / c_j}\bigl(z_j + d_j^\top (x - D z) / c_j\bigr), \qquad
              c_j = \lVert d_j \rVert^2, \qquad j = 1, \dots, p

    with :math:`\ell_2` penalties added to slope and :math:`c_j`. Its steps need no linear systems,
    so that large supports and nearly dependent atoms, which slow down `active_set`, cost it nothing
    but more steps; it converges linearly. Its steps are not differentiated: use it with an implicit
    estimator such as `analytic`.

    Parameters
    ----------
    initial : Tensor, optional
        Warm start.

    References
    ----------
    Wu and Lange, "Coordinate descent algorithms for lasso penalized regression", Annals of Applied
    Statistics 2008.
    """

    name = "coordinate_descent"

    def improved(self, problem: Any, codes: Tensor) -> Tensor:
        codes, residual = codes.clone(), problem.residual(codes)
        # A zero atom has no curvature, and its code becomes zero.
        curvatures = problem.hessian.diagonal().clamp(min=torch.finfo(codes.dtype).tiny)
        thresholds = problem.penalty / curvatures
        for j, atom in enumerate(problem.matrix.T):
            slope = residual @ atom + problem.l2_penalty * codes[:, j]
            values = codes[:, j] - slope / curvatures[j]
            after = self.thresholding(values, thresholds[j], 0, problem.nonnegative)
            residual = residual + torch.outer(after - codes[:, j], atom)
            codes[:, j] = after
        return codes
