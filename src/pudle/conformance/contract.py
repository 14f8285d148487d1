"""Checks of the contract: what an estimator says about itself, what it returns, what it leaves
unchanged, and what it does with unusual input.
"""

import contextlib
import itertools
import math
import pickle
import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from .. import names
from ..algorithms import Algorithm, Fista
from ..errors import MissingDependency, PudleError
from ..estimator import CLAIMS, Estimate, GradientEstimator
from ..problems import Problem
from ..workers import Pool
from .brought import OUTSIDE, own_loss
from .checks import (
    Defect,
    Measurements,
    Subject,
    codes_of,
    compare,
    gradient_of,
    is_quotient,
    register,
    require,
    require_finite,
)
from .explanations import QUOTIENT_DRAWN, Array, norm
from .specimens import (
    DRAWN,
    GRID,
    SHALLOW,
    Specimen,
    changed,
    options_of,
    specimens,
    tensors_of,
)
from .truth import REGULAR

# --- tolerances of float32, relative to the norm of the gradient in float64

#: It has 6e-8 relative precision; layers and the sum over the samples cost two digits.
SINGLE = 2e-5
#: The same on drawn problems, whose gradients may be differences of larger terms.
SINGLE_DRAWN = 1e-2
#: A difference quotient of a loss known to 6e-8, with a step that balances truncation: the cube
#: root of the precision.
SINGLE_QUOTIENT = 5e-2

#: Every kind of problem, named and drawn, with few entries of theta.
EVERY_KIND = specimens() + tuple(each for each in DRAWN if each.few)[::3]
DENSE = specimens("sparse coding")


@register(DENSE[:1])
def check_description(subject: Subject) -> None:
    """It is a frozen dataclass with a name, a claim, and a spec that makes it again."""
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
    texts = {"aliases": cls.aliases, "references": cls.references, "consistent_for": consistent}
    for attribute, value in texts.items():
        # A single string is a sequence of letters, so it is refused explicitly.
        strings = isinstance(value, tuple) and all(each and type(each) is str for each in value)
        require(strings, f"{attribute} is {value!r}: give a tuple of strings")
    require({*consistent} <= {*losses}, f"consistent_for={consistent}: known losses are {losses}")
    require(
        getattr(getattr(cls, "__dataclass_params__", None), "frozen", False),
        f"{name} is not frozen: decorate its class with @dataclass(frozen=True)",
    )
    spec = names.text(estimator)
    require(
        names.build(spec, cls) == estimator,
        f"the spec {spec!r} makes another estimator: keep all options in fields",
    )


@register(GRID + DRAWN)
def check_form(subject: Subject) -> Measurements:
    """Gradient and codes are finite, without a graph, like the problem's tensors, and in float32
    what they are in float64, to its accuracy.
    """
    specimen, results = subject.specimen, list[Estimate]()
    for dtype in (torch.float32, torch.float64):
        problem, algorithm = specimen.made(dtype)
        for tensor in (tensors_of(problem) | tensors_of(algorithm)).values():
            tensor.requires_grad_()
        result = subject.estimator.estimate(problem, algorithm, 4)
        require(
            isinstance(result, Estimate),
            f"estimate returned a {type(result).__name__}: return pudle.Estimate",
        )
        _require_like("gradient", result.gradient, problem.theta, problem.theta.shape)
        _require_like("codes", result.codes, problem.theta, problem.code_shape)
        require_finite(result, 4)
        require(
            result.gradient.data_ptr() != problem.theta.data_ptr(),
            "gradient shares its memory with theta: return a tensor of its own",
        )
        results.append(result)
    single, double = results
    quotient, named = is_quotient(double), not specimen.drawn
    solves = subject.claim in ("implicit", "approximate")
    # No claim is made about singular systems, in which single precision counts other ranks, nor of
    # a quotient with a kink within its step.
    if (quotient and not named) or solves and specimen.truth.implicit(4).condition > REGULAR:
        return
    limit = SINGLE_QUOTIENT if quotient else SINGLE if named else SINGLE_DRAWN
    expected, parts = gradient_of(double), SINGLE / limit * specimen.truth.scale(4)
    size = max(norm(expected), parts)
    yield compare("the gradient in float64", gradient_of(single), expected, limit, size)
    yield compare("the codes in float64", codes_of(single), codes_of(double), limit)


