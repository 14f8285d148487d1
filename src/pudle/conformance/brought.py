"""What users bring and no dataset makes: a loss, a rule, algorithms of their own, derived problems
and iterations on states of any form.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from numpy.random import Generator
from torch import Tensor

from ..algorithms import Ista, State
from ..algorithms.thresholding import Soft
from ..problems import FixedPoint, Problem
from ..problems.l1 import L1Problem
from ..problems.problem import ThresholdingRule
from ..problems.state import UserState

#: A weight of a network that is trained beside.
OUTSIDE = torch.ones((), requires_grad=True)


def own_loss(codes: Tensor, theta: Tensor) -> Tensor:
    """Return the mean of squares of weighted sums of the codes, and of some entries of theta, which
    count where no code does.

    It is multiplied by `OUTSIDE`, a tensor that requires a gradient.
    """
    sums = codes.reshape(len(codes), -1).cumsum(1).sum(1)
    parameter_part = (theta[..., 0] ** 2).mean()
    return OUTSIDE * (sums**2 * (1 + parameter_part) / 2 + parameter_part).mean()


@dataclass(frozen=True)
class Squeeze(Soft):
    """The soft rule, and less by a share that falls with the layers."""

    name = "squeeze"
    proximal = False

    def __call__(
        self, values: Tensor, threshold: float | Tensor, iteration: int, nonnegative: bool
    ) -> Tensor:
        share = 1 - 0.1 / (iteration + 1)
        return share * super().__call__(values, threshold, iteration, nonnegative)


@dataclass(frozen=True, eq=False)
class Moving(State):
    """The codes, and those of the layer before, from which the next are made."""

    previous: Tensor | None = None


class HeavyBall(Ista):
    """An algorithm whose layers need a memory beside the codes."""

    name = "heavy_ball"

    def start(self, problem: Problem, initial: Tensor | None = None) -> State:
        codes = super().start(problem, initial).codes
        return Moving(codes, codes, previous=codes)

    def advance(self, problem: Problem, state: State, step: float) -> State:
        """Run one layer with inertia from the codes of the layer before, which its own state
        keeps.
        """
        assert isinstance(state, Moving) and state.previous is not None
        codes, iteration = state.codes, state.iteration
        inertia = 0.4 * (codes - state.previous)
        moved = codes - 0.7 * step * problem.smooth_gradient(codes) + inertia
        after = problem.prox(moved, step, self.thresholding, iteration)
        return Moving(after, after, iteration=iteration + 1, previous=codes)


class Bounded(L1Problem):
    """What a derived class changes of a problem: three times the loss, and bounded codes."""

    @property
    def bound(self) -> Tensor:
        """The largest magnitude of a code entry, which depends on neither theta nor L."""
        axes = (*range(1, self.observations.ndim),)
        return 0.3 * self.observations.abs().amax(axes, keepdim=True)

    def outer_loss(self, codes: Tensor) -> Tensor:
        return 3 * super().outer_loss(codes)  # type: ignore[safe-super]  # it stands before one

    def prox(
        self, values: Tensor, step: float, thresholding: ThresholdingRule, iteration: int
    ) -> Tensor:
        return super().prox(values, step, thresholding, iteration).clamp(-self.bound, self.bound)

    def active(self, codes: Tensor) -> Tensor:
        return super().active(codes) & (codes.abs() < (1 - 1e-9) * self.bound)


@cache
def derived_class(kind: type[L1Problem]) -> Any:
    """Return a class of problems that is derived from one with a penalty."""
    return type("Derived", (Bounded, kind), {})


def own_iteration(random: Generator) -> FixedPoint:
    """Draw a step that couples all entries of a state, a vector or several tensors, with a Jacobian
    that is not symmetric, and a cubic loss; theta has up to three axes.
    """

    def drawn(*shape: int) -> Tensor:
        return torch.tensor(random.standard_normal(shape))

    theta, n = drawn(*random.integers(1, 4, random.integers(4))), int(random.integers(1, 9))
    # So many names that a set of them has their order by chance alone.
    tensors = {name: drawn(n) for name in ("velocity", "mass", "angle", "charge")}
    initial: UserState = [drawn(n), drawn(2, 2, n), tensors | {"position": drawn(n, n)}][
        random.integers(3)
    ]

    def flat(state: UserState) -> Tensor:
        parts = state.values() if isinstance(state, dict) else [state]
        return torch.cat([part.flatten() for part in parts])

    def step(state: UserState, theta: Tensor) -> UserState:
        entries, shifts = flat(state), inputs.to(theta) @ theta.flatten()
        moved = (0.4 * (entries + entries.roll(1)) + shifts).tanh()
        return problem.unpack(moved.reshape(problem.code_shape))

    def loss(state: UserState, theta: Tensor) -> Tensor:
        return ((flat(state) + 0.5) ** 3).sum() / 3 + 0.1 * (theta**2).sum()

    problem = FixedPoint(theta, step, loss, initial)
    inputs = torch.tensor(random.standard_normal((len(flat(initial)), theta.numel())))
    return problem
