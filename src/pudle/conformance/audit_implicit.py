"""The implicit gradient of a layer whose output solves an equation, at its own solution refined,
and what common mistakes make of it.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from ..algorithms import Iteration
from ..errors import InvalidArgument, UnsupportedProblem, first_line
from ..problems import FixedPoint
from ..references.converging import Converging
from ..streams import generator
from .audit_differences import BEYOND, LADDER, Slope, slope
from .audit_layer import Layer, doubled, is_real
from .closed_forms import Array
from .tolerances import ROUNDED, SAME

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


@dataclass(frozen=True, eq=False)
class Implicit:
    """The equation, and gradients by the implicit function theorem.

    Attributes
    ----------
    running : Converging
        The equation as a fixed point.
    returned : Tensor
        The layer's solution.
    exact, at_returned : ndarray
        The gradients at the refined one and there, with the entries of all parts in one vector.
    along, line : ndarray and Slope
        A direction, and the differences of the refined solution along it that confirm `exact`.
    bound : float
        Error of `exact`, relative to its norm: what is left of the refinement, and rounding.
    moved : float
        How far the refinement moved the solution, relative to it.
    condition : float
        Condition number of the linear system.
    """

    running: Converging
    returned: Tensor
    exact: Array
    at_returned: Array
    along: Array
    line: Slope
    bound: float
    moved: float
    condition: float

    @property
    def solved(self) -> bool:
        """True if the layer's solution is the refined one up to rounding."""
        return self.moved <= SAME * self.condition


def implicit_of(
    layer: Layer,
    residual: Callable[..., Any] | None,
    step: Callable[..., Any] | None,
    along: Tensor,
) -> Implicit | str:
    """Return the implicit gradients of a layer, confirmed by differences of the refined solution
    along a direction, or why there are none.
    """
    returned = tree_map(doubled, layer.outputs(layer.theta))
    outputs = [each for each in tree_flatten(returned)[0] if is_real(each)]
    double = dataclasses.replace(layer, inputs=tuple(map(doubled, layer.inputs)))
    function: Any = residual or step
    given = "residual" if residual else "step"
    scale = size = 1.0
    if any(isinstance(each, Tensor) and each.is_complex() for each in tree_flatten(returned)[0]):
        return f"{given} is for real outputs: let layer and {given} have torch.view_as_real of z"
    if not sum(each.numel() for each in outputs):
        return "the layer returns no entries"

    def whole(state: Tensor) -> Any:
        made = iter(pieces(state, outputs))
        return tree_map(lambda each: next(made) if is_real(each) else each, returned)

    def applied(state: Any, theta: Tensor) -> Tensor:
        with double.placed(double.at(theta)) as inputs:
            try:
                made = tree_flatten(function(whole(state), *inputs))[0]
            except Exception as error:
                raise InvalidArgument(
                    f"{given}(z, *inputs) fails where z is what the layer returns"
                    f" ({first_line(error)}): let the layer return the z that {given} takes"
                ) from error
        after = torch.cat([each.reshape(-1) for each in made if isinstance(each, Tensor)])
        if after.shape != state.shape:
            raise InvalidArgument(
                f"{given} returns {after.numel()} entries where the layer returns {state.numel()}:"
                " return as many"
            )
        return after

    def advance(state: Any, theta: Tensor) -> Any:
        after = applied(state, theta)
        return state - after / scale if residual else after

    def loss(state: Any, theta: Tensor) -> Tensor:
        with double.placed(double.at(theta)) as inputs:
            return layer.lost(whole(state), inputs)

    initial = torch.cat([each.flatten() for each in outputs])
    if residual:
        # In units in which a step of the residual's size is one of the solution's.
        drawn = generator(0, "size of a residual").standard_normal(len(initial))
        shift = SHIFT * (initial.norm() or 1.0) * torch.as_tensor(drawn / np.linalg.norm(drawn))
        with torch.no_grad():
            above, below = (applied(initial + each, layer.theta) for each in (shift, -shift))
        size = float((above - below).norm() / shift.norm()) / 2
        if 0 < size < USUAL[0] or USUAL[1] < size < math.inf:
            scale = 2.0 ** math.floor(math.log2(size))
    running = Converging(FixedPoint(layer.theta, advance, loss, initial), Iteration(), 1.0)
    codes = running.problem.initial_codes()
    with torch.no_grad():
        off = float((running.layer(codes, 0) - codes).norm()) / (float(codes.norm()) or 1.0)
    unsolved = (
        f"the layer's output does not solve {given}, which moves it by {off:.1g} of its norm: is it"
        f" {given}(z, *inputs), with the output as z?"
    ) * (off > FAR)
    try:
        solution, steps = _refined(running, codes)
        exact, diagnostics = running.gradient(solution, 0)
        at_returned, _ = running.gradient(codes, 0)
    except UnsupportedProblem as refused:
        return unsolved or first_line(refused).partition("; use")[0]
    moved = float((solution - codes).norm()) / (float(solution.norm()) or 1.0)
    if steps[-1] > STALLED:
        why = "Newton's method does not converge from the solution that the layer returns"
        return unsolved or why
    if moved > min(max(BRANCH * steps[0], STALLED), NEARBY):
        return (
            f"the solution nearby is {moved:.1g} of its norm away from what the layer returns:"
            " another branch, or another equation"
        )
    condition = float(diagnostics["condition_number"])
    rounding = torch.finfo(exact.dtype).eps * max(1.0, scale / (size or 1.0))
    lost = max(rounding, float(diagnostics["largest_relative_residual"]))
    bound = condition * (steps[-1] + lost)

    def value(length: float) -> float:
        moving = running.at(layer.theta + length * along)
        with torch.no_grad():
            return float(moving.problem.outer_loss(_refined(moving, solution)[0]))

    noise = torch.finfo(exact.dtype).eps * condition * abs(value(0.0))
    line = slope(value, noise, LADDER[1:6])
    claimed, size = float(exact @ along), float(exact.norm() * along.norm())
    if line.kink:
        return "the solution has a kink here: audit other inputs"
    if not abs(claimed - line.value) <= BEYOND * line.uncertainty + ROUNDED * size:
        return (
            f"differences of the solution give {line.value:.6g} where the gradients of {given}"
            f" give {claimed:.6g}: audit {given} itself, or inputs farther from a kink"
        )
    at = [each.numpy(force=True) for each in (exact, at_returned, along)]
    return Implicit(running, codes, at[0], at[1], at[2], line, bound, moved, condition)


def pieces(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return a vector cut into tensors of given shapes."""
    cut = vector.split([each.numel() for each in like])
    return [part.reshape(each.shape) for part, each in zip(cut, like, strict=True)]


def _refined(running: Converging, codes: Tensor) -> tuple[Tensor, list[float]]:
    """Return what Newton's method makes of some codes, and its steps as shares of the solution, of
    which the last one is not taken.
    """
    steps = list[float]()
    while True:
        newton, *_ = running.newton_step(codes, 0)
        steps.append(float(newton.norm()) / (float(codes.norm()) or 1.0))
        stalled = len(steps) > 1 and not steps[-1] < steps[-2] / 2
        if stalled or steps[-1] <= CONVERGED or len(steps) == NEWTON:
            return codes, steps
        codes = codes + newton
