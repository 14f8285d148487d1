"""The equation that the output of a layer solves, and the implicit gradient at its own solution
refined.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

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
from .differences import BEYOND, EPS, FIRST_STEP, rounding_of, slope
from .distances import ROUNDED, SAME, norm
from .layer import Array, Layer, in_double_precision, is_number_tensor

#: Most steps of Newton's method; a correction of this share of the solution is rounding.
NEWTON_STEPS, CONVERGED = 30, 1e-13
#: A correction that no longer halves has converged if it is below this share of the solution.
STALLED = 1e-7
#: Newton's method stays near a start from which it converges: within twice its first step (Newton
#: and Kantorovich); more than this share of the solution means another equation.
BRANCH, NEARBY = 2.0, 0.5
#: Sizes of a residual's Jacobian that need no other units, and the share of the solution by whose
#: change the size is found.
USUAL_SIZES, SHIFT = (1e-3, 1e3), 1e-4
#: A step that moves the layer's output by more than this share does not belong to it.
FAR = 0.01
#: Condition of a system that float64 hardly solves.
POOR_CONDITION = 1e8
#: Share of the input from which differences of refined solutions start.
NEAR = 2.0**-10
#: What the texts of errors about dtypes and about shapes have.
DTYPE_WORDS = ("dtype", "scalar type", "double")
SHAPE_WORDS = ("shape", "size", "dimension", "dim ")
#: The layer's solution and the refined one.
STATES = 2


# --- why there is no implicit gradient


@dataclass(frozen=True)
class ComplexOutputs:
    """The layer returns complex numbers."""

    equation: str


@dataclass(frozen=True)
class NoOutputs:
    """The layer returns no entries."""


@dataclass(frozen=True)
class NewtonDiverges:
    """Newton's method does not converge from the layer's solution."""


@dataclass(frozen=True)
class AnotherEquation:
    """The layer's output does not solve the equation, which moves it by that share of its norm."""

    equation: str
    moved: float


@dataclass(frozen=True)
class IllConditioned:
    """The linear system has a condition number that is too large."""

    equation: str
    condition: float


@dataclass(frozen=True)
class AnotherBranch:
    """The refined solution is that share of its norm away from what the layer returns."""

    moved: float


@dataclass(frozen=True)
class KinkInSolution:
    """The solution has different slopes on both sides."""


@dataclass(frozen=True)
class DifferencesDisagree:
    """Differences of refined solutions give another derivative than the theorem."""

    equation: str
    by_differences: float
    by_theorem: float


@dataclass(frozen=True)
class Unsupported:
    """Solving or differentiating was refused, with this reason."""

    reason: str


Refusal = (
    ComplexOutputs
    | NoOutputs
    | NewtonDiverges
    | AnotherEquation
    | IllConditioned
    | AnotherBranch
    | KinkInSolution
    | DifferencesDisagree
    | Unsupported
)


# --- the equation


@dataclass(frozen=True, eq=False)
class CachedFixedPoint(FixedPoint):
    """A fixed point that linearizes its step once at each of the states looked at last."""

    @cached_property
    def _cached_linearization(self) -> Callable[[Tensor], Linearized]:
        return functools.lru_cache(STATES)(super().linearized)

    def linearized(self, codes: Tensor) -> Linearized:
        return self._cached_linearization(codes)


