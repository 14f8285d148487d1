"""Any iteration as a problem: a step, a loss of the state that it leads to, and a parameter of
both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..errors import InvalidArgument, UnsupportedProblem, first_line
from ..validation import check_alike, check_scalar, check_tensor
from .linearized import Solution, norm
from .problem import Problem

#: A state as the user's functions see it.
UserState = Any


@dataclass(frozen=True, eq=False, repr=False)
class FixedPoint(Problem):
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

    parameter = "theta"
    joint = True
    default_algorithm = "iteration"

    def __post_init__(self) -> None:
        object.__setattr__(self, "theta", check_tensor("theta", self.theta, None))
        for name in ("step", "loss", "solution"):
            function: object = getattr(self, name)
            if not callable(function) and (name, function) != ("solution", None):
                raise InvalidArgument(f"{name} is a {type(function).__name__}: give a function")
        initial = {}
        for name, value in _parts(self.initial).items():
            text = f"initial[{name!r}]" if name else "initial"
            initial[name] = check_tensor(text, value, None)
            check_alike(text, initial[name], "theta", self.theta)
        if not initial:
            raise InvalidArgument("initial is empty: give at least one tensor")
        named = isinstance(self.initial, Mapping)
        object.__setattr__(self, "initial", initial if named else initial[""])

    @property
    def _initial(self) -> dict[str, Tensor]:
        """The parts of the initial state by their names."""
        return {"": self.initial} if isinstance(self.initial, Tensor) else dict(self.initial)

    @property
    def code_shape(self) -> tuple[int, ...]:
        if isinstance(self.initial, Tensor) and self.initial.ndim >= 2:
            return tuple(self.initial.shape)
        return 1, sum(tensor.numel() for tensor in self._initial.values())

    def initial_codes(self) -> Tensor:
        return self.pack(self.initial).detach()

    def pack(self, state: UserState) -> Tensor:
        """Return a state as codes; refuse one that differs from the initial state in names, shapes
        or dtype.
        """
        parts, initial, tensors = _parts(state), self._initial, []
        if list(parts) != list(initial):
            raise InvalidArgument(
                f"a state is {_kind(state)} where the initial one is {_kind(self.initial)}: return"
                " its like"
            )
        for name, part in parts.items():
            shape, dtype = initial[name].shape, self.theta.dtype
            if not isinstance(part, Tensor) or (part.shape, part.dtype) != (shape, dtype):
                raise InvalidArgument(
                    f"the step or the solution returns a state{f'[{name!r}]' if name else ''} as"
                    f" {_kind(part)} where {tuple(shape)} of {dtype} is due: keep the shape, and"
                    " convert data with .to(theta)"
                )
            tensors.append(part.reshape(1, -1))
        if isinstance(state, Tensor) and state.shape == self.code_shape:
            return state
        return torch.cat(tensors, 1)

    def unpack(self, codes: Tensor) -> UserState:
        """Return codes as a state: a tensor, or a mapping from names to tensors."""
        if isinstance(self.initial, Tensor):
            return codes.reshape(self.initial.shape)
        parts = self.initial.items()
        cut = torch.split(codes, [tensor.numel() for _, tensor in parts], 1)
        return {
            name: part.reshape(tensor.shape)
            for (name, tensor), part in zip(parts, cut, strict=True)
        }

    def advance(self, codes: Tensor) -> Tensor:
        """Return the codes after one step."""
        version = codes._version
        after = self.pack(self._called("step", self.step, codes))
        if codes._version != version:
            raise InvalidArgument(
                "step changes the state that it is given in place: return a new one, e.g. z + d,"
                " not z += d"
            )
        return after

    def outer_loss(self, codes: Tensor) -> Tensor:
        return check_scalar("loss", self._called("loss", self.loss, codes))

    def _called(
        self, name: str, function: Callable[[UserState, Tensor], UserState], codes: Tensor
    ) -> UserState:
        """Call a user's function; a clash of dtypes, which references in float64 run into first, is
        refused with the remedy.
        """
        try:
            return function(self.unpack(codes), self.theta)
        except RuntimeError as error:
            if "dtype" not in str(error) and "same type" not in str(error):
                raise
            raise InvalidArgument(
                f"{name} mixes dtypes in {self.theta.dtype} ({first_line(error)}): convert the data"
                " that it holds with .to(theta), because references are computed in float64"
            ) from error

    def active(self, codes: Tensor) -> Tensor:
        return torch.ones_like(codes, dtype=torch.bool)

    def stationarity(self, codes: Tensor) -> Tensor:
        """Return ``z - Phi(z)``, zero at a fixed point."""
        return codes - self.advance(codes)

    def solve_active(self, codes: Tensor, right_hand_side: Tensor) -> Solution:
        """Solve the adjoint system ``(I - J^T) v = r`` with J the Jacobian of the step, all samples
        in one system.

        Where fixed points are not isolated, such as potentials that a constant may be added to, the
        system is singular. It has solutions if the loss does not change along them, and all give
        the same gradient.

        Raises
        ------
        UnsupportedProblem
            If the system is singular without a solution, or too ill-conditioned.
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
                f" {residual:.1e} after {diagnostics['vector_products']} products: the Jacobian of"
                " the step has an eigenvalue near one, and the loss changes along its eigenvector;"
                " use a greater depth, or backprop, which solves no system"
            )
        return solution, diagnostics

    def solve_tangent(self, codes: Tensor, right_hand_side: Tensor) -> Solution:
        # Of a state that has converged no more is left than rounding, which may have no solution.
        rounding = torch.finfo(codes.dtype).eps * norm(codes)
        return self.linearized(codes).solve(right_hand_side, transposed=False, negligible=rounding)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
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


def _parts(state: UserState) -> dict[str, object]:
    """Return the parts of a state by their names; of one tensor the name is empty."""
    return dict(state) if isinstance(state, Mapping) else {"": state}


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and {value.dtype}"
    if isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(str, value))}"
    return f"a {type(value).__name__}"
