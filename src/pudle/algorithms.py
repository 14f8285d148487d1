"""Inner algorithms: what is unrolled. Each layer is one call of `Algorithm.advance`."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from .errors import InvalidArgument
from .problems import Problem
from .thresholding import Soft, Thresholding
from .validation import check_integer, check_positive


@dataclass(frozen=True, eq=False)
class State:
    """All that a layer hands to the next.

    Attributes
    ----------
    codes : Tensor
        The iterate: the output of the last proximal map.
    point : Tensor
        Where the next gradient step is taken: the extrapolated point of an accelerated method, else the codes.
    momentum : float
        The accelerated method's scalar sequence; unused elsewhere.
    iteration : int
        Layers run so far.
    """

    codes: Tensor
    point: Tensor
    momentum: float = 1.0
    iteration: int = 0

    def detach(self) -> State:
        """Return the same state cut off from the graph."""
        return dataclasses.replace(self, codes=self.codes.detach(), point=self.point.detach())


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The result of running an algorithm.

    Attributes
    ----------
    codes : Tensor
        Codes at the last iteration.
    depth : int
        Number of iterations run.
    states : mapping from int to State
        The states that were kept, the last among them.
    """

    codes: Tensor
    depth: int
    states: Mapping[int, State] = field(repr=False)

    def at(self, iteration: int) -> Tensor:
        """Return the codes after `iteration` layers, of those the run was asked to keep."""
        if iteration not in self.states:
            raise InvalidArgument(f"iteration {iteration} was not kept: run again with keep=({iteration},)")
        return self.states[iteration].codes


@dataclass(frozen=True)
class Algorithm(ABC):
    """An iteration ``z_{t+1} = layer(z_t)`` with constant step.

    Parameters
    ----------
    step : float, optional
        Step size eta. None means 1/L, with L the largest curvature of the problem's smooth part.
    thresholding : Thresholding
        How the proximal map is carried out.
    """

    step: float | None = None
    thresholding: Thresholding = Soft()

    name: ClassVar[str]

    def __post_init__(self) -> None:
        if self.step is not None:
            check_positive("step", self.step)

    @abstractmethod
    def advance(self, problem: Problem, state: State, step: float) -> State:
        """Run one layer."""

    def step_size(self, problem: Problem) -> float:
        """Return the step used on this problem.

        Raises
        ------
        InvalidArgument
            If the given step exceeds 2/L, beyond which the iteration diverges.
        """
        largest = problem.curvature
        if self.step is None:
            return 1 / largest
        # Rounding in the largest eigenvalue must not refuse a step of exactly 2/L.
        if self.step > 2 / largest * (1 + 1e-6):
            raise InvalidArgument(
                f"step={self.step} is above 2/L={2 / largest:.6g}, where the iteration diverges: "
                f"give a smaller step, or step=None for 1/L={1 / largest:.6g}"
            )
        return self.step

    def start(self, problem: Problem, initial: Tensor | None = None) -> State:
        """Return the state before the first layer: all-zero codes, or a warm start."""
        if initial is None:
            codes = problem.initial_codes()
        else:
            codes = initial
            if codes.shape != problem.code_shape:
                raise InvalidArgument(f"initial has shape {tuple(codes.shape)}: codes here have shape {problem.code_shape}")
        return State(codes=codes, point=codes)

    def run(self, problem: Problem, depth: int, *, keep: Collection[int] = (), initial: Tensor | None = None) -> Trajectory:
        """Run `depth` layers and return the codes, and the iterations named in `keep`.

        Parameters
        ----------
        problem : Problem
        depth : int
            Number of layers, >= 0.
        keep : collection of int
            Iterations to keep beside the last.
        initial : Tensor, optional
            Warm start, shape of the codes; zeros where not given.
        """
        depth = check_integer("depth", depth, 0)
        step = self.step_size(problem)
        state = self.start(problem, initial)
        states = {}
        for iteration in range(depth):
            if iteration in keep:
                states[iteration] = state
            state = self.advance(problem, state, step)
        states[depth] = state
        missing = sorted(iteration for iteration in keep if iteration not in states)
        if missing:
            raise InvalidArgument(f"keep={missing} lies outside 0..{depth}: raise depth or ask for fewer")
        return Trajectory(codes=state.codes, depth=depth, states=states)

    def _proximal_step(self, problem: Problem, point: Tensor, step: float, iteration: int) -> Tensor:
        values = point - step * problem.smooth_gradient(point)
        return problem.prox(values, step, self.thresholding, iteration)


@dataclass(frozen=True)
class Ista(Algorithm):
    """Iterative shrinkage-thresholding: ``z_{t+1} = prox(z_t - step * grad f(z_t))``.

    Plain gradient descent where the problem has no penalty.
    """

    name = "ista"

    def advance(self, problem: Problem, state: State, step: float) -> State:
        codes = self._proximal_step(problem, state.point, step, state.iteration)
        return State(codes=codes, point=codes, iteration=state.iteration + 1)


@dataclass(frozen=True)
class Fista(Algorithm):
    """Accelerated iterative shrinkage-thresholding.

    ``z_{t+1} = prox(y_t - step * grad f(y_t))`` and ``y_{t+1} = z_{t+1} + (a_t - 1)/a_{t+1} (z_{t+1} - z_t)`` with
    ``a_{t+1} = (1 + sqrt(1 + 4 a_t^2))/2``. The codes are z, the output of the proximal map, never the extrapolated y.

    References
    ----------
    Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm", SIAM J. Imaging Sciences 2009.
    """

    name = "fista"

    def advance(self, problem: Problem, state: State, step: float) -> State:
        codes = self._proximal_step(problem, state.point, step, state.iteration)
        momentum = (1 + (1 + 4 * state.momentum**2) ** 0.5) / 2
        point = torch.add(codes, codes - state.codes, alpha=(state.momentum - 1) / momentum)
        return State(codes=codes, point=point, momentum=momentum, iteration=state.iteration + 1)
