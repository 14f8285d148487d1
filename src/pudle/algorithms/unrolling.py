"""Evaluation of an unrolled algorithm at another parameter, and reverse-mode differentiation
through its layers.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from ..problems import Problem
from ..problems.linearized import check_recording
from ..problems.linearized import gradients as gradients  # estimators find it here
from ..validation import check_integer
from .algorithm import Algorithm, Dispatched, State, run_layers

AnyProblem = TypeVar("AnyProblem", bound=Problem)
#: A gradient and the codes at which it was taken.
GradientAndCodes = tuple[Tensor, Tensor]


def check_depths(depths: Sequence[int]) -> list[int]:
    """Return the depths as a list, or refuse one that is not an integer >= 0."""
    return [check_integer("depth", depth, 0) for depth in depths]


def directional_derivative(
    function: Callable[[Tensor], Tensor], at: Tensor, direction: Tensor
) -> Tensor:
    """Return the derivative of a function along a direction, in forward mode; a tensor of the shape
    of the function's result.
    """
    with warnings.catch_warnings():
        # When torch loads its rules for this, some versions warn of what these use.
        warnings.filterwarnings("ignore", ".*torch.jit.script")
        derivative: Tensor = torch.func.jvp(function, (at,), (direction,))[1]
        return derivative


@torch.enable_grad()
def differentiable(problem: AnyProblem) -> tuple[AnyProblem, Tensor]:
    """Return a copy of the problem at a new leaf theta, in which it is differentiable, and that
    leaf; InvalidArgument where torch cannot record, as in inference mode.
    """
    check_recording()
    theta = problem.theta.detach().requires_grad_()
    return problem.with_theta(theta), theta


@Dispatched
@torch.enable_grad()
def direct_gradient(problem: Problem, codes: Tensor) -> Tensor:
    """Return ``partial_theta loss`` at the given codes."""
    live, theta = differentiable(problem)
    return gradients(live.outer_loss(codes.detach()), (theta,))[0]


@Dispatched
@torch.enable_grad()
def direct_gradients(problem: Problem, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``partial_theta loss`` and ``partial_z loss`` at the given codes, without a graph; the
    problem is not changed.
    """
    live, theta = differentiable(problem)
    leaf = codes.detach().requires_grad_()
    direct, code_gradient = gradients(live.outer_loss(leaf), (theta, leaf))
    return direct, code_gradient


@Dispatched
@torch.enable_grad()
def through_minimizer(problem: Problem, codes: Tensor, solution: Tensor) -> Tensor:
    """Return ``-(partial_theta F)^T v``, shape of theta, F the gradient of the inner objective on
    the active set of the codes.

    For the solution v of ``H_SS v_S = (partial_z loss)_S``, zero off S, this is ``J^T partial_z
    loss`` at a minimizer.
    """
    live, theta = differentiable(problem)
    return -gradients(live.stationarity(codes), (theta,), solution)[0]


@Dispatched
def full_gradients(
    problem: Problem, algorithm: Algorithm, depths: Sequence[int], start: State | None = None
) -> Iterator[GradientAndCodes]:
    """Differentiate the loss through all layers, at each depth.

    Yield ``partial_theta loss + J^T partial_z loss``, J the Jacobian of the layers, and the codes
    at that depth. All depths share the forward pass, whose graph is kept until the last is asked
    for. They may count from another first state, which is held constant; by default it is the
    algorithm's.
    """
    with torch.enable_grad():
        live, theta = differentiable(problem)
        state = algorithm.start(live) if start is None else start.detach()
        step = algorithm.step_size(problem)
        states = run_layers(live, algorithm, state, max(depths, default=0), depths, step)
    for depth in depths:
        codes = states[depth].codes
        with torch.enable_grad():
            loss = live.outer_loss(codes)
        (gradient,) = gradients(loss, (theta,), keep_graph=len(depths) > 1)
        yield gradient, codes.detach()


def unrolled_gradients(
    problem: Problem, algorithm: Algorithm, depths: Sequence[int], window: int | None = None
) -> Iterator[GradientAndCodes]:
    """Differentiate the loss as `full_gradients` does, through the last `window` layers alone
    unless it is None.

    With a window, the states that enter the windows come from one run without a graph.
    """
    depths = check_depths(depths)
    if window is None:
        yield from full_gradients(problem, algorithm, depths)
        return
    entries = [max(depth - window, 0) for depth in depths]
    with torch.no_grad():
        states = algorithm.run(problem, max(entries, default=0), keep=entries).states
    for depth, entry in zip(depths, entries, strict=True):
        yield unrolled_gradient(problem, algorithm, states[entry], depth - entry)