def _require_like(name: str, tensor: object, theta: Tensor, shape: tuple[int, ...]) -> None:
    """Fail unless it is a tensor of a shape, without a graph, and of the dtype of theta."""
    if not isinstance(tensor, Tensor):
        raise Defect(f"{name} is a {type(tensor).__name__}: return a tensor")
    mine, wanted = (tuple(tensor.shape), tensor.dtype), (tuple(shape), theta.dtype)
    follow = "follow the problem's tensors"
    require(mine == wanted, f"{name} has shape and dtype {mine} instead of {wanted}: {follow}")
    require(not tensor.requires_grad, f"{name} still has a graph: return {name}.detach()")


@register(EVERY_KIND)
def check_unchanged(subject: Subject) -> Measurements:
    """Tensors of the problem and the algorithm, their gradients and flags, the random state of
    torch, numpy and random, grad mode, default dtype and number of threads stay unchanged, and what
    they are does not matter.
    """
    untouched = np.random.get_state(), random.getstate()  # noqa: NPY002  # it is checked
    try:
        with torch.random.fork_rng(devices=[]):
            first = _watched_gradient(subject, 1, mode=True, flag=False)
            other = _watched_gradient(subject, 2, mode=False, flag=False)
            flagged = _watched_gradient(subject, 1, mode=True, flag=True)
    finally:
        np.random.set_state(untouched[0])  # noqa: NPY002
        random.setstate(untouched[1])
    what = "the gradient in another global state (use torch.enable_grad, and no global draws)"
    yield compare(what, other, first)
    # Singular systems amplify the rounding in which other ways through the layers differ.
    if subject.specimen.truth.implicit(4).condition < REGULAR:
        what = "the gradient where no tensor requires one (use theta.detach())"
        yield compare(what, flagged, first, QUOTIENT_DRAWN)


def _watched_gradient(subject: Subject, seed: int, *, mode: bool, flag: bool) -> Array:
    """Return a gradient in a global state, of tensors that require one or none; fail if an estimate
    or a sweep changes any of this.
    """
    problem, algorithm = subject.specimen.made()
    leaf = problem.theta.requires_grad_(flag)
    if "observations" in options_of(problem):
        # The data may be made of theta, which is no way for a derivative.
        problem = changed(problem, observations=problem.observations + 0 * leaf.sum())
    tensors = tensors_of(problem) | tensors_of(algorithm)
    for tensor in tensors.values():
        tensor.requires_grad_(flag or not tensor.is_leaf)
    tensors["a weight of the user's loss"] = OUTSIDE
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    with torch.enable_grad() if mode else torch.no_grad():
        before = _watched(tensors)
        gradient = gradient_of(subject.estimator.estimate(problem, algorithm, 4))
        # A generator that pauses inside a context would leave its mode with the caller.
        for _ in itertools.chain([None], subject.estimator.sweep(problem, algorithm, [1, 3])):
            for what, state in _watched(tensors).items():
                require(state == before[what], f"changes {what}")
    return gradient


def _watched(tensors: Mapping[str, Tensor]) -> dict[str, object]:
    """Return all that no estimator may change, with what to do in place of that."""
    own = "theta.detach().requires_grad_()"
    drawn = np.random.get_state(), random.getstate()  # noqa: NPY002
    states: dict[str, object] = {
        "the random state of torch, numpy or random: use pudle.streams.generator": (
            torch.get_rng_state().tolist(),
            pickle.dumps(drawn),
        ),
        "the grad mode: use torch.enable_grad() around no yield": torch.is_grad_enabled(),
        "the default dtype or the number of threads": (
            torch.get_default_dtype(),
            torch.get_num_threads(),
        ),
    }
    for name, tensor in tensors.items():
        values = tensor._version, tensor.detach().cpu().numpy().tobytes()
        states[f"{name}, be it only for a moment: problems are immutable"] = values
        states[f"{name}.requires_grad: use problem.with_theta({own})"] = tensor.requires_grad
        filled = tensor.is_leaf and tensor.grad is not None
        states[f"{name}.grad: use torch.autograd.grad on {own}"] = filled
    return states


