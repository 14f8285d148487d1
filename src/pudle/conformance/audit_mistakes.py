"""What common mistakes make of a layer's gradient, with and without an equation that it solves."""

import contextlib
import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..algorithms.unrolling import differentiable, direct_gradients, gradients
from ..errors import UnsupportedProblem
from ..problems.linearized import MAX_DENSE
from ..text import count
from .audit_implicit import Implicit
from .audit_layer import Layer, Piece, reals
from .closed_forms import Array
from .explanations import MULTIPLE, Mistakes, distance, likely
from .tolerances import EXACT, ROUNDED

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
    "a part of the batch",
    "a factor of its own",
    "not linear",
    "not zero",
    "is missing (",
    "wrong in entry",
)
#: Steps and weights of a difference quotient of fourth order.
STENCIL = ((1e-3, 2e3 / 3), (-1e-3, -2e3 / 3), (2e-3, -1e3 / 12), (-2e-3, 1e3 / 12))


def most_likely(
    mine: Array, expected: Array, mistakes: Mistakes, slack: float
) -> tuple[bool, tuple[str, ...]]:
    """Return whether there is a mistake that no solver makes, and the likeliest ones, at most two;
    any factor explains fewer entries than three.
    """
    found = {name: left for left, name in likely(mine, expected, mistakes, slack)}
    most = 3 * min(found.values(), default=0.0) + EXACT
    names = [name for name, left in found.items() if left <= most]
    names = [name for name in names if len(mine) > 2 or not name.endswith(MULTIPLE)]
    strong = [name for name in names if not any(weak in name for weak in WEAK)]
    return bool(strong), tuple(strong or names)[:2]


def without_equation(part: Piece, outputs: list[Array], mine: Array, expected: Array) -> Mistakes:
    """Yield what mistakes that need no equation make of the expected gradient in a part, in all
    entries or along some directions.
    """
    shape = tuple(part.tensor.shape)
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
        right = [bool(distance(a, b) <= little and b.any()) for a, b in pairs]
        if any(right) and not all(right):
            yield f"a part of the batch: {right.count(True)} of {len(right)} rows right", mine
    if len(shape) == 2 and shape[0] == shape[1]:
        matrix = expected.reshape(shape)
        both = (matrix + np.diag(np.diag(matrix))).ravel()
        if part.symmetric:
            yield "half of a symmetric matrix", both / 2
            yield "both halves of a symmetric matrix added", 2 * expected - both / 2
        yield "transposed", matrix.T.ravel()


def jacobians(layer: Layer) -> tuple[Array, Array]:
    """Return the Jacobian of all outputs in theta that a layer's backward pass leads to, and that
    by differences.
    """
    theta = layer.theta

    def flat(outputs: Any) -> Tensor:
        return torch.cat([each.double().flatten() for each in reals(outputs)])

    def row(index: int) -> Array:
        return dataclasses.replace(layer, loss=lambda made: flat(made)[index]).gradient(theta)

    def column(along: Tensor) -> Any:
        return sum(weight * flat(layer.outputs(theta + h * along)) for h, weight in STENCIL)

    columns = torch.stack([column(each) for each in torch.eye(len(theta)).to(theta)], 1)
    return np.array([row(index) for index in range(len(columns))]), columns.numpy(force=True)


def of_jacobian(mine: Array, expected: Array) -> Mistakes:
    """Yield what mistakes make of the Jacobian in a part, and those that its zeros show."""
    if len(expected) == len(expected.T):
        yield "the Jacobian in place of its transpose", expected.T
    kept, due = counting(mine), counting(expected)
    rows, needed = kept.sum(1) > 0, due.sum(1) > 0
    if len(lost := np.flatnonzero(needed & ~rows)):
        what = f"{len(lost)} of {len(mine)}, numbers {lost[0]} to {lost[-1]}"
        yield f"entries of the output are ignored: {what}", expected * rows[:, None]
    if (kept.sum(1) == 1).all():
        what = "right numbers at wrong places (a sum over the wrong axis)"
        yield what, kept * expected.sum(1, keepdims=True)
    rank = np.linalg.matrix_rank(mine - expected, ROUNDED * np.linalg.norm(expected))
    if (rows & ~needed).any():
        yield "not zero where outputs do not depend on the input (a mask, a clamp)", mine
    elif (kept.sum(1) == 1).all() and due.sum(1).max() > 1:
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


