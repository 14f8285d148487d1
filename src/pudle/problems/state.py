"""Problems whose codes are a state of the user's own: one tensor, or several with names."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InvalidArgument, first_line
from ..validation import check_alike, check_scalar, check_tensor
from .problem import SmoothProblem

#: A state as the user's functions see it.
UserState = Any


class StateProblem(SmoothProblem):
    """A problem that users give by functions of a state and theta.

    The codes that algorithms and estimators exchange are the state as one tensor: itself if it is
    one tensor with two axes or more, samples first; else a vector or named tensors flattened into
    one row, shape (1, N). See `pack` and `unpack`.
    """

    theta: Tensor
    loss: Callable[[UserState, Tensor], Tensor]
    initial: Tensor | Mapping[str, Tensor]

    parameter = "theta"
    joint = True
    #: The fields that hold functions; one whose default is None may be left out.
    functions: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if isinstance(self.theta, Mapping):
            raise InvalidArgument(
                f"theta is a {type(self.theta).__name__}: give a tensor, such as"
                " torch.nn.utils.parameters_to_vector(network.parameters()), and call the network"
                " by torch.func.functional_call; docs/own_problem.md shows the lines"
            )
        object.__setattr__(self, "theta", check_tensor("theta", self.theta, None))
        for name in self.functions:
            function: object = getattr(self, name)
            is_omitted = function is None and getattr(type(self), name, ...) is None
            if not callable(function) and not is_omitted:
                raise InvalidArgument(f"{name} is a {type(function).__name__}: give a function")
        initial = {}
        for name, value in _parts(self.initial).items():
            text = f"initial[{name!r}]" if name else "initial"
            initial[name] = check_tensor(text, value, None)
            check_alike(text, initial[name], "theta", self.theta)
        if not initial:
            raise InvalidArgument("initial is empty: give at least one tensor")
        is_mapping = isinstance(self.initial, Mapping)
        object.__setattr__(self, "initial", initial if is_mapping else initial[""])

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
        """Return a state as codes; gradients flow through it.

        InvalidArgument refuses a state that differs from the initial one in names or their order,
        shapes or dtype.
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
        """Return codes as a state: a tensor, or a mapping from names to tensors, as `initial` is;
        gradients flow through it.
        """
        if isinstance(self.initial, Tensor):
            return codes.reshape(self.initial.shape)
        parts = self.initial.items()
        cut = torch.split(codes, [tensor.numel() for _, tensor in parts], 1)
        return {
            name: part.reshape(tensor.shape)
            for (name, tensor), part in zip(parts, cut, strict=True)
        }

    def outer_loss(self, codes: Tensor) -> Tensor:
        return check_scalar("loss", self._call("loss", self.loss, codes), self.theta)

    def _call(
        self, name: str, function: Callable[[UserState, Tensor], UserState], codes: Tensor
    ) -> UserState:
        """Call a user's function of the state and theta, and return what it returns, unchecked.

        A clash of dtypes, which references in float64 run into first, is refused (InvalidArgument)
        with the remedy; `name` is the function's name there. Other errors of the function are
        raised as they are.
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


def _parts(state: UserState) -> dict[str, object]:
    """Return the parts of a state by their names; of one tensor the name is empty."""
    return dict(state) if isinstance(state, Mapping) else {"": state}


def _kind(value: object) -> str:
    """Return the words for a value in an error: of a tensor its shape and dtype, of a mapping its
    names, else its type.
    """
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and {value.dtype}"
    if isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(str, value))}"
    return f"a {type(value).__name__}"
