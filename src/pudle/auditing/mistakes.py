"""What common mistakes make of a gradient, with and without an equation, and what they are
called.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..algorithms.unrolling import differentiable, direct_gradients, gradients
from ..errors import UnsupportedProblem
from ..problems.linearized import MAX_DENSE
from ..text import count
from .distances import EXACT, ROUNDED, distance, distance_in_any_unit, nearest_multiple, norm
from .equation import Equation
from .layer import Array, Layer, Piece, reals

#: A mistake, and the gradient that it leads to.
Mistakes = Iterable[tuple[str, Array]]
#: How a mistake ends that is a factor of no known meaning.
MULTIPLE = " times that, perhaps of a step size, a damping, a count or another loss"
#: Terms of a truncated series that are tried.
TERMS = 60
#: Shares of the system's norm between which a damping is looked for.
DAMPINGS = (-7.0, 1.0)
#: Factors of the Jacobian that are tried, and what such a mistake is called.
SHARES, FACTOR = (-1.5, 1.5), "J in place of I - J"
#: Single precision as a mistake.
SINGLE = "float32 inside the backward pass"
SERIES = "a truncated series"
#: Mistakes with a number that is fitted: it explains fewer entries than three, whatever they are.
FITTED = (SERIES, MULTIPLE, "is damped by", FACTOR)
#: Mistakes that may be a solver's that stops early.
WEAK = (
    *FITTED,
    "a part of the batch",
    "another value",
    "a factor of its own",
    "not linear",
    "not zero",
    "is missing (",
    "wrong in entry",
)


def most_likely(
    mine: Array, expected: Array, mistakes: Mistakes, slack: float
) -> tuple[bool, tuple[str, ...]]:
    """Return whether there is a mistake that no solver makes, and the likeliest ones, at most
    two.
    """
    found = {name: left for left, name in likely(mine, expected, mistakes, slack)}
    most = 3 * min(found.values(), default=0.0) + EXACT
    names = [name for name, left in found.items() if left <= most]
    names = [name for name in names if mine.size > 2 or not any(each in name for each in FITTED)]
    strong = [name for name in names if not any(weak in name for weak in WEAK)]
    return bool(strong), tuple(strong or names)[:2]


def likely(
    mine: Array, expected: Array, mistakes: Mistakes = (), slack: float = 0.0
) -> Iterator[tuple[float, str]]:
    """Yield the mistakes that explain an array, with the error that each leaves: next to nothing,
    or no more than what is known of the expected one to begin with, its `slack`.
    """
    error, scale = distance(mine, expected), nearest_multiple(mine, expected)
    multiples = {
        "negated": -expected,
        "a factor 1/2 too many": expected / 2,
        "a factor 1/2 is missing": 2 * expected,
    }
    enough, found = max(min(ROUNDED, 0.01 * error), min(slack, 0.1 * error)), False
    for mistake, candidate in itertools.chain(multiples.items(), mistakes):
        if (left := distance_in_any_unit(mine, candidate)) < enough:
            found = True
            yield left, mistake
    # Every number is a multiple of another, and zero of all.
    if (
        not found
        and expected.size > 1
        and mine.any()
        and (left := distance_in_any_unit(mine, scale * expected)) < enough
    ):
        yield left, f"{scale:.10g}{MULTIPLE}"


def of_worst_entry(seen: Array, expected: Array, directions: Array) -> tuple[str, Array]:
    """Return what becomes of expected slopes if one entry of the gradient is wrong, the one whose
    change explains most of the gap.
    """
    columns: Array = directions / np.maximum(np.linalg.norm(directions, axis=0), EXACT)
    aligned = (seen - expected) @ columns
    entry = np.abs(aligned).argmax()
    return f"wrong in entry {entry} alone", expected + aligned[entry] * columns.T[entry]


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
        yield "transposed", matrix.T.ravel()


def of_jacobian(mine: Array, expected: Array) -> Mistakes:
    """Yield what mistakes make of the Jacobian in a part, and those that its zeros show."""
    yield "the Jacobian in place of its transpose", expected.T
    kept, due = counting(mine), counting(expected)
    rows, needed, single = kept.sum(1) > 0, due.sum(1) > 0, (kept.sum(1) == 1).all()
    if lost := (needed & ~rows).sum():
        yield f"entries of the output are ignored: {lost} of {len(mine)}", expected * rows[:, None]
    if single:
        what = "right numbers at wrong places (a sum over the wrong axis)"
        yield what, kept * expected.sum(1, keepdims=True)
    rank = np.linalg.matrix_rank(mine - expected, ROUNDED * norm(expected))
    if (rows & ~needed).any():
        what = "not zero where outputs do not depend on the input"
        yield f"{what} (a mask, a clamp, a straight-through estimator)", mine
    elif single and due.sum(1).max() > 1:
        what = "how an output depends on other entries of the input is missing"
        yield f"{what} (through a mean, a sum or a norm)", mine
    elif 0 < 3 * rank <= min(mine.shape):
        yield "a term is missing (a mean, a norm or a projection)", mine
    values, places = np.unique(
        np.round(expected[due] / np.abs(expected).max(), 9), return_inverse=True
    )
    if 2 * len(values) <= len(places):
        means = np.bincount(places, mine[due]) / np.bincount(places)
        exchanged = 0 * expected
        exchanged[due] = means[places]
        yield "another value of the forward pass (before an activation, not after)", exchanged
    yield from scaled(mine, expected, "output")
    for name, each in scaled(mine.T, expected.T, "entry of the input"):
        yield name, each.T


def of_batch(part: Piece, expected: Array) -> Mistakes:
    """Yield the Jacobian in a part whose derivative is averaged over the batch."""
    n_samples, n_outputs = (*part.tensor.shape, 1)[0], len(expected)
    if n_samples > 1 and n_outputs % n_samples == 0:
        # The derivative of each sample's outputs in its own inputs.
        blocks = expected.reshape(n_samples, n_outputs // n_samples, n_samples, -1)
        mean = np.einsum("iaib->ab", blocks) / n_samples
        yield "the derivative is averaged over the batch", np.kron(np.eye(n_samples), mean)


def of_parts(part: Piece, layer: Layer) -> Mistakes:
    """Yield the Jacobian in every other part, in the units of this one."""
    for other in layer.parts:
        exchanged = part.unit / other.unit * layer.jacobians[1][:, other.span]
        yield f"exchanged with the gradient in {other.name}", exchanged


def of_system(equation: Equation, claimed: Array, expected: Array) -> Mistakes:
    """Yield the Jacobian that factors on the rows of the equation's derivative lead to."""
    system = equation.problem.linearized(equation.codes).matrix.numpy(force=True)
    what = "row of the equation's derivative in the input"
    for name, rows in scaled(system @ claimed, system @ expected, what):
        yield name, np.linalg.solve(system, rows)


