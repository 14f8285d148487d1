"""Checks of the contract: what an estimator says about itself, what it returns, what it leaves
unchanged, and what it does with unusual input.
"""

import contextlib
import itertools
import math
import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import names
from ..algorithms import Algorithm, Fista, Ista
from ..errors import MissingDependency, PudleError
from ..estimator import CLAIMS, Estimate, GradientEstimator
from ..problems import Problem
from ..workers import Outcome, Pool, run_in_copy
from .brought import OUTSIDE, own_loss
from .checks import (
    Defect,
    Measurements,
    Subject,
    compare,
    gradient_of,
    register,
    require,
    require_finite,
)
from .explanations import QUOTIENT_DRAWN, Array
from .records import Measured
from .specimens import DRAWN, GRID, SHALLOW, changed, specimens, tensors_of
from .truth import REGULAR

#: Every kind of problem, named and drawn.
EVERY_KIND = specimens() + DRAWN[2::5]
#: The kinds whose gradients are made of the most different parts.
DIFFERENT = specimens("sparse coding", "convolutional", "penalty", "ridge")
DENSE = specimens("sparse coding")


@register(DENSE[:1], alone=True)
def check_description(subject: Subject) -> None:
    """It is a frozen dataclass with a name, a claim, and a spec that makes it again."""
    estimator, cls = subject.estimator, type(subject.estimator)
    losses = {specimen.loss for specimen in GRID}
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
    unknown = sorted({*consistent} - losses)
    require(not unknown, f"consistent_for names {unknown}: known losses are {sorted(losses)}")
    require(
        getattr(getattr(cls, "__dataclass_params__", None), "frozen", False),
        f"{name} is not frozen: decorate its class with @dataclass(frozen=True)",
    )
    spec = names.text(estimator)
    require(
        names.build(spec, cls) == estimator,
        f"the spec {spec!r} makes another estimator: keep all options in fields",
    )


@register(EVERY_KIND)
def check_form(subject: Subject) -> None:
    """Gradient and codes are finite, without a graph, and like the problem's tensors."""
    devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
    for where in itertools.product((torch.float64, torch.float32), devices):
        problem, algorithm = subject.specimen.make(*where), subject.specimen.make_algorithm(*where)
        for tensor in (tensors_of(problem) | tensors_of(algorithm)).values():
            tensor.requires_grad_()
        result = subject.estimator.estimate(problem, algorithm, 3)
        require(
            isinstance(result, Estimate),
            f"estimate returned a {type(result).__name__}: return pudle.Estimate",
        )
        _require_like("gradient", result.gradient, problem.theta, problem.theta.shape)
        _require_like("codes", result.codes, problem.theta, problem.code_shape)
        require_finite(result, 3)
        require(
            result.gradient.data_ptr() != problem.theta.data_ptr(),
            "gradient shares its memory with theta: return a tensor of its own",
        )


def _require_like(name: str, tensor: object, theta: Tensor, shape: tuple[int, ...]) -> None:
    """Fail unless it is a tensor of a shape, without a graph, and of the dtype and on the device of
    theta.
    """
    if not isinstance(tensor, Tensor):
        raise Defect(f"{name} is a {type(tensor).__name__}: return a tensor")
    mine = tuple(tensor.shape), tensor.dtype, tensor.device
    wanted = tuple(shape), theta.dtype, theta.device
    require(
        mine == wanted,
        f"{name} has shape, dtype and device {mine} instead of {wanted}: follow the problem's"
        " tensors",
    )
    require(not tensor.requires_grad, f"{name} still has a graph: return {name}.detach()")


@register(EVERY_KIND)
def check_no_mutation(subject: Subject) -> Measurements:
    """Tensors of the problem and the algorithm, their gradients and flags stay unchanged, and do
    not matter.
    """
    gradients = []
    for flag in (False, True):
        problem = _flagged(subject.specimen.make(), flag)
        algorithm = subject.specimen.make_algorithm()
        tensors = tensors_of(problem) | tensors_of(algorithm)
        before = {
            name: (each.requires_grad_(flag)._version, each.detach().clone())
            for name, each in tensors.items()
        }
        gradients.append(gradient_of(subject.estimator.estimate(problem, algorithm, 4)))
        list(subject.estimator.sweep(problem, algorithm, [1, 3]))
        require(OUTSIDE.grad is None, ".grad was filled of what a user's loss takes from outside")
        for name, tensor in tensors.items():
            version, values = before[name]
            require(
                tensor._version == version and torch.equal(tensor, values),
                f"{name} was written to, be it only for a moment: problems are immutable",
            )
            require(
                not tensor.is_leaf or tensor.grad is None,
                f"{name}.grad was filled: use torch.autograd.grad on"
                " theta.detach().requires_grad_()",
            )
            require(
                tensor.requires_grad is flag,
                f"{name}.requires_grad was left {tensor.requires_grad}: use problem.with_theta with"
                " a tensor of your own",
            )
    # Singular systems amplify the rounding in which other ways through the layers differ.
    if subject.specimen.truth.implicit(4).condition < REGULAR:
        what = "the gradient where no tensor requires one (use theta.detach())"
        yield compare(what, gradients[1], gradients[0], QUOTIENT_DRAWN)


