"""The limit of an algorithm and the gradient there: the target where no exact solution is known."""

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from .. import streams
from ..algorithms import Algorithm
from ..algorithms.unrolling import differentiable, direct_gradients, gradients
from ..errors import UnsupportedProblem, first_line
from ..problems import Problem
from ..problems.linearized import MAX_DENSE, norm
from .differences import fault_of_user_functions
from .lasso import ROUNDING, SINGULAR, row_norms
from .records import Certificate, Reference, exactly
from .rounding import rounding_errors
from .stability import Stability, stability

#: A sample has converged when no entry of its code changes by more than this times the largest
#: entry of all codes, or of the first layer's change where that is larger.
TOLERANCE = 1e-13
#: Consecutive layers for which that must hold: an accelerated method pauses where its momentum
#: turns.
STILL_LAYERS = 10
#: Layers after which a sample that has not converged is given up.
MAX_LAYERS = 20_000
#: Layers after which the fixed point of a step is sought by Newton's method, and again after
#: twice as many.
PATIENCE = 1000
#: Share of a distance from a fixed point within which the layers act almost as their derivative.
CLOSE = 1e-2
#: Most steps of Newton's method.
NEWTON = 30

#: Distances in theta, relative to its entries, of the central differences that check a limit, in
#: the order in which they are tried: the active set must stay the same within, and what rounding
#: leaves of the codes counts less in a larger one.
DIFFERENCE_STEPS = (1e-5, 1e-4, 1e-6, 1e-7)
#: Roundings that a derivative may collect, relative to those that random roundings show.
ROUNDINGS = 4
#: How the reason begins why there is none.
NO_LIMIT = "no limit to score against: "
#: What may help where steps do not lead to a fixed point.
REMEDY = (
    "; damp the step, as in z + a (step(z) - z) with a below one, or start nearer to a stable fixed"
    " point; a program of T steps has a gradient without a limit"
)

#: What a solve of linear systems tells, such as the condition number.
Diagnostics = dict[str, Any]


class NewtonFixedPoint(NamedTuple):
    """A fixed point by Newton's method, shape of the codes."""

    codes: Tensor
    #: Whether it attracts the layers and those from the start are seen to come to it.
    reached: bool
    #: None where the layers are seen not to come to it, whatever it is.
    stability: Stability | None


class LayerRun(NamedTuple):
    """The layers of an algorithm until they no longer change the codes."""

    codes: Tensor
    #: Which samples (n,) have not converged; rows that form one system count as one sample.
    moving: Tensor
    layers: int
    #: The last fixed point that Newton's method found.
    candidate: NewtonFixedPoint | None


