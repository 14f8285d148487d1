"""Backpropagation that keeps a few states and runs the layers between them again."""

import math
from dataclasses import dataclass

import torch

from pudle.algorithms import Algorithm
from pudle.algorithms.unrolling import Adjoints, direct_gradients, pull_back
from pudle.estimator import Estimate, GradientEstimator
from pudle.problems import Problem
from pudle.validation import check_integer


@dataclass(frozen=True)
class Checkpointed(GradientEstimator):
    r"""Exact gradient of the loss after T layers, memory traded for a second evaluation of every layer.

    .. math:: g = \partial_\theta \ell(z_T, \theta) + J_T^\top \partial_z \ell(z_T, \theta)

    The layers are cut into segments. A first pass keeps only the state before each segment. Then, from the last segment to
    the first, its layers are run again with a graph, and the adjoints of codes and theta are carried back over it. The
    result is that of `backprop`, up to rounding.

    Cost: 2 T layers forward, T backward, no solves; stored are S states and the tensors of T / S layers, which is least
    near :math:`S = \sqrt{T}`.

    Parameters
    ----------
    segments : int, optional
        Number S of segments, >= 1, at most one per layer; by default the rounded square root of the depth.
    """

    segments: int | None = None

    name = "checkpointed"
    aliases = ("recursive_checkpointing",)
    references = (
        "Griewank and Walther, Algorithm 799: revolve, ACM Transactions on Mathematical Software 2000",
        "Chen, Xu, Zhang and Guestrin, Training deep nets with sublinear memory cost, arXiv 1604.06174",
    )
    computes = "unrolled"

    def __post_init__(self) -> None:
        if self.segments is not None:
            check_integer("segments", self.segments, 1)

    def estimate(self, problem: Problem, algorithm: Algorithm, depth: int) -> Estimate:
        depth = check_integer("depth", depth, 0)
        segments = min(self.segments or round(math.sqrt(depth)), depth)
        bounds = [depth * index // max(segments, 1) for index in range(segments + 1)]
        with torch.no_grad():
            trajectory = algorithm.run(problem, depth, keep=bounds)
        step = algorithm.step_size(problem)
        direct, code_gradient = direct_gradients(problem, trajectory.codes)
        adjoints = Adjoints(direct, {"codes": code_gradient})
        for start, end in zip(reversed(bounds[:-1]), reversed(bounds[1:]), strict=True):
            adjoints = pull_back(problem, algorithm, trajectory.states[start], end - start, step, adjoints)
        stored = segments + math.ceil(depth / max(segments, 1))
        work = {"layers": 2 * depth, "layers_differentiated": depth, "segments": segments, "stored_states": stored}
        return Estimate(adjoints.theta, trajectory.codes, work)