def _flagged(problem: Problem, flag: bool) -> Problem:
    """Return a problem whose theta requires a gradient or none, and whose other tensors have the
    graph of something made of it: zero.
    """
    held = problem.fields_at(problem.theta)
    leaf = getattr(problem, next(iter(held))).requires_grad_(flag).sum()
    changes: dict[str, Any] = {
        name: value + (leaf - leaf.detach())
        for name, value in vars(problem).items()
        if isinstance(value, Tensor) and name not in held
    }
    return changed(problem, **changes)


@register(each for each in EVERY_KIND if each.algorithm != "noodl")
def check_repeatable(subject: Subject) -> Measurements:
    """A second call, an equal estimator, and one with another algorithm, from another start or at
    another theta before it change no bit and no earlier result.
    """
    (shallow, depth), specimen, estimate = SHALLOW, subject.specimen, subject.estimator.estimate
    problem, algorithm = specimen.make(), specimen.make_algorithm()

    def gradient(problem: Problem, algorithm: Algorithm) -> Array:
        return gradient_of(estimate(problem, algorithm, depth))

    result = estimate(problem, algorithm, depth)
    first = gradient_of(result).copy()
    subject.estimate(shallow)
    kept = gradient_of(result).copy()
    # A caller may clip it in place.
    result.gradient.mul_(0.5)
    for what, mine in (
        ("the gradient before a later call", kept),
        ("the gradient of the first call", gradient(problem, algorithm)),
        ("the gradient of an equal estimator", subject.having().gradient(depth)),
    ):
        yield compare(f"{what} (keep no state, and return a tensor of its own)", mine, first)
    # Algorithms that differ in their warm start alone are equal, and problems may share tensors:
    # what is kept for one must not serve the other.
    algorithms = [changed(algorithm, initial=torch.ones_like(specimen.initial))]
    if not specimen.drawn:
        step = algorithm.step_size(problem)
        given = changed(algorithm, step=step)
        if subject.claim != "approximate":
            yield _moved(problem, algorithm, given, gradient)
        algorithms += [Ista(0.4 * step), Fista(), Fista(restart=True)]
    others = [(problem, specimen.make(), each) for each in algorithms]
    if "l2_penalty" in vars(problem):
        other: dict[str, Any] = {"l2_penalty": 0.3 * (problem.lipschitz_constant or 1.0)}
        others.append((changed(problem, **other), specimen.make(**other), algorithm))
    for before, alone, each in others:
        what = f"the gradient without an earlier call with other options than {each}, {before}"
        yield compare(what, gradient(before, each), gradient(alone, each))


def _moved(
    problem: Problem,
    algorithm: Algorithm,
    given: Algorithm,
    gradient: Callable[[Problem, Algorithm], Array],
) -> Measured:
    """Compare a problem whose theta was moved as an optimizer moves it, which keeps the step, with
    a new one that is `given` the step.
    """
    theta = problem.theta.clone()
    gradient(problem.with_theta(theta), algorithm)
    theta.mul_(0.9).sub_(0.001)
    moved = gradient(problem.with_theta(theta), algorithm)
    fresh = changed(problem, **problem.fields_at(theta.clone()))
    what = "the gradient of a new problem, with the step that with_theta keeps (keep no state)"
    return compare(what, moved, gradient(fresh, given), QUOTIENT_DRAWN)


def _gradients(estimator: GradientEstimator, order: int) -> list[list[Any]]:
    """Return gradients of problems that differ in their numbers alone, evaluated in an order."""
    problem, gradients = DENSE[0].original, []
    for shift, step in [*itertools.product(range(4), (None, 0.05))][::order]:
        shifted = DENSE[0].make(
            observations=problem.observations.roll(shift, 1),
            dictionary=problem.theta.roll(shift, 1),
            loss=(DENSE[0].loss, own_loss)[shift % 2],
        )
        result = estimator.estimate(shifted, Ista(step), SHALLOW[1])
        gradients.append(gradient_of(result).tolist())
    return gradients[::order]


def _elsewhere(spec: str) -> list[Outcome[Any]]:
    """Return gradients from a copy of this process and from this one."""
    estimator = names.make_estimator(spec)
    return [run_in_copy(_gradients, estimator, 1), Outcome(_gradients(estimator, -1))]


