"""Evaluation of an unrolled algorithm at another parameter, and reverse-mode differentiation
through its layers.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..problems import Problem
from ..validation import check_integer
from . import gram_layers, kernels
from .algorithm import Algorithm, State

#: A gradient and the codes at which it was taken.
Evaluated = tuple[Tensor, Tensor]


def check_depths(depths: Sequence[int]) -> list[int]:
    """Return the depths as a list, or refuse one that is not an integer >= 0."""
    return [check_integer("depth", depth, 0) for depth in depths]


def gradients(
    output: Tensor,
    inputs: Sequence[Tensor],
    weights: Tensor | None = None,
    *,
    keep_graph: bool = False,
) -> tuple[Tensor, ...]:
    """Return the gradients of `output` (contracted with `weights`) in `inputs`; zeros where there
    is no dependence.
    """
    if not output.requires_grad:
        return tuple(torch.zeros_like(tensor) for tensor in inputs)
    return torch.autograd.grad(
        output, inputs, weights, retain_graph=keep_graph, allow_unused=True, materialize_grads=True
    )


def directional_derivative(function: Callable[[Tensor], Any], at: Tensor, direction: Tensor) -> Any:
    """Return the derivative of a function along a direction, in forward mode."""
    with warnings.catch_warnings():
        # When torch loads its rules for this, some versions warn of what these use.
        warnings.filterwarnings("ignore", ".*torch.jit.script", FutureWarning)
        return torch.func.jvp(function, (at,), (direction,))[1]


@torch.enable_grad()
def differentiable(problem: Problem) -> tuple[Problem, Tensor]:
    """Return the problem at a new leaf theta, in which it is differentiable, and that leaf."""
    theta = problem.theta.detach().requires_grad_()
    return problem.with_theta(theta), theta


def direct_gradient(problem: Problem, codes: Tensor) -> Tensor:
    """Return ``partial_theta loss`` at the given codes."""
    if kernels.is_plain(problem):
        return gram_layers.direct_gradient(problem, codes)
    with torch.enable_grad():
        live, theta = differentiable(problem)
        return gradients(live.outer_loss(codes.detach()), (theta,))[0]


def direct_gradients(problem: Problem, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``partial_theta loss`` and ``partial_z loss`` at the given codes."""
    if kernels.is_plain(problem):
        return gram_layers.direct_gradients(problem, codes)
    with torch.enable_grad():
        live, theta = differentiable(problem)
        leaf = codes.detach().requires_grad_()
        direct, code_gradient = gradients(live.outer_loss(leaf), (theta, leaf))
    return direct, code_gradient


def unrolled_gradients(
    problem: Problem, algorithm: Algorithm, depths: Sequence[int], window: int | None = None
) -> Iterator[Evaluated]:
    """Differentiate the loss through the last `window` layers, or through all, at each depth.

    Yield ``partial_theta loss + J^T partial_z loss``, J the Jacobian of those layers alone, and the
    codes at that depth. All depths share the forward pass.
    """
    depths, start = check_depths(depths), algorithm.start(problem)
    if not kernels.apply(problem, algorithm, start):
        yield from _recorded_gradients(problem, algorithm, depths, window)
        return
    for depth, found in zip(
        depths, kernels.unrolled(problem, algorithm, start, depths, window), strict=True
    ):
        yield _completed(problem, *found, problem.theta.dtype) or _again_at(
            problem, algorithm, depth, window
        )


def _completed(
    problem: Problem, codes: Tensor, pulled: kernels.Pulled, dtype: torch.dtype
) -> Evaluated | None:
    """Add the direct part to what the kernels pulled back; return None where that leaves too few
    digits for a dtype.
    """
    gradient = direct_gradient(problem, codes) + pulled.through_codes
    return (
        (gradient.to(dtype), codes.to(dtype)) if pulled.keeps_digits_of(gradient, dtype) else None
    )


def _again_at(problem: Problem, algorithm: Algorithm, depth: int, window: int | None) -> Evaluated:
    layers = depth if window is None else min(window, depth)
    state = algorithm.run(problem, depth - layers, keep=[depth - layers]).states[depth - layers]
    return _again(problem, algorithm, state, layers)


def _again(problem: Problem, algorithm: Algorithm, state: State, layers: int) -> Evaluated:
    """Return what the kernels lost the digits of: from the kernels in double precision, if that
    helps, or by autograd.
    """
    dtype = problem.theta.dtype
    if dtype == torch.float32:
        fine, fine_state = _in_double(problem), state.mapped(Tensor.double)
        (found,) = kernels.unrolled(fine, algorithm, fine_state, [layers])
        if completed := _completed(fine, *found, dtype):
            return completed
    return _recorded_gradient(problem, algorithm, state, layers)


