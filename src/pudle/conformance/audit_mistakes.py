"""The implicit gradient of a layer whose output solves an equation, at its own solution refined,
and what common mistakes make of a gradient, with and without an equation.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from ..algorithms import Iteration
from ..algorithms.unrolling import differentiable, direct_gradients, gradients
from ..errors import InvalidArgument, UnsupportedProblem, first_line
from ..problems import FixedPoint
from ..problems.linearized import MAX_DENSE
from ..references.limits import Converging
from ..streams import generator
from ..text import count
from .audit_layer import BEYOND, LADDER, Layer, Piece, Slope, doubled, reals, slope, varies
from .explanations import EXACT, MULTIPLE, ROUNDED, SAME, Array, Mistakes, distance, likely, norm

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
#: Terms of a truncated series that are tried.
TERMS = 60
#: Shares of the system's norm between which a damping is looked for.
DAMPINGS = (-7.0, 1.0)
#: Single precision as a mistake.
SINGLE = "float32 inside the backward pass"
#: Mistakes that may be a solver's that stops early.
SERIES = "a truncated series"
WEAK = (
    SERIES,
    SINGLE,
    MULTIPLE,
    "is damped by",
    "a part of the batch",
    "a factor of its own",
    "not linear",
    "not zero",
    "is missing (",
    "wrong in entry",
)


class Implicit(NamedTuple):
    """The equation, and gradients by the implicit function theorem.

    Attributes
    ----------
    running : Converging
        The equation as a fixed point.
    returned : Tensor
        The layer's solution.
    line : Slope
        Differences of the refined solution along a direction, which confirm `exact`.
    bound : float
        Error of `exact`, relative to its norm: what is left of the refinement, and rounding.
    moved : float
        How far the refinement moved the solution, relative to it.
    condition : float
        Condition number of the linear system.
    exact, at_returned : ndarray
        The gradients at the refined one and there, with the entries of all parts in one vector.
    along : ndarray
        The direction.
    """

    running: Converging
    returned: Tensor
    line: Slope
    bound: float
    moved: float
    condition: float
    exact: Array
    at_returned: Array
    along: Array

    @property
    def solved(self) -> bool:
        """True if the layer's solution is the refined one up to rounding."""
        return self.moved <= SAME * self.condition


@torch.no_grad()
def implicit_of(
    layer: Layer, given: str, function: Callable[..., Any], along: Tensor
) -> Implicit | str:
    """Return the implicit gradients of a layer by its equation, a `function` that is ``residual``
    or ``step``, confirmed by differences of the refined solution along a direction, or why there
    are none.
    """
    returned = tree_map(doubled, layer.outputs(layer.theta))
    outputs = [each for each in tree_leaves(returned) if varies(each)]
    double = replace(layer, inputs=tuple(map(doubled, layer.inputs)))
    scale = size = 1.0
    if any(each.is_complex() for each in outputs):
        return f"{given} is for real outputs: let layer and {given} have torch.view_as_real of z"
    if not sum(each.numel() for each in outputs):
        return "the layer returns no entries"

    def whole(state: Tensor) -> Any:
        cut = iter(state.split([each.numel() for each in outputs]))
        return tree_map(lambda each: next(cut).reshape_as(each) if varies(each) else each, returned)

    def applied(state: Any, theta: Tensor) -> Tensor:
        with double.placed(theta) as inputs:
            try:
                made = tree_leaves(function(whole(state), *inputs))
            except Exception as error:
                raise InvalidArgument(
                    f"{given}(z, *inputs) fails where z is what the layer returns"
                    f" ({first_line(error)}): let the layer return the z that {given} takes"
                ) from error
        after = torch.cat([each.flatten() for each in made if isinstance(each, Tensor)])
        if after.shape != state.shape:
            raise InvalidArgument(
                f"{given} returns {after.numel()} entries where the layer returns {state.numel()}:"
                " return as many"
            )
        return after

    def advance(state: Any, theta: Tensor) -> Any:
        after = applied(state, theta)
        return state - after / scale if given == "residual" else after

    def loss(state: Any, theta: Tensor) -> Tensor:
        with double.placed(theta) as inputs:
            return layer.lost(whole(state), inputs)

    initial = torch.cat([each.flatten() for each in outputs])
    if given == "residual":
        # In units in which a step of the residual's size is one of the solution's.
        drawn = generator(0, "size of a residual").standard_normal(len(initial))
        shift = SHIFT * (initial.norm() or 1.0) * torch.as_tensor(drawn / norm(drawn))
        above, below = (applied(initial + each, layer.theta) for each in (shift, -shift))
        size = float((above - below).norm() / shift.norm()) / 2
        if 0 < size < USUAL[0] or USUAL[1] < size < math.inf:
            scale = 2.0 ** math.floor(math.log2(size))
    running = Converging(FixedPoint(layer.theta, advance, loss, initial), Iteration(), 1.0)
    codes = running.problem.initial_codes()
    off = _share(running.layer(codes, 0) - codes, codes)
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
    moved = _share(solution - codes, solution)
    if steps[-1] > STALLED:
        return unsolved or (
            "Newton's method does not converge from the solution that the layer returns"
        )
    if moved > min(max(BRANCH * steps[0], STALLED), NEARBY):
        return (
            f"the solution nearby is {moved:.1g} of its norm away from what the layer returns:"
            " another branch, or another equation"
        )
    condition = float(diagnostics["condition_number"])
    rounding = torch.finfo(exact.dtype).eps
    lost = max(rounding, rounding * scale / (size or 1.0), diagnostics["largest_relative_residual"])
    bound = condition * (steps[-1] + float(lost))

    def value(length: float) -> float:
        moving = running.at(layer.theta + length * along)
        return float(moving.problem.outer_loss(_refined(moving, solution)[0]))

    line = slope(value, rounding * condition * abs(value(0.0)), LADDER[1:6])
    claimed = float(exact @ along)
    if line.kink:
        return "the solution has a kink here: audit other inputs"
    if not abs(claimed - line.value) <= (
        BEYOND * line.uncertainty + ROUNDED * exact.norm() * along.norm()
    ):
        return (
            f"differences of the solution give {line.value:.6g} where the gradients of {given}"
            f" give {claimed:.6g}: audit {given} itself, or inputs farther from a kink"
        )
    arrays = [each.numpy(force=True) for each in (exact, at_returned, along)]
    return Implicit(running, codes, line, bound, moved, condition, *arrays)


