"""A smooth and strongly convex inner objective, and a loss of its minimizer."""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from .. import streams
from ..errors import InvalidArgument, UnsupportedProblem
from ..validation import check_positive, check_scalar
from .linearized import MAX_DENSE, Array, Linearized, Solution, check_recording
from .state import StateProblem, UserState

#: How far the largest and the smallest eigenvalue by Lanczos's method may be off, relative to
#: them: a claim is compared with the smallest.
LANCZOS, SMALLEST = 1e-3, 1e-6
#: Vectors that Lanczos's method keeps for the smallest eigenvalue, which is hard to reach.
KEPT_VECTORS = 40
#: Unknowns up to which the Hessian is formed for its smallest eigenvalue at once, because Lanczos's
#: method mostly takes as many products, and up to which it is formed where that does not converge.
FORMED_AT_ONCE, MAX_HESSIAN = 1000, 4000
#: Constants that may be None.
OPTIONAL_CONSTANTS = ("direct_terms", "hessian_terms", "cross_terms")


@dataclass(frozen=True)
class Constants:
    r"""Constants that bound the error of a computed gradient.

    For inner objective g and outer loss f, a state z, an adjoint v and a radius, these hold in the
    ball of that radius around z, which holds the minimizer. Where z, v or the radius makes no
    difference, constants for all may be given.

    Attributes
    ----------
    gradient : float
        Largest curvature of g: Lipschitz constant of :math:`\partial_z g`.
    hessian : float
        Lipschitz constant of :math:`z \mapsto \partial_{zz} g(z) \, v`, such as that of the Hessian
        times the norm of v; zero where g is quadratic.
    outer : float
        Lipschitz constant of :math:`\partial_z f`.
    cross : float
        Lipschitz constant of :math:`z \mapsto C(z)^\top v`, with
        :math:`C = \partial_\theta \partial_z g`.
    cross_norm : float
        Largest spectral norm of C, or a bound on it such as its Frobenius norm.
    terms, outer_terms : float
        Sizes at z of :math:`\partial_z g` and of :math:`\partial_z f` before cancellation.
    direct : float
        Lipschitz constant of :math:`\partial_\theta f` in z, zero where f does not depend on theta.
    direct_terms : float, optional
        Size at z of :math:`\partial_\theta f` before cancellation. Without it nothing is certified,
        unless f does not depend on theta.
    hessian_terms, cross_terms : float, optional
        Sizes of the Hessian of g and of C before cancellation; by default `gradient` and
        `cross_norm`, which is right where none of their terms cancel.

    Notes
    -----
    The size of a derivative before cancellation is its norm with all terms of all its sums, inner
    ones too, replaced by their sizes. Rounding is in proportion to it, and so is what the data lose
    where they are converted to single precision. For the derivative :math:`X^\top (X \theta - y)`,
    whose residual may be zero, it is :math:`\lVert X \rVert (\lVert X \rVert \lVert \theta \rVert +
    \lVert y \rVert)` or, smaller,
    :math:`\lVert |X|^\top (|X| |\theta| + |y|) \rVert`. What a function such as the logarithm of a
    sum does to a rounding of its argument is the size of the argument times the slope.
    """

    gradient: float
    hessian: float
    outer: float
    cross: float
    cross_norm: float
    terms: float
    outer_terms: float
    direct: float = 0.0
    direct_terms: float | None = None
    hessian_terms: float | None = None
    cross_terms: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is None and name in OPTIONAL_CONSTANTS:
                continue
            try:
                bound = float(value)
            except (TypeError, ValueError, RuntimeError):
                raise InvalidArgument(
                    f"Constants: {name}={value!r:.80} is no number: give a bound"
                ) from None
            if not bound >= 0:
                kind = "NaN" if math.isnan(bound) else "negative"
                raise InvalidArgument(f"Constants: {name}={value} is {kind}: give a bound")
            object.__setattr__(self, name, bound)
        if self.gradient == 0:
            raise InvalidArgument(
                "Constants: gradient=0 is no bound on the curvature of a strongly convex"
                " objective, which is positive: give an upper bound"
            )


