"""The evidence on a layer's gradients: all that `rules` need to know of the layer and of the
gradient in one part.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..streams import generator
from .differences import BEYOND, EPS, RESOLVED, slope, slopes
from .distances import EXACT, ROUNDED, distance
from .equation import ImplicitGradients, Refusal, implicit_gradients
from .expected import (
    AtReturnedSolution,
    ExpectedGradient,
    expected_by_differences,
    expected_by_theorem,
)
from .layer import Array, AuditedPart, Layer, only_single
from .linearity import Nonlinearity
from .mistakes import (
    Candidate,
    LikelyMistakes,
    Mistake,
    MistakeKind,
    likeliest,
    mistakes_of_jacobian,
    mistakes_with_equation,
    mistakes_without_equation,
    own_factors,
    rank_by_size,
)
from .places import mistakes_at_places

#: Entries of inputs and outputs up to which their Jacobian is looked at for a mistake.
MAX_JACOBIAN = 256
#: Share of the usual steps at which differences are taken once more before they are believed.
SMALL_STEPS = 2.0**-24
#: Step of a difference quotient that mostly settles whether a second derivative is right.
CLOSE = 2.0**-10
#: Calls in which a random layer returns the same value at most by rare chance.
CALLS = 20
#: How far away the layer is called to see whether it remembers a call.
ELSEWHERE = 0.1


# --- of the layer


@dataclass(frozen=True, eq=False)
class LayerEvidence:
    """A layer, and what rules ask about it; theta and gradients are in units of the parts.

    `n_distinct_values` and `implicit` call the layer when they are first asked for, and are then
    kept; the methods call it each time.

    Attributes
    ----------
    layer : Layer
    equation : tuple or None
        ``residual`` or ``step``, and the function, if one is given.
    tighten : callable, str or None
        How the layer's solver is made tighter.
    elsewhere : Tensor
        A theta a little away from that of the layer, for calls that a layer might remember; that of
        the layer itself where it raises an error there.
    outputs : list of ndarray
        The real numbers that the layer returns in its first call at theta.
    """

    layer: Layer
    equation: tuple[str, Callable[..., object]] | None
    tighten: Callable[..., object] | str | None
    elsewhere: Tensor
    outputs: list[Array]

    @cached_property
    def precise(self) -> bool:
        """True if the layer computes in float64."""
        double = all(part.tensor.dtype == torch.float64 for part in self.layer.parts)
        return double and not only_single(self.outputs)

    @property
    def precision(self) -> float:
        """Rounding of the layer's numbers, relative to them."""
        return EPS if self.precise else float(torch.finfo(torch.float32).eps)

    @property
    def rounding(self) -> float:
        """Share of a gradient that the layer's precision may lose."""
        return EXACT if self.precise else ROUNDED

    @cached_property
    def n_distinct_values(self) -> int:
        """Number of different losses that `CALLS` calls with the same inputs lead to: 1 for a layer
        that repeats itself.
        """
        return len({self.layer.value(self.layer.theta) for _ in range(CALLS)})

    @cached_property
    def implicit(self) -> ImplicitGradients | Refusal | None:
        """The gradients by the implicit function theorem, confirmed by differences along a random
        direction of the layer's seed, or a Refusal that says why there are none; None without an
        equation. Newton's method is run, and the equation called many times.
        """
        if self.equation is None:
            return None
        direction = random_direction(self.layer, "of an equation")
        return implicit_gradients(self.layer, *self.equation, direction)

    def outputs_repeat(self) -> bool:
        """Call the layer again, and return whether it returns the same as in its first call, up to
        rounding.
        """
        changes = map(distance, self.layer.output_arrays(), self.outputs)
        return max(changes) <= self.rounding

    def has_wrong_second_derivative(self) -> bool:
        """Return whether the gradient can be differentiated again, but not to what it changes by
        along a random direction of the layer's seed.

        It is False where differentiating again raises an error, and where differences do not settle
        it.
        """
        layer, along = self.layer, random_direction(self.layer, "second derivative")

        def first_derivative(length: float) -> float:
            return float(layer.gradient(layer.theta + length * along) @ along.numpy(force=True))

        with contextlib.suppress(Exception):
            second = layer.second_derivative(along)
            quotient = (first_derivative(CLOSE) - first_derivative(-CLOSE)) / (2 * CLOSE)
            if abs(second - quotient) > RESOLVED * abs(second):
                line = slope(first_derivative, 1.0, EPS * abs(first_derivative(0.0)), EPS)
                doubt = BEYOND * line.uncertainty + RESOLVED * abs(second)
                return line.resolved and abs(second - line.value) > doubt
        # It is right, or says so itself.
        return False


def observe(
    layer: Layer,
    equation: tuple[str, Callable[..., object]] | None,
    tighten: Callable[..., object] | str | None,
) -> LayerEvidence:
    """Call a layer elsewhere, then at its inputs, and return the evidence with what it returns
    there: it may keep what it finds in its first call.

    Errors of the layer at its inputs are raised.
    """
    elsewhere = point_elsewhere(layer)
    return LayerEvidence(layer, equation, tighten, elsewhere, layer.output_arrays())


