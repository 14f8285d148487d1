"""Errors of truncated gradients over depth and window, and of the unrolled Jacobian over depth."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import vmap

from .. import streams
from ..algorithms import Algorithm
from ..algorithms.unrolling import check_depths, codes_at, directional_derivative
from ..errors import InvalidArgument, UnsupportedProblem, first_line
from ..names import make_estimator
from ..problems import Problem
from ..references.certified import MINIMIZER_TARGETS, Reference
from ..references.records import exactly
from .case import Case
from .contents import Artifact, Row
from .measurement import stored_reference
from .scoring import score
from .store import Store


def window_surface(
    problem: Problem,
    algorithm: Algorithm,
    depths: Sequence[int],
    windows: Sequence[int],
    reference: Reference,
) -> list[Row]:
    """Return the error of `truncated` for all pairs of depth and window, depths as given and
    windows ascending.

    On the lasso loss every window's error falls with depth; on the reconstruction loss a window of
    K leaves a floor of order rho^K. All windows of one depth share a forward and a backward pass,
    so that a row of the surface costs as much as its longest window alone.

    Returns
    -------
    list of dict
        For each pair ``depth``, ``window``, ``layers_differentiated`` (the window or, where that is
        smaller, the depth), and ``relative_error``, ``cosine_error``, ``at_floor``, ``status`` and
        ``reason`` as in `pudle.Score`.
    """
    truncated = type(make_estimator("truncated(window=1)"))
    rows = []
    for depth in check_depths(depths):
        for window, estimate in truncated.sweep_windows(problem, algorithm, depth, windows):
            layers = estimate.diagnostics["layers_differentiated"]
            result = score(estimate, reference)
            fields = ("relative_error", "cosine_error", "at_floor", "status", "reason")
            rows.append(
                {"depth": depth, "window": window, "layers_differentiated": layers}
                | {name: getattr(result, name) for name in fields}
            )
    return rows


def jacobian_error(
    problem: Problem, algorithm: Algorithm, depths: Sequence[int], reference: Reference
) -> list[Row]:
    r"""Return the error of ``J_T E``, for random directions E of theta and ``J_T = d z_T / d
    theta`` through all T layers.

    The products of the unrolled Jacobian come from one forward-mode run, in the problem's
    precision. The exact ones come from the minimizer z and the implicit function theorem on its
    certified active set S, in float64: with F the gradient of the inner objective on S,

    .. math:: (J E)_S = -H_{SS}^{-1} (\partial_\theta F \, E)_S .

    For sparse coding this is :math:`(D_S^\top D_S)^{-1} [E_S^\top (x - D z) - D_S^\top E z]`, for
    `Ridge`
    :math:`-(D^\top D + \mu I)^{-1} z`.

    Returns
    -------
    list of dict
        For each ``depth`` the ``relative_error`` ``|J_T E - J E| / |J E|`` over all samples and
        directions together; exactly one at depth zero.

    Raises
    ------
    InvalidArgument
        If the reference is not the certified minimizer's, or the algorithm's thresholding does not
        lead to the minimizer.

    References
    ----------
    Scieur, Bertrand, Gidel and Pedregosa, "The Curse of Unrolling", NeurIPS 2022.
    """
    depths = check_depths(depths)
    if not algorithm.thresholding.proximal:
        raise InvalidArgument(
            "jacobian_error compares with the Jacobian of the minimizer, to which"
            f" {algorithm.thresholding.name} thresholding does not lead: use soft thresholding"
        )
    if reference.target not in MINIMIZER_TARGETS or reference.status == "uncertified":
        reason = reference.reason or "its codes are not the minimizer"
        raise InvalidArgument(
            "jacobian_error needs a certified reference with target 'exact', this one is"
            f" {reference.status} with target {reference.target!r}: {reason}"
        )
    if not depths:
        return []
    theta = problem.theta.detach()
    along = directions(theta)
    # Now, because the library that finds it cannot compute within vmap.
    algorithm.step_size(problem)
    precise, codes = exactly(problem), reference.codes
    changes = [
        directional_derivative(
            lambda at: precise.with_theta(at).stationarity(codes),
            precise.theta,
            direction.to(precise.theta),
        )
        for direction in along
    ]
    exact = torch.stack([precise.solve_tangent(codes, -change)[0] for change in changes])
    # All directions share the codes, which do not depend on them.
    products = vmap(
        lambda direction: directional_derivative(
            lambda at: tuple(codes_at(problem, algorithm, at, depths)), theta, direction
        )
    )(along)
    squares = torch.stack([(product.to(exact) - exact).square().sum() for product in products])
    total = float(exact.square().sum())
    if total == 0:
        raise InvalidArgument(
            "jacobian_error: the exact product is zero in all directions: relative errors have no"
            " meaning"
        )
    errors = zip(depths, (squares / total).sqrt().tolist(), strict=True)
    return [{"depth": depth, "relative_error": error} for depth, error in errors]


def directions(theta: Tensor) -> Tensor:
    """Return four standard normal directions of theta, stacked along the first axis; for a scalar
    theta the number one.
    """
    if theta.ndim == 0:
        return torch.ones_like(theta)[None]
    random = streams.generator(0, "surfaces jacobian_error")
    return torch.as_tensor(random.standard_normal((4, *theta.shape))).to(theta)


def measure_surface(kind: str, case: Case, windows: tuple[int, ...], store: Store) -> Artifact:
    """Store the ``window_surface`` or the ``jacobian_error`` of a case, on its first seed, or the
    reason why it has none.
    """
    content: Row
    try:
        problem, algorithm = case.make_problem(case.seeds[0]), case.make_algorithm()
        reference = stored_reference(case, case.seeds[0], case.targets[0], store)
        if windows:
            rows = window_surface(problem, algorithm, case.depths, windows, reference)
        else:
            rows = jacobian_error(problem, algorithm, case.depths, reference)
        content = {"rows": rows}
    except (InvalidArgument, UnsupportedProblem) as error:
        content = {"status": "unsupported", "reason": first_line(error)}
    return store.write("surface", kind, case, windows, **content)
