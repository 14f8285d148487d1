"""Records: which gradient a reference is, its value, and the evidence for it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from ..problems.linearized import norm
from ..short_repr import short_repr
from ..validation import plain_tensor

#: A frozen dataclass.
T = TypeVar("T", bound=Any)

TARGETS = {
    "exact": "gradient of theta -> loss(z(theta), theta) at the minimizer z(theta)",
    "ghat": "exact gradient of the lasso loss, whatever the problem's loss",
    "gstar": "the lasso formula with the lasso codes under the generating dictionary",
    "gtilde": "the lasso formula with the generating codes themselves",
    "limit": (
        "gradient of theta -> loss(z(theta), theta) at the codes z(theta) that the same algorithm"
        " converges to"
    ),
}
#: Targets defined by the minimizer of the inner problem: wrong for a thresholding rule that does
#: not lead there.
MINIMIZER_TARGETS = ("exact", "ghat")
#: Statuses of references that estimates are scored against.
SCORED = ("certified", "limit")


@dataclass(frozen=True, repr=False)
class Certificate:
    """Evidence that a reference is what it claims to be; extremes are over the samples.

    Attributes
    ----------
    samples : int
        Number of samples; of a `FixedPoint`, whose state is one system, one, as where there are no
        samples.
    uncertified : int
        Number of samples for which the evidence does not suffice.
    kkt_residual : float
        Largest violation of the optimality conditions.
    smallest_eigenvalue : float or None
        Smallest eigenvalue of the active Gram (Hessian) matrices; infinite if no sample has an
        active entry, and for the limit of a problem of another kind; None if it is unknown, because
        a `StronglyConvex` is too large. For a `FixedPoint`, as the next, one minus the spectral
        radius of the Jacobian of its step.
    largest_eigenvalue : float
        Largest eigenvalue of the regular ones among these matrices; zero if there is none.
    condition_number : float
        Largest condition number of the active Gram matrices. Of a `FixedPoint`, that of the
        derivative of its state's equation: for a large state a lower estimate, often far too small.
    dual_margin : float
        Smallest distance of an inactive correlation from the penalty.
    smallest_amplitude : float
        Smallest magnitude of an active code entry.
    code_error : float
        Largest bound on the Euclidean error of a code.
    zero_codes : float
        Share of samples whose code is all zero.
    iterations : int
        Largest number of accelerated iterations that a sample took, or of Newton steps.
    modulus : float or None
        The lower bound of the curvature that a `StronglyConvex` claims and `smallest_eigenvalue`
        does not refute: nothing proves it. Where that is None nothing has been compared with it.
    """

    samples: int = 1
    uncertified: int = 0
    kkt_residual: float = 0.0
    smallest_eigenvalue: float | None = float("inf")
    largest_eigenvalue: float = 0.0
    condition_number: float = 1.0
    dual_margin: float = float("inf")
    smallest_amplitude: float = float("inf")
    code_error: float = 0.0
    zero_codes: float = 0.0
    iterations: int = 0
    modulus: float | None = None

    __repr__ = short_repr


@dataclass(frozen=True, eq=False, repr=False)
class Reference:
    """The gradient that estimates are scored against, in float64 on the CPU.

    Attributes
    ----------
    gradient : Tensor
        Shape of theta.
    codes : Tensor
        The codes from which the gradient was computed.
    target : str
        Which gradient it is: a key of `TARGETS`.
    bound : float
        Bound on the error of `gradient` relative to the true gradient, in the Euclidean (Frobenius)
        norm; of a ``limit`` an estimate of that error, without proof.
    certificate : Certificate
        The evidence.
    status : str
        ``certified``, or ``limit`` (the algorithm converged; the bound is an estimate). Estimates
        are not scored against an ``uncertified`` or a ``degenerate`` reference (its gradient is
        zero).
    reason : str
        Why the reference is not scored against; empty otherwise.
    probe : sequence of float
        Numbers of its problem, see `pudle.references.probe`; empty where it was not stored.
    """

    gradient: Tensor
    codes: Tensor
    target: str
    bound: float
    certificate: Certificate
    status: str = "certified"
    reason: str = ""
    probe: Sequence[float] = ()

    def __post_init__(self) -> None:
        """Make the tensors plain ones: what scores with them trusts torch's methods."""
        for name in ("gradient", "codes"):
            object.__setattr__(self, name, plain_tensor(getattr(self, name)))

    __repr__ = short_repr

    def of_spec(self, dataset: str) -> Self:
        """Return a copy whose reason suits a problem that the spec of a dataset makes: where it
        says how to audit the problem, it names the command ``pudle audit`` with the spec.
        """
        reason = self.reason.replace("pudle.audit(problem)", f"pudle audit {dataset}")
        return dataclasses.replace(self, reason=reason)


def exactly(source: T) -> T:
    """Return a copy of a problem or an algorithm whose tensors are detached, in float64 and on the
    CPU; what was computed of the source, such as a Lipschitz constant, is not copied.
    """
    fields = {
        field.name: _exact(getattr(source, field.name)) for field in dataclasses.fields(source)
    }
    return dataclasses.replace(source, **fields)


def _exact(value: Any) -> Any:
    """Return a tensor, and the values of a mapping, in float64 on the CPU, and anything else as it
    is.
    """
    if isinstance(value, Mapping):
        return {name: _exact(item) for name, item in value.items()}
    return value.detach().to("cpu", torch.float64) if isinstance(value, Tensor) else value


def finish(
    gradient: Tensor,
    error: float,
    codes: Tensor,
    target: str,
    certificate: Certificate,
    reason: str = "",
    status: str = "certified",
) -> Reference:
    """Return the reference with its bound relative to the gradient, made of the absolute `error`,
    and with its final status.

    The given status and reason stand only where nothing is against them: samples without a
    certificate make it ``uncertified`` with the given reason, a norm that float64 does not hold
    ``uncertified``, and a bound of one or more, as where the gradient is zero, ``degenerate``.
    """
    size = norm(gradient)
    bound = error / size if size > 0 else math.inf
    if certificate.uncertified:
        status = "uncertified"
    elif not math.isfinite(size):
        # Division by an infinite norm would make every error zero.
        status, bound = "uncertified", math.inf
        reason = (
            "the norm of the exact gradient exceeds float64: scale the observations and the penalty"
            " down"
        )
    elif bound >= 1:
        share, status = certificate.zero_codes, "degenerate"
        zero = f" ({share:.0%} of the codes are all zero)" if share else ""
        reason = (
            f"the exact gradient is zero{zero}: relative errors have no meaning; lower the penalty"
            " or change the data"
        )
    return Reference(gradient, codes, target, bound, certificate, status, reason)