@register(DENSE[:1])
def check_processes(subject: Subject) -> Measurements:
    """Another process, and a copy of it, give the same gradients, whatever came before."""
    estimator = subject.estimator
    here, spec = np.array(_gradients(estimator, 1)), names.text(estimator)
    with contextlib.suppress(PudleError):
        # No other process can make one of a notebook or a test.
        if names.make_estimator(spec) == estimator:
            with Pool(1) as pool:
                made = pool.call(math.inf, _elsewhere, spec)
            for each in made.result or [made]:
                require(each.status == "ok", f"fails in another process or a copy: {each.reason}")
                what = "the gradients in another process (keep nothing by id, shape or hash)"
                yield compare(what, here, np.array(each.result), QUOTIENT_DRAWN)


@register(DIFFERENT)
def check_global_state(subject: Subject) -> Measurements:
    """Random state (torch, numpy, random), grad mode, default dtype and number of threads are
    neither read nor changed.
    """
    gradients, made = [], (subject.specimen.make(), subject.specimen.make_algorithm())
    untouched = np.random.get_state(), random.getstate()  # noqa: NPY002  # it is checked
    try:
        for seed, mode in ((1, torch.enable_grad()), (2, torch.no_grad())):
            with torch.random.fork_rng(devices=[]), mode:
                torch.default_generator.manual_seed(seed)
                np.random.seed(seed)  # noqa: NPY002
                random.seed(seed)
                before = _global_state()
                gradients.append(subject.gradient(4))
                # A generator that pauses inside a context would leave its mode with the caller.
                for _ in itertools.chain([None], subject.estimator.sweep(*made, [2, 4])):
                    for what, state in _global_state().items():
                        require(
                            state == before[what],
                            f"changes the global {what}: use pudle.streams.generator, and"
                            " enable_grad around no yield",
                        )
    finally:
        np.random.set_state(untouched[0])  # noqa: NPY002
        random.setstate(untouched[1])
    yield compare(
        "the gradient in another global state (use torch.enable_grad inside, and no global random"
        " state)",
        gradients[1],
        gradients[0],
    )


def _global_state() -> dict[str, str]:
    states = {
        "random state of torch": torch.get_rng_state().tolist(),
        "random state of numpy": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "random state of random": random.getstate(),
        "grad mode": torch.is_grad_enabled(),
        "default dtype": torch.get_default_dtype(),
        "number of threads": torch.get_num_threads(),
    }
    return {what: str(state) for what, state in states.items()}


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


@register(DENSE, may_refuse=True)
def check_divergent_step(subject: Subject) -> None:
    """A step above 2/L is refused, as `Algorithm.step_size` does."""
    problem = subject.specimen.make()
    subject.estimator.estimate(problem, Ista(2.1 / problem.lipschitz_constant), 3)
    raise Defect(
        "a step of 2.1/L was run: take it from algorithm.step_size(problem)", Measured(2.1, 2.0)
    )


# A gradient of these losses grows with the square of the observations; a heuristic need not.
@register(DENSE, lambda subject: subject.claim != "heuristic", may_refuse=True)
def check_overflow(subject: Subject) -> None:
    """Observations so large that the gradient exceeds float64 give no finite number, or are
    refused.
    """
    huge = 1e200 * subject.specimen.make().observations
    size = float(subject.estimate(SHALLOW[-1], observations=huge).gradient.norm())
    require(
        not np.isfinite(size),
        f"a gradient that exceeds float64 came back with norm {size:.1e}: never replace NaN or"
        " infinity",
    )


@register(DENSE)
def check_empty_supports(subject: Subject) -> None:
    """A penalty that leaves every code zero gives a zero gradient."""
    result = subject.estimate(SHALLOW[-1], penalty=1e3)
    for what in ("codes", "gradient"):
        size = float(getattr(result, what).abs().max())
        require(size == 0, f"all codes should be zero, but the {what} reach {size}", size, 0)


@register(DENSE)
def check_singular_systems(subject: Subject) -> None:
    """More active atoms than dimensions in a few samples give a finite gradient, and diagnostics
    say how singular the systems were.
    """
    results = []
    for dtype in (torch.float32, torch.float64):
        observations = subject.specimen.make(dtype).observations
        empty = [0 * observations] * 100
        observations = torch.cat([*empty, observations, *empty])
        changes: dict[str, Any] = {
            "observations": observations,
            "generating_codes": None,
            "penalty": 1e-4,
        }
        results.append(subject.estimate(1, dtype, **changes))
    single, result = results
    require_finite(result, 1)
    sizes = [float(each.gradient.norm()) for each in (single, result)]
    what = f"the gradient's norms in float32 and float64 are {sizes}"
    require(sizes[0] <= 10 * sizes[1], f"{what}: take the same systems for singular")
    enough = {"condition_number", "largest_relative_residual", "unconverged", "singular"}
    said = result.diagnostics
    require(
        not said.get("solves") or enough & said.keys(),
        "diagnostics report solves, but not how singular they were: add condition_number or a"
        " residual",
    )
    condition = math.inf if said.get("singular") else said.get("condition_number", math.inf)
    require(
        subject.claim != "implicit" or condition > 1e6,
        f"condition_number is {condition:.3g}, where more atoms are active than there are"
        " dimensions: report that of the systems as they are",
    )