def unrolled_gradient(
    problem: Problem, algorithm: Algorithm, state: State, layers: int
) -> GradientAndCodes:
    """Run `layers` more layers from `state`, which is held constant, and differentiate the loss
    through them; return the gradient and the codes after the last layer.
    """
    return next(full_gradients(problem, algorithm, [layers], state))


class Adjoints(NamedTuple):
    """Derivatives of the loss at a state."""

    #: In theta, summed over all later layers.
    theta: Tensor
    #: In the tensors of the state, by the names of their fields; zero in those that are missing. Of
    #: fields that hold the same tensor, the first has the whole derivative.
    state: Mapping[str, Tensor]


@Dispatched
@torch.enable_grad()
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
    live, theta = differentiable(problem)
    state = state.mapped(lambda tensor: tensor.detach().requires_grad_())
    # One leaf for fields that share a tensor, so that the derivative flows through it once.
    leaves = {leaf: name for name, leaf in reversed(state.tensors().items())}
    tensors = run_layers.plain(live, algorithm, state, layers, (), step)[layers].tensors()
    reached = [name for name in adjoints.state if tensors[name].requires_grad]
    # With theta among the outputs its sum starts from the later layers' share, in the order of
    # full backpropagation: cut into segments, the result stays the same to the last bit.
    theta_bar, *state_bars = torch.autograd.grad(
        [theta, *(tensors[name] for name in reached)],
        [theta, *leaves],
        [adjoints.theta, *(adjoints.state[name] for name in reached)],
        materialize_grads=True,
    )
    return Adjoints(theta_bar, dict(zip(leaves.values(), state_bars, strict=True)))


def reverse_accumulation(
    problem: Problem,
    algorithm: Algorithm,
    states: Sequence[State],
    code_gradient: Tensor,
    direct: Tensor | None = None,
) -> Iterator[Tensor]:
    """Yield ``J_K^T partial_z loss``, J_K the Jacobian of the layers behind the K-th last of some
    states, for K = 2, 3, ... from one backward pass.

    Parameters
    ----------
    states : sequence of State
        States up to full depth, ascending. Of consecutive ones, J_K has K - 1 layers.
    code_gradient : Tensor
        ``partial_z loss`` at the last codes.
    direct : Tensor, optional
        What is added to all; zero by default.
    """
    step = algorithm.step_size(problem)
    direct = torch.zeros_like(problem.theta) if direct is None else direct
    adjoints = Adjoints(direct, {"codes": code_gradient})
    for later, state in pairwise(reversed(states)):
        if layers := later.iteration - state.iteration:
            adjoints = pull_back(problem, algorithm, state, layers, step, adjoints)
        yield adjoints.theta


def segment_of(depth: int, window: int | None) -> int:
    """Return the index of the segment of `window` layers that holds the last of `depth` layers; all
    are one segment without a window.
    """
    return max(depth - 1, 0) // window if window else 0


def run_at(
    problem: Problem,
    algorithm: Algorithm,
    thetas: Iterable[Tensor],
    depths: Sequence[int],
    window: int | None = None,
) -> list[tuple[Problem, Tensor]]:
    """Return the problem and the codes at every depth, differentiable in theta, from one run with
    each segment of layers at a theta of its own.

    There is at least one depth. The step is that of the unperturbed problem: it is a constant of
    the unrolled program.
    """
    step, live = algorithm.step_size(problem), [problem.with_theta(theta) for theta in thetas]
    state, reached = algorithm.start(live[0]), {}
    for depth in range(max(depths) + 1):
        at = live[segment_of(depth, window)]
        if depth:
            state = algorithm.advance(at, state, step)
        if depth in depths:
            reached[depth] = at, state.codes
    return [reached[depth] for depth in depths]


def losses_at(
    problem: Problem,
    algorithm: Algorithm,
    thetas: Iterable[Tensor],
    depths: Sequence[int],
    window: int | None = None,
) -> Tensor:
    """Return the loss at every depth of `run_at`, shape (len(depths),), differentiable in the
    thetas.
    """
    reached = run_at(problem, algorithm, thetas, depths, window)
    return torch.stack([at.outer_loss(codes) for at, codes in reached])
