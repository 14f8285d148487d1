"""The verdicts on a layer's gradients: that on each part by itself, and what several calls show of
all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..errors import InvalidArgument, first_line
from . import records, sentences
from .audited_layer import CALLS, AuditedLayer, has_finite_outputs
from .differences import RESOLVED
from .distances import ROUNDED, distance
from .expected import second_derivative_is_wrong
from .layer import Array
from .linearity import Finding, nonlinearities
from .records import PartVerdict
from .rules import Claim, verdict_on

Verdicts = list[PartVerdict]


@dataclass(frozen=True, eq=False)
class RepeatedCalls:
    """The gradients of several calls with the same inputs; the last call's forward and backward
    pass have another call between them.
    """

    audited: AuditedLayer
    gradients: Sequence[Array]

    @cached_property
    def distances(self) -> list[float]:
        """How far each gradient is from the first, in the part where it is farthest."""
        first = self.gradients[0]
        return [self.audited.layer.apart(gradient, first) for gradient in self.gradients]

    @property
    def differ(self) -> bool:
        """Whether the gradients differ by more than what counts; False where they are NaN."""
        return max(self.distances) > RESOLVED

    @property
    def agree(self) -> bool:
        """Whether they do not; False where they are NaN as well."""
        return max(self.distances) <= RESOLVED

    @property
    def distance_of_repetition(self) -> float:
        """How far the third gradient is from the second, with nothing between them."""
        return self.audited.layer.apart(self.gradients[2], self.gradients[1])

    @property
    def accumulate(self) -> bool:
        """Whether the gradient changes by the same in each call."""
        first, second, third = self.gradients[:3]
        return self.audited.layer.apart(third - second, second - first) < ROUNDED


def repeated_calls(audited: AuditedLayer) -> RepeatedCalls:
    """Return the gradients of several calls, after one elsewhere."""
    layer, theta = audited.layer, audited.layer.theta
    try:
        layer.gradient(audited.elsewhere)
        gradients = [layer.gradient(theta) for _ in range(3)]
        gradients.append(layer.gradient(theta, between=audited.elsewhere))
    except RuntimeError as error:
        raise InvalidArgument(f"the layer's gradient fails: {first_line(error)}") from error
    return RepeatedCalls(audited, gradients)


def verdicts_on(audited: AuditedLayer) -> Verdicts:
    """Return the verdict on the gradient in each part.

    Raises
    ------
    InvalidArgument
        If the layer returns NaN or infinite entries, or its gradient raises an error.
    """
    if not has_finite_outputs(audited):
        raise InvalidArgument("the layer returns NaN or infinite entries: audit other inputs")
    layer, calls = audited.layer, repeated_calls(audited)
    gradient = calls.gradients[0]
    findings: list[Finding | None] = [None] * len(layer.parts)
    if calls.agree:
        findings = nonlinearities(layer, gradient, audited.in_double)
    verdicts = [
        verdict_on(Claim(audited, part, gradient, finding))
        for part, finding in zip(layer.parts, findings, strict=True)
    ]
    for rule in RULES:
        ruled = rule(calls, verdicts)
        if ruled is not None:
            return ruled
    return verdicts


# --- rules: several calls and the verdicts on the first -> other verdicts, or None


def outputs_differ(calls: RepeatedCalls, verdicts: Verdicts) -> Verdicts | None:
    """Tell nothing of a layer whose output changes, such as with a clock, or a state that goes on,
    not from what an earlier call has left.
    """
    audited = calls.audited
    distances = map(distance, audited.call(), audited.outputs)
    if max(distances) <= audited.rounding:
        return None
    suspicious = calls.differ or any(part.verdict == "wrong" for part in verdicts)
    if suspicious or 2 * audited.n_values > CALLS:
        reasons = (records.OutputsDiffer(),)
        return [
            replace(part, verdict="undecided", reasons=reasons, mistakes=()) for part in verdicts
        ]
    return None


def gradients_differ(calls: RepeatedCalls, verdicts: Verdicts) -> Verdicts | None:
    """Call a gradient wrong that differs between two calls though the output is the same; that of
    a random layer may be right on average.
    """
    if not calls.distance_of_repetition > RESOLVED:
        return None
    verdict = "wrong" if calls.audited.n_values == 1 else "undecided"
    mistake = sentences.not_deterministic(calls.distance_of_repetition)
    if calls.accumulate:
        mistake = sentences.ACCUMULATED
    return [
        part if part.verdict == "right" else replace(part, verdict=verdict, mistakes=(mistake,))
        for part in verdicts
    ]


def another_call_is_remembered(calls: RepeatedCalls, verdicts: Verdicts) -> Verdicts | None:
    """Call a gradient wrong that is right in one call and not in another."""
    if not calls.differ:
        return None
    farthest = calls.gradients[int(np.argmax(calls.distances))]
    ruled = []
    for part, verdict in zip(calls.audited.layer.parts, verdicts, strict=True):
        other = verdict_on(Claim(calls.audited, part, farthest))
        worse, better = sorted((verdict, other), key=PartVerdict.rank)
        if worse.verdict != "right":
            name = "wrong" if better.verdict == "right" else worse.verdict
            verdict = replace(worse, verdict=name, mistakes=(sentences.STALE,))
        ruled.append(verdict)
    return ruled


def no_second_derivative(calls: RepeatedCalls, verdicts: Verdicts) -> Verdicts | None:
    """Note of a right gradient that its own derivative is wrong."""
    right = all(part.verdict == "right" for part in verdicts)
    if right and calls.audited.in_double and second_derivative_is_wrong(calls.audited):
        return [replace(part, mistakes=(sentences.NO_SECOND_DERIVATIVE,)) for part in verdicts]
    return None


#: All rules in their order: the first that gives verdicts has the word.
RULES: tuple[Callable[[RepeatedCalls, Verdicts], Verdicts | None], ...] = (
    outputs_differ,
    gradients_differ,
    another_call_is_remembered,
    no_second_derivative,
)
