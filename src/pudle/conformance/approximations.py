"""Checks of approximations: what they tend to with the options in `approaches`, and that they have
the direct part of the gradient.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import chain, islice

import numpy as np
import torch
from torch import Tensor

from ..auditing.distances import Array, nearest_multiple, norm
from ..estimator import TARGETS, GradientEstimator
from ..problems import Problem, StronglyConvex
from ..streams import generator
from ..text import count
from .brought import own_loss
from .checks import CheckFailure, Measurements, Subject, compare, gradient_of, register, require
from .claims import DEEP, FALLING, SETTLED, VANISHED, Right, mistakes_of, nearest, size_of
from .explanations import QUOTIENT, KnownMistake, Mistakes
from .records import Measurement
from .specimens import SHALLOW, specimens, with_values
from .truth import REGULAR, Truth, array

#: Terms of a Neumann series whose weights are compared one by one.
TERMS = 40
#: What a term may leave unexplained at most, as a share of what the second best one leaves.
UNIQUE = 0.01
#: Shares of the way, in powers, from the estimator's own options to those in `approaches`.
SHARES = 0.0, 0.5, 1.0
#: Problems whose loss can be another function of codes and theta.
OWN_LOSS = specimens("sparse coding")[:1] + specimens("smooth")


@register(FALLING, lambda subject: bool(approaches_of(subject.estimator)))
def check_approach(subject: Subject) -> Measurements:
    """With the options in `approaches` an approximation is the gradient named there, and on the way
    to them it comes no farther from it.

    It yields the last measurement for each gradient in `approaches`, and raises CheckFailure where
    one is too large or `approaches` is not usable; singular systems are passed over.
    """
    for target, options in approaches_of(subject.estimator).items():
        _require_usable(subject, target, options)
        depth = DEEP if target == "exact" else SETTLED
        if subject.specimen.truth.implicit(depth).condition <= REGULAR:
            yield from _approach(subject, target, options, depth)


def approaches_of(estimator: GradientEstimator) -> Mapping[str, Mapping[str, object]]:
    """Return the gradients that an estimator says it tends to, with the options at which it does;
    nothing where that is no mapping.
    """
    approaches = estimator.approaches
    return approaches if isinstance(approaches, Mapping) else {}


def _require_usable(subject: Subject, target: str, options: Mapping[str, object]) -> None:
    """Raise CheckFailure unless the claim is ``approximate``, a target is a known gradient, and the
    estimator has the options.
    """
    example = 'approaches = {"implicit": {"terms": 1000}}'
    require(
        subject.claim == "approximate",
        f"approaches is set, and computes is {subject.claim!r}: only what is approximate tends to"
        " another gradient",
    )
    require(
        target in TARGETS,
        f"approaches names {target!r}: name one of {', '.join(TARGETS)}, as in {example}",
    )
    usable = isinstance(options, Mapping) and options and options.keys() <= subject.options.keys()
    require(
        usable,
        f"approaches has {options!r} for {target!r}: give values of its fields"
        f" ({', '.join(subject.options) or 'there are none'}), as in {example}",
    )


def _approach(
    subject: Subject, target: str, options: Mapping[str, object], depth: int
) -> Measurements:
    """Compare the gradients on the way to some options with the one that they lead to; yield the
    last comparison.

    CheckFailure says that one is farther from it than the one before, or the last not near enough.
    """
    errors: list[float] = []
    truth = subject.specimen.truth
    for share in SHARES:
        values = {
            name: between(subject.options[name], last, share) for name, last in options.items()
        }
        estimator = with_values(subject.estimator, **values)
        gradient = gradient_of(estimator.estimate(*subject.specimen.make(), depth))
        right = _right(target, gradient, subject, depth)
        expected = right(truth, depth)
        size = size_of(expected, subject.specimen, depth)
        options_text = ", ".join(f"{name}={value!r}" for name, value in values.items())
        if share == SHARES[-1]:
            description = f"the {target} gradient at depth {depth}, which {options_text} approaches"
            mistakes = mistakes_of(truth, depth, right)
            if target == "implicit":
                in_terms = mistakes_in_terms(truth, depth, gradient, expected)
                mistakes = chain(mistakes, in_terms)
            yield compare(description, gradient, expected, VANISHED, size, mistakes)
            return
        errors.append(norm(gradient - expected) / size)
        farther = len(errors) > 1 and errors[-1] > max(2 * errors[-2], VANISHED)
        if farther or not math.isfinite(errors[-1]):
            raise CheckFailure(
                f"with {options_text} it is {errors[-1]:.2g} of the norm from the {target} gradient"
                f" at depth {depth}, and {errors[0]:.2g} with its own options: it does not come"
                " nearer",
                Measurement(errors[-1], errors[0]),
            )


def mistakes_in_terms(truth: Truth, depth: int, gradient: Array, expected: Array) -> Mistakes:
    """Yield the implicit gradients that a series leads to whose first terms alone are summed, and
    the one in which a single term has another weight, where one term alone brings it near to
    `gradient`.

    The first `TERMS` terms are tried. Of two entries or fewer a fitted weight would explain
    anything, so that nothing is yielded.
    """
    if expected.size <= 2:
        return
    for ahead in (False, True):
        terms = [*islice(truth.series(depth, ahead=ahead), TERMS)]
        summed = truth.unrolled(depth, 0)
        for n_terms, term in enumerate(terms, 1):
            summed = summed + term
            yield KnownMistake(
                f"the Neumann series ends after {count(n_terms, 'term')}",
                summed,
                f"a Neumann series that ends after at most {TERMS} terms",
            )
        yield from _mistaken_weight(terms, gradient, expected)


def _mistaken_weight(terms: list[Array], gradient: Array, expected: Array) -> Mistakes:
    """Yield the gradient in which one term has another weight, that which brings it nearest to
    `gradient`, if no other term could do so nearly as well: near a minimizer terms may be parallel.
    """
    excess = gradient - expected
    weights = [nearest_multiple(excess, term) for term in terms]
    remaining = [norm(excess - weight * term) for weight, term in zip(weights, terms, strict=True)]
    nearest_term, second = np.argsort(remaining)[:2]
    if remaining[nearest_term] > UNIQUE * remaining[second]:
        return
    yield KnownMistake(
        f"term {nearest_term + 1} of the Neumann series (the Jacobian of a layer to the power"
        f" {nearest_term}) has the weight {1 + weights[nearest_term]:.4g} in place of 1",
        expected + weights[nearest_term] * terms[nearest_term],
        f"one of the first {TERMS} terms of the Neumann series with another weight",
    )


def between(first: object, last: object, share: float) -> object:
    """Return a value on the way from one option to another: by powers between numbers of one sign,
    evenly between others; what is no number changes at once. A whole number stays one, rounded.
    """
    numbers = [
        value
        for value in (first, last)
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    if len(numbers) < 2 or share in (0.0, 1.0):
        return first if share == 0.0 else last
    start, end = numbers
    if start * end > 0:
        value = start * (end / start) ** share
    else:
        value = start + share * (end - start)
    return round(value) if isinstance(last, int) else float(value)


def _right(target: str, gradient: Array, subject: Subject, depth: int) -> Right:
    """Return the function of a truth and a depth that computes the gradient that a target names; of
    implicit ones that which is nearest to `gradient`.
    """
    if target == "implicit":
        return nearest(gradient, subject.specimen.truth, depth)
    rights: dict[str, Right] = {
        "exact": lambda truth, depth: truth.limit,
        "unrolled": lambda truth, depth: truth.unrolled(depth),
        "direct": lambda truth, depth: truth.unrolled(depth, 0),
    }
    return rights[target]


@register(OWN_LOSS, lambda subject: subject.claim == "approximate")
def check_direct_part(subject: Subject) -> Measurements:
    """A loss with a linear function of theta added, which no codes change, changes the gradient by
    the derivative of that.

    It yields one measurement, and raises CheckFailure where that is above its limit. The linear
    function is from a fixed stream.
    """
    problem, algorithm = subject.specimen.make()
    depth = SHALLOW[1]
    random = generator(0, "conformance direct part").standard_normal(problem.theta.shape)
    # As large as the gradient, so that neither rounds away.
    scale = norm(array(subject.estimate(depth).gradient)) or 1.0
    slope = torch.as_tensor(scale * random / (random**2).sum() ** 0.5).to(problem.theta)
    gradients = [
        gradient_of(subject.estimator.estimate(altered, algorithm, depth))
        for altered in _with_and_without(problem, slope)
    ]
    change, expected = gradients[1] - gradients[0], array(slope)
    if norm(change) <= QUOTIENT * norm(expected):
        # It is rounding.
        change = 0 * change
    description = "the derivative in theta of what was added to the loss"
    yield compare(description, change, expected, QUOTIENT, mistakes=_mistaken_changes(expected))


def _with_and_without(problem: Problem, slope: Tensor) -> Iterator[Problem]:
    """Yield a problem with a loss of codes and theta, its own if it is smooth, else `own_loss`, and
    the same with a linear function of theta added.
    """
    loss = problem.loss if isinstance(problem, StronglyConvex) else own_loss

    def with_more(codes: Tensor, theta: Tensor) -> Tensor:
        return loss(codes, theta) + (slope * theta).sum()

    yield with_values(problem, loss=loss)
    yield with_values(problem, loss=with_more)


def _mistaken_changes(expected: Array) -> Mistakes:
    """Yield common mistakes with the change of a gradient that each makes of the expected one."""
    name = "no change at all: the direct part of the gradient is forgotten"
    yield KnownMistake(name, 0 * expected)
    yield KnownMistake("the direct part with the wrong sign", -expected)
    yield KnownMistake("half of the direct part", expected / 2)