@dataclass(frozen=True, eq=False)
class Converging:
    """An algorithm on a problem. Its step is a constant: it is the same at another theta."""

    problem: Problem
    algorithm: Algorithm
    step: float

    def at(self, theta: Tensor) -> Self:
        """Return it at another value of the parameter."""
        return dataclasses.replace(self, problem=self.problem.with_theta(theta))

    def layer(self, codes: Tensor, iteration: int) -> Tensor:
        """Return the codes after one plain layer, the map whose fixed point they converge to."""
        return self.algorithm.plain_layer(self.problem, codes, self.step, iteration)

    @torch.no_grad()
    def run(self, initial: Tensor | None = None) -> LayerRun:
        """Run layers until they no longer change the codes, 20,000 at most; stop early where codes
        are not finite.

        They start where the algorithm does or at `initial`, codes that are close to a limit that is
        known to be stable. The state of a joint problem that still changes after 1000 layers, 2000
        and so on is moved to the fixed point that Newton's method finds, if the layers are seen to
        come to it.
        """
        state, first = self.algorithm.start(self.problem, initial), self.problem.initial_codes()
        first_change = (self.layer(first, 0) - first).abs().max()
        moving = torch.ones(1 if self.problem.joint else len(first), dtype=torch.bool)
        n_still_layers = 0
        # Newton's method is tried at a layer from the codes there and those of half as many layers.
        newton_layer, halfway_codes = PATIENCE, first
        candidate = None
        while n_still_layers < STILL_LAYERS and state.iteration < MAX_LAYERS:
            codes_before = state.codes
            state = self.algorithm.advance(self.problem, state, self.step)
            scale = torch.maximum(state.codes.abs().max(), first_change)
            if not scale.isfinite():
                break
            changes = (state.codes - codes_before).abs().reshape(len(moving), -1).amax(1)
            moving = changes > TOLERANCE * scale
            n_still_layers = 0 if moving.any() else n_still_layers + 1
            if self.problem.joint and state.iteration == newton_layer:
                candidate = self._newton_fixed_point(
                    halfway_codes,
                    state.codes,
                    newton_layer // 2,
                    TOLERANCE * scale,
                    known_stable=initial is not None,
                )
                if candidate is not None and candidate.reached:
                    fixed = candidate.codes
                    state = dataclasses.replace(state, codes=fixed, point=fixed)
                newton_layer *= 2
            if 2 * state.iteration == newton_layer:
                halfway_codes = state.codes
        return LayerRun(state.codes, moving, state.iteration, candidate)

    def _newton_fixed_point(
        self,
        halfway: Tensor,
        codes: Tensor,
        layers: int,
        tolerance: Tensor,
        *,
        known_stable: bool,
    ) -> NewtonFixedPoint | None:
        """Return a fixed point by Newton's method from `codes`, to which so many layers led from
        `halfway`, and whether the layers are seen to come to it; None where it finds none.

        With d the share of the distance to the fixed point that the layers came nearer by, and q
        the part of them that is not linear, see `_nonlinear_share`, they are seen to come to it if
        d > 0, ``q <= d / 2`` and the derivative J there attracts, with ``q max_k |J^k| <= d / 2``;
        the latter two are not tested if it is `known_stable`.
        """
        fixed = self._newton(codes, tolerance)
        if fixed is None:
            return None
        offset_halfway, offset = halfway - fixed, codes - fixed
        nearer = 1 - norm(offset) / norm(offset_halfway) if norm(offset_halfway) else 1.0
        if not nearer > 0:
            return NewtonFixedPoint(fixed, False, None)
        nonlinear = self._nonlinear_share(fixed, offset_halfway, offset, layers)
        if not nonlinear <= nearer / 2:
            return NewtonFixedPoint(fixed, False, None)
        if known_stable:
            return NewtonFixedPoint(fixed, True, None)
        fixed_stability = stability(self.problem.linearized(fixed))
        reached = fixed_stability.stable and fixed_stability.growth * nonlinear <= nearer / 2
        return NewtonFixedPoint(fixed, reached, fixed_stability)

    def _newton(self, codes: Tensor, tolerance: Tensor) -> Tensor | None:
        """Return a fixed point of the layer by Newton's method, or None where it finds none in 30
        steps, or is led to where the step is not finite or not defined.
        """
        fixed = codes
        for _ in range(NEWTON):
            try:
                newton, residual, _ = self.newton_step(fixed, 0)
            # A step may not be defined where Newton's method leads: torch's factorizations raise.
            except (UnsupportedProblem, RuntimeError):
                return None
            if not newton.isfinite().all():
                return None
            if residual.abs().max() <= tolerance:
                return fixed
            fixed = fixed + newton
        return None

    def _nonlinear_share(
        self, fixed: Tensor, offset_halfway: Tensor, offset: Tensor, layers: int
    ) -> float:
        """Return by how much layers that led from ``fixed + offset_halfway`` to ``fixed + offset``
        differ from the linear ones, relative to `offset_halfway`.

        The linear ones are seen much closer to the fixed point. Where the derivative attracts and
        the layers follow it, apart from less than they came nearer by, they come to the fixed
        point: the part that is not linear falls faster than the distance.
        """
        close = fixed + CLOSE * offset_halfway
        for _ in range(layers):
            close = self.layer(close, 0)
        return norm((close - fixed) / CLOSE - offset) / (norm(offset_halfway) or 1.0)

    @torch.no_grad()
    def newton_step(self, codes: Tensor, iteration: int) -> tuple[Tensor, Tensor, Diagnostics]:
        """Return the Newton step towards the fixed point, on the active set, the residual ``Phi(z)
        - z`` before it, and the diagnostics of the solve.
        """
        residual = self.layer(codes, iteration) - codes
        newton, diagnostics = self.problem.solve_tangent(codes, residual / self.step)
        return newton, residual, diagnostics

    def gradient(self, codes: Tensor, iteration: int) -> tuple[Tensor, Diagnostics]:
        """Return the gradient by the implicit function theorem at a fixed point."""
        implicit = self.implicit(codes, iteration)
        return implicit.gradient, implicit.diagnostics

    def implicit(self, codes: Tensor, iteration: int) -> "ImplicitGradient":
        """Return the parts of the gradient by the implicit function theorem at a fixed point of the
        layer of an iteration; UnsupportedProblem says that its linear system has no solution.
        """
        direct, outer = direct_gradients(self.problem, codes)
        adjoint, diagnostics = self.problem.solve_active(codes, outer / self.step)
        through = self._pull_back(codes, adjoint, iteration)
        return ImplicitGradient(direct, outer, adjoint, through, diagnostics)

    @torch.enable_grad()
    def _pull_back(self, codes: Tensor, adjoint: Tensor, iteration: int) -> Tensor:
        """Return the product of a layer's transposed Jacobian in theta with an adjoint."""
        live, theta = differentiable(self.problem)
        after = self.algorithm.plain_layer(live, codes, self.step, iteration)
        return gradients(after, (theta,), adjoint)[0]

    def rounding(
        self, codes: Tensor, iteration: int, implicit: "ImplicitGradient", solved: float = 0.0
    ) -> float:
        """Estimate what rounding changes in a gradient by the implicit function theorem, as a norm.

        It rests on the sizes of terms before they cancel, which random roundings of fixed seeds
        show; what has a part in the linear system grows by its condition number. `solved` is the
        relative residual of the solution of that system.
        """

        def compute() -> tuple[Tensor, ...]:
            """Return the parts of the gradient, computed again: both derivatives of the loss, and
            what reaches theta through the codes.
            """
            return (
                *direct_gradients.plain(self.problem, codes),
                self._pull_back(codes, implicit.adjoint, iteration),
            )

        computed = implicit.direct, implicit.outer, implicit.through
        direct, outer, through = (ROUNDINGS * error for error in rounding_errors(compute, computed))
        share = max(2 * ROUNDING, solved, outer / (norm(implicit.outer) or 1.0))
        condition = float(implicit.diagnostics["condition_number"])
        return direct + through + condition * share * norm(implicit.through)


