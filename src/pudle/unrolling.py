"""Reverse-mode differentiation through the last layers of an unrolled algorithm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .algorithms import Algorithm, State
from .problems import Problem


def gradients(
    output: Tensor, inputs: Sequence[Tensor], weights: Tensor | None = None, *, keep_graph: bool = False
) -> tuple[Tensor, ...]:
    """Gradients of `output` (contracted with `weights`) in `inputs`; zeros where there is no dependence."""
    if not output.requires_grad:
        return tuple(torch.zeros_like(tensor) for tensor in inputs)
    return torch.autograd.grad(output, inputs, weights, retain_graph=keep_graph, allow_unused=True, materialize_grads=True)


def direct_gradients(problem: Problem, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``partial_theta loss`` and ``partial_z loss`` at the given codes."""
    with torch.enable_grad():
        theta = problem.theta.detach().requires_grad_()
        leaf = codes.detach().requires_grad_()
        direct, code_gradient = gradients(problem.with_theta(theta).outer_loss(leaf), (theta, leaf))
    return direct, code_gradient


def unrolled_gradient(problem: Problem, algorithm: Algorithm, state: State, layers: int) -> tuple[Tensor, Tensor]:
    """Run `layers` more layers from `state`, held constant, and differentiate the loss through them.

    Returns
    -------
    gradient : Tensor
        ``partial_theta loss + J^T partial_z loss``, J the Jacobian of those layers alone.
    codes : Tensor
        The codes after the last layer.
    """
    step = algorithm.step_size(problem)
    with torch.enable_grad():
        theta = problem.theta.detach().requires_grad_()
        live = problem.with_theta(theta)
        state = state.detach()
        for _ in range(layers):
            state = algorithm.advance(live, state, step)
        (gradient,) = gradients(live.outer_loss(state.codes), (theta,))
    return gradient, state.codes.detach()


def reverse_accumulation(
    problem: Problem, algorithm: Algorithm, states: Sequence[State], code_gradient: Tensor
) -> Iterator[Tensor]:
    """Yield ``J_K^T partial_z loss`` for windows K = 1, 2, ... from a single pass back over the layers.

    Layer by layer, from the last: the gradient in theta accumulates, so that after K layers it is the contribution of
    the window of the last K.

    Parameters
    ----------
    states : sequence of State
        Consecutive states, the last being the one at full depth; K runs up to ``len(states) - 1``.
    code_gradient : Tensor
        ``partial_z loss`` at the last codes.
    """
    step = algorithm.step_size(problem)
    codes_bar, point_bar = code_gradient, torch.zeros_like(code_gradient)
    total = torch.zeros_like(problem.theta)
    for state in reversed(states[:-1]):
        with torch.enable_grad():
            theta = problem.theta.detach().requires_grad_()
            codes = state.codes.detach().requires_grad_()
            # An unaccelerated method steps from its codes: one leaf, so that the derivative flows through it once.
            separate = state.point is not state.codes
            point = state.point.detach().requires_grad_() if separate else codes
            before = State(codes=codes, point=point, momentum=state.momentum, iteration=state.iteration)
            after = algorithm.advance(problem.with_theta(theta), before, step)
            leaves = (theta, codes, point) if separate else (theta, codes)
            contracted = (after.codes * codes_bar).sum() + (after.point * point_bar).sum()
            theta_bar, codes_bar, *rest = gradients(contracted, leaves)
            point_bar = rest[0] if rest else torch.zeros_like(codes_bar)
        total = total + theta_bar
        yield total