@dataclass(frozen=True, eq=False)
class Equation:
    """The equation that the output z of a layer solves.

    Attributes
    ----------
    layer : Layer
    name : str
        ``residual`` or ``step``.
    function : callable
        ``residual(z, *inputs)``, which is zero, or ``step(z, *inputs)``, which is z.
    returned : object
        What the layer returns, in double precision.
    unit : float
        The unit of a residual, which changes as much as the solution in it.
    """

    layer: Layer
    name: str
    function: Callable[..., object]
    returned: object
    unit: float = 1.0

    @cached_property
    def outputs(self) -> list[Tensor]:
        """The tensors of numbers that the layer returns."""
        return [leaf for leaf in tree_leaves(self.returned) if is_number_tensor(leaf)]

    @cached_property
    def codes(self) -> Tensor:
        """The layer's solution as the codes of the problem."""
        return self.problem.initial_codes()

    @cached_property
    def state(self) -> Tensor:
        """The layer's solution, a vector of all its entries."""
        return torch.cat([output.flatten() for output in self.outputs])

    @cached_property
    def problem(self) -> FixedPoint:
        """The equation as a fixed point."""
        return CachedFixedPoint(self.layer.theta, self.step, self.loss, self.state)

    @cached_property
    def running(self) -> Converging:
        """The iteration whose limit is the solution."""
        return Converging(self.problem, Iteration(), 1.0)

    @cached_property
    def double_layer(self) -> Layer:
        """The layer with inputs in double precision."""
        inputs = tuple(map(in_double_precision, self.layer.inputs))
        return replace(self.layer, inputs=inputs)

    def as_returned(self, state: Tensor) -> object:
        """Return a state, a vector, in the form of what the layer returns, with its tensors in
        place of those returned and all else as it was.
        """
        pieces = iter(torch.split(state, [output.numel() for output in self.outputs]))
        return tree_map(
            lambda leaf: next(pieces).reshape_as(leaf) if is_number_tensor(leaf) else leaf,
            self.returned,
        )

    def evaluate(self, state: Tensor, theta: Tensor) -> Tensor:
        """Evaluate the function at a state, and return a vector, as `evaluate_inputs` does.

        Parameters of a module are exchanged meanwhile.
        """
        with self.double_layer.inputs_at(theta) as inputs:
            return self.evaluate_inputs(state, inputs)

    def evaluate_inputs(self, state: Tensor, inputs: Sequence[object]) -> Tensor:
        """Evaluate the function at a state with these inputs, and return a vector.

        Raises
        ------
        InvalidArgument
            If the function fails there, or returns another number of entries than the layer.
        """
        try:
            leaves = tree_leaves(self.function(self.as_returned(state), *inputs))
        except Exception as error:
            raise InvalidArgument(
                f"{self.name}(z, *inputs) fails where z is what the layer returns"
                f" ({first_line(error)}): {self.remedy(error)}"
            ) from error
        after = torch.cat([leaf.flatten() for leaf in leaves if isinstance(leaf, Tensor)])
        if after.shape != state.shape:
            raise InvalidArgument(
                f"{self.name} returns {after.numel()} entries where the layer returns"
                f" {state.numel()}: {self.remedy_of_value() or 'return as many'}"
            )
        return after

    def remedy(self, error: Exception) -> str:
        """Return the advice on an error that the function raised: its text tells whether dtypes
        or shapes do not fit.
        """
        text = str(error).lower()
        if any(word in text for word in DTYPE_WORDS):
            return (
                "z and the inputs are in float64, and so are the parameters of the audited module"
                f" meanwhile: let {self.name} use these, and convert other tensors to z.dtype"
            )
        has_arguments = "positional argument" not in text
        if has_arguments and (remedy := self.remedy_of_value()):
            return remedy
        if any(word in text for word in SHAPE_WORDS):
            return f"let the layer return the z that {self.name} takes"
        n_inputs = len(self.layer.inputs)
        return f"it is called with z and as many inputs as the layer, here {n_inputs}"

    def remedy_of_value(self) -> str:
        """Return the advice on an equation of an inner solution where the layer returns a value
        alone, one number; empty for any other layer.
        """
        if [output.ndim for output in self.outputs] != [0]:
            return ""
        return (
            f"the layer returns a value and not z: let it return (z, value), which {self.name} then"
            " takes, or write the equation of the value, residual = value - f(*inputs)"
        )

    def step(self, state: Tensor, theta: Tensor) -> Tensor:
        """Advance a state by the step that was given, as `step_of_inputs` does.

        Parameters of a module are exchanged meanwhile.
        """
        with self.double_layer.inputs_at(theta) as inputs:
            return self.step_of_inputs(state, inputs)

    def step_of_inputs(self, state: Tensor, inputs: Sequence[object]) -> Tensor:
        """Advance a state by the step that was given, with these inputs; with a residual subtract
        it, in units in which a step of its size is one of the solution's.
        """
        after = self.evaluate_inputs(state, inputs)
        return after if self.name == "step" else state - after / self.unit

    def loss(self, state: Tensor, theta: Tensor) -> Tensor:
        """Return the layer's loss of a state."""
        with self.double_layer.inputs_at(theta) as inputs:
            return self.layer.loss_of(self.as_returned(state), inputs)


@torch.no_grad()
def unit_of_residual(equation: Equation) -> float:
    """Return the power of two near the size of a residual's Jacobian, 1 where it is usual.

    The size is that of its change along one random direction, always the same.
    """
    state, theta = equation.state, equation.layer.theta
    direction = generator(0, "size of a residual").standard_normal(len(state))
    shift = SHIFT * (state.norm() or 1.0) * torch.as_tensor(direction / norm(direction))
    change = equation.evaluate(state + shift, theta) - equation.evaluate(state, theta)
    size = float(change.norm() / shift.norm())
    unusual = 0 < size < USUAL_SIZES[0] or USUAL_SIZES[1] < size < math.inf
    return 2.0 ** math.floor(math.log2(size)) if unusual else 1.0


# --- the implicit gradient


@dataclass(frozen=True, eq=False)
class ImplicitGradients:
    """The gradients by the implicit function theorem, with the entries of all parts in one vector.

    Attributes
    ----------
    equation : Equation
    exact, at_codes : ndarray
        The gradients at the refined solution and at the layer's own.
    bound : ndarray
        How far `exact` may be off: what is left of the refinement, and rounding.
    moved : float
        How far the refinement moved the solution, relative to it.
    condition : float
        Condition number of the linear system.
    """

    equation: Equation
    exact: Array
    at_codes: Array
    bound: Array
    moved: float
    condition: float

    @property
    def layer_has_solved(self) -> bool:
        """True if the layer's solution is the refined one up to rounding."""
        return self.moved <= SAME * self.condition


