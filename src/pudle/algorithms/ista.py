"""The iterative shrinkage-thresholding algorithm (proximal gradient descent)."""

from dataclasses import dataclass

from ..problems import Problem
from .algorithm import Algorithm, State


@dataclass(frozen=True)
class Ista(Algorithm):
    """Iterative shrinkage-thresholding: ``z_{t+1} = prox(z_t - step * grad f(z_t))``.

    Plain gradient descent where the problem has no penalty.
    """

    name = "ista"

    def advance(self, problem: Problem, state: State, step: float) -> State:
        codes = self.proximal_step(problem, state.point, step, state.iteration)
        return State(codes=codes, point=codes, iteration=state.iteration + 1)
