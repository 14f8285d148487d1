"""The iterative shrinkage-thresholding algorithm (proximal gradient descent)."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ..problems import Problem
from .algorithm import Algorithm, State
from .thresholding import Decaying, Hard, Soft


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
        rule = str(random.choice(["soft", "soft", "decaying", "hard", "hard at"]))
        # Beyond 1/L hard thresholding need not converge: rounding grows from layer to layer.
        largest = 1.0 if "hard" in rule else largest
        step = None
        if random.random() < 0.6:
            step = float(random.uniform(0.2, largest)) / problem.lipschitz_constant
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
        return State(codes=codes, point=codes, iteration=state.iteration + 1)