def _in_double(problem: Any) -> Any:
    """Return a copy of a problem that the kernels apply to in double precision, with the same step."""
    return problem.with_theta(problem.theta.double()).with_samples(
        observations=problem.observations.double()
    )


def _recorded_gradients(
    problem: Problem, algorithm: Algorithm, depths: Sequence[int], window: int | None
) -> Iterator[Evaluated]:
    """Yield the same by automatic differentiation of the layers."""
    starts = [0 if window is None else max(depth - window, 0) for depth in depths]
    if window is not None:
        with torch.no_grad():
            states = algorithm.run(problem, max(starts, default=0), keep=starts).states
        for depth, start in zip(depths, starts, strict=True):
            yield _recorded_gradient(problem, algorithm, states[start], depth - start)
        return
    with torch.enable_grad():
        live, theta = differentiable(problem)
        trajectory = algorithm.run(live, max(depths, default=0), keep=depths)
    for depth in depths:
        codes = trajectory.at(depth)
        with torch.enable_grad():
            loss = live.outer_loss(codes)
        (gradient,) = gradients(loss, (theta,), keep_graph=len(depths) > 1)
        yield gradient, codes.detach()


def unrolled_gradient(
    problem: Problem, algorithm: Algorithm, state: State, layers: int
) -> Evaluated:
    """Run `layers` more layers from `state`, which is held constant, and differentiate the loss
    through them.

    Return ``partial_theta loss + J^T partial_z loss``, J the Jacobian of those layers alone, and
    the codes after the last.
    """
    if not kernels.apply(problem, algorithm, state):
        return _recorded_gradient(problem, algorithm, state, layers)
    (found,) = kernels.unrolled(problem, algorithm, state, [layers])
    return _completed(problem, *found, problem.theta.dtype) or _again(
        problem, algorithm, state, layers
    )


def _recorded_gradient(
    problem: Problem, algorithm: Algorithm, state: State, layers: int
) -> Evaluated:
    step = algorithm.step_size(problem)
    with torch.enable_grad():
        live, theta = differentiable(problem)
        state = state.detach()
        for _ in range(layers):
            state = algorithm.advance(live, state, step)
        (gradient,) = gradients(live.outer_loss(state.codes), (theta,))
    return gradient, state.codes.detach()


def window_gradients(
    problem: Problem, algorithm: Algorithm, depth: int, windows: Sequence[int]
) -> Iterator[Evaluated]:
    """Yield what `unrolled_gradients` yields at one depth for ascending windows, from one forward
    and one backward pass.
    """
    lengths, start = [min(window, depth) for window in windows], algorithm.start(problem)
    if kernels.apply(problem, algorithm, start):
        for length, found in zip(
            lengths, kernels.windows(problem, algorithm, start, depth, lengths), strict=True
        ):
            yield _completed(problem, *found, problem.theta.dtype) or _again_at(
                problem, algorithm, depth, length
            )
        return
    with torch.no_grad():
        trajectory = algorithm.run(
            problem, depth, keep=range(depth - max(lengths, default=0), depth)
        )
    direct, code_gradient = direct_gradients(problem, trajectory.codes)
    accumulated = reverse_accumulation(
        problem, algorithm, list(trajectory.states.values()), code_gradient
    )
    through_codes = [torch.zeros_like(direct), *accumulated]
    for length in lengths:
        yield direct + through_codes[length], trajectory.codes


def reverse_accumulation(
    problem: Problem, algorithm: Algorithm, states: Sequence[State], code_gradient: Tensor
) -> Iterator[Tensor]:
    """Yield ``J_K^T partial_z loss``, J_K the Jacobian of the last K layers, for K = 1, 2, ... from
    one backward pass.

    Parameters
    ----------
    states : sequence of State
        Consecutive states up to full depth; K runs up to ``len(states) - 1``.
    code_gradient : Tensor
        ``partial_z loss`` at the last codes.
    """
    step = algorithm.step_size(problem)
    adjoints = Adjoints(torch.zeros_like(problem.theta), {"codes": code_gradient})
    for state in reversed(states[:-1]):
        adjoints = pull_back(problem, algorithm, state, 1, step, adjoints)
        yield adjoints.theta