def of_equation(
    implicit: Implicit,
    mine: Array,
    elsewhere: Tensor,
    earlier: list[Tensor],
    points: dict[str, Tensor],
) -> Mistakes:
    """Yield the gradients in all parts that mistakes with an equation lead to, at the solution as
    returned; `earlier` is what the layer returned `elsewhere`, and the Jacobian may be taken at
    other `points`.
    """
    from scipy.optimize import minimize_scalar  # slow to import

    running, codes = implicit.running, implicit.returned
    problem: Any = running.problem
    direct, weights = direct_gradients(problem, codes)
    system = problem.linearized(codes)
    with torch.enable_grad():
        live, theta = differentiable(problem)
        after = dataclasses.replace(running, problem=live).layer(codes, 0)

    def pulled(adjoint: Tensor) -> Array:
        (through,) = gradients(after, (theta,), adjoint.reshape(codes.shape), keep_graph=True)
        return (direct + through).numpy(force=True)

    adjoint, _ = system.solve(weights)
    yield "the system is not solved: one step is differentiated", pulled(weights)
    with contextlib.suppress(UnsupportedProblem):
        transposed, _ = system.solve(weights, transposed=False)
        yield "a solve with the Jacobian in place of its transpose", pulled(transposed)
    if direct.any():
        yield "the direct part is missing", pulled(adjoint) - direct.numpy(force=True)
        yield "the path through the solution is missing", direct.numpy(force=True)
        yield "the path through the solution with the wrong sign", pulled(-adjoint)
    for name, point in {"zero": 0 * codes, **points}.items():
        if point.numel() == codes.numel():
            # The equation need not be defined there.
            with contextlib.suppress(UnsupportedProblem, RuntimeError):
                other, _ = problem.linearized(point.to(codes).reshape(codes.shape)).solve(weights)
                what = f"the Jacobian of the equation is taken at {name}, not at the solution"
                yield what, pulled(other)
    graph = "the gradient of the solver is kept in the graph: run it under torch.no_grad()"
    yield f"the inverse is applied twice ({graph})", pulled(system.solve(adjoint)[0])
    # The loss is taken at the solution of this call.
    linear: Any = dataclasses.replace(
        problem, loss=lambda z, theta: (weights * z).sum() + (direct * theta).sum()
    )
    before = torch.cat([each.to(codes).reshape(1, -1) for each in earlier], 1)
    for other in (linear, linear.with_theta(elsewhere)):
        stale, _ = dataclasses.replace(running, problem=other).gradient(before, 0)
        yield "a stale solution, that of an earlier call", stale.numpy(force=True)
    if system.like.numel() <= MAX_DENSE:
        matrix, eye = system.matrix.T, torch.eye(system.like.numel()).to(weights)

        def solved(sign: float, shift: float) -> Array:
            left, right = sign * matrix + shift * eye, weights.reshape(-1, 1)
            return pulled(torch.linalg.lstsq(left, right).solution)

        yield "the system has I + J in place of I - J", solved(-1, 2)
        left, values, right = torch.linalg.svd(matrix)
        for rank in range(1, len(values)):
            if values[rank] > (1 - ROUNDED) * values[rank - 1]:
                continue
            along = (left.T @ weights.ravel())[:rank] / values[:rank]
            what = f"a minimum-norm solve leaves out {count(len(values) - rank, 'singular value')}"
            yield what, pulled(right[:rank].T @ along)
        size = float(values[0])
        nearest = minimize_scalar(
            lambda exponent: distance(solved(1, size * 10**exponent), mine),
            bounds=DAMPINGS,
            method="bounded",
            options={"xatol": 1e-10, "maxiter": 80},
        )
        damping = size * 10**nearest.x
        what = f"the system is damped by {damping:.3g} times the identity"
        yield what, solved(1, damping)
    term = total = weights
    for terms in range(2, TERMS + 1):
        term = term - system.transposed(term)
        total = total + term
        yield f"a truncated series of {terms} terms in place of the solve", pulled(total)
