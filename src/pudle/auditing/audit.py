"""Tell whether the gradient of a layer is right, and if not, what the mistake may be."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..errors import InvalidArgument
from ..names import make_algorithm
from ..problems import Problem
from ..streams import generator
from .differences import RESOLVED
from .distances import distance
from .evidence import LayerEvidence, observe
from .layer import Array, Layer, in_double, in_double_precision, is_number_tensor, root_mean_square
from .rules import judge_layer
from .sentences import PartAudit, in_words, report
from .verdicts import InDtype, NoKnownMistake, Outcome, Reason, Verdict, worst_first

Function = Callable[..., object]
#: Layers that lead to the state at which a problem's own layer is audited.
LAYERS = 5


@dataclass(frozen=True, repr=False)
class Audit:
    """What `audit` found; its `repr` is the verdict in one line, then why.

    Attributes
    ----------
    parts : tuple of PartAudit
        The verdict on each input and parameter, in the order in which they are given; where one is
        not right, the worst comes first.
    """

    parts: tuple[PartAudit, ...]

    @property
    def verdict(self) -> str:
        """``right``, ``wrong``, ``inexact`` or ``undecided``: that on the worst part."""
        return self.parts[0].verdict

    @property
    def error(self) -> float:
        """Distance of the gradient in the worst part from the expected one, relative to the norm of
        that; NaN where none is known. Where all parts are right, it is the largest of theirs.
        """
        if self.verdict == "right":
            return max(part.error for part in self.parts)
        return self.parts[0].error

    @property
    def mistake(self) -> str:
        """The likeliest mistakes, at most two; empty where nothing common explains the error."""
        return " or ".join(self.parts[0].mistakes)

    def passes(self, tolerance: float) -> bool:
        """Return whether the gradient in the worst part is right, or inexact with an error within a
        tolerance.
        """
        return self.verdict == "right" or (self.verdict == "inexact" and self.error <= tolerance)

    def __repr__(self) -> str:
        return report(self.parts)


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

    The layer is called and differentiated many times, at its inputs and near them. Its parameters
    are exchanged meanwhile, and put back at the end.

    Parameters
    ----------
    layer : callable or Problem
        A function of tensors with a gradient, such as a module or the ``apply`` of an
        ``autograd.Function``. Of a problem, one step of its algorithm and its loss are audited, in
        state and theta; only `seed` can be given with it.
    *inputs : object
        What it is called with. It is audited in float64 if it follows the dtype of its inputs.
    wrt : int, str or sequence of them, optional
        The inputs, by number or by the name of the argument, and the parameters of a module, by
        name, whose gradients are meant; by default all inputs of numbers, and all parameters that
        require gradients.
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
        If an argument is not usable, the layer returns nothing that can be differentiated, or its
        gradient fails. An error that the layer raises at its own inputs is raised as it is.

    References
    ----------
    Moré and Wild, "Estimating computational noise", SIAM Journal on Scientific Computing 2011.
    """
    if residual and step:
        raise InvalidArgument("residual and step are both given: give one, they say the same")
    if isinstance(layer, Problem):
        options = {"wrt": wrt, "loss": loss, "residual": residual, "step": step, "tighten": tighten}
        refuse_for_problem(inputs, options)
        return audit_in_words(problem_verdicts(layer, seed))
    if isinstance(layer, type):
        raise InvalidArgument(class_for_layer(layer))
    chosen = (wrt,) if isinstance(wrt, int | str) else tuple(wrt or ())
    subject = Layer(layer, inputs, chosen, loss, seed)
    keys = map(subject.key_of, chosen) if wrt is not None else default_wrt(subject)
    subject = replace(subject, wrt=tuple(dict.fromkeys(keys)))
    if not subject.wrt:
        raise InvalidArgument(nothing_to_audit(inputs))
    equation = ("residual", residual) if residual else ("step", step) if step else None
    return audit_in_words(layer_verdicts(subject, equation, tighten))


def class_for_layer(cls: type) -> str:
    """Say that a class is no layer, and what is one."""
    name = cls.__name__
    if issubclass(cls, torch.autograd.Function):
        return f"{name} is a class: audit its function, such as layer = {name}.apply"
    return f"{name} is a class: audit an object, such as layer = {name}()"


def nothing_to_audit(inputs: Sequence[object]) -> str:
    """Say that no input is a tensor of numbers, and that tensors in a tuple are to be passed apart
    if an input is one.
    """
    for index, value in enumerate(inputs):
        if isinstance(value, tuple | list) and any(map(is_number_tensor, value)):
            kind = type(value).__name__
            return f"input {index} is a {kind}: pass its tensors apart, as *inputs() does"
    return "no input and no parameter is a tensor of real or complex numbers"