def point_elsewhere(layer: Layer) -> Tensor:
    """Return a theta a little away, in a random direction of the layer's seed, if the layer can be
    called there, else that of the layer.
    """
    with contextlib.suppress(Exception):
        moved = layer.theta + ELSEWHERE * random_direction(layer, "elsewhere")
        layer.outputs(moved)
        return moved
    return layer.theta


def random_direction(layer: Layer, purpose: str) -> Tensor:
    """Draw a random direction of theta."""
    random = generator(layer.seed, f"audit {purpose}")
    return torch.as_tensor(random.standard_normal(len(layer.theta))).to(layer.theta)


# --- of the gradient in one part


@dataclass(frozen=True, eq=False)
class PartEvidence:
    """The gradient in one part, and what rules ask about it.

    What a property says is computed when it is first asked for: differences, Newton's method and
    Jacobians call the layer.

    Attributes
    ----------
    layer_evidence : LayerEvidence
        What is known of the layer.
    part : AuditedPart
    layer_gradient : ndarray
        The gradient in theta, that is in all parts, that the layer's backward pass gave.
    nonlinearity : Nonlinearity or None
        How the gradient is not linear in the one that comes in.
    """

    layer_evidence: LayerEvidence
    part: AuditedPart
    layer_gradient: Array
    nonlinearity: Nonlinearity | None = None

    @cached_property
    def gradient(self) -> Array:
        """The layer's own gradient in the part."""
        return self.layer_gradient[self.part.span]

    @cached_property
    def expected_or_refusal(self) -> ExpectedGradient | Refusal:
        """What the gradient should be: the implicit one if an equation is given, else that by
        differences; or why there is no implicit one.
        """
        implicit = self.layer_evidence.implicit
        if implicit is None:
            return self.by_differences
        if isinstance(implicit, ImplicitGradients):
            precise, rounding = self.layer_evidence.precise, self.layer_evidence.rounding
            return expected_by_theorem(implicit, self.part, precise, rounding)
        return implicit

    @property
    def expected(self) -> ExpectedGradient:
        """What the gradient should be, once `expected_or_refusal` is known to be no refusal."""
        assert isinstance(self.expected_or_refusal, ExpectedGradient)
        return self.expected_or_refusal

    @cached_property
    def by_differences(self) -> ExpectedGradient:
        """The gradient by finite differences of the layer."""
        known = self.layer_evidence
        return expected_by_differences(known.layer, self.part, known.precision, known.rounding)

    @cached_property
    def error(self) -> float:
        """Distance of the gradient from the expected one, relative to its size, in the entries or
        along the directions in which that is known.
        """
        expected = self.expected
        return distance(expected.compared_entries(self.gradient), expected.values, expected.size)

    def computed_instead(self) -> Iterator[ExpectedGradient]:
        """Yield the gradients of what a layer with an equation computes in place of the solution:
        the implicit one at what it returns and, unless it has solved the equation, that by
        differences of the layer where this is another; none without an equation.
        """
        implicit = self.layer_evidence.implicit
        if not isinstance(implicit, ImplicitGradients):
            return
        at_codes = implicit.at_codes[self.part.span]
        yield replace(self.expected, values=at_codes, source=AtReturnedSolution())
        if not implicit.layer_has_solved:
            differences = self.by_differences
            if not (differences.unseen or differences.agrees(self.expected.values)):
                yield differences

    def contradicted(self) -> bool:
        """Return whether differences over far smaller steps contradict the expected gradient, where
        the layer's does so most: the layer may compute in single precision inside.

        It is False for an expected gradient that is not by differences.
        """
        expected = self.expected
        if expected.directions is None:
            return False
        deviations = np.abs(expected.compared_entries(self.gradient) - expected.values)
        worst = int(deviations.argmax())
        rows, precision = expected.directions[[worst]], self.layer_evidence.precision
        (line,), _ = slopes(self.layer_evidence.layer, self.part, rows, precision, SMALL_STEPS)
        difference = abs(line.value - float(expected.values[worst]))
        return difference > float(expected.allowed[worst]) + BEYOND * line.uncertainty

    @property
    def too_large_for_jacobian(self) -> bool:
        """True if the Jacobian of inputs and outputs is too large to be looked at."""
        n_outputs = sum(output.size for output in self.layer_evidence.outputs)
        return max(len(self.layer_gradient), n_outputs) > MAX_JACOBIAN

    @cached_property
    def likely_mistakes(self) -> LikelyMistakes:
        """The likeliest mistakes, at most two and perhaps none, from the gradient and, if it is
        small and the gradient leaves it open, from the Jacobian.
        """
        expected, span = self.expected, self.part.span
        compared = expected.compared_entries(self.gradient)
        unknown = RESOLVED if self.gradient.size > 2 else 0.0
        slack = max(unknown, 3 * expected.change_by_refining)
        candidates = gradient_candidates(self, compared)
        of_gradient = likeliest(compared, expected.values, candidates, slack)
        if of_gradient.certain or self.too_large_for_jacobian:
            return of_gradient
        jacobian, expected_jacobian = (
            matrix[:, span] for matrix in self.layer_evidence.layer.jacobians
        )
        candidates = jacobian_candidates(self, jacobian, expected_jacobian)
        of_jacobian = likeliest(jacobian, expected_jacobian, candidates, slack)
        # With the zeros of a Jacobian a factor is met more easily.
        names = tuple(
            mistake for mistake in of_jacobian.mistakes if mistake.kind is not MistakeKind.MULTIPLE
        )
        if of_jacobian.certain:
            return LikelyMistakes(True, names)
        return LikelyMistakes(False, (*of_gradient.mistakes, *names)[:2])