class ImplicitGradient(NamedTuple):
    """A gradient by the implicit function theorem."""

    #: The loss's derivatives in theta and in the codes, and the solution of the linear system.
    direct: Tensor
    outer: Tensor
    adjoint: Tensor
    #: What reaches theta through the codes.
    through: Tensor
    diagnostics: Diagnostics

    @property
    def gradient(self) -> Tensor:
        """The sum of the direct part and of what goes through the codes."""
        return self.direct + self.through


def limit_reference(problem: Problem, algorithm: Algorithm) -> Reference:
    r"""Return the gradient of ``theta -> loss(z(theta), theta)`` at the codes z(theta) to which an
    algorithm converges.

    The algorithm itself, with its step, its rule and its warm start, runs in float64 until the
    codes stop changing. With
    :math:`\Phi` one plain layer at that step and with that rule, its codes then satisfy :math:`z =
    \Phi(z, \theta)`, accelerated or not. The unrolled gradient tends to the derivative of that
    fixed point,

    .. math:: g = \partial_\theta \ell + (\partial_\theta \Phi)^\top v, \qquad
              (I - \partial_z \Phi^\top) v = \partial_z \ell .

    Every thresholding rule has slope one on the active entries and keeps the others at zero, so
    that
    :math:`v_S = H_{SS}^{-1} (\partial_z \ell)_S / \eta` on the active set S, with H the Hessian of
    the smooth part, and zero elsewhere. The part through the codes does not vanish even for the
    lasso loss: at the limit of a hard or decaying rule the penalized objective is not stationary in
    the codes. A rule that changes from layer to layer is evaluated at twice the depth at which the
    codes converged, where a decaying penalty is squared. For `FixedPoint` the system is solved as
    it stands, whether symmetric or not, singular or not as long as it has a solution. A state that
    still changes after many steps is found by Newton's method, and taken if the steps from the
    start are seen to come to it. Wherever it comes from, the spectral radius of
    :math:`\partial_z \Phi` must be shown to be below one there: see `pudle.references.stability`.

    A last Newton step on the active set refines the codes. `bound` is the change that this step,
    and the step of the rule to twice the depth, make to the gradient, and what the solves may have
    lost: an estimate without proof, hence the status ``limit``. The status is ``uncertified`` if a
    sample did not converge, if its active system is singular (the fixed points are then not
    isolated, and the path decides which one is reached), if the Newton step leaves the active set,
    if a loss or a step that a user wrote has another derivative than its differences, or if central
    differences of the loss at the limits for other theta do not agree; these are taken where the
    rule is the same in every layer. It is ``degenerate`` if the gradient vanishes
    with the penalty.

    Raises
    ------
    UnsupportedProblem
        If the problem cannot solve its active systems.
    """
    problem, algorithm = exactly(problem), exactly(algorithm)
    running = Converging(problem, algorithm, algorithm.step_size(problem))
    run = running.run()
    codes, moving, layers, _ = run
    if reason := _why_not_converged(running, run):
        return _no_limit(problem, run, reason)
    try:
        newton, residual, newton_solve = running.newton_step(codes, 2 * layers)
        refined = codes + newton
        limit_stability = _stability_at(running, run, refined)
        if limit_stability and not limit_stability.stable:
            where = f"the steps do not lead to the state that they are at after {layers}"
            return _no_limit(problem, run, f"{where}: {limit_stability}{REMEDY}")
        piece_after = problem.piece(running.layer(refined, 2 * layers))
        gradient_before, _ = running.gradient(codes, layers)
        implicit = running.implicit(refined, 2 * layers)
    except UnsupportedProblem as refused:
        if not problem.joint:
            raise
        # What follows is advice for estimators.
        return _no_limit(problem, run, first_line(refused).partition("; use")[0])
    gradient, solve = implicit.gradient, implicit.diagnostics
    # Beyond what the Newton step shows, the solves lose as many digits as the condition number has.
    solve_residual = float(solve.get("largest_relative_residual", 0))
    rounding = running.rounding(refined, 2 * layers, implicit, solve_residual)
    size = norm(gradient)
    bound = (norm(gradient - gradient_before) + rounding) / size if size else torch.inf

    moves_piece = (piece_after != problem.piece(codes)).reshape(len(moving), -1).any(1)
    condition = max(float(diagnostics["condition_number"]) for diagnostics in (newton_solve, solve))
    # A joint system that is singular has been seen to have a solution.
    n_singular = 0 if problem.joint else int(newton_solve["singular"])
    n_singular = max(n_singular, int(condition >= SINGULAR))
    # That of a large state is an estimate by chance.
    radius = limit_stability.radius if limit_stability and refined.numel() <= MAX_DENSE else 0.0
    certificate = Certificate(
        samples=len(moving),
        uncertified=max(int((moving | moves_piece).sum()), n_singular),
        kkt_residual=float(residual.abs().max()) / running.step,
        smallest_eigenvalue=1 - radius if radius else torch.inf,
        largest_eigenvalue=1 - radius if radius else 0.0,
        condition_number=condition,
        code_error=float(row_norms(newton.flatten(1)).max()),
        zero_codes=float((codes == 0).reshape(len(moving), -1).all(1).double().mean()),
        iterations=layers,
    )
    if certificate.uncertified and problem.joint:
        flaw = f"the derivative of the state has the condition number {condition:.1e}"
    elif certificate.uncertified:
        flaw = _flaw_of_samples(run, moves_piece, n_singular)
    else:
        flaw = "" if bound >= 1 else _why_not_the_gradient(running, refined, gradient)
    return Reference(gradient, refined, "limit", bound, certificate, *_status(problem, bound, flaw))


