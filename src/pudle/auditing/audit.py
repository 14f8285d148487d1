"""Tell whether the gradient of a layer is right, and if not, what the mistake may be."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..errors import InvalidArgument
from ..names import make_algorithm
from ..problems import Problem
from ..streams import generator
from .audited_layer import AuditedLayer
from .differences import RESOLVED
from .layer import Array, Layer, doubled, in_double, rms, varies
from .records import InPrecision, PartVerdict
from .sentences import audit_text
from .verdict import verdicts_on

Function = Callable[..., object]
#: Layers that lead to the state at which a problem's own layer is audited.
LAYERS = 5


@dataclass(frozen=True, repr=False)
class Audit:
    """What `audit` found; its `repr` is the verdict in one line, then why.

    Attributes
    ----------
    parts : tuple of PartVerdict
        The verdict on each input and parameter, the worst first, the others as they are given.
    """

    parts: tuple[PartVerdict, ...]

    @property
    def verdict(self) -> str:
        """``right``, ``wrong``, ``inexact`` or ``undecided``: that on the worst part."""
        return self.parts[0].verdict

    @property
    def error(self) -> float:
        """Distance of the gradient in the worst part from the truth, relative to the norm of the
        truth; NaN where no truth is known.
        """
        return self.parts[0].error

    @property
    def mistake(self) -> str:
        """The likeliest mistakes, at most two; empty where nothing common explains the error."""
        return " or ".join(self.parts[0].mistakes)

    def passes(self, tolerance: float) -> bool:
        """Return whether the gradient is right, or inexact within a tolerance."""
        return self.verdict == "right" or (self.verdict == "inexact" and self.error <= tolerance)

    def __repr__(self) -> str:
        return audit_text(self.parts)


def audit(
    layer: Function | Problem,
    *inputs: object,
    wrt: int | str | Sequence[int | str] | None = None,
    loss: Function | None = None,
    residual: Function | None = None,
    step: Function | None = None,
    seed: int = 0,
    tighten: Function | str | None = None,
) -> Audit:
    r"""Tell whether the gradient of a layer is right, and if not, what the mistake may be.

    With `residual` or `step`, the layer's own solution z is refined by Newton's method in float64,
    and its gradient compared with the implicit one there, for F the residual or ``z - step``,

    .. math:: g = \partial_x \ell - (\partial_x F)^\top v, \qquad (\partial_z F)^\top v =
              \partial_z \ell ,

    which central differences of the refined solution confirm. Without them it is compared with
    differences of the layer itself: along all coordinates up to 64 entries, else along random
    directions and a few coordinates. A solver that stops early is a smooth function too, with
    another derivative than its solution: give `step`, `residual` or `tighten` where one is inside.

    Parameters
    ----------
    layer : callable or Problem
        A function of tensors with a gradient, such as a module or the ``apply`` of an
        ``autograd.Function``. Of a problem, one step of its algorithm and its loss are audited.
    *inputs : object
        What it is called with. It is audited in float64 if it follows the dtype of its inputs.
    wrt : int, str or sequence of them, optional
        The inputs, by number, and the parameters of a module, by name, whose gradients are meant;
        by default all inputs of numbers, and all parameters that require gradients.
    loss : callable, optional
        ``loss(output)`` or ``loss(output, *inputs)``, a scalar tensor; by default a random
        combination of the outputs.
    residual, step : callable, optional
        ``residual(z, *inputs)`` is zero, or ``step(z, *inputs)`` is z, where z is the output of the
        layer; one of them, written in operations whose gradients are right.
    seed : int
        Seed of the directions and of the default loss.
    tighten : callable or str, optional
        The same layer with a tighter solver, or the name of an attribute or a keyword of the layer:
        a tolerance, which is divided by 1000, or a whole number of steps, which is multiplied by
        ten.

    Returns
    -------
    Audit
        With the verdict ``right``; ``inexact``: right for a solution that is not; ``wrong``;
        ``undecided``, with what would decide it.

    Raises
    ------
    InvalidArgument
        If an argument is not usable, or the layer or its gradient raises an error.

    References
    ----------
    Moré and Wild, "Estimating computational noise", SIAM Journal on Scientific Computing 2011.
    """
    if residual and step:
        raise InvalidArgument("residual and step are both given: give one, they say the same")
    if isinstance(layer, Problem):
        return _audit_problem(layer, seed)
    named = (wrt,) if isinstance(wrt, int | str) else tuple(wrt or ())
    given = Layer(layer, inputs, named, loss, seed)
    if wrt is None:
        learned = [
            name for name, parameter in given.module.named_parameters() if parameter.requires_grad
        ]
        numbers = [index for index, argument in enumerate(inputs) if varies(argument)]
        given = replace(given, wrt=(*numbers, *learned))
    if not given.wrt:
        raise InvalidArgument("no input and no parameter is a tensor of real or complex numbers")
    dtype = given.parts[0].tensor.dtype
    equation = ("residual", residual) if residual else ("step", step) if step else None
    with in_double(given.module):
        exact = replace(given, inputs=tuple(map(doubled, inputs)))
        audited = AuditedLayer(exact.reading_halves(), equation, tighten)
        runs_in_double = audited.runs()
        if not runs_in_double:
            audited = replace(audited, layer=given.reading_halves())
        verdicts = verdicts_on(audited)
        gradient = audited.layer.gradient(given.theta)
    worst, *others = worst_first(verdicts)
    if worst.verdict == "right" and runs_in_double and dtype != torch.float64:
        as_given = replace(given, symmetric=audited.layer.symmetric)
        worst = _in_precision(dtype, worst, as_given, gradient)
    return Audit((worst, *others))


def _in_precision(
    dtype: torch.dtype, verdict: PartVerdict, layer: Layer, gradient: Array
) -> PartVerdict:
    """Return the verdict on a gradient that is right in float64, for another precision, in which
    the layer has its own gradient.
    """
    # It may take float64 alone.
    with contextlib.suppress(RuntimeError, TypeError, ValueError):
        error = layer.apart(layer.gradient(layer.theta), gradient)
        return replace(
            verdict,
            verdict="right" if error <= RESOLVED else "inexact",
            reasons=(*verdict.reasons, InPrecision(str(dtype), error)),
            error=error,
        )
    return verdict


def _audit_problem(problem: Problem, seed: int) -> Audit:
    """Audit a step of a problem's algorithm and its loss, as functions of state and theta."""
    algorithm: Algorithm = make_algorithm(problem.default_algorithm)
    size = algorithm.step_size(problem)

    def step(state: Tensor, theta: Tensor) -> Tensor:
        return algorithm.plain_layer(problem.with_theta(theta), state, size, 0)

    def loss(state: Tensor, theta: Tensor) -> Tensor:
        return problem.with_theta(theta).outer_loss(state)

    with torch.no_grad():
        state = algorithm.run(problem, LAYERS).codes
    # Away from the kinks that penalties have at zero.
    random = generator(0, "state under audit").random(state.shape)
    shift = torch.as_tensor(random).to(state) * (rms(state) or 1.0)
    state = torch.where(state == 0, shift, state)
    parts = [
        replace(part, name=f"{part.name} of the {function.__name__}")
        for function in (step, loss)
        for part in audit(function, state, problem.theta, seed=seed).parts
    ]
    return Audit(worst_first(parts))


def worst_first(verdicts: list[PartVerdict]) -> tuple[PartVerdict, ...]:
    """Return the verdicts with the worst one first, the others in their order."""
    worst = min(verdicts, key=PartVerdict.rank)
    return (worst, *(part for part in verdicts if part is not worst))
