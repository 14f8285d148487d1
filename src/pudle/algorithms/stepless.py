"""Bases of algorithms without a step size and a thresholding rule."""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from torch import Tensor

from ..errors import InvalidArgument, UnsupportedProblem
from ..problems import Problem
from ..problems.l1 import DenseL1Problem
from .algorithm import Algorithm, State, refuse_recorded
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
class LassoSolver(Stepless):
    """A solver of least squares with an l1 norm, in a dense matrix; it is not differentiated."""

    differentiable = False
    uses_step = False

    def start(self, problem: Problem, initial: Tensor | None = None) -> State:
        """Return the state before the first step; entries outside the orthant begin on its border.

        Raises
        ------
        UnsupportedProblem
            If the problem is of another kind.
        """
        if not isinstance(problem, DenseL1Problem):
            raise UnsupportedProblem(
                f"{self.name} solves problems with an l1 norm and a dense matrix, not"
                f" {type(problem).__name__}: use {problem.default_algorithm}"
            )
        codes = super().start(problem, initial).codes
        codes = codes.clamp(min=0) if problem.nonnegative else codes
        return State(codes=codes, point=codes)

    def advance(self, problem: Any, state: State, step: float) -> State:
        # Who calls it layer by layer would differentiate its decisions, and get NaN at some.
        refuse_recorded(self, problem, state)
        codes = self.improved(problem, state.codes)
        return State(codes=codes, point=codes, iteration=state.iteration + 1)

    @abstractmethod
    def improved(self, problem: Any, codes: Tensor) -> Tensor:
        """Return the codes after a step."""