def _no_limit(problem: Problem, run: LayerRun, reason: str) -> Reference:
    """Return an uncertified reference whose gradient is NaN, with the reason why there is no
    limit; its codes are the last ones.
    """
    n_samples = len(run.moving)
    return Reference(
        problem.theta * torch.nan,
        run.codes,
        "limit",
        torch.inf,
        Certificate(n_samples, n_samples),
        "uncertified",
        f"{NO_LIMIT}{reason}",
    )


def _why_not_converged(running: Converging, run: LayerRun) -> str:
    """Return why layers have led to no limit, an empty text if they have: codes that are not
    finite, or a state that still changes. Samples that still move are counted elsewhere.
    """
    if not run.codes.isfinite().all():
        return (
            f"the codes are NaN or infinite after {run.layers} layers: the iteration diverges"
            + (REMEDY if running.problem.joint else "")
        )
    if running.problem.joint and run.moving.any():
        return _why_it_moves(running, run)
    return ""


def _flaw_of_samples(run: LayerRun, moves_piece: Tensor, n_singular: int) -> str:
    """Return why the limits of separate samples are not certified, with the number of samples for
    each reason; `moves_piece` (n,) tells which a layer would take off their active set.
    """
    return (
        f"of {len(run.codes)} samples {int(run.moving.sum())} still moved after {run.layers}"
        f" layers, {n_singular} have a singular active system,"
        f" {int((moves_piece & ~run.moving).sum())} leave their active set"
    )


