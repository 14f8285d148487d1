"""Iterative shrinkage-thresholding (proximal gradient descent), plain and accelerated."""

import copy
import dataclasses
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..problems import Problem
from .algorithm import Algorithm, State
from .thresholding import Decaying, Hard, Soft

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

    @classmethod
    def specimen(
        cls, random: np.random.Generator, problem: Problem, initial: Tensor, largest: float = 1.9
    ) -> Self:
        """Draw a step up to `largest` / L, which is lowered to 1 / L for hard thresholding."""
        # The first number is for an option of FISTA.
        warm = random.random(2)[1] < 0.35
        rule = random.choice(["soft", "soft", "decaying", "hard", "hard at"])
        # Beyond 1/L hard thresholding need not converge: rounding grows from layer to layer.
        largest = 1.0 if "hard" in rule else largest
        step = None
        if random.random() < 0.6:
            step = random.uniform(0.2, largest) / problem.lipschitz_constant
        decay, cutoff = random.uniform(0.8, 0.99), random.uniform(0.5, 2)
        size = 10 ** random.uniform(-1, 0.5)
        penalty = torch.as_tensor(getattr(problem, "penalty", 0.0), dtype=torch.float64)
        threshold = float(penalty.mean()) * cutoff * (step or 1 / problem.lipschitz_constant)
        rules = {
            "soft": Soft(),
            "decaying": Decaying(decay),
            "hard": Hard(),
            "hard at": Hard(threshold or None),
        }
        return cls(step, rules[rule], initial=size * initial if warm else None)

    def advance(self, problem: Problem, state: State, step: float) -> State:
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

    @classmethod
    def specimen(cls, random: np.random.Generator, problem: Problem, initial: Tensor) -> Self:
        restart = copy.deepcopy(random).random() < 0.5
        # Beyond 1/L acceleration need not converge.
        plain = Ista.specimen(random, problem, initial, largest=1.0)
        return cls(plain.step, plain.thresholding, restart, initial=plain.initial)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.restart, bool):
            raise InvalidArgument(
                f"restart={self.restart!r} is neither True nor False: give one of these"
            )

    def start(self, problem: Problem, initial: Tensor | None = None) -> State:
        state = super().start(problem, initial)
        if not self.restart:
            return state
        shape = (len(state.codes), *(1,) * (state.codes.ndim - 1))
        return dataclasses.replace(state, momentum=state.codes.new_ones(shape))

    def advance(self, problem: Problem, state: State, step: float) -> State:
        codes = self.proximal_step(problem, state.point, step, state.iteration)
        momentum = following(state.momentum)
        pull = (state.momentum - 1) / momentum
        moved = codes - state.codes
        if isinstance(pull, Tensor):
            back = state.point - codes
            scalar = (back * moved).flatten(1).sum(1)
            noise = (codes.abs() * (back.abs() + moved.abs())).flatten(1).sum(1)
            uphill = (scalar > MARGIN * noise).reshape(pull.shape)
            momentum = torch.where(uphill, 1, momentum)
            point = torch.addcmul(codes, torch.where(uphill, 0, pull), moved)
        else:
            point = torch.add(codes, moved, alpha=pull)
        return State(codes, point, momentum, state.iteration + 1)


def following(momentum: Momentum) -> Momentum:
    """Return ``a_{t+1} = (1 + sqrt(1 + 4 a_t^2)) / 2``."""
    return (1 + (1 + 4 * momentum**2) ** 0.5) / 2
