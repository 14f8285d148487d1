"""Proximal gradient steps with constant momentum."""

from dataclasses import dataclass

from torch import Tensor

from pudle.algorithms import Algorithm, State


@dataclass(frozen=True, eq=False)
class HeavyBallState(State):
    previous: Tensor | None = None


@dataclass(frozen=True)
class HeavyBall(Algorithm):
    """``z_{t+1} = prox(z_t - step grad f(z_t) + momentum (z_t - z_{t-1}))`` (Polyak 1964)."""

    momentum: float = 0.5
    name = "heavy_ball"

    def start(self, problem, initial=None):
        codes = super().start(problem, initial).codes
        return HeavyBallState(codes, codes, previous=codes)

    def advance(self, problem, state, step):
        before, inertia = state.codes, self.momentum * (state.codes - state.previous)
        moved = before - step * problem.smooth_gradient(before) + inertia
        codes = problem.prox(moved, step, self.thresholding, state.iteration)
        return HeavyBallState(codes, codes, iteration=state.iteration + 1, previous=state.codes)