def gradient_candidates(evidence: PartEvidence, compared: Array) -> Iterator[Candidate]:
    """Yield common mistakes, and what they make of the compared entries of a gradient: of what
    comes in, of one entry, those without an equation, and with one if it is given.
    """
    layer_evidence, expected, part = evidence.layer_evidence, evidence.expected, evidence.part
    yield from nonlinear_candidates(evidence, compared)
    if expected.directions is not None and len(compared) > 1:
        # The entry whose change explains most of the gap.
        columns: Array = expected.directions / np.maximum(
            np.linalg.norm(expected.directions, axis=0), EXACT
        )
        aligned = (compared - expected.values) @ columns
        entry = int(np.abs(aligned).argmax())
        explained = expected.values + aligned[entry] * columns.T[entry]
        yield Mistake(MistakeKind.WRONG_ENTRY, (entry,)), explained
    yield from mistakes_without_equation(
        part, layer_evidence.outputs, compared, expected.values, expected.uncertainty
    )
    implicit = layer_evidence.implicit
    if isinstance(implicit, ImplicitGradients):
        candidates = mistakes_with_equation(
            implicit.equation, evidence.layer_gradient, layer_evidence.elsewhere
        )
        for mistake, gradients in candidates:
            yield mistake, gradients[part.span]
        yield from mistakes_at_places(implicit, part)


def nonlinear_candidates(evidence: PartEvidence, compared: Array) -> Iterator[Candidate]:
    """Yield the gradient itself if it is not linear in the one that comes in: as was seen before,
    or as the gradient of twice the loss shows.
    """
    if evidence.nonlinearity:
        yield evidence.nonlinearity.mistake, compared
        return
    layer = evidence.layer_evidence.layer
    twice = replace(layer, loss=lambda outputs, *inputs: 2 * layer.loss_of(outputs, inputs))
    doubled = twice.gradient(layer.theta)[evidence.part.span]
    if evidence.gradient.any() and distance(doubled, evidence.gradient) < ROUNDED:
        yield Mistake(MistakeKind.NOT_MULTIPLIED), compared
    elif distance(doubled, 2 * evidence.gradient) > RESOLVED:
        yield Mistake(MistakeKind.NOT_LINEAR), compared


def jacobian_candidates(
    evidence: PartEvidence, jacobian: Array, expected: Array
) -> Iterator[Candidate]:
    """Yield common mistakes, and what they make of the Jacobian in a part: of the Jacobian itself,
    of a batch, another part's in its place, and factors of an equation's rows.
    """
    layer, part = evidence.layer_evidence.layer, evidence.part
    usual_rank = rank_by_size(expected, part.tensor.shape, evidence.layer_evidence.outputs)
    yield from mistakes_of_jacobian(jacobian, expected, usual_rank)
    n_samples = (*part.tensor.shape, 1)[0]
    if n_samples > 1 and len(jacobian) % n_samples == 0:
        # The derivative of each sample's outputs in its own inputs.
        blocks = expected.reshape(n_samples, len(jacobian) // n_samples, n_samples, -1)
        mean = np.einsum("iaib->ab", blocks) / n_samples
        yield Mistake(MistakeKind.AVERAGED_OVER_BATCH), np.kron(np.eye(n_samples), mean)
    for exchanged_part in layer.parts:
        columns = layer.jacobians[1][:, exchanged_part.span]
        exchanged = part.unit / exchanged_part.unit * columns
        yield Mistake(MistakeKind.EXCHANGED, name=exchanged_part.name), exchanged
    implicit = evidence.layer_evidence.implicit
    if isinstance(implicit, ImplicitGradients):
        equation = implicit.equation
        system = equation.problem.linearized(equation.codes).matrix.numpy(force=True)
        candidates = own_factors(
            MistakeKind.OWN_FACTOR_OF_EQUATION, system @ jacobian, system @ expected
        )
        for mistake, derivative in candidates:
            yield mistake, np.linalg.solve(system, derivative)
