"""The implicit gradient of a layer whose output solves an equation, at its own solution refined,
and what common mistakes make of it.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from ..algorithms import Iteration
from ..algorithms.unrolling import differentiable, direct_gradients, gradients
from ..errors import UnsupportedProblem, first_line
from ..problems import FixedPoint
from ..problems.linearized import MAX_DENSE
from ..references.converging import Converging
from .audit_layer import Layer, doubled
from .closed_forms import Array
from .explanations import Mistakes

#: Most steps of Newton's method; a correction of this share of the solution is rounding.
NEWTON, CONVERGED = 30, 1e-13
#: A correction that no longer halves has converged if it is below this share of the solution.
STALLED = 1e-7
#: Newton's method stays near a start from which it converges: within twice its first step (Newton
#: and Kantorovich); more than this share of the solution means another equation.
BRANCH, NEARBY = 2.0, 0.5
#: Terms of a truncated series that are tried.
TERMS = 60
#: Shares of the system's norm between which a damping is looked for.
DAMPINGS = (-7.0, 1.0)


@dataclass(frozen=True, eq=False)
class Implicit:
    """The equation, and gradients by the implicit function theorem.

    Attributes
    ----------
    running : Converging
        The equation as a fixed point.
    returned, solution : Tensor
        The layer's solution, and the same refined.
    exact, at_returned : Tensor
        The gradients there, with the entries of all parts in one vector.
    bound : float
        Error of `exact`, relative to its norm: what the last refinement changed, and rounding.
    moved, residual : float
        How far the refinement moved the solution, and the residual before it; relative.
    condition : float
        Condition number of the linear system.
    line, along : Slope and Tensor
        Differences of the refined solution that confirm it, and their direction.
    """

    running: Converging
    returned: Tensor
    solution: Tensor
    exact: Tensor
    at_returned: Tensor
    bound: float
    moved: float
    residual: float
    condition: float
    line: Any = None
    along: Any = None

    def value(self, theta: Tensor) -> float:
        """Return the loss at the solution for another theta, found from this one."""
        running = self.running.at(theta)
        refined, *_ = _refined(running, self.solution)
        with torch.no_grad():
            return float(running.problem.outer_loss(refined))

    def mistaken(self, mine: Tensor, elsewhere: list[Tensor], earlier: list[Tensor]) -> Mistakes:
        """Yield the gradients that common mistakes lead to, at the solution as returned; `earlier`
        is what the layer returned `elsewhere`.
        """
        problem, codes = self.running.problem, self.returned
        direct, weights = direct_gradients(problem, codes)

        def pulled(
            adjoint: Tensor, at: Tensor = codes, running: Converging = self.running
        ) -> Array:
            with torch.enable_grad():
                live, theta = differentiable(running.problem)
                after: Any = dataclasses.replace(running, problem=live).layer(at, 0)
                return (direct + gradients(after, (theta,), adjoint)[0]).numpy(force=True)

        system = problem.linearized(codes)
        adjoint, _ = system.solve(weights)
        yield "the system is not solved: one step is differentiated", pulled(weights)
        if self.exact.numel() and system.like.numel() <= MAX_DENSE:
            transposed, _ = system.solve(weights, transposed=False)
            yield "a solve with the Jacobian in place of its transpose", pulled(transposed)
        if direct.any():
            yield "the direct part is missing", pulled(adjoint) - direct.numpy(force=True)
            yield "the path through the solution is missing", direct.numpy(force=True)
            yield "the path through the solution with the wrong sign", pulled(-adjoint)
        again, _ = system.solve(adjoint)
        graph = "the gradient of the solver is kept in the graph: run it under torch.no_grad()"
        yield f"the inverse is applied twice ({graph})", pulled(again)
        if earlier:
            before, theta = (
                torch.cat([each.to(codes).reshape(1, -1) for each in state], 1)
                for state in (earlier, elsewhere)
            )
            for running in (self.running, self.running.at(theta.ravel())):
                stale, _ = running.problem.linearized(before).solve(weights)
                yield "a stale solution, that of an earlier call", pulled(stale, before, running)
        yield from self._parts_of_batch(system, weights, pulled)
        if system.like.numel() <= MAX_DENSE:
            yield from self._damped(system.matrix.T, weights.ravel(), pulled, mine)
        term = total = weights
        for terms in range(2, TERMS + 1):
            term = term - system.transposed(term)
            total = total + term
            yield f"a truncated series of {terms} terms in place of the solve", pulled(total)

    def _parts_of_batch(
        self, system: Any, weights: Tensor, pulled: Callable[[Tensor], Array]
    ) -> Mistakes:
        """Yield the gradients of parts of the batch."""
        problem: Any = self.running.problem
        first = next(iter(problem.initial.values()))
        n = len(first) if first.ndim else 0
        masks = {"its first sample": slice(0, 1), "its last sample": slice(-1, None)}
        masks |= {"all but its last sample": slice(0, -1)}
        for which, rows in masks.items() if n > 1 else ():
            state = problem.unpack(torch.zeros_like(weights))
            for part in state.values():
                part[rows] = 1
            mask = problem.pack(state)
            yield f"of the batch {which} alone counts", pulled(system.solve(mask * weights)[0])

    def _damped(
        self, matrix: Tensor, weights: Tensor, pulled: Callable[[Tensor], Array], mine: Tensor
    ) -> Iterator[tuple[str, Array]]:
        """Yield the gradient of the damped system that comes nearest to an estimate, and that of
        ``I + J``.
        """
        from scipy.optimize import minimize_scalar  # slow to import

        eye, size = torch.eye(len(matrix)).to(matrix), float(torch.linalg.matrix_norm(matrix, 2))

        def solved(system: Tensor) -> Array:
            solution = torch.linalg.lstsq(system, weights[:, None]).solution
            return pulled(solution.reshape(self.returned.shape))

        yield "the system has I + J in place of I - J", solved(2 * eye - matrix)
        expected = mine.numpy(force=True)

        def left(exponent: float) -> float:
            return float(np.linalg.norm(solved(matrix + size * 10**exponent * eye) - expected))

        found = minimize_scalar(
            left, bounds=DAMPINGS, method="bounded", options={"xatol": 1e-10, "maxiter": 80}
        )
        damping = size * 10**found.x
        what = f"the system is damped by {damping:.3g} times the identity"
        yield what, solved(matrix + damping * eye)


def implicit_of(
    layer: Layer,
    residual: Callable[..., Any] | None,
    step: Callable[..., Any] | None,
) -> Implicit | str:
    """Return the implicit gradients of a layer, or why there are none."""
    parts = [part.double() for part in layer.parts]
    tree = layer.outputs(layer.parts)
    leaves, form = tree_flatten(tree_map(doubled, tree))
    real = [
        i for i, each in enumerate(leaves) if isinstance(each, Tensor) and each.is_floating_point()
    ]
    shapes = [part.shape for part in parts]
    function = residual or step

    def split(theta: Tensor) -> list[Tensor]:
        cut = theta.split([shape.numel() for shape in shapes])
        return [each.reshape(shape) for each, shape in zip(cut, shapes, strict=True)]

    def whole(state: Any) -> Any:
        filled = [*leaves]
        for index, part in zip(real, state.values(), strict=True):
            filled[index] = part
        return tree_unflatten(filled, form)

    def advance(state: Any, theta: Tensor) -> Any:
        with layer.placed(split(theta)) as inputs:
            given = function(whole(state), *inputs)  # type: ignore[misc]
        after = [each for each in tree_flatten(given)[0] if isinstance(each, Tensor)]
        flat = torch.cat([each.reshape(-1) for each in after])
        cut = flat.split([part.numel() for part in state.values()])
        new = {}
        for (name, part), each in zip(state.items(), cut, strict=True):
            each = each.reshape(part.shape)
            new[name] = part - each if residual else each
        return new

    def loss(state: Any, theta: Tensor) -> Tensor:
        with layer.placed(split(theta)) as inputs:
            return layer.lost(whole(state), inputs)

    theta = torch.cat([part.reshape(-1) for part in parts])
    initial = {str(index): leaves[index] for index in real}
    running = Converging(FixedPoint(theta, advance, loss, initial), Iteration(), 1.0)
    returned = running.problem.initial_codes()
    try:
        refined, before, first, left, converged = _refined(running, returned)
        exact, diagnostics = running.gradient(refined, 0)
        earlier, _ = running.gradient(before, 0)
        at_returned, _ = running.gradient(returned, 0)
    except UnsupportedProblem as refused:
        return first_line(refused).partition("; use")[0]
    size = float(refined.norm()) or 1.0
    moved = float((refined - returned).norm())
    if not converged:
        return "Newton's method does not converge from the solution that the layer returns"
    if moved > max(BRANCH * first, STALLED * size) or moved > NEARBY * size:
        return (
            f"the solution nearby is {moved / size:.1g} of its norm away from what the layer"
            " returns: another branch, or another equation"
        )
    condition = float(diagnostics["condition_number"])
    rounding = condition * max(
        torch.finfo(torch.float64).eps, float(diagnostics["largest_relative_residual"])
    )
    norm = float(exact.norm()) or 1.0
    return Implicit(
        running,
        returned,
        refined,
        exact,
        at_returned,
        float((exact - earlier).norm()) / norm + rounding,
        moved / size,
        left / size,
        condition,
    )


def _refined(running: Converging, codes: Tensor) -> tuple[Tensor, Tensor, float, float, bool]:
    """Return the solution near some codes by Newton's method, the iterate before it, the size of
    the first step, the residual at first, and whether it converged.
    """
    first = residual = size = np.inf
    before = codes
    for count in range(NEWTON):
        newton, left, _ = running.newton_step(codes, 0)
        last, size = size, float(newton.norm())
        scale = float(codes.norm()) or 1.0
        if not count:
            first, residual = size, float(left.norm())
        if not size < last / 2 or size <= CONVERGED * scale:
            break
        before, codes = codes, codes + newton
    return codes, before, first, residual, size <= STALLED * scale
