"""The equation that the output of a layer solves, and the implicit gradient at its own solution
refined.
"""

import contextlib
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from ..algorithms import Iteration
from ..errors import InvalidArgument, UnsupportedProblem, first_line
from ..problems import FixedPoint
from ..problems.linearized import MAX_DENSE, Linearized
from ..references.limits import Converging
from ..streams import generator
from ..text import number
from .differences import BEYOND, EPS, FIRST, rounding_of, slope
from .distances import ROUNDED, SAME, norm
from .layer import Array, Layer, doubled, varies

#: Most steps of Newton's method; a correction of this share of the solution is rounding.
NEWTON, CONVERGED = 30, 1e-13
#: A correction that no longer halves has converged if it is below this share of the solution.
STALLED = 1e-7
#: Newton's method stays near a start from which it converges: within twice its first step (Newton
#: and Kantorovich); more than this share of the solution means another equation.
BRANCH, NEARBY = 2.0, 0.5
#: Sizes of a residual's Jacobian that need no other units, and the share of the solution by whose
#: change the size is found.
USUAL, SHIFT = (1e-3, 1e3), 1e-4
#: A step that moves the layer's output by more than this share does not belong to it.
FAR = 0.01
#: Condition of a system that float64 hardly solves.
POOR = 1e8
#: Share of the input from which differences of refined solutions start.
NEAR = 2.0**-10
#: The layer's solution and the refined one.
STATES = 2


@dataclass(frozen=True, eq=False)
class Remembering(FixedPoint):
    """A fixed point that linearizes its step once at each of the states looked at last."""

    @functools.cached_property
    def _remembered(self) -> Callable[[Tensor], Linearized]:
        return functools.lru_cache(STATES)(super().linearized)

    def linearized(self, codes: Tensor) -> Linearized:
        return self._remembered(codes)


class Equation:
    """The equation that the output z of a layer solves, ``residual(z, *inputs)``, which is zero, or
    ``step(z, *inputs)``, which is z, at the layer's own solution.

    Attributes
    ----------
    problem, running : FixedPoint, Converging
        The equation as a fixed point.
    codes : Tensor
        The layer's solution.

    Raises
    ------
    UnsupportedProblem
        If the output is not real, or has no entries.
    """

    def __init__(self, layer: Layer, name: str, function: Callable[..., object]) -> None:
        self.layer, self.name, self.function = layer, name, function
        self.double = replace(layer, inputs=tuple(map(doubled, layer.inputs)))
        self.returned = tree_map(doubled, layer.outputs(layer.theta))
        self.outputs = [output for output in tree_leaves(self.returned) if varies(output)]
        if any(output.is_complex() for output in self.outputs):
            raise UnsupportedProblem(
                f"{name} is for real outputs: let layer and {name} have torch.view_as_real of z"
            )
        initial = torch.cat([output.flatten() for output in self.outputs])
        if not len(initial):
            raise UnsupportedProblem("the layer returns no entries")
        self.unit = self.unit_at(initial)
        self.problem = Remembering(layer.theta, self.step, self.loss, initial)
        self.running = Converging(self.problem, Iteration(), 1.0)
        self.codes = self.problem.initial_codes()

    def whole(self, state: Tensor) -> object:
        """Return a state, a vector, in the form of what the layer returns."""
        cut = iter(torch.split(state, [each.numel() for each in self.outputs]))
        return tree_map(
            lambda each: next(cut).reshape_as(each) if varies(each) else each, self.returned
        )

    def applied(self, state: Tensor, theta: Tensor) -> Tensor:
        """Return what the function makes of a state."""
        with self.double.placed(theta) as inputs:
            try:
                made = tree_leaves(self.function(self.whole(state), *inputs))
            except Exception as error:
                raise InvalidArgument(
                    f"{self.name}(z, *inputs) fails where z is what the layer returns"
                    f" ({first_line(error)}): let the layer return the z that {self.name} takes"
                ) from error
        after = torch.cat([each.flatten() for each in made if isinstance(each, Tensor)])
        if after.shape != state.shape:
            raise InvalidArgument(
                f"{self.name} returns {after.numel()} entries where the layer returns"
                f" {state.numel()}: return as many"
            )
        return after

    @torch.no_grad()
    def unit_at(self, state: Tensor) -> float:
        """Return the unit of a residual, which changes as much as the solution in it."""
        if self.name == "step":
            return 1.0
        drawn = generator(0, "size of a residual").standard_normal(len(state))
        shift = SHIFT * (state.norm() or 1.0) * torch.as_tensor(drawn / norm(drawn))
        shifted, here = (self.applied(each, self.layer.theta) for each in (state + shift, state))
        size = float((shifted - here).norm() / shift.norm())
        unusual = 0 < size < USUAL[0] or USUAL[1] < size < math.inf
        return 2.0 ** math.floor(math.log2(size)) if unusual else 1.0

    def step(self, state: Tensor, theta: Tensor) -> Tensor:
        """Advance a state; of a residual, in units in which a step of its size is one of the
        solution's.
        """
        after = self.applied(state, theta)
        return after if self.name == "step" else state - after / self.unit

    def loss(self, state: Tensor, theta: Tensor) -> Tensor:
        with self.double.placed(theta) as inputs:
            return self.layer.lost(self.whole(state), inputs)