def _share(change: Tensor, whole: Tensor) -> float:
    return float(change.norm()) / (float(whole.norm()) or 1.0)


def _refined(running: Converging, codes: Tensor) -> tuple[Tensor, list[float]]:
    """Return what Newton's method makes of some codes, and its steps as shares of the solution, of
    which the last one is not taken.
    """
    steps = list[float]()
    while True:
        newton, *_ = running.newton_step(codes, 0)
        steps.append(_share(newton, codes))
        stalled = len(steps) > 1 and not steps[-1] < steps[-2] / 2
        if stalled or steps[-1] <= CONVERGED or len(steps) == NEWTON:
            return codes, steps
        codes = codes + newton


def most_likely(
    mine: Array, expected: Array, mistakes: Mistakes, slack: float
) -> tuple[bool, tuple[str, ...]]:
    """Return whether there is a mistake that no solver makes, and the likeliest ones, at most two;
    any factor explains fewer entries than three.
    """
    found = {name: left for left, name in likely(mine, expected, mistakes, slack)}
    most = 3 * min(found.values(), default=0.0) + EXACT
    names = [name for name, left in found.items() if left <= most]
    names = [name for name in names if mine.size > 2 or not name.endswith(MULTIPLE)]
    strong = [name for name in names if not any(weak in name for weak in WEAK)]
    return bool(strong), tuple(strong or names)[:2]


def without_equation(part: Piece, outputs: list[Array], mine: Array, expected: Array) -> Mistakes:
    """Yield what mistakes that need no equation make of the expected gradient in a part, in all
    entries or along some directions.
    """
    shape = part.tensor.shape
    if not mine.any():
        yield "detached: no gradient arrives at all", mine
    counts = {*shape[:1], *(n for each in outputs for n in (each.size, *each.shape[:1]))}
    for n in sorted(counts - {1}):
        yield f"a sum over {n}, not a mean", n * expected
        yield f"a mean over {n}, not a sum", expected / n
    if mine.size != part.tensor.numel():
        return
    if len(shape) > 1 and shape[0] > 1:
        pairs = zip(mine.reshape(shape), expected.reshape(shape), strict=True)
        little = 0.01 * distance(mine, expected)
        right = [distance(a, b) <= little and b.any() for a, b in pairs]
        if any(right) and not all(right):
            yield f"a part of the batch: {right.count(True)} of {len(right)} rows right", mine
    if len(shape) == 2 and shape[0] == shape[1]:
        matrix = expected.reshape(shape)
        both = (matrix + np.diag(np.diag(matrix))).ravel()
        if part.symmetric:
            yield "half of a symmetric matrix", both / 2
            yield "both halves of a symmetric matrix added", 2 * expected - both / 2
        yield "transposed", matrix.T.ravel()


def of_jacobian(mine: Array, expected: Array) -> Mistakes:
    """Yield what mistakes make of the Jacobian in a part, and those that its zeros show."""
    yield "the Jacobian in place of its transpose", expected.T
    kept, due = counting(mine), counting(expected)
    rows, needed, single = kept.sum(1) > 0, due.sum(1) > 0, (kept.sum(1) == 1).all()
    if len(lost := np.flatnonzero(needed & ~rows)):
        what = f"{len(lost)} of {len(mine)}, numbers {lost[0]} to {lost[-1]}"
        yield f"entries of the output are ignored: {what}", expected * rows[:, None]
    if single:
        what = "right numbers at wrong places (a sum over the wrong axis)"
        yield what, kept * expected.sum(1, keepdims=True)
    rank = np.linalg.matrix_rank(mine - expected, ROUNDED * norm(expected))
    if (rows & ~needed).any():
        yield "not zero where outputs do not depend on the input (a mask, a clamp)", mine
    elif single and due.sum(1).max() > 1:
        what = "how an output depends on other entries of the input is missing"
        yield f"{what} (through a mean, a sum or a norm)", mine
    elif 0 < 3 * rank <= min(mine.shape):
        yield f"a term is missing (a mean, a norm or a projection), of rank {rank}", mine
    yield from scaled(mine, expected, "output")
    for name, each in scaled(mine.T, expected.T, "entry of the input"):
        yield name, each.T