def implicit_gradients(
    layer: Layer, name: str, function: Callable[..., object], along: Tensor
) -> ImplicitGradients | Refusal:
    """Refine the solution that a layer returns, and differentiate it, confirmed by differences of
    refined solutions along a direction.

    `name` is ``residual`` or ``step``. A Refusal is returned, not raised, where there is no such
    gradient or it is not confirmed; a function that cannot be called raises InvalidArgument.
    """
    returned = tree_map(in_double_precision, layer.outputs(layer.theta))
    equation = Equation(layer, name, function, returned)
    if any(output.is_complex() for output in equation.outputs):
        return ComplexOutputs(name)
    if not sum(output.numel() for output in equation.outputs):
        return NoOutputs()
    try:
        if name == "residual":
            equation = replace(equation, unit=unit_of_residual(equation))
        return differentiate_solution(equation, along)
    except UnsupportedProblem as error:
        return Unsupported(first_line(error))


@torch.no_grad()
def differentiate_solution(equation: Equation, along: Tensor) -> ImplicitGradients | Refusal:
    """Refine the solution of an equation by Newton's method, and differentiate it there and where
    it was; return why where that fails or differences along a direction contradict it.
    """
    running, codes = equation.running, equation.codes
    try:
        solution, steps = refine_solution(running, codes)
        exact, diagnostics = running.gradient(solution, 0)
        at_codes, _ = running.gradient(codes, 0)
    except UnsupportedProblem as error:
        return why_unsolved(equation) or Unsupported(first_line(error))
    if steps[-1] > STALLED:
        return why_unsolved(equation) or NewtonDiverges()
    moved = relative_size(solution - codes, solution)
    if moved > min(max(BRANCH * steps[0], STALLED), NEARBY):
        return AnotherBranch(moved)

    def gradient_after_newton_step() -> Array:
        newton, *_ = running.newton_step(solution, 0)
        return running.gradient(solution + newton, 0)[0].numpy(force=True)

    changed = gradient_after_newton_step()
    expected = exact.numpy(force=True)
    gradients = ImplicitGradients(
        equation,
        expected,
        at_codes.numpy(force=True),
        bound=np.abs(changed - expected)
        + BEYOND * rounding_of(gradient_after_newton_step, changed),
        moved=moved,
        condition=float(diagnostics["condition_number"]),
    )
    return contradiction(gradients, solution, along) or gradients


def why_unsolved(equation: Equation) -> Refusal | None:
    """Return why Newton's method fails, where that can be seen: the output does not solve the
    equation, or the system is ill-conditioned, which is looked at up to `MAX_DENSE` entries; else
    None.
    """
    running, codes = equation.running, equation.codes
    moved = relative_size(running.layer(codes, 0) - codes, codes)
    if moved > FAR:
        return AnotherEquation(equation.name, moved)
    if codes.numel() <= MAX_DENSE:
        system = equation.problem.linearized(codes).matrix
        condition = float(torch.linalg.cond(system))
        if condition > POOR_CONDITION:
            return IllConditioned(equation.name, condition)
    return None


def contradiction(
    gradients: ImplicitGradients, solution: Tensor, along: Tensor
) -> KinkInSolution | DifferencesDisagree | None:
    """Compare differences of the loss at refined solutions along a direction with the exact
    gradient.

    Return a kink, or the two derivatives where they disagree by more than the doubt; None where
    they agree.
    """
    equation = gradients.equation

    @functools.cache
    def value(length: float) -> float:
        """Return the loss at the solution refined for a theta moved by a length, NaN where it has
        none.
        """
        moving = equation.running.at(equation.layer.theta + length * along)
        with contextlib.suppress(UnsupportedProblem):
            return float(moving.problem.outer_loss(refine_solution(moving, solution)[0]))
        return math.nan

    reach = max(abs(value(0.0)), abs(value(FIRST_STEP * NEAR)) / (FIRST_STEP * NEAR))
    noise = CONVERGED * gradients.condition * reach
    line = slope(value, NEAR, noise, EPS)
    if line.kink:
        return KinkInSolution()
    direction = along.numpy(force=True)
    by_theorem = float(torch.as_tensor(gradients.exact) @ along)
    doubt = ROUNDED * norm(gradients.exact) * norm(direction)
    if abs(by_theorem - line.value) > BEYOND * line.uncertainty + doubt:
        return DifferencesDisagree(equation.name, line.value, by_theorem)
    return None


def relative_size(change: Tensor, solution: Tensor) -> float:
    """Return the norm of a change, relative to that of the whole."""
    return float(change.norm()) / (float(solution.norm()) or 1.0)


def refine_solution(running: Converging, codes: Tensor) -> tuple[Tensor, list[float]]:
    """Refine codes by Newton's method; return them and its steps as shares of the solution, of
    which the last one is not taken.

    It ends where a step is rounding or is not half of the one before, and after `NEWTON_STEPS`
    steps.
    """
    steps = list[float]()
    while True:
        newton, *_ = running.newton_step(codes, 0)
        steps.append(relative_size(newton, codes))
        stalled = len(steps) > 1 and not steps[-1] < steps[-2] / 2
        if stalled or steps[-1] <= CONVERGED or len(steps) == NEWTON_STEPS:
            return codes, steps
        codes = codes + newton