class ImplicitGradients(NamedTuple):
    """The gradients by the implicit function theorem, with the entries of all parts in one vector.

    Attributes
    ----------
    exact, at_output : ndarray
        At the refined solution, and at the one that the layer returns.
    bound : ndarray
        How far `exact` may be off: what is left of the refinement, and rounding.
    moved : float
        How far the refinement moved the solution, relative to it.
    condition : float
        Condition number of the linear system.
    """

    exact: Array
    at_output: Array
    bound: Array
    moved: float
    condition: float

    @property
    def solved(self) -> bool:
        """True if the layer's solution is the refined one up to rounding."""
        return self.moved <= SAME * self.condition


@torch.no_grad()
def implicit_gradients(equation: Equation, along: Tensor) -> ImplicitGradients:
    """Return the gradients by the implicit function theorem, at the layer's solution refined by
    Newton's method, and confirmed by differences of the refined solution along a direction.

    Raises
    ------
    UnsupportedProblem
        If there are no such gradients; the text says why.
    """
    running, codes = equation.running, equation.codes
    try:
        solution, steps = refined(running, codes)
        exact, diagnostics = running.gradient(solution, 0)
        at_output, _ = running.gradient(codes, 0)
        if steps[-1] > STALLED:
            raise UnsupportedProblem(
                "Newton's method does not converge from the solution that the layer returns"
            )
    except UnsupportedProblem as refused:
        raise _likelier_cause(equation) or refused from refused
    moved = share(solution - codes, solution)
    if moved > min(max(BRANCH * steps[0], STALLED), NEARBY):
        raise UnsupportedProblem(
            f"the solution nearby is {moved:.1g} of its norm away from what the layer"
            " returns: another branch, or another equation"
        )

    def gradient_after_another_step() -> Array:
        newton, *_ = running.newton_step(solution, 0)
        return running.gradient(solution + newton, 0)[0].numpy(force=True)

    changed = gradient_after_another_step()
    rounding = rounding_of(gradient_after_another_step, changed)
    found = ImplicitGradients(
        exact=exact.numpy(force=True),
        at_output=at_output.numpy(force=True),
        bound=np.abs(changed - exact.numpy(force=True)) + BEYOND * rounding,
        moved=moved,
        condition=float(diagnostics["condition_number"]),
    )
    confirm(equation, solution, found, along)
    return found


def _likelier_cause(equation: Equation) -> UnsupportedProblem | None:
    """Return why the theorem has no gradient, where something likelier than the refusal explains
    it: the output does not solve the equation, or its system is too ill-conditioned.
    """
    name, codes = equation.name, equation.codes
    off = share(equation.running.layer(codes, 0) - codes, codes)
    if off > FAR:
        return UnsupportedProblem(
            f"the layer's output does not solve {name}, which moves it by {off:.1g} of"
            f" its norm: is it {name}(z, *inputs), with the output as z?"
        )
    if codes.numel() <= MAX_DENSE:
        condition = float(torch.linalg.cond(equation.problem.linearized(codes).matrix))
        if condition > POOR:
            return UnsupportedProblem(
                f"the system of {name} has the condition {number(condition)}, too much"
                f" for float64; inputs in other units, or no {name}=, may tell"
            )
    return None


def confirm(
    equation: Equation, solution: Tensor, implicit: ImplicitGradients, along: Tensor
) -> None:
    """Compare differences of the loss at refined solutions along a direction with the exact
    gradient.

    Raises
    ------
    UnsupportedProblem
        If they do not agree.
    """

    @functools.cache
    def value(length: float) -> float:
        moving = equation.running.at(equation.layer.theta + length * along)
        with contextlib.suppress(UnsupportedProblem):
            return float(moving.problem.outer_loss(refined(moving, solution)[0]))
        return math.nan

    reach = max(abs(value(0.0)), abs(value(FIRST * NEAR)) / (FIRST * NEAR))
    noise = CONVERGED * implicit.condition * reach
    line = slope(value, NEAR, noise, EPS)
    if line.kink:
        raise UnsupportedProblem("the solution has a kink here: audit other inputs")
    exact = torch.as_tensor(implicit.exact).to(along)
    claimed, doubt = float(exact @ along), ROUNDED * float(exact.norm() * along.norm())
    if abs(claimed - line.value) > BEYOND * line.uncertainty + doubt:
        name = equation.name
        raise UnsupportedProblem(
            f"differences of the solution give {line.value:.6g} where the gradients of"
            f" {name} give {claimed:.6g}: audit {name} itself, or inputs farther from"
            " a kink"
        )


def share(change: Tensor, whole: Tensor) -> float:
    """Return the norm of a change, relative to that of the whole."""
    return float(change.norm()) / (float(whole.norm()) or 1.0)


def refined(running: Converging, codes: Tensor) -> tuple[Tensor, list[float]]:
    """Return what Newton's method makes of some codes, and its steps as shares of the solution, of
    which the last one is not taken.
    """
    steps = list[float]()
    while True:
        newton, *_ = running.newton_step(codes, 0)
        steps.append(share(newton, codes))
        stalled = len(steps) > 1 and not steps[-1] < steps[-2] / 2
        if stalled or steps[-1] <= CONVERGED or len(steps) == NEWTON:
            return codes, steps
        codes = codes + newton
