"""Errors over more than one axis: over (depth, window) for truncated gradients, and of the Jacobian itself over depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp

from .. import streams
from ..algorithms import Algorithm
from ..algorithms.unrolling import check_depths, codes_at
from ..errors import InvalidArgument
from ..problems import Problem
from ..references.certified import MINIMIZER_TARGETS, Reference, reference
from ..references.records import exactly
from ..registry import list_estimators
from ..validation import check_integer
from .scoring import score


@dataclass(frozen=True)
class WindowError:
    """Error of the truncated gradient at one depth and window.

    Attributes
    ----------
    depth : int
        Layers run.
    window : int
        Layers asked to be differentiated.
    layers_differentiated : int
        Layers that were: the window, or the depth where that is smaller, and the estimate is full backpropagation.
    relative_error, cosine_error : float
    at_floor : bool
    status, reason : str
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
    problem: Problem, algorithm: Algorithm, depths: Sequence[int], windows: Sequence[int], truth: Reference | None = None
) -> list[WindowError]:
    """Return the error of `truncated` for all pairs of depth and window, depths as given and windows ascending.

    On the lasso loss every window's error falls with depth; on the reconstruction loss a window of K leaves a floor of
    order rho^K. All windows of one depth share a forward and a backward pass, so that a row of the surface costs as much
    as its longest window alone.

    Parameters
    ----------
    problem : Problem
        Its loss is the one the surface is for: make one surface per loss.
    algorithm : Algorithm
    depths : sequence of int
    windows : sequence of int
        Each >= 1.
    truth : Reference, optional
        What to score against; the exact gradient where not given.
    """
    truncated: Any = list_estimators()["truncated"]
    depths = check_depths(depths)
    truth = reference(problem) if truth is None else truth
    errors = []
    for depth in depths:
        for window, estimate in truncated.sweep_windows(problem, algorithm, depth, windows):
            found = score(estimate, truth)
            errors.append(
                WindowError(
                    depth=depth,
                    window=window,
                    layers_differentiated=estimate.diagnostics["layers_differentiated"],
                    relative_error=found.relative_error,
                    cosine_error=found.cosine_error,
                    at_floor=found.at_floor,
                    status=found.status,
                    reason=found.reason,
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
    worst_sample : float
        The largest ``|J_T E - J E|`` of a sample, over all directions together, relative to the root mean square over
        samples of ``|J E|``.
    """

    depth: int
    relative_error: float
    worst_sample: float


@dataclass(frozen=True)
class BurnIn:
    """How a Jacobian's error rises before it falls.

    Attributes
    ----------
    peak : float
        The largest relative error.
    peak_depth : int
        The first depth it is reached at.
    settled_depth : int or None
        The first depth from which on all errors are below one, which is what no unrolling at all (J = 0) achieves; None
        where the last is not.
    """

    peak: float
    peak_depth: int
    settled_depth: int | None


def jacobian_error(
    problem: Problem,
    algorithm: Algorithm,
    depths: Sequence[int],
    *,
    directions: Tensor | int = 4,
    seed: int = 0,
    truth: Reference | None = None,
) -> list[JacobianError]:
    r"""Error of ``J_T E`` for directions E of theta, where ``J_T = d z_T / d theta`` runs through all T layers.

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
        Its rule must be the penalty's own proximal map: the exact Jacobian is that of the minimizer.
    depths : sequence of int
    directions : Tensor, shape (count, \*theta.shape), or int
        Directions, or how many standard normal ones to draw. A scalar theta has one direction, and it is that one.
    seed : int
        Of the draw.
    truth : Reference, optional
        The exact reference of this problem, where it is at hand.

    Raises
    ------
    InvalidArgument
        If the reference is not certified, or the algorithm's rule leads to no minimizer.

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
    truth = reference(problem) if truth is None else truth
    if truth.target not in MINIMIZER_TARGETS or truth.status == "uncertified":
        reason = truth.reason or "its codes are not the minimizer"
        raise InvalidArgument(
            f"jacobian_error needs a certified reference with target 'exact', this one is {truth.status} with target "
            f"{truth.target!r}: {reason}"
        )
    if not depths:
        return []
    theta = problem.theta.detach()
    drawn = _directions(theta, directions, seed)
    squares = torch.zeros(len(depths), len(truth.codes), dtype=torch.float64)
    norms = torch.zeros(len(truth.codes), dtype=torch.float64)
    for direction in drawn:
        exact = exact_product(problem, truth.codes, direction)
        norms += _squares(exact)
        products = jvp(lambda at: tuple(codes_at(problem, algorithm, at, depths)), (theta,), (direction,))[1]
        for index, product in enumerate(products):
            squares[index] += _squares(product.to(exact) - exact)
    total = float(norms.sum())
    if total == 0:
        raise InvalidArgument(
            "jacobian_error: the exact product is zero in all directions, and relative errors have no meaning"
        )
    scale = total / len(norms)
    return [
        JacobianError(depth, float(row.sum() / total) ** 0.5, float(row.max() / scale) ** 0.5)
        for depth, row in zip(depths, squares, strict=True)
    ]


def exact_product(problem: Problem, codes: Tensor, direction: Tensor) -> Tensor:
    """Return ``J E`` at the minimizer by the implicit function theorem on its active set, in float64 on the CPU.

    Parameters
    ----------
    codes : Tensor
        The minimizer, in float64.
    direction : Tensor
        E, shape of theta.
    """
    problem = exactly(problem)
    theta = problem.theta
    change = jvp(lambda at: problem.with_theta(at).stationarity(codes), (theta,), (direction.to(theta),))[1]
    solution, _ = problem.solve_active(codes, -change)
    return solution


def burn_in(errors: Sequence[JacobianError]) -> BurnIn:
    """Return the peak of a curve of errors, and where the curve has come to stay below one.

    Parameters
    ----------
    errors : sequence of JacobianError
        In ascending order of depth; what lies between the depths is not seen.
    """
    if not errors:
        raise InvalidArgument("burn_in: there are no errors: give at least one depth")
    highest = max(errors, key=lambda error: error.relative_error)
    settled = None
    for error in reversed(errors):
        if not error.relative_error < 1:
            break
        settled = error.depth
    return BurnIn(highest.relative_error, highest.depth, settled)


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