#: A problem and an algorithm.
Turn = tuple[Problem, Algorithm]


def _turns(specimen: Specimen) -> list[Turn]:
    """Return problems and algorithms that differ in one thing each: what is kept for one must not
    serve the other.
    """
    problem, algorithm = specimen.made()
    # Algorithms that differ in their warm start alone are equal, and problems may share tensors.
    turns = [
        (problem, algorithm),
        (problem, changed(algorithm, initial=torch.ones(problem.code_shape).to(problem.theta))),
        (problem.with_theta(0.9 * problem.theta), algorithm),
    ]
    if specimen in DENSE:
        turns += [(changed(problem, loss=own_loss), algorithm)]
        turns += [(changed(problem, l2_penalty=0.3), algorithm)]
        turns += [(problem, each) for each in (Fista(), Fista(restart=True))]
    return turns


def _gradients(estimator: GradientEstimator, turns: list[Turn]) -> list[Array]:
    """Return the gradients of one turn after the other, looked at when all are made."""
    results = [estimator.estimate(*turn, SHALLOW[1]) for turn in turns]
    gradients = [gradient_of(result).copy() for result in results]
    for result in results:
        # A caller may clip it in place.
        result.gradient.mul_(0.5)
    return gradients


@register(each for each in EVERY_KIND if each.algorithm != "noodl")
def check_repeatable(subject: Subject) -> Measurements:
    """A second call, and an equal estimator in another order of problems, algorithms, starts and
    thetas, change no bit and no earlier result.
    """
    turns, estimator = _turns(subject.specimen), subject.estimator
    first, again = (_gradients(estimator, turns) for _ in range(2))
    other = _gradients(subject.having().estimator, _turns(subject.specimen)[::-1])[::-1]
    advice = "keep no state, and return a tensor of its own"
    for turn, mine, second, last in zip(turns, first, again, other, strict=True):
        yield compare(f"the gradient of the first call ({advice})", second, mine)
        yield compare(f"the gradient after no other but {turn[1]} ({advice})", last, mine)


def _elsewhere(spec: str) -> list[Array]:
    """Return gradients of this process."""
    return _gradients(names.make_estimator(spec), _turns(DENSE[0]))


@register(DENSE[:1])
def check_processes(subject: Subject) -> Measurements:
    """Another process gives the same gradients."""
    spec = names.text(subject.estimator)
    with contextlib.suppress(PudleError):
        # No other process can make one of a notebook or a test.
        if names.make_estimator(spec) == subject.estimator:
            with Pool(1) as pool:
                made = pool.call(math.inf, _elsewhere, spec)
            require(made.status == "ok", f"fails in another process: {made.reason}")
            here = np.array(_gradients(subject.estimator, _turns(DENSE[0])))
            what = "the gradients in another process (keep nothing by id, shape or hash)"
            yield compare(what, here, np.array(made.result), QUOTIENT_DRAWN)


# --- unusual input


@register(DENSE)
def check_impossible_depth(subject: Subject) -> None:
    """A negative or fractional depth is refused, not run as another."""
    for depth, method in itertools.product((-1, -20, 2.5), ("estimate", "sweep")):
        try:
            getattr(subject, method)(depth if method == "estimate" else [2, depth])
        except MissingDependency:
            raise
        except PudleError:
            continue
        raise Defect(
            f"{method} at depth {depth} returned: refuse it, as"
            " pudle.algorithms.unrolling.check_depths does"
        )
