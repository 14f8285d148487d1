"""Iterative shrinkage-thresholding (proximal gradient descent), plain and accelerated."""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..problems import Problem
from .algorithm import Algorithm, State

#: One number for all samples, or one for each.
Momentum = TypeVar("Momentum", float, Tensor, float | Tensor)
#: Share of the codes up to which steps count as rounding: close to a minimum every program would
#: otherwise restart at layers of its own. Well above what momentum makes of rounding in double
#: precision; in single precision rounding is larger.
MARGIN = 1e-12


@dataclass(frozen=True)
class Ista(Algorithm):
    """Iterative shrinkage-thresholding: ``z_{t+1} = prox(z_t - step * grad f(z_t))``.

    Plain gradient descent where the problem has no penalty.
    """

    name = "ista"

    def advance(self, problem: Problem, state: State, step: float) -> State:
        """Run one layer: codes and point of the new state are the same tensor."""
        codes = self.proximal_step(problem, state.point, step, state.iteration)
        return State(codes, codes, iteration=state.iteration + 1)


@dataclass(frozen=True)
class Fista(Algorithm):
    """Accelerated iterative shrinkage-thresholding.

    ``z_{t+1} = prox(y_t - step * grad f(y_t))`` and ``y_{t+1} = z_{t+1} + (a_t - 1)/a_{t+1}
    (z_{t+1} - z_t)`` with ``a_{t+1} = (1 + sqrt(1 + 4 a_t^2))/2``. The codes are z, the output of
    the proximal map, never the extrapolated y.

    Parameters
    ----------
    restart : bool
        Reset the momentum of a sample, ``y_{t+1} = z_{t+1}`` and ``a_{t+1} = 1``, if it points
        uphill: ``(y_t - z_{t+1})^T (z_{t+1} - z_t) > 0``, by more than rounding. Derivatives treat
        this decision as given: it is piecewise constant.

    References
    ----------
    Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm", SIAM J. Imaging Sciences
    2009. O'Donoghue and Candes, "Adaptive restart for accelerated gradient schemes", Found. of
    Computational Mathematics 2015.
    """

    restart: bool = False

    name = "fista"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.restart, bool):
            raise InvalidArgument(
                f"restart={self.restart!r} is neither True nor False: give one of these"
            )

    def start(self, problem: Problem, initial: Tensor | None = None) -> State:
        """Return the state before the first layer; with restarts, its momentum is one number for
        each sample.
        """
        state = super().start(problem, initial)
        if not self.restart:
            return state
        shape = (len(state.codes), *(1,) * (state.codes.ndim - 1))
        return State(state.codes, state.point, state.codes.new_ones(shape))

    def advance(self, problem: Problem, state: State, step: float) -> State:
        """Run one layer, and extrapolate to the point of the next; with restarts, samples whose
        momentum points uphill begin anew.
        """
        codes = self.proximal_step(problem, state.point, step, state.iteration)
        momentum = next_momentum(state.momentum)
        pull = (state.momentum - 1) / momentum
        moved = codes - state.codes
        if isinstance(pull, Tensor):
            points_uphill = _points_uphill(state.point, codes, moved).reshape(pull.shape)
            momentum = torch.where(points_uphill, 1, momentum)
            point = torch.addcmul(codes, torch.where(points_uphill, 0, pull), moved)
        else:
            point = torch.add(codes, moved, alpha=pull)
        return State(codes, point, momentum, state.iteration + 1)


def _points_uphill(point: Tensor, codes: Tensor, moved: Tensor) -> Tensor:
    """Tell for each sample, shape (n,), whether its momentum points uphill: whether ``(y_t -
    z_{t+1})^T (z_{t+1} - z_t)`` is positive by more than rounding, with y the point, z_{t+1} the
    codes, and what they `moved` by.
    """
    back = point - codes
    products = (back * moved).flatten(1).sum(1)
    # A code that is off by a share of itself changes both factors.
    sizes = (codes.abs() * (back.abs() + moved.abs())).flatten(1).sum(1)
    return products > MARGIN * sizes


def next_momentum(momentum: Momentum) -> Momentum:
    """Return the momentum of the next layer, ``a_{t+1} = (1 + sqrt(1 + 4 a_t^2)) / 2``."""
    next_value: Momentum = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
    return next_value