def refuse_for_problem(inputs: Sequence[object], options: Mapping[str, object]) -> None:
    """Refuse, by InvalidArgument, what only a layer has: inputs, and options that are given."""
    names = [name for name, value in options.items() if value is not None]
    if inputs:
        names.insert(0, "inputs")
    if names:
        raise InvalidArgument(
            f"{' and '.join(names)} cannot be given for a problem, whose step and loss are audited"
            " in state and theta: give a layer with inputs instead, or leave them out"
        )


def default_wrt(layer: Layer) -> tuple[int | str, ...]:
    """Return the choice of `wrt` by default: the index of each input that is a tensor of real or
    complex numbers, then the name of each parameter that requires a gradient.

    The layer's own `wrt` does not count.
    """
    indices = [index for index, value in enumerate(layer.inputs) if is_number_tensor(value)]
    parameters = [name for name, tensor in layer.module.named_parameters() if tensor.requires_grad]
    return (*indices, *parameters)


def layer_verdicts(
    layer: Layer, equation: tuple[str, Function] | None, tighten: Function | str | None
) -> list[Verdict]:
    """Return the verdict on each part of a layer: in order if all are right, else the worst first.

    The layer is called in float64 if it follows the dtype of its inputs: a module's parameters and
    buffers are converted meanwhile. If it then raises an error, all is as it was given, and only
    that is audited. Where all gradients of a layer in another dtype are right, they are also
    compared in that one. `equation` is ``residual`` or ``step`` and the function.
    """
    # Read first, because a module's parameters are others once they are converted.
    theta = layer.theta
    with contextlib.ExitStack() as converted:
        converted.enter_context(in_double(layer.module))
        double_layer = replace(layer, inputs=tuple(map(in_double_precision, layer.inputs)))
        double_layer = double_layer.with_symmetric_parts()
        try:
            evidence = observe(double_layer, equation, tighten)
        except Exception:  # noqa: BLE001
            # Whatever a layer does that takes no other dtype than its own: an assertion, a table
            # without float64, a check of this package. If that is not why, it raises again.
            converted.close()
            evidence = observe(layer.with_symmetric_parts(), equation, tighten)
        verdicts = judge_layer(evidence)
        gradient = evidence.layer.gradient(theta)
    if evidence.layer is double_layer and all(verdict.outcome == "right" for verdict in verdicts):
        verdicts = with_errors_in_dtype(verdicts, layer, evidence, gradient)
    return worst_first(verdicts)


def with_errors_in_dtype(
    verdicts: list[Verdict], layer: Layer, evidence: LayerEvidence, gradient: Array
) -> list[Verdict]:
    """Return the verdicts, on parts whose gradients in float64 are right, with a reason more: how
    far each gradient is off in the dtype of the layer, if that is another.

    The layer is called and differentiated in its own dtype; of several the least precise is named.
    An outcome becomes ``inexact`` if the error is more than `RESOLVED`. The verdicts stay as they
    are where the layer raises an error.
    """
    dtypes = [part.tensor.dtype for part in layer.parts]
    dtype = max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)
    if dtype == torch.float64:
        return verdicts
    # It may take float64 alone.
    with contextlib.suppress(Exception):
        rounded = replace(layer, symmetric=evidence.layer.symmetric).gradient(layer.theta)
        in_dtype = list[Verdict]()
        for part, verdict in zip(evidence.layer.parts, verdicts, strict=True):
            error = distance(rounded[part.span], gradient[part.span])
            outcome: Outcome = "right" if error <= RESOLVED else "inexact"
            reasons = (*verdict.reasons, InDtype(dtype, error))
            in_dtype.append(verdict._replace(outcome=outcome, reasons=reasons, error=error))
        return in_dtype
    return verdicts


def problem_verdicts(problem: Problem, seed: int) -> list[Verdict]:
    """Return the verdicts on the gradients of a step of a problem's default algorithm and of its
    loss in state and theta, the worst first unless all are right; the names of parts say of which
    of the two.

    They are taken at the state after `LAYERS` layers, with random numbers in place of zeros. The
    seed is that of the directions and of the weights of the outputs. The problem is not changed.
    """
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
    shift = torch.as_tensor(random).to(state) * (root_mean_square(state) or 1.0)
    state = torch.where(state == 0, shift, state)
    verdicts = list[Verdict]()
    for function in (step, loss):
        layer = Layer(function, (state, problem.theta), (0, 1), None, seed)
        for verdict in layer_verdicts(layer, equation=None, tighten=None):
            name = f"{verdict.name} of the {function.__name__}"
            reasons = tuple(map(without_wish_for_equation, verdict.reasons))
            verdicts.append(verdict._replace(name=name, reasons=reasons))
    return worst_first(verdicts)


def without_wish_for_equation(reason: Reason) -> Reason:
    """Return a reason that wants no equation, which a problem cannot be audited with."""
    if isinstance(reason, NoKnownMistake):
        return replace(reason, wants_equation=False)
    return reason


def audit_in_words(verdicts: list[Verdict]) -> Audit:
    """Return an audit that says verdicts in words; nothing is called or differentiated."""
    return Audit(tuple(map(in_words, verdicts)))
