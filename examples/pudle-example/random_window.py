"""Truncated backpropagation with a random window, whose mean is the full gradient."""

from dataclasses import dataclass

import torch

from pudle import Estimate, GradientEstimator, streams
from pudle.algorithms.unrolling import check_depths, direct_gradients, reverse_accumulation


@dataclass(frozen=True)
class RandomWindow(GradientEstimator):
    """Go back by layers, stop with probability `stop`, and divide by the chance to get that far."""

    stop: float = 0.05
    seed: int = 0

    name = "random_window"
    references = ("Tallec and Ollivier, Unbiasing truncated backpropagation through time, 2017",)
    computes = "stochastic"

    def estimate(self, problem, algorithm, depth):
        (depth,) = check_depths([depth])
        with torch.no_grad():
            states = algorithm.run(problem, depth, keep=range(depth)).states
        gradient, code_gradient = direct_gradients(problem, states[depth].codes)
        window = min(int(streams.generator(self.seed, self.name).geometric(self.stop)), depth)
        ascending = [states[t] for t in range(depth + 1)]
        through = reverse_accumulation(problem, algorithm, ascending, code_gradient)
        before = 0
        for layer in range(window):
            upto = next(through)
            gradient, before = gradient + (upto - before) / (1 - self.stop) ** layer, upto
        diagnostics = {"layers": depth, "layers_differentiated": window}
        return Estimate(gradient, states[depth].codes, diagnostics)
