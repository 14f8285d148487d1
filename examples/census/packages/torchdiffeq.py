"""torchdiffeq: ordinary differential equations."""

from collections.abc import Callable

import torch
from census import Known, Layer, Status, drawn
from torch import Tensor
from torchdiffeq import odeint, odeint_adjoint, odeint_event

POINTS, ZERO = torch.tensor([0.3, 0.5]).double(), torch.tensor(0.0).double()
TIMES = torch.tensor([0.0, 0.7, 1.5]).double()
RATE, CAPACITY = torch.tensor(1.3).double(), torch.tensor(2.0).double()
#: Height and speed at the start of a fall, and its acceleration.
START, GRAVITY = torch.tensor([3.0, 1.0]).double(), torch.tensor(9.8).double()
TIGHT = {"rtol": 1e-11, "atol": 1e-12}
TOLERANCES = Known(
    Status.APPROXIMATION,
    "As exact as the [tolerances](https://github.com/rtqichen/torchdiffeq#keyword-arguments) of the"
    " two solves, rtol = 1e-7 and atol = 1e-9 as they come; they hold for each step.",
)


def growth(y: Tensor, t: Tensor, rate: Tensor, capacity: Tensor) -> Tensor:
    """Logistic growth, in closed form."""
    return capacity / (1 + (capacity / y - 1) * torch.exp(-rate * (t - t[0]))[:, None])


def from_equation(z: Tensor, *inputs: Tensor) -> Tensor:
    return z - growth(*inputs)


def adjoint(**tolerances: float) -> Callable[..., Tensor]:
    """Return logistic growth by the adjoint method."""

    def solution(y: Tensor, t: Tensor, rate: Tensor, capacity: Tensor) -> Tensor:
        right = lambda _, y: rate * y * (1 - y / capacity)  # noqa: E731
        return odeint_adjoint(right, y, t, adjoint_params=(rate, capacity), **tolerances)

    return solution


def adjoint_as_it_comes() -> Layer:
    """Logistic growth by `odeint_adjoint` as it comes, in state, times and parameters."""
    inputs = POINTS, TIMES, RATE, CAPACITY
    return Layer(adjoint(), inputs, {"residual": from_equation}, TOLERANCES, growth)


def adjoint_tight() -> Layer:
    """Logistic growth by `odeint_adjoint`, rtol = 1e-11 and atol = 1e-12."""
    inputs = POINTS, TIMES, RATE, CAPACITY
    return Layer(adjoint(**TIGHT), inputs, {"residual": from_equation}, TOLERANCES, growth)


class Linear(torch.nn.Module):
    """A linear system, whose matrix is a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = torch.nn.Parameter(drawn(3, 3, seed=1) / 2)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.matrix @ y


class Solved(torch.nn.Module):
    """A linear system by the adjoint method, whose backward pass reads its parameter again."""

    def __init__(self) -> None:
        super().__init__()
        self.system = Linear()

    def forward(self, y: Tensor) -> Tensor:
        return odeint_adjoint(self.system, y, TIMES, **TIGHT)


def adjoint_module() -> Layer:
    """A linear system by `odeint_adjoint`, rtol = 1e-11, in state and matrix of a module."""
    return Layer(Solved(), [drawn(3, seed=2)], known=TOLERANCES)


def landing(y: Tensor, gravity: Tensor, floor: Tensor) -> Tensor:
    """Return when a body falls through a floor."""
    right = lambda _, y: torch.stack([y[1], -gravity])  # noqa: E731
    event = lambda _, y: y[0] - floor  # noqa: E731
    return odeint_event(right, y, ZERO, event_fn=event, odeint_interface=odeint, **TIGHT)[0]


def landing_by_hand(y: Tensor, gravity: Tensor, floor: Tensor) -> Tensor:
    return (y[1] + (y[1] ** 2 + 2 * gravity * (y[0] - floor)).sqrt()) / gravity


def event_time() -> Layer:
    """Time of `odeint_event`, rtol = 1e-11, in state and right-hand side."""
    layer = lambda y, gravity: landing(y, gravity, ZERO)  # noqa: E731
    return Layer(layer, [START, GRAVITY], known=TOLERANCES)


def event_threshold() -> Layer:
    """Time of `odeint_event`, rtol = 1e-11, in a parameter of the event's own function."""
    text = (
        "No gradient arrives, [torchdiffeq 208](https://github.com/rtqichen/torchdiffeq/issues/208):"
        " the parameters of an event have to be a part of the state."
    )
    inputs, known = [START, GRAVITY, torch.tensor(0.5).double()], Known(Status.TICKET, text)
    return Layer(landing, inputs, {"tighten": landing}, known, landing_by_hand)


LAYERS = [adjoint_as_it_comes, adjoint_tight, adjoint_module, event_time, event_threshold]
