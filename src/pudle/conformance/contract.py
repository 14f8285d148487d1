"""Checks of the contract: what an estimator says about itself, what it returns, what it leaves
unchanged, and what it does with unusual input.
"""

import contextlib
import itertools
import math

import numpy as np
import torch

from .. import names
from ..algorithms import Algorithm, Fista
from ..auditing.distances import Array
from ..errors import MissingDependency, PudleError
from ..estimator import CLAIMS, GradientEstimator
from ..problems import Problem
from ..workers import Pool
from .brought import own_loss
from .checks import (
    CheckFailure,
    Measurements,
    Subject,
    compare,
    gradient_of,
    register,
    require,
)
from .explanations import QUOTIENT
from .specimens import (
    DRAWN,
    GRID,
    SHALLOW,
    Specimen,
    specimens,
    with_values,
)

#: Every kind of problem, named and drawn, with few entries of theta.
DRAWN_FEW = tuple(specimen for specimen in DRAWN if specimen.has_few_parameters)
EVERY_KIND = specimens() + DRAWN_FEW[::3]
DENSE = specimens("sparse coding")


@register(DENSE[:1])
def check_description(subject: Subject) -> None:
    """It has a name, a claim, losses that it is consistent for, and a spec that makes it again;
    with options it is a frozen dataclass.

    It raises CheckFailure, and errors of the spec as they are; nothing is estimated.
    """
    estimator, cls = subject.estimator, type(subject.estimator)
    losses = sorted({specimen.loss for specimen in GRID})
    name, consistent = getattr(cls, "name", None), cls.consistent_for or ()
    require(
        isinstance(name, str) and name.isidentifier(),
        f"name is {name!r}: set name to a word that a spec can hold, such as 'my_method'",
    )
    require(
        subject.claim in CLAIMS,
        f"computes is {subject.claim!r}: set it to one of {', '.join(CLAIMS)}",
    )
    # A single string is a sequence of letters, so it is refused explicitly.
    require(isinstance(consistent, tuple), f"consistent_for is {consistent!r}: give a tuple")
    require({*consistent} <= {*losses}, f"consistent_for={consistent}: known losses are {losses}")
    parameters = getattr(cls, "__dataclass_params__", None)
    require(
        parameters is None or parameters.frozen,
        f"{name} is not frozen: decorate its class with @dataclass(frozen=True)",
    )
    # Without options a class need be no dataclass; one that has some is refused here.
    spec = names.text(estimator)
    rebuilt = names.build(spec, cls)
    require(
        vars(rebuilt) == vars(estimator) if parameters is None else rebuilt == estimator,
        f"the spec {spec!r} makes another estimator: keep all options in fields",
    )


ProblemAndAlgorithm = tuple[Problem, Algorithm]


def _different_pairs(specimen: Specimen) -> list[ProblemAndAlgorithm]:
    """Return pairs of a problem and an algorithm, which differ from the first in one thing each:
    what an estimator keeps for one pair must not serve another.

    They are made anew at each call, but may share tensors. There are more of them on a problem with
    a dense dictionary.
    """
    problem, algorithm = specimen.make()
    # Algorithms that differ in their warm start alone are equal, and problems may share tensors.
    pairs = [
        (problem, algorithm),
        (problem, with_values(algorithm, initial=torch.ones(problem.code_shape).to(problem.theta))),
        (problem.with_theta(0.9 * problem.theta), algorithm),
    ]
    if specimen in DENSE:
        pairs += [(with_values(problem, loss=own_loss), algorithm)]
        pairs += [(with_values(problem, l2_penalty=0.3), algorithm)]
        pairs += [(problem, fista) for fista in (Fista(), Fista(restart=True))]
    return pairs


def _gradients(estimator: GradientEstimator, pairs: list[ProblemAndAlgorithm]) -> list[Array]:
    """Return the gradients of one pair after the other, looked at when all are made.

    Estimates are then changed in place, as a caller may do.
    """
    results = [estimator.estimate(*pair, SHALLOW[1]) for pair in pairs]
    gradients = [gradient_of(result).copy() for result in results]
    for result in results:
        # A caller may clip it in place.
        result.gradient.mul_(0.5)
    return gradients


def _gradients_of_spec(spec: str) -> list[Array]:
    """Return the gradients of an estimator that this process makes from a spec."""
    return _gradients(names.make_estimator(spec), _different_pairs(DENSE[0]))


@register(EVERY_KIND)
def check_repeatable(subject: Subject) -> Measurements:
    """A second call, and an equal estimator that gets problems, algorithms, starts and thetas in
    another order, change no bit and no earlier result; another process gives the same up to
    rounding.

    It yields the measurements, and raises CheckFailure where one is above its limit: zero in this
    process, `QUOTIENT` for the other one. Gradients are changed in place between calls, as a caller
    may do. The other process is started for the first dense specimen alone, and only if a spec
    makes an equal estimator; where it cannot be made from a spec, this part is left out.
    """
    pairs, estimator = _different_pairs(subject.specimen), subject.estimator
    first, second_call = (_gradients(estimator, pairs) for _ in range(2))
    reversed_order = _gradients(
        subject.having().estimator, _different_pairs(subject.specimen)[::-1]
    )[::-1]
    advice = "keep no state, and return a tensor of its own"
    for pair, gradient, repeated, after_others in zip(
        pairs, first, second_call, reversed_order, strict=True
    ):
        yield compare(f"the gradient of the first call ({advice})", repeated, gradient)
        yield compare(
            f"the gradient after no other but {pair[1]} ({advice})", after_others, gradient
        )
    spec = names.text(estimator)
    with contextlib.suppress(PudleError):
        # No other process can make one of a notebook or a test.
        if subject.specimen is DENSE[0] and names.make_estimator(spec) == estimator:
            with Pool(1) as pool:
                outcome = pool.call(math.inf, _gradients_of_spec, spec)
            require(outcome.status == "ok", f"fails in another process: {outcome.reason}")
            description = "the gradients in another process (keep nothing by id, shape or hash)"
            yield compare(description, np.stack(first), np.stack(outcome.result), QUOTIENT)


@register(DENSE)
def check_impossible_depth(subject: Subject) -> None:
    """A negative or fractional depth is refused, not run as another.

    It raises CheckFailure if a depth was run, by `estimate` or by `sweep`; other errors than this
    package's are raised as they are.
    """
    for depth, sweep in itertools.product((-1, -20, 2.5), (False, True)):
        try:
            subject.estimates([2, depth], sweep=sweep)
        except MissingDependency:
            raise
        except PudleError:
            continue
        raise CheckFailure(
            f"depth {depth} was run: refuse it, as pudle.algorithms.unrolling.check_depths does"
        )