def counting(matrix: Array) -> NDArray[np.bool_]:
    """Return which entries of a matrix are not zero."""
    sizes = np.abs(matrix)
    return sizes > ROUNDED * float(sizes.max())


def scaled(mine: Array, expected: Array, what: str) -> Mistakes:
    """Yield a matrix whose rows have factors of their own, if they are long enough to tell."""
    squares: Array = (expected**2).sum(1)
    factors: Array = (mine * expected).sum(1) / np.maximum(squares, np.finfo(float).tiny)
    found = factors[squares > 0]
    long = 0 < 3 * len(found) <= counting(expected).sum()
    if long and np.ptp(found) > 0.01 * np.abs(found).max():
        extent = f"{found.min():.3g} to {found.max():.3g}"
        yield f"each {what} has a factor of its own, {extent}", factors[:, None] * expected


def of_equation(equation: Equation, mine: Array, elsewhere: Tensor) -> Mistakes:
    """Yield the gradients in all parts that mistakes with an equation lead to, at the solution as
    returned; the layer may have kept what it returned `elsewhere`.
    """
    layer, problem, codes = equation.layer, equation.problem, equation.codes
    direct, weights = direct_gradients(problem, codes)
    system = problem.linearized(codes)
    with torch.enable_grad():
        live, theta = differentiable(problem)
        after = replace(equation.running, problem=live).layer(codes, 0)

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
    # The equation need not be defined there.
    with contextlib.suppress(UnsupportedProblem, RuntimeError):
        other, _ = problem.linearized(0 * codes).solve(weights)
        what = "the Jacobian of the equation is taken at zero, not at the solution"
        yield what, pulled(other)
    graph = "the gradient of the solver is kept in the graph: run it under torch.no_grad()"
    yield f"the inverse is applied twice ({graph})", pulled(system.solve(adjoint)[0])
    # The loss is taken at the solution of this call.
    linear = replace(problem, loss=lambda z, theta: (weights * z).sum() + (direct * theta).sum())
    again = replace(equation.running, problem=linear)
    earlier = [each.to(codes).reshape(1, -1) for each in reals(layer.outputs(elsewhere))]
    for each in (again, again.at(elsewhere)):
        stale, _ = each.gradient(torch.cat(earlier, 1), 0)
        yield "a stale solution, that of an earlier call", stale.numpy(force=True)
    if system.like.numel() <= MAX_DENSE:
        yield from of_spectrum(system.matrix.T, weights, pulled, mine)
    term = total = weights
    for terms in range(2, TERMS + 1):
        term = term - system.transposed(term)
        total = total + term
        yield f"{SERIES} of {terms} terms in place of the solve", pulled(total)


def of_spectrum(
    matrix: Tensor, weights: Tensor, pulled: Callable[[Tensor], Array], mine: Array
) -> Mistakes:
    """Yield the gradients that another matrix leads to: with a wrong sign, without its small
    singular values, or damped.
    """
    from scipy.optimize import minimize_scalar  # slow to import

    right_hand_side, eye = weights.reshape(-1, 1), torch.eye(len(matrix)).to(weights)

    def solved(matrix: Tensor) -> Array:
        return pulled(torch.linalg.lstsq(matrix, right_hand_side).solution)

    left, values, right = torch.linalg.svd(matrix)
    for rank in range(1, len(values)):
        if values[rank] > (1 - ROUNDED) * values[rank - 1]:
            continue
        along = (left.T @ weights.ravel())[:rank] / values[:rank]
        what = f"a minimum-norm solve leaves out {count(len(values) - rank, 'singular value')}"
        yield what, pulled(right[:rank].T @ along)
    size = float(values[0])

    def damped(exponent: float) -> Tensor:
        return matrix + size * 10**exponent * eye

    def shared(share: float) -> Tensor:
        return eye - share * (eye - matrix)

    def nearest(system: Callable[[float], Tensor], bounds: tuple[float, float]) -> float:
        found = minimize_scalar(
            lambda number: distance(solved(system(number)), mine),
            bounds=bounds,
            method="bounded",
            options={"xatol": 1e-10, "maxiter": 80},
        )
        return float(found.x)

    exponent, share = nearest(damped, DAMPINGS), nearest(shared, SHARES)
    damping = f"the system is damped by {size * 10**exponent:.3g} times the identity"
    yield damping, solved(damped(exponent))
    sign = "+" if share < 0 else "-"
    yield f"the system has I {sign} {abs(share):.3g} {FACTOR}", solved(shared(share))
