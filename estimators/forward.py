"""Forward-mode differentiation through all the layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jvp, vmap

from pudle.algorithms import Algorithm
from pudle.algorithms.unrolling import check_depths, codes_at, direct_gradients
from pudle.errors import UnsupportedProblem
from pudle.estimator import Estimate, GradientEstimator
from pudle.problems import Problem
from pudle.validation import check_integer

#: Entries of the tangents carried at once, about: directions times entries of theta and codes. Keeps them near the cache.
CHUNK_ENTRIES = 1 << 19


@dataclass(frozen=True)
class Forward(GradientEstimator):
    r"""Exact gradient of the loss after T layers, its Jacobian carried forward beside the codes.

    .. math:: J_{t+1} = \partial_z \Phi_t \, J_t + \partial_\theta \Phi_t, \quad J_0 = 0, \qquad
              g = \partial_\theta \ell(z_T, \theta) + J_T^\top \partial_z \ell(z_T, \theta)

    It equals `backprop`, depth by depth, and one pass gives the gradient at every depth on the way. The columns of J, one
    per entry of theta, are carried in chunks, and each is contracted with the loss's derivative as soon as it is complete.

    Cost: with P entries of theta in C chunks, (1 + C) T layers forward and P tangents through T layers, work of the order
    of P times that of `backprop`; no solves. Stored are the tangents of one layer for one chunk, whatever T: cheap for few
    parameters, out of reach for large dictionaries.

    Parameters
    ----------
    max_jacobian_entries : int
        Refuse where J, entries of theta times entries of the codes, has more: 2e7 takes about half a second per layer on
        one core.
    """

    max_jacobian_entries: int = 20_000_000

    name = "forward"
    aliases = ("piggyback", "iterdiff")
    references = (
        "Griewank and Faure, Piggyback differentiation and optimization, 2003",
        "Deledalle, Vaiter, Fadili and Peyre, Stein unbiased gradient estimator of the risk, SIAM J. Imaging Sciences 2014",
        "Franceschi, Donini, Frasconi and Pontil, Forward and reverse gradient-based hyperparameter optimization, ICML 2017",
    )
    computes = "unrolled"

    def __post_init__(self) -> None:
        check_integer("max_jacobian_entries", self.max_jacobian_entries, 1)

    def estimate(self, problem: Problem, algorithm: Algorithm, depth: int) -> Estimate:
        return next(self.sweep(problem, algorithm, [depth]))

    def sweep(self, problem: Problem, algorithm: Algorithm, depths: Sequence[int]) -> Iterator[Estimate]:
        """Differentiate the losses at all depths in one pass per chunk of directions."""
        depths = check_depths(depths)
        theta = problem.theta.detach()
        count, code_entries = theta.numel(), math.prod(problem.code_shape)
        if count * code_entries > self.max_jacobian_entries:
            raise UnsupportedProblem(
                f"forward carries a Jacobian of {count} x {code_entries} = {count * code_entries} entries here, above "
                f"max_jacobian_entries={self.max_jacobian_entries}: raise that, use fewer samples, or use backprop or "
                f"checkpointed, which compute the same"
            )
        with torch.no_grad():
            trajectory = algorithm.run(problem, max(depths, default=0), keep=depths)
        pairs = [direct_gradients(problem, trajectory.at(depth)) for depth in depths]

        def contracted(theta: Tensor) -> Tensor:
            codes = codes_at(problem, algorithm, theta, depths)
            return torch.stack([(z * code_gradient).sum() for z, (_, code_gradient) in zip(codes, pairs, strict=True)])

        def derivative(direction: Tensor) -> Tensor:
            return jvp(contracted, (theta,), (direction,))[1]

        chunk = max(1, CHUNK_ENTRIES // (count + code_entries))
        starts = range(0, count, chunk) if depths else ()
        columns = []
        for start in starts:
            directions = theta.new_zeros(min(chunk, count - start), count)
            directions.diagonal(start).fill_(1)
            directions = directions.reshape(-1, *theta.shape)
            # Mapped over a batch, tensors without axes lose their dtype to Python numbers; a scalar theta needs no batch.
            columns.append(vmap(derivative)(directions) if len(directions) > 1 else derivative(directions[0])[None])
        for index, depth in enumerate(depths):
            through_codes = torch.cat([column[:, index] for column in columns]).reshape(theta.shape)
            layers = depth * (1 + len(starts))
            yield Estimate(
                pairs[index][0] + through_codes,
                trajectory.at(depth),
                {"layers": layers, "layers_differentiated": depth, "directions": count},
            )
