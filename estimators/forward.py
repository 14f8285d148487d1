"""Forward-mode differentiation through all the layers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pudle.algorithms.unrolling import direct_gradients, directional_derivative, run_at
from pudle.errors import UnsupportedProblem, first_line
from pudle.estimator import Algorithm, CheckedOptions, CodesEstimator, Contribution, State
from pudle.problems import FixedPoint, Problem

#: Approximate number of tangent entries per chunk, directions times entries of theta and codes, so
#: that they fit the cache.
CHUNK_ENTRIES = 1 << 19


@dataclass(frozen=True)
class Forward(CheckedOptions, CodesEstimator):
    r"""Exact gradient of the loss after T layers, its Jacobian carried forward together with the
    codes.

    .. math:: J_{t+1} = \partial_z \Phi_t \, J_t + \partial_\theta \Phi_t, \quad J_0 = 0, \qquad
              g = \partial_\theta \ell(z_T, \theta) + J_T^\top \partial_z \ell(z_T, \theta)

    It equals `backprop`, and one pass gives the gradient at every depth. The columns of J, one per
    entry of theta, are carried in chunks, and each is contracted with the loss's derivative as soon
    as it is complete.

    Cost: with P entries of theta in C chunks, (1 + C) T layers forward and P tangents through T
    layers, about P times the work of `backprop`; no solves. Stored are the P directions and the
    tangents of one layer for one chunk, whatever T.

    Parameters
    ----------
    max_jacobian_entries : int
        Refuse problems where J, entries of theta times entries of the codes, has more: 2e7 takes
        about half a second per layer on one core.
    """

    max_jacobian_entries: int = 20_000_000

    name = "forward"
    aliases = ("piggyback", "iterdiff")
    references = (
        "Griewank and Faure, Piggyback differentiation and optimization, 2003",
        (
            "Deledalle, Vaiter, Fadili and Peyré, Stein Unbiased GrAdient estimator of the Risk"
            " (SUGAR) for multiple parameter selection, SIAM Journal on Imaging Sciences 2014"
        ),
        (
            "Franceschi, Donini, Frasconi and Pontil, Forward and reverse gradient-based"
            " hyperparameter optimization, ICML 2017"
        ),
    )
    computes = "unrolled"

    def check_supported(self, problem: Problem, algorithm: Algorithm) -> None:
        """Raise `UnsupportedProblem` also where the Jacobian has more than `max_jacobian_entries`
        entries.
        """
        super().check_supported(problem, algorithm)
        count, code_entries = problem.theta.numel(), math.prod(problem.code_shape)
        if count * code_entries > self.max_jacobian_entries:
            raise UnsupportedProblem.lacking(
                self.name,
                f"a Jacobian of at most max_jacobian_entries={self.max_jacobian_entries} entries",
                f"{count} x {code_entries} = {count * code_entries}",
                "raise that, use fewer samples, or use backprop or checkpointed, which compute the"
                " same",
            )

    def gradients_at(
        self, problem: Problem, algorithm: Algorithm, states: list[State]
    ) -> Iterator[Contribution]:
        """Yield the gradient at each depth, from derivatives in forward mode along all coordinates
        of theta, some at a time.

        A fixed point whose step torch cannot differentiate in that mode is refused by
        `UnsupportedProblem`.
        """
        theta, depths = problem.theta.detach(), [state.iteration for state in states]
        pairs = [direct_gradients(problem, state.codes) for state in states]

        def contracted(theta: Tensor) -> Tensor:
            """Return at each depth the codes, contracted with the loss's derivative in them."""
            moved = run_at(problem, algorithm, [theta], depths)
            return torch.stack(
                [
                    (codes * code_gradient).sum()
                    for (_, codes), (_, code_gradient) in zip(moved, pairs, strict=True)
                ]
            )

        def derivative(direction: Tensor) -> Tensor:
            return directional_derivative(contracted, theta, direction)

        count = theta.numel()
        chunk = max(1, CHUNK_ENTRIES // (count + states[0].codes.numel()))
        directions = torch.eye(count).to(theta).reshape(-1, *theta.shape)
        try:
            with torch.no_grad():
                # Mapped over a batch, tensors without axes lose their dtype to Python numbers; a
                # scalar theta needs no batch.
                rows: Tensor = (
                    torch.func.vmap(derivative, chunk_size=chunk)(directions)
                    if theta.ndim
                    else derivative(directions[0])[None]
                )
        except (RuntimeError, NotImplementedError) as error:
            if not isinstance(problem, FixedPoint):
                raise
            raise UnsupportedProblem.lacking(
                self.name,
                "a step that torch can differentiate in forward mode",
                f"this one ({first_line(error)})",
                "use other operations, or backprop or checkpointed, which compute the same",
            ) from error
        layers = 1 + math.ceil(count / chunk)
        columns = rows.unbind(1)
        for state, (direct, _), through_codes in zip(states, pairs, columns, strict=True):
            work = {
                "layers": layers * state.iteration,
                "layers_differentiated": state.iteration,
                "directions": count,
            }
            yield direct + through_codes.reshape(theta.shape), work
