"""Backpropagation that keeps a few states and runs the layers between them again."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from pudle.algorithms.unrolling import check_depths, direct_gradients, reverse_accumulation
from pudle.estimator import Algorithm, CheckedOptions, Estimate, Problem, SweepEstimator


@dataclass(frozen=True)
class Checkpointed(CheckedOptions, SweepEstimator):
    r"""Exact gradient of the loss after T layers, memory traded for a second evaluation of every
    layer.

    .. math:: g = \partial_\theta \ell(z_T, \theta) + J_T^\top \partial_z \ell(z_T, \theta)

    The layers are cut into segments. A first pass keeps only the state before each segment. Then,
    from the last segment to the first, its layers are run again with a graph, and the adjoints of
    codes and theta are carried back over it. The result is that of `backprop`, up to rounding.

    Cost: 2 T layers forward, T backward, no solves; stored are S states and the tensors of T / S
    layers, which is least near :math:`S = \sqrt{T}`.

    Parameters
    ----------
    segments : int, optional
        Number S of segments, >= 1, at most one per layer; by default the rounded square root of the
        depth.
    """

    segments: int | None = None

    name = "checkpointed"
    aliases = ("recursive_checkpointing",)
    references = (
        (
            "Griewank and Walther, Algorithm 799: revolve: an implementation of checkpointing for"
            " the reverse or adjoint mode of computational differentiation, ACM Transactions on"
            " Mathematical Software 2000"
        ),
        (
            "Chen, Xu, Zhang and Guestrin, Training deep nets with sublinear memory cost, arXiv"
            " 1604.06174"
        ),
    )
    computes = "unrolled"

    def sweep(
        self, problem: Problem, algorithm: Algorithm, depths: Sequence[int]
    ) -> Iterator[Estimate]:
        """Yield the estimate at each depth; all share the first pass, which keeps the states before
        their segments.
        """
        # Where the segments of each run begin, and where the last one ends.
        bounds = {}
        for depth in check_depths(depths):
            segments = min(self.segments or round(math.sqrt(depth)), depth)
            bounds[depth] = [depth * i // max(segments, 1) for i in range(segments + 1)]
        with torch.no_grad():
            trajectory = algorithm.run(
                problem, max(bounds, default=0), keep=set(chain(*bounds.values()))
            )
        for depth in depths:
            codes = trajectory.at(depth)
            gradient, code_gradient = direct_gradients(problem, codes)
            states = [trajectory.states[layer] for layer in bounds[depth]]
            for gradient in reverse_accumulation(  # noqa: B007, B020  # the last is that of all
                problem, algorithm, states, code_gradient, gradient
            ):
                pass
            work = {"layers": 2 * depth, "layers_differentiated": depth}
            yield Estimate(gradient, codes, work)
