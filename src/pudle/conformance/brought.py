"""What users bring and no dataset makes: a loss, a rule, algorithms with a memory, derived problems
and iterations on states of any form.
"""

from collections import ChainMap
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from numpy.random import Generator
from torch import Tensor

from ..algorithms import Algorithm, Fista, Ista, State
from ..algorithms.thresholding import Soft
from ..problems import FixedPoint, Problem
from ..problems.fixed_point import UserState

#: A weight of a network that is trained beside.
OUTSIDE = torch.ones((), requires_grad=True)


def own_loss(codes: Tensor, theta: Tensor) -> Tensor:
    """Return the mean of squares of weighted sums of the codes, and of some entries of theta, which
    count where no code does.
    """
    sums = codes.reshape(len(codes), -1).cumsum(1).sum(1)
    own = (theta[..., 0] ** 2).mean()
    return OUTSIDE * (sums**2 * (1 + own) / 2 + own).mean()


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
    """A memory of two iterates, from which the next is made."""

    previous: Tensor | None = None
    latest: Tensor | None = None


class HeavyBall(Fista):
    """An algorithm whose layers read nothing but a memory beside the codes."""

    name = "heavy_ball"

    def step_size(self, problem: Problem) -> float:
        return self.step or 0.7 * super().step_size(problem)

    def start(self, problem: Problem, initial: Tensor | None = None) -> State:
        codes = super().start(problem, initial).codes
        return Moving(codes, codes, previous=codes, latest=codes)

    def advance(self, problem: Problem, state: State, step: float) -> State:
        assert isinstance(state, Moving) and state.latest is not None
        latest, iteration = state.latest, state.iteration
        inertia = 0.5 * (latest - cast(Tensor, state.previous))
        moved = latest - step * problem.smooth_gradient(latest) + inertia
        codes = problem.prox(moved, step, self.thresholding, iteration)
        return Moving(codes, codes, iteration=iteration + 1, previous=latest, latest=codes)


class Relaxed(Ista):
    """An algorithm without a memory, whose layers are not the plain ones."""

    name = "relaxed"

    def advance(self, problem: Problem, state: State, step: float) -> State:
        codes = 0.8 * super().advance(problem, state, step).codes + 0.2 * state.codes
        return State(codes, codes, iteration=state.iteration + 1)


class Solver(HeavyBall):
    """An algorithm whose layers the user has written without derivatives."""

    name = "solver"
    differentiable = False


ALGORITHMS: dict[str, type[Algorithm]] = {cls.name: cls for cls in (HeavyBall, Relaxed, Solver)}


@cache
def derived(kind: type[Problem], apart: bool) -> type[Problem]:
    """Return a class of problems that is derived from one with a penalty, or has its parts and
    stands `apart` from all: three times the loss, and bounded codes.
    """
    # The parts that it changes are called with a problem that need not be of this kind.
    parts: Any = kind

    def bound(self: Problem) -> Tensor:
        # It depends on neither theta nor L.
        axes = (*range(1, self.observations.ndim),)
        return 0.3 * self.observations.abs().amax(axes, keepdim=True)

    def outer_loss(self: Problem, codes: Tensor) -> Any:
        return 3 * parts.outer_loss(self, codes)

    def prox(self: Problem, *given: object) -> Any:
        return parts.prox(self, *given).clamp(-bound(self), bound(self))

    def active(self: Problem, codes: Tensor) -> Any:
        return parts.active(self, codes) & (codes.abs() < (1 - 1e-9) * bound(self))

    base = Problem if apart else kind
    others = [dict(vars(cls)) for cls in kind.__mro__ if cls not in base.__mro__]
    changed: dict[str, object] = {"kind": kind, "bound": property(bound)}
    changed |= {"outer_loss": outer_loss, "prox": prox, "active": active}
    return type("Derived", (base,), dict(ChainMap(changed, *others)))


def own_iteration(random: Generator) -> FixedPoint:
    """Draw a step that couples all entries of a state, a vector or several tensors, with a Jacobian
    that is not symmetric, and a cubic loss.
    """

    def drawn(*shape: int) -> Tensor:
        return scale * torch.tensor(random.standard_normal(shape))

    # Some contract slowly, some states are large, and some stay zero.
    pull, scale = [(0.4, 1.0), (0.4, 1.0), (0.49999, 0.02), (0.4, 0.0)][random.integers(4)]
    n, unit = [1, 3, 6, 24][random.integers(4)], [1.0, 1e-9][random.integers(2)]
    theta = drawn(*random.integers(1, 4, random.integers(4)))
    # So many names that a set of them has their order by chance alone.
    named = {name: drawn(n) for name in ("velocity", "mass", "angle", "charge")}
    initial: UserState = [drawn(n), drawn(2, 2, n), named | {"position": drawn(n, n)}][
        random.integers(3)
    ]

    def flat(state: UserState) -> Tensor:
        parts = state.values() if isinstance(state, dict) else [state]
        return torch.cat([part.flatten() for part in parts])

    def step(state: UserState, theta: Tensor) -> UserState:
        entries, shifts = flat(state), inputs.to(theta) @ theta.flatten()
        moved = (pull * (entries + entries.roll(1)) + shifts).tanh()
        return problem.unpack(moved.reshape(problem.code_shape))

    def loss(state: UserState, theta: Tensor) -> Tensor:
        seen = flat(state)[: len(inputs) - unseen]
        return unit * (((seen + 0.5) ** 3).sum() / 3 + 0.1 * (theta**2).sum())

    problem = FixedPoint(theta, step, loss, initial)
    inputs = torch.tensor(random.standard_normal((len(flat(initial)), theta.numel())))
    # Sometimes theta reaches what the loss sees a layer later.
    unseen = len(inputs) // 2 * int(random.integers(2))
    inputs[: unseen and -unseen] = 0
    return problem
