"""Cyclic coordinate descent for sparse coding in a dense dictionary."""

from dataclasses import dataclass

import torch

from pudle.algorithms import Algorithm, State


@dataclass(frozen=True)
class CoordinateDescent(Algorithm):
    """A layer minimizes the inner objective over one code entry after another (Wu, Lange 2008)."""

    name = "coordinate_descent"

    def advance(self, problem, state, step):
        codes, residual = list(state.codes.unbind(1)), problem.residual(state.codes)
        penalties = torch.ones(len(codes)).to(residual) * problem.penalty
        for j, atom in enumerate(problem.matrix.unbind(1)):
            curvature = atom.square().sum() + problem.l2_penalty
            slope = residual @ atom + problem.l2_penalty * codes[j]
            values, threshold = codes[j] - slope / curvature, penalties[j] / curvature
            after = self.thresholding(values, threshold, state.iteration, problem.nonnegative)
            residual = residual + torch.outer(after - codes[j], atom)
            codes[j] = after
        codes = torch.stack(codes, 1)
        return State(codes, codes, iteration=state.iteration + 1)