class Adjoints(NamedTuple):
    """Derivatives of the loss at a state."""

    #: In theta, summed over all later layers.
    theta: Tensor
    #: In the tensors of the state, by the names of their fields; zero in those that are missing. Of
    #: fields that hold the same tensor, the first has the whole derivative.
    state: Mapping[str, Tensor]


def pull_back(
    problem: Problem,
    algorithm: Algorithm,
    state: State,
    layers: int,
    step: float,
    adjoints: Adjoints,
) -> Adjoints:
    """Carry adjoints back over the `layers` >= 1 layers that follow `state`, which are run again
    for it.

    The adjoints are those after the last of these layers. Return those at `state`, these layers
    included in the sum of the first. Outside the support of the state those of codes and point may
    be zero: the layer that made it lets nothing else through.
    """
    if kernels.apply(problem, algorithm, state):
        found = _pulled_back(problem, algorithm, state, layers, adjoints)
        if found is None and problem.theta.dtype == torch.float32:
            found = _pulled_back(
                _in_double(problem), algorithm, state.mapped(Tensor.double), layers, adjoints
            )
        if found is not None:
            return found
    return recorded_pull_back(problem, algorithm, state, layers, step, adjoints)


def _pulled_back(
    problem: Problem, algorithm: Algorithm, state: State, layers: int, adjoints: Adjoints
) -> Adjoints | None:
    """Return what the kernels make of adjoints, in the dtype of these, or None where that leaves
    too few digits for it.
    """
    codes_bar = adjoints.state["codes"]
    dtype, both = (
        codes_bar.dtype,
        torch.stack([codes_bar, adjoints.state.get("point", torch.zeros_like(codes_bar))]),
    )
    pulled, back = kernels.pull_back(
        problem, algorithm, state, layers, both.to(problem.theta.dtype)
    )
    theta_bar = adjoints.theta + pulled.through_codes
    if not pulled.keeps_digits_of(theta_bar, dtype):
        return None
    codes_bar, point_bar = back.to(dtype)
    if state.point is state.codes:
        return Adjoints(theta_bar.to(dtype), {"codes": codes_bar + point_bar})
    return Adjoints(theta_bar.to(dtype), {"codes": codes_bar, "point": point_bar})


def recorded_pull_back(
    problem: Problem,
    algorithm: Algorithm,
    state: State,
    layers: int,
    step: float,
    adjoints: Adjoints,
) -> Adjoints:
    """Carry adjoints back as `pull_back` does, by automatic differentiation alone; no layer need
    have made the state.
    """
    with torch.enable_grad():
        live, theta = differentiable(problem)
        state = state.mapped(lambda tensor: tensor.detach().requires_grad_())
        # One leaf for fields that share a tensor, so that the derivative flows through it once.
        leaves = {id(leaf): (name, leaf) for name, leaf in reversed(state.tensors().items())}
        names, inputs = zip(*leaves.values(), strict=True)
        for _ in range(layers):
            state = algorithm.advance(live, state, step)
        found = state.tensors()
        reached = [name for name in adjoints.state if found[name].requires_grad]
        # With theta among the outputs its sum starts from the later layers' share, in the order of
        # full backpropagation: cut into segments, the result stays the same to the last bit.
        theta_bar, *rest = torch.autograd.grad(
            [theta, *(found[name] for name in reached)],
            [theta, *inputs],
            [adjoints.theta, *(adjoints.state[name] for name in reached)],
            allow_unused=True,
            materialize_grads=True,
        )
    return Adjoints(theta_bar, dict(zip(names, rest, strict=True)))


def codes_at(
    problem: Problem, algorithm: Algorithm, theta: Tensor, depths: Sequence[int]
) -> list[Tensor]:
    """Return ``z_T(theta)`` for every depth T in `depths`, from one run, differentiable in theta.

    The step is that of the unperturbed problem: it is a constant of the unrolled program.
    """
    step = algorithm.step_size(problem)
    live = problem.with_theta(theta)
    state = algorithm.start(live)
    codes = {0: state.codes}
    for iteration in range(1, max(depths) + 1):
        state = algorithm.advance(live, state, step)
        if iteration in depths:
            codes[iteration] = state.codes
    return [codes[depth] for depth in depths]


def losses_at(
    problem: Problem, algorithm: Algorithm, theta: Tensor, depths: Sequence[int]
) -> Tensor:
    """Return ``loss(z_T(theta), theta)`` for every depth T in `depths`, shape (len(depths),), from
    one run.
    """
    live = problem.with_theta(theta)
    return torch.stack(
        [live.outer_loss(codes) for codes in codes_at(problem, algorithm, theta, depths)]
    )
