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
from .audit_implicit import Implicit, pieces
from .audit_layer import Piece
from .closed_forms import Array
from .explanations import MULTIPLE, Mistakes, distance, likely
from .tolerances import EXACT

#: Rows of a batch that alone may count.
ROWS = {
    "its first sample": slice(0, 1),
    "its last sample": slice(-1, None),
    "all but its last sample": slice(0, -1),
}
#: Terms of a truncated series that are tried.
TERMS = 60
#: Shares of the system's norm between which a damping is looked for.
DAMPINGS = (-7.0, 1.0)
#: Mistakes that may be a solver's that stops early.
WEAK = ("a truncated series", "a part of the batch", MULTIPLE)


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


def of_equation(
    implicit: Implicit, mine: Array, elsewhere: Tensor, earlier: list[Tensor]
) -> Mistakes:
    """Yield the gradients in all parts that mistakes with an equation lead to, at the solution as
    returned; `earlier` is what the layer returned `elsewhere`.
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
    for which, rows in ROWS.items() if max(map(len, implicit.batches), default=1) > 1 else ():
        mask = torch.zeros_like(weights)
        for part in pieces(mask.ravel(), implicit.batches):
            part[rows] = 1
        yield f"of the batch {which} alone counts", pulled(system.solve(mask * weights)[0])
    if system.like.numel() <= MAX_DENSE:
        matrix, eye = system.matrix.T, torch.eye(system.like.numel()).to(weights)

        def solved(sign: float, shift: float) -> Array:
            left, right = sign * matrix + shift * eye, weights.reshape(-1, 1)
            return pulled(torch.linalg.lstsq(left, right).solution)

        yield "the system has I + J in place of I - J", solved(-1, 2)
        left, values, right = torch.linalg.svd(matrix)
        for rank in range(1, len(values)):
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
