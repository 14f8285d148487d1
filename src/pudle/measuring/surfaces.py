"""Errors of truncated gradients over depth and window, and of the unrolled Jacobian over depth."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.func import jvp

from .. import streams
from ..algorithms import Algorithm
from ..algorithms.unrolling import check_depths, codes_at
from ..errors import InvalidArgument, UnsupportedProblem
from ..problems import Problem
from ..references import certified
from ..references.certified import MINIMIZER_TARGETS, Reference
from ..references.limits import exactly
from ..registry import make_estimator
from ..validation import check_integer
from .case import Case
from .measurement import stored_reference
from .scoring import score
from .statuses import first_line

if TYPE_CHECKING:
    # Only for the annotations: a change to how records are stored outdates none of them.
    from .store import Store


@dataclass(frozen=True)
class WindowError:
    """Error of the truncated gradient at one depth and window.

    Attributes
    ----------
    depth : int
        Number of layers that are run.
    window : int
        Number of last layers that the estimator is asked to differentiate.
    layers_differentiated : int
        Number of layers that it differentiates: the window or, where that is smaller, the depth (full backpropagation).
    relative_error, cosine_error, at_floor, status, reason
        As in `pudle.Score`.
    """

    depth: int
    window: int
    layers_differentiated: int
    relative_error: float
    cosine_error: float
    at_floor: bool
    status: str
    reason: str


def window_surface(
    problem: Problem,
    algorithm: Algorithm,
    depths: Sequence[int],
    windows: Sequence[int],
    reference: Reference | None = None,
) -> list[WindowError]:
    """Return the error of `truncated` for all pairs of depth and window, depths as given and windows ascending.

    On the lasso loss every window's error falls with depth; on the reconstruction loss a window of K leaves a floor of
    order rho^K. All windows of one depth share a forward and a backward pass, so that a row of the surface costs as much
    as its longest window alone.

    Parameters
    ----------
    problem : Problem
        The surface is that of the problem's loss.
    algorithm : Algorithm
    depths : sequence of int
    windows : sequence of int
        Each >= 1.
    reference : Reference, optional
        Reference to score against; the exact gradient by default.
    """
    truncated: Any = type(make_estimator("truncated(window=1)"))
    depths = check_depths(depths)
    reference = certified.reference(problem) if reference is None else reference
    errors = []
    for depth in depths:
        for window, estimate in truncated.sweep_windows(problem, algorithm, depth, windows):
            scored = score(estimate, reference)
            errors.append(
                WindowError(
                    depth=depth,
                    window=window,
                    layers_differentiated=estimate.diagnostics["layers_differentiated"],
                    relative_error=scored.relative_error,
                    cosine_error=scored.cosine_error,
                    at_floor=scored.at_floor,
                    status=scored.status,
                    reason=scored.reason,
                )
            )
    return errors


@dataclass(frozen=True)
class JacobianError:
    """Error of the unrolled Jacobian's products at one depth.

    Attributes
    ----------
    depth : int
    relative_error : float
        ``|J_T E - J E| / |J E|`` over all samples and directions E together; exactly one at depth zero.
    """

    depth: int
    relative_error: float


def jacobian_error(
    problem: Problem,
    algorithm: Algorithm,
    depths: Sequence[int],
    *,
    directions: Tensor | int = 4,
    seed: int = 0,
    reference: Reference | None = None,
) -> list[JacobianError]:
    r"""Return the error of ``J_T E`` for directions E of theta, where ``J_T = d z_T / d theta`` runs through all T layers.

    The products of the unrolled Jacobian come from one forward-mode run per direction, in the problem's precision. The
    exact ones come from the minimizer z and the implicit function theorem on its certified active set S, in float64: with F
    the gradient of the inner objective on S,

    .. math:: (J E)_S = -H_{SS}^{-1} (\partial_\theta F \, E)_S .

    For sparse coding this is :math:`(D_S^\top D_S)^{-1} [E_S^\top (x - D z) - D_S^\top E z]`, for `Ridge`
    :math:`-(D^\top D + \mu I)^{-1} z`.

    Parameters
    ----------
    problem : Problem
    algorithm : Algorithm
        Its thresholding must be the penalty's own proximal map: the exact Jacobian is that of the minimizer.
    depths : sequence of int
    directions : Tensor, shape (count, \*theta.shape), or int
        Directions, or how many standard normal ones to draw. A scalar theta has a single direction.
    seed : int
        Seed of the drawn directions.
    reference : Reference, optional
        The exact reference of this problem; computed by default.

    Raises
    ------
    InvalidArgument
        If the reference is not certified, or the algorithm's thresholding leads to no minimizer.

    References
    ----------
    Scieur, Bertrand, Gidel and Pedregosa, "The Curse of Unrolling", NeurIPS 2022.
    """
    depths = check_depths(depths)
    if not algorithm.thresholding.proximal:
        raise InvalidArgument(
            f"jacobian_error compares with the Jacobian of the minimizer, to which {algorithm.thresholding.name} "
            f"thresholding does not lead: use soft thresholding"
        )
    reference = certified.reference(problem) if reference is None else reference
    if reference.target not in MINIMIZER_TARGETS or reference.status == "uncertified":
        reason = reference.reason or "its codes are not the minimizer"
        raise InvalidArgument(
            f"jacobian_error needs a certified reference with target 'exact', this one is {reference.status} with target "
            f"{reference.target!r}: {reason}"
        )
    if not depths:
        return []
    theta = problem.theta.detach()
    squares = torch.zeros(len(depths), len(reference.codes), dtype=torch.float64)
    norms = torch.zeros(len(reference.codes), dtype=torch.float64)
    for direction in _directions(theta, directions, seed):
        exact = exact_product(problem, reference.codes, direction)
        norms += _squares(exact)
        products = jvp(lambda at: tuple(codes_at(problem, algorithm, at, depths)), (theta,), (direction,))[1]
        for index, product in enumerate(products):
            squares[index] += _squares(product.to(exact) - exact)
    total = float(norms.sum())
    if total == 0:
        raise InvalidArgument(
            "jacobian_error: the exact product is zero in all directions, and relative errors have no meaning"
        )
    return [JacobianError(depth, float(row.sum() / total) ** 0.5) for depth, row in zip(depths, squares, strict=True)]


def exact_product(problem: Problem, codes: Tensor, direction: Tensor) -> Tensor:
    """Return ``J E`` at the minimizer by the implicit function theorem on its active set, in float64 on the CPU.

    Parameters
    ----------
    problem : Problem
    codes : Tensor
        The minimizer, in float64.
    direction : Tensor
        E, of the shape of theta.
    """
    problem = exactly(problem)
    theta = problem.theta
    change = jvp(lambda at: problem.with_theta(at).stationarity(codes), (theta,), (direction.to(theta),))[1]
    solution, _ = problem.solve_active(codes, -change)
    return solution


def _directions(theta: Tensor, directions: Tensor | int, seed: int) -> Tensor:
    if isinstance(directions, Tensor):
        if directions.shape[1:] != theta.shape:
            shape = f"(count, {', '.join(map(str, theta.shape))})"
            raise InvalidArgument(f"directions has shape {tuple(directions.shape)}: give a tensor of shape {shape}")
        return directions.to(theta)
    count = check_integer("directions", directions, 1)
    if theta.ndim == 0:
        return torch.ones_like(theta)[None]
    random = streams.generator(seed, "surfaces jacobian_error")
    return torch.as_tensor(random.standard_normal((count, *theta.shape))).to(theta)


def _squares(tensor: Tensor) -> Tensor:
    return tensor.flatten(1).square().sum(1)


def measure_surface(kind: str, case: Case, windows: tuple[int, ...], store: Store) -> None:
    """Store the ``window_surface`` or the ``jacobian_error`` of a case, on its first seed.

    Where the case has none, the reason is stored in place of the rows.
    """
    seed = case.seeds[0]
    problem, algorithm = case.make_problem(seed), case.make_algorithm()
    reference = stored_reference(case, seed, case.targets[0], store)
    rows: Sequence[Any] = ()
    reason = ""
    try:
        if kind == "window_surface":
            rows = window_surface(problem, algorithm, case.depths, windows, reference)
        else:
            rows = jacobian_error(problem, algorithm, case.depths, reference=reference)
    except (InvalidArgument, UnsupportedProblem) as error:
        reason = first_line(error)
    store.write_artifact(kind, case, windows, [dataclasses.asdict(row) for row in rows], reason)