def counting(matrix: Array) -> Array:
    """Return which entries of a matrix are not zero."""
    return np.abs(matrix) > ROUNDED * np.abs(matrix).max()


def scaled(mine: Array, expected: Array, what: str) -> Mistakes:
    """Yield a matrix whose rows have factors of their own, if they are long enough to tell."""
    squares = (expected**2).sum(1)
    factors = (mine * expected).sum(1) / np.maximum(squares, np.finfo(float).tiny)
    found = factors[squares > 0]
    if counting(expected).sum() >= 3 * len(found) and np.ptp(found) > 0.01 * np.abs(found).max():
        extent = f"{found.min():.3g} to {found.max():.3g}"
        yield f"each {what} has a factor of its own, {extent}", factors[:, None] * expected


def of_equation(layer: Layer, implicit: Implicit, mine: Array, elsewhere: Tensor) -> Mistakes:
    """Yield the gradients in all parts that mistakes with an equation lead to, at the solution as
    returned; the layer may have kept what it returned `elsewhere`, or the Jacobian may be taken at
    an input.
    """
    from scipy.optimize import minimize_scalar  # slow to import

    running, codes = implicit.running, implicit.returned
    problem: Any = running.problem
    direct, weights = direct_gradients(problem, codes)
    system = problem.linearized(codes)
    with torch.enable_grad():
        live, theta = differentiable(problem)
        after = replace(running, problem=live).layer(codes, 0)

    def pulled(adjoint: Tensor) -> Array:
        (through,) = gradients(after, (theta,), adjoint.reshape(codes.shape), keep_graph=True)
        return (direct + through).numpy(force=True)

    yield "the system is not solved: one step is differentiated", pulled(weights)
    adjoint, _ = system.solve(weights)
    with contextlib.suppress(UnsupportedProblem):
        transposed, _ = system.solve(weights, transposed=False)
        yield "a solve with the Jacobian in place of its transpose", pulled(transposed)
    if direct.any():
        yield "the direct part is missing", pulled(adjoint) - direct.numpy(force=True)
        yield "the path through the solution is missing", direct.numpy(force=True)
        yield "the path through the solution with the wrong sign", pulled(-adjoint)
    given = zip((each.name for each in layer.parts), layer.at(layer.theta), strict=True)
    for name, point in (("zero", 0 * codes), *given):
        if point.numel() == codes.numel():
            # The equation need not be defined there.
            with contextlib.suppress(UnsupportedProblem, RuntimeError):
                other, _ = problem.linearized(point.to(codes).reshape(codes.shape)).solve(weights)
                what = f"the Jacobian of the equation is taken at {name}, not at the solution"
                yield what, pulled(other)
    graph = "the gradient of the solver is kept in the graph: run it under torch.no_grad()"
    yield f"the inverse is applied twice ({graph})", pulled(system.solve(adjoint)[0])
    # The loss is taken at the solution of this call.
    linear = replace(problem, loss=lambda z, theta: (weights * z).sum() + (direct * theta).sum())
    again = replace(running, problem=linear)
    earlier = [each.to(codes).reshape(1, -1) for each in reals(layer.outputs(elsewhere))]
    for each in (again, again.at(elsewhere)):
        stale, _ = each.gradient(torch.cat(earlier, 1), 0)
        yield "a stale solution, that of an earlier call", stale.numpy(force=True)
    if system.like.numel() <= MAX_DENSE:
        matrix, eye = system.matrix.T, torch.eye(system.like.numel()).to(weights)

        def solved(matrix: Tensor) -> Array:
            return pulled(torch.linalg.lstsq(matrix, weights.reshape(-1, 1)).solution)

        yield "the system has I + J in place of I - J", solved(2 * eye - matrix)
        left, values, right = torch.linalg.svd(matrix)
        for rank in range(1, len(values)):
            if values[rank] > (1 - ROUNDED) * values[rank - 1]:
                continue
            along = (left.T @ weights.ravel())[:rank] / values[:rank]
            what = f"a minimum-norm solve leaves out {count(len(values) - rank, 'singular value')}"
            yield what, pulled(right[:rank].T @ along)
        nearest = minimize_scalar(
            lambda exponent: distance(solved(matrix + values[0] * 10**exponent * eye), mine),
            bounds=DAMPINGS,
            method="bounded",
            options={"xatol": 1e-10, "maxiter": 80},
        )
        damping = values[0] * 10**nearest.x
        what = f"the system is damped by {damping:.3g} times the identity"
        yield what, solved(matrix + damping * eye)
    term = total = weights
    for terms in range(2, TERMS + 1):
        term = term - system.transposed(term)
        total = total + term
        yield f"a truncated series of {terms} terms in place of the solve", pulled(total)
