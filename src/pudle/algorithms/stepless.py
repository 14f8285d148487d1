"""Algorithms without a step size and a thresholding rule: their base, and the iteration that a
problem brings with it.
"""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from torch import Tensor

from ..errors import InvalidArgument, UnsupportedProblem
from ..problems import FixedPoint, Problem
from .algorithm import Algorithm, State
from .thresholding import Soft, Thresholding


@dataclass(frozen=True)
class Stepless(Algorithm):
    """An algorithm that takes neither a step size nor a thresholding rule."""

    step: float | None = field(default=None, repr=False, compare=False, metadata={"spec": False})
    thresholding: Thresholding = field(
        default=Soft(), repr=False, compare=False, metadata={"spec": False}
    )

    @classmethod
    def specimen(cls, random: np.random.Generator, problem: Problem, initial: Tensor) -> Self:
        return cls(initial=initial if random.random() < 0.35 else None)

    def __post_init__(self) -> None:
        # One is what `Iteration.step_size` returns.
        if self.step not in (None, 1.0) or self.thresholding != Soft():
            raise InvalidArgument(
                f"{self.name} has no step size and no thresholding rule: leave them out, or use"
                " ista or fista, which have both"
            )


@dataclass(frozen=True)
class Iteration(Stepless):
    """The problem's own step: ``z_{t+1} = step(z_t, theta)`` of a `pudle.FixedPoint`.

    It has no step size and no thresholding rule: whatever it needs is part of the problem's step.

    Parameters
    ----------
    initial : Tensor, optional
        Warm start in the form of the codes; by default the problem's own initial state.
    """

    name = "iteration"

    def step_size(self, problem: Problem) -> float:
        """Return one, or refuse a problem that brings no step."""
        _own_step(problem)
        return 1.0

    def plain_layer(self, problem: Problem, codes: Tensor, step: float, iteration: int) -> Tensor:
        return _own_step(problem).advance(codes)

    def advance(self, problem: Problem, state: State, step: float) -> State:
        codes = _own_step(problem).advance(state.codes)
        return State(codes, codes, iteration=state.iteration + 1)


def _own_step(problem: Problem) -> FixedPoint:
    if not isinstance(problem, FixedPoint):
        raise UnsupportedProblem(
            f"iteration runs the step that a FixedPoint brings, and {type(problem).__name__} brings"
            " none: use ista or fista"
        )
    return problem
