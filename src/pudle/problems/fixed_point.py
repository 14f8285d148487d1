"""Any iteration as a problem: a step, a loss of the state that it leads to, and a parameter of
both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..errors import InvalidArgument, UnsupportedProblem
from .linearized import Solution, norm
from .state import StateProblem, UserState


@dataclass(frozen=True, eq=False, repr=False)
class FixedPoint(StateProblem):
    r"""The state that an iteration converges to, and a loss of it.

    The inner problem is the fixed point :math:`z = \Phi(z, \theta)` of a step :math:`\Phi`, run by
    `pudle.Iteration`: an inner gradient descent, a deep-equilibrium layer, an unrolled network, a
    learned optimizer. Of the step it is assumed only that torch can differentiate it. It may couple
    the samples, and its Jacobian need not be symmetric. The gradient at a fixed point is

    .. math:: g = \partial_\theta \ell + (\partial_\theta \Phi)^\top v, \qquad
              (I - \partial_z \Phi^\top) v = \partial_z \ell .

    If the spectral radius of :math:`\partial_z \Phi` is :math:`\rho < 1`, states and implicit
    gradients converge as
    :math:`\rho^T`, unrolled gradients as :math:`T \rho^T`; a gradient through K layers keeps an
    error of order
    :math:`\rho^K`.

    Parameters
    ----------
    theta : Tensor
        The outer parameter, of any shape; the gradient has this shape. Make one tensor of several
        by flattening them: ``torch.nn.utils.parameters_to_vector(network.parameters())`` outside,
        and ``torch.func.functional_call`` with the vector cut into the parameters' shapes inside
        `step`.
    step : callable
        ``step(state, theta) -> state``, without in-place changes and the same at every call: no
        dropout, no counter outside the state. It gets and returns what `initial` is. Make it follow
        the dtype of theta, by ``data.to(theta)``: references are computed in float64.
    loss : callable
        ``loss(state, theta) -> scalar tensor``.
    initial : Tensor or mapping from names to tensors
        The state before the first step, such as ``{"position": x, "velocity": v}``.
    solution : callable, optional
        ``solution(theta) -> state``, an exact solver that torch can differentiate, such as a closed
        form. With it the target ``exact`` is known; without it the reference is the ``limit``.

    Notes
    -----
    The codes that algorithms and estimators exchange are the state as one tensor: itself if it is
    one tensor with two axes or more, samples first; else a vector or named tensors flattened into
    one row, shape (1, N). See `pack` and `unpack`.

    Raises
    ------
    InvalidArgument
        If a tensor is no finite floating tensor, or dtypes or devices differ; where they are first
        called, if the step changes the shape or dtype of the state, or the loss is no scalar.

    References
    ----------
    Grazzi, Franceschi, Pontil and Salzo, "On the iteration complexity of hypergradient
    computation", ICML 2020. Bai, Kolter and Koltun, "Deep equilibrium models", NeurIPS 2019.
    """

    theta: Tensor
    step: Callable[[UserState, Tensor], UserState]
    loss: Callable[[UserState, Tensor], Tensor]
    initial: Tensor | Mapping[str, Tensor]
    solution: Callable[[Tensor], UserState] | None = None

    default_algorithm = "iteration"
    functions = ("step", "loss", "solution")

    def advance(self, codes: Tensor) -> Tensor:
        """Return the codes after one step of the user's function, through which gradients flow.

        InvalidArgument refuses a step that changes its state in place, or returns a state of other
        names, shapes or dtype.
        """
        version = codes._version
        after = self.pack(self._call("step", self.step, codes))
        if codes._version != version:
            raise InvalidArgument(
                "step changes the state that it is given in place: return a new one, e.g. z + d,"
                " not z += d"
            )
        return after

    def stationarity(self, codes: Tensor) -> Tensor:
        """Return ``z - Phi(z)``, zero at a fixed point."""
        return codes - self.advance(codes)

    def solve_active(self, codes: Tensor, right_hand_side: Tensor) -> Solution:
        """Solve the adjoint system ``(I - J^T) v = r`` with J the Jacobian of the step, all samples
        in one system; return the solution and the diagnostics of `Linearized.solve`.

        Where fixed points are not isolated, such as potentials that a constant may be added to, the
        system is singular. It has solutions if the loss does not change along them, and all give
        the same gradient.

        Raises
        ------
        UnsupportedProblem
            If the system is singular without a solution, or too ill-conditioned: the residual that
            is left, relative to the right-hand side or to the size of the loss, exceeds the square
            root of the rounding unit.
        """
        solution, diagnostics = self.linearized(codes).solve(right_hand_side)
        # The derivative of a loss that is stationary there is rounding, which has no solution.
        right, size = norm(right_hand_side), float(self.outer_loss(codes).detach().abs())
        residual = diagnostics["largest_relative_residual"]
        residual *= right / (max(right, size / (norm(codes) or 1.0)) or 1.0)
        diagnostics["largest_relative_residual"] = residual
        if not residual <= torch.finfo(codes.dtype).eps ** 0.5:
            raise UnsupportedProblem(
                f"a linear system of {codes.numel()} unknowns keeps a relative residual of"
                f" {residual:.1e}: the Jacobian of the step has an eigenvalue near one, and the"
                " loss changes along its eigenvector; use a greater depth, or backprop, which"
                " solves no system"
            )
        return solution, diagnostics

    def solve_tangent(self, codes: Tensor, right_hand_side: Tensor) -> Solution:
        # Of a state that has converged no more is left than rounding, which may have no solution.
        rounding = torch.finfo(codes.dtype).eps * norm(codes)
        return self.linearized(codes).solve(right_hand_side, transposed=False, negligible=rounding)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse, by UnsupportedProblem, what only a problem with an inner objective has: its
        gradient, proximal map and Lipschitz constant.
        """
        raise UnsupportedProblem.lacking(
            "a proximal gradient layer",
            "an inner objective, its Lipschitz constant and its proximal map",
            "a FixedPoint, which is given by its step",
            "run it with pudle.Iteration(), and differentiate it with backprop, analytic or another"
            " estimator that needs no more than the step",
        )

    smooth_gradient = prox = _refuse

    @property
    def lipschitz_constant(self) -> float:
        self._refuse()