@dataclass(frozen=True, eq=False, repr=False)
class StronglyConvex(StateProblem):
    r"""The minimizer of a smooth, strongly convex objective, and a loss of it.

    .. math:: z(\theta) = \arg\min_z g(z, \theta), \qquad \partial_{zz} g \ge \mu(\theta) I,
              \qquad \ell(\theta) = f(z(\theta), \theta).

    These are the inner problems of most of bilevel optimization: regularized regression, weights
    of training samples, meta-learning. With H the Hessian of g, and C its cross derivative
    :math:`\partial_\theta \partial_z g`, the gradient is

    .. math:: G = \partial_\theta f - C^\top v, \qquad H v = \partial_z f .

    Parameters
    ----------
    theta : Tensor
        The outer parameter, of any shape; the gradient has this shape.
    objective : callable
        ``objective(state, theta) -> scalar tensor``, the inner objective g, which torch can
        differentiate twice. Make it follow the dtype of theta, by ``data.to(theta)``: references
        are computed in float64.
    loss : callable
        ``loss(state, theta) -> scalar tensor``, the outer loss f.
    initial : Tensor or mapping from names to tensors
        The state before the first step.
    modulus : callable
        ``modulus(theta) -> float``, a lower bound mu > 0 of the curvature of g, such as the weight
        of a squared norm.
    constants : callable, optional
        ``constants(state, theta, adjoint, radius) -> pudle.Constants``. With them the reference is
        certified; without, or where the loss depends on theta and they lack ``direct_terms``, its
        bound is an estimate from differences, and the reference a ``limit``.

    Raises
    ------
    InvalidArgument
        If a tensor is no finite floating tensor, or dtypes or devices differ; where they are first
        called, if the objective or the loss is no scalar, or the modulus not positive.

    References
    ----------
    Pedregosa, "Hyperparameter optimization with approximate gradient", ICML 2016. Ghadimi and Wang,
    "Approximation methods for bilevel programming", 2018.
    """

    theta: Tensor
    objective: Callable[[UserState, Tensor], Tensor]
    loss: Callable[[UserState, Tensor], Tensor]
    initial: Tensor | Mapping[str, Tensor]
    modulus: Callable[[Tensor], float | Tensor]
    constants: Callable[[UserState, Tensor, UserState, float], Constants] | None = None

    symmetric = True
    default_algorithm = "gradient_descent"
    functions = ("objective", "loss", "modulus", "constants")

    def with_theta(self, theta: Tensor) -> Self:
        """Return a copy at another value of the parameter, which keeps the Lipschitz constant and
        the modulus of this one: they are computed first.
        """
        # The step is a constant of the unrolled program, and so is the momentum.
        _ = self.lipschitz_constant, self.curvature
        return super().with_theta(theta)

    @functools.cached_property
    def curvature(self) -> float:
        """The modulus mu at theta: a lower bound of the curvature, as the user's function claims
        it, which is called once. InvalidArgument refuses one that is not positive.
        """
        value = self.modulus(self.theta.detach())
        number = float(check_scalar("modulus", value)) if isinstance(value, Tensor) else value
        return check_positive("modulus(theta)", number)

    @functools.cached_property
    def lipschitz_constant(self) -> float:
        """The largest curvature: by the constants, or else that at the initial state, by Lanczos's
        method and a thousandth more; at least the modulus.

        Computed once. UnsupportedProblem says that the method does not converge for so many
        unknowns.
        """
        codes = self.initial_codes()
        if self.constants:
            return self.constants_at(codes).gradient
        largest = self.extreme_curvature(codes, largest=True)
        if largest is None:
            raise UnsupportedProblem(
                "the largest curvature of the objective is unknown: Lanczos's method does not"
                f" converge for {codes.numel()} unknowns; give it by constants="
            )
        return max(largest * (1 + LANCZOS), self.curvature)

    def constants_at(
        self, codes: Tensor, adjoint: Tensor | None = None, radius: float = math.inf
    ) -> Constants:
        """Return the constants that the user's function gives for some codes, an adjoint (by
        default zero) and a radius; InvalidArgument refuses anything but `Constants`.

        The problem must have the field `constants`.
        """
        assert self.constants is not None  # asked by who has looked
        adjoint = torch.zeros_like(codes) if adjoint is None else adjoint
        theta = self.theta.detach()
        constants = self.constants(self.unpack(codes), theta, self.unpack(adjoint), radius)
        if not isinstance(constants, Constants):
            raise InvalidArgument(
                f"constants gives a {type(constants).__name__}: return pudle.Constants(...)"
            )
        return constants

    @property
    def lacks_for_certificate(self) -> str:
        """The name of what is missing for a certificate, empty where nothing is: ``constants=``, or
        their ``direct_terms=`` where the loss depends on theta beside the state.
        """
        if self.constants is None:
            return "constants="
        sized = self.constants_at(self.initial_codes()).direct_terms is not None
        return "" if sized or not self.has_direct_part() else "direct_terms= in its constants"

    @torch.enable_grad()
    def has_direct_part(self) -> bool:
        """Tell whether theta acts on the loss beside the state; asked of the user's loss at the
        initial state.
        """
        check_recording()
        theta = self.theta.detach().requires_grad_()
        return self.with_theta(theta).outer_loss(self.initial_codes()).requires_grad

    def extreme_curvature(self, codes: Tensor, *, largest: bool) -> float | None:
        """Return the smallest or the largest eigenvalue of the Hessian of g, in the codes of all
        samples together; None if it cannot be computed.

        It is exact up to rounding for at most `FORMED_AT_ONCE` unknowns, or `MAX_DENSE` for the
        largest: the matrix is formed. For more it comes from Lanczos's method, the largest to a
        thousandth and the smallest to a millionth. Where that does not converge, the matrix is
        formed for at most `MAX_HESSIAN` unknowns, and None is returned for more. It is computed
        anew at each call, with the same value. InvalidArgument refuses codes at which the
        derivative is not finite.
        """
        system = self.linearized(codes)
        if not self.smooth_gradient(codes).isfinite().all():
            raise InvalidArgument(
                "the objective's derivative is NaN or infinite at a state that was reached: repair"
                " it, or start elsewhere"
            )
        size = codes.numel()
        formed_at_once = size <= (MAX_DENSE if largest else FORMED_AT_ONCE)
        value = None if formed_at_once else _lanczos(system, largest=largest)
        if value is None and size <= MAX_HESSIAN:
            values: Tensor = torch.linalg.eigvalsh(system.matrix)
            value = float(values[-1 if largest else 0])
        return value

    def objective_at(self, codes: Tensor) -> Tensor:
        """Return the inner objective g at some codes."""
        value = self._call("objective", self.objective, codes)
        return check_scalar("objective", value, self.theta)

    def smooth_gradient(self, codes: Tensor) -> Tensor:
        """Return the gradient of g in the codes; it can be differentiated again where gradients are
        recorded and the codes or theta require them.

        InvalidArgument refuses an objective without a derivative, and inference mode.
        """
        if torch._C._functorch.peek_interpreter_stack() is not None:
            # A transformation such as forward mode is at work, which follows this one alone.
            transformed: Tensor = torch.func.grad(self.objective_at)(codes)
            return transformed
        # Half of the time, where nothing else is to follow.
        check_recording()
        recording = torch.is_grad_enabled() and (codes.requires_grad or self.theta.requires_grad)
        with torch.enable_grad():
            at = codes if codes.requires_grad else codes.detach().requires_grad_()
            value = self.objective_at(at)
            if not value.requires_grad:
                raise InvalidArgument(
                    "the objective has no derivative in its arguments: compute it from them by"
                    " torch, without detach, no_grad and NumPy"
                )
            (gradient,) = torch.autograd.grad(
                value, at, create_graph=recording, materialize_grads=True
            )
        return gradient

    def solve_active(self, codes: Tensor, right_hand_side: Tensor) -> Solution:
        """Solve ``H v = r`` with the Hessian of g, as one system."""
        return self.linearized(codes).solve(right_hand_side)


def _lanczos(system: Linearized, *, largest: bool) -> float | None:
    """Return an extreme eigenvalue of a large symmetric matrix, the largest to a thousandth and the
    smallest to a millionth, or None where Lanczos's method does not converge: what it has then is a
    Rayleigh quotient that says nothing of the extreme ones.

    It starts at a random vector that is the same in every run.
    """
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh  # slow to import

    size = system.like.numel()
    first: Array = streams.generator(0, "Lanczos").standard_normal(size)
    if largest:
        options = {"which": "LA", "tol": LANCZOS}
    else:
        restarts = math.ceil(size / KEPT_VECTORS)
        options = {"which": "SA", "tol": SMALLEST, "ncv": KEPT_VECTORS, "maxiter": restarts}
    operator = system.operator(system.transposed)
    try:
        (value,) = eigsh(operator, 1, v0=first, return_eigenvectors=False, **options)
    except ArpackNoConvergence:
        return None
    return float(value)