def _why_not_the_gradient(running: Converging, codes: Tensor, gradient: Tensor) -> str:
    """Return why a gradient at a limit is not that of the loss there, or an empty text: one of the
    user's functions differs from its derivative, or differences of the loss do not agree, which are
    taken where the rule is the same in every layer.
    """
    fault = fault_of_user_functions(running.problem, codes)
    if not fault and running.algorithm.thresholding.proximal:
        return _disagreement(running, codes, gradient)
    return fault


def _stability_at(running: Converging, run: LayerRun, codes: Tensor) -> Stability | None:
    """Return the stability of a limit, that of the fixed point of Newton's method where the layers
    came to one; None where samples are separate.
    """
    if not running.problem.joint:
        return None
    if run.candidate and run.candidate.reached:
        return run.candidate.stability
    return stability(running.problem.linearized(codes))


def _why_it_moves(running: Converging, run: LayerRun) -> str:
    """Return why the steps of a joint problem lead to no limit, with the spectral radius at the
    fixed point that Newton's method found last, and the remedy.
    """
    reason, candidate = f"the state still changes after {run.layers} steps", run.candidate
    if candidate:
        system = running.problem.linearized(candidate.codes)
        candidate_stability = candidate.stability or stability(system)
        reason += (
            "; they are not seen to come to the fixed point that Newton's method finds, where the"
            f" spectral radius of the step's derivative is {candidate_stability.radius:.6g}"
        )
    return reason + REMEDY


def _status(problem: Problem, bound: float, flaw: str) -> tuple[str, str]:
    """Return the status of a limit whose gradient has a bound, and the reason for it:
    ``uncertified`` with a flaw, ``degenerate`` for a bound of one or more, else ``limit`` and no
    reason.
    """
    if flaw:
        return "uncertified", f"{NO_LIMIT}{flaw}"
    if bound >= 1:
        reason = "the gradient at the limit is zero: relative errors have no meaning"
        if problem.joint:
            reason += "; pudle.audit(problem) tells whether the step has lost one"
        return "degenerate", reason
    return "limit", ""


@torch.no_grad()
def _disagreement(running: Converging, codes: Tensor, gradient: Tensor) -> str:
    """Return why the gradient is not that of the loss at the limit, or an empty text if central
    differences confirm it.

    They are taken along two directions, itself and a random one, the same in every run, from limits
    that are found from the one at this theta. Four distances are tried until one agrees; one within
    which the active set changes tells nothing. The tolerance, a millionth of the gradient, holds
    what rounding of the loss leaves as well.
    """
    theta, slope = running.problem.theta, gradient.norm()
    random = torch.as_tensor(streams.generator(0, "check of a limit").standard_normal(theta.shape))
    size = float(theta.norm()) / theta.numel() ** 0.5 or 1.0
    for direction in (gradient / slope, random / random.norm()):
        reason = "the active set changes close by"
        for relative in DIFFERENCE_STEPS:
            distance = relative * size
            above, below = (
                _loss_at_limit(running.at(theta + move * direction), codes)
                for move in (distance, -distance)
            )
            if above is None or below is None:
                continue
            error = ((above - below) / (2 * distance) - (gradient * direction).sum()).abs()
            rounding = 200 * ROUNDING * above.abs() / distance
            # The differences may be off by so much, relative to the gradient.
            if error <= 1e-6 * slope + rounding:
                break
            reason = (
                "central differences of the loss at the limits for other theta are"
                f" {float(error / slope):.1e} off, relative to the gradient: there is a kink close"
                " by, the gradient of the step or of the loss is wrong, or the step is no function"
                " of state and theta alone; pudle.audit(problem) tells more"
            )
        else:
            return reason
    return ""


def _loss_at_limit(running: Converging, codes: Tensor) -> Tensor | None:
    """Return the loss at the limit that is found from `codes`, refined by a Newton step; None where
    its active set is another.
    """
    limit, _, layers, _ = running.run(codes)
    if not torch.equal(running.problem.piece(limit), running.problem.piece(codes)):
        return None
    return running.problem.outer_loss(limit + running.newton_step(limit, layers)[0])
