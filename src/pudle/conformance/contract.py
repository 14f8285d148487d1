"""Checks of the contract: what an estimator says about itself, what it returns, what it leaves
unchanged, and what it does with unusual input.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pickle
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from .. import names
from ..errors import MissingDependency, PudleError
from ..estimator import Estimate, GradientEstimator
from .checks import (
    Defect,
    Measurement,
    claim_of,
    distance,
    gradient_of,
    register,
    require_finite,
)
from .specimens import FEW, GRID, Specimen, specimens, tensors_of
from .tolerances import GREAT, SHALLOW

#: Every kind of problem, named and drawn.
EVERY_KIND = specimens() + FEW
#: The kinds whose gradients are made of the most different parts.
DIFFERENT = specimens("sparse coding", "convolutional", "penalty", "ridge")


@register()
def check_description(estimator: GradientEstimator, specimen: None) -> None:
    """It is a frozen dataclass with a name, a claim, and a spec that makes it again."""
    cls = type(estimator)
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise Defect(
            f"name is {name!r}: set name to a word that a spec can hold, such as 'my_method'"
        )
    claim_of(estimator)
    losses = {specimen.loss for specimen in GRID}
    texts = {"aliases": cls.aliases, "references": cls.references}
    texts["consistent_for"] = tuple(losses) if cls.consistent_for is None else cls.consistent_for
    for attribute, value in texts.items():
        # A single string is a sequence of letters, so it is refused explicitly.
        if not isinstance(value, tuple) or not all(
            isinstance(each, str) and each for each in value
        ):
            raise Defect(f"{attribute} is {value!r}: give a tuple of strings")
    if unknown := set(texts["consistent_for"]) - losses:
        choices = ", ".join(sorted(losses))
        raise Defect(f"consistent_for names {sorted(unknown)}: known losses are {choices}")
    if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:
        raise Defect(f"{cls.__name__} is not frozen: decorate it with @dataclass(frozen=True)")
    spec = names.text(estimator)
    if names.build(spec, cls) != estimator:
        raise Defect(f"the spec {spec!r} makes another estimator: keep all options in fields")


@register(EVERY_KIND)
def check_form(estimator: GradientEstimator, specimen: Specimen) -> None:
    """Gradient and codes are finite, without a graph, and like the problem's tensors."""
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    for dtype, device in itertools.product((torch.float64, torch.float32), devices):
        problem = specimen.make(dtype, device)
        problem.theta.requires_grad_()
        result = estimator.estimate(problem, specimen.make_algorithm(dtype, device), 3)
        if not isinstance(result, Estimate):
            raise Defect(f"estimate returned a {type(result).__name__}: return a pudle.Estimate")
        theta = problem.theta
        for name, shape in (("gradient", theta.shape), ("codes", problem.code_shape)):
            tensor = getattr(result, name)
            if not isinstance(tensor, torch.Tensor):
                raise Defect(f"{name} is a {type(tensor).__name__}: return a tensor")
            wanted = {"shape": tuple(shape), "dtype": theta.dtype, "device": theta.device}
            mine = {"shape": tuple(tensor.shape), "dtype": tensor.dtype, "device": tensor.device}
            for what, value in mine.items():
                if value != wanted[what]:
                    reason = f"{name} has {what} {value} instead of {wanted[what]}"
                    raise Defect(f"{reason}: follow the problem's tensors")
            if tensor.requires_grad:
                raise Defect(f"{name} still has a graph: return {name}.detach()")
        require_finite(result, 3)
        if result.gradient.numel() and result.gradient.data_ptr() == theta.data_ptr():
            raise Defect("gradient shares its memory with theta: return a tensor of its own")


@register(EVERY_KIND)
def check_no_mutation(estimator: GradientEstimator, specimen: Specimen) -> None:
    """Tensors of the problem and the algorithm, their gradients and flags stay unchanged."""
    for flag in (False, True):
        problem, algorithm = specimen.make(), specimen.make_algorithm()
        problem.theta.requires_grad_(flag)
        tensors = tensors_of(problem) | tensors_of(algorithm)
        before = {name: (each.detach().clone(), each._version) for name, each in tensors.items()}
        with _Writes(tensors) as written:
            estimator.estimate(problem, algorithm, 4)
        after = tensors_of(problem) | tensors_of(algorithm)
        for name, tensor in tensors.items():
            copy, version = before[name]
            if after.get(name) is not tensor:
                raise Defect(
                    f"{name} was replaced by another tensor: problems are immutable, use with_theta"
                )
            if not torch.equal(tensor.detach(), copy):
                change = float((tensor.detach() - copy).norm() / copy.norm())
                reason = f"{name} was changed, by {change:.1e} of its norm"
                raise Defect(f"{reason}: problems are immutable", change, 0.0)
            if name in written.names or tensor._version != version:
                raise Defect(
                    f"{name} was written to, and the old values put back: another thread would"
                    " see it"
                )
            if tensor.grad is not None:
                raise Defect(
                    f"{name}.grad was filled: use torch.autograd.grad on"
                    " theta.detach().requires_grad_()"
                )
            if tensor.requires_grad is not (flag and name == problem.parameter):
                raise Defect(
                    f"{name}.requires_grad was left {tensor.requires_grad}: use problem.with_theta"
                    " with a tensor of your own"
                )


#: Names of torch's operations that write to their first argument; the exceptions change flags, not
#: values.
IN_PLACE = re.compile(
    r"\w*[a-z0-9]_|__setitem__|__i(add|sub|mul|truediv|floordiv|mod|pow|and|or|xor)__"
)
FLAGS = ("requires_grad_", "detach_", "share_memory_")


class _Writes(TorchFunctionMode):
    """Notes which of some tensors torch writes to, be it through a view or through ``.data``."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.owners = {each.untyped_storage().data_ptr(): name for name, each in tensors.items()}
        self.names: set[str] = set()

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        writes = IN_PLACE.fullmatch(name) and name not in FLAGS
        for target in (kwargs.get("out"), *(args[:1] if writes else ())):
            # Tensors of another kind, such as those within vmap, have no memory of their own.
            if type(target) is torch.Tensor and not torch._C._functorch.is_functorch_wrapped_tensor(
                target
            ):
                self.names |= {self.owners.get(target.untyped_storage().data_ptr(), "")}
        return function(*args, **kwargs)


@register(EVERY_KIND)
def check_repeatable(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """A second call, an equal estimator, and one from another start before it change no bit and no
    earlier result.
    """
    shallow, depth = SHALLOW
    result = specimen.estimate(estimator, depth)
    first = gradient_of(result).copy()
    specimen.estimate(estimator, shallow)
    change = distance(gradient_of(result), first)
    reason = f"a later call changes the gradient returned before by {change:.1e}"
    yield change, 0, f"{reason}: return a tensor of its own"
    equal = dataclasses.replace(estimator) if dataclasses.is_dataclass(estimator) else estimator
    for name, one in (("a second call", estimator), ("an equal estimator", equal)):
        change = distance(gradient_of(specimen.estimate(one, depth)), first)
        reason = f"{name} gives a gradient that differs by {change:.1e}: keep no state"
        yield change, 0, reason
    # Algorithms that differ in their warm start alone are equal: what is kept for one must not
    # serve the other.
    problem, algorithm = specimen.make(), specimen.make_algorithm()
    start = torch.ones(problem.code_shape, dtype=torch.float64)
    warm = dataclasses.replace(algorithm, initial=start)
    estimator.estimate(problem, algorithm, depth)
    after, alone = (estimator.estimate(each, warm, depth) for each in (problem, specimen.make()))
    change = distance(gradient_of(after), gradient_of(alone))
    reason = f"after a call from another start the gradient differs by {change:.1e}"
    yield change, 0, f"{reason}: keep no state"


@register(DIFFERENT)
def check_random_state(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """Global random state (torch, numpy, random) is neither read nor changed."""
    gradients = []
    for seed in (1, 2):
        untouched = np.random.get_state(), random.getstate()  # noqa: NPY002  # it is checked
        try:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                np.random.seed(seed)  # noqa: NPY002
                random.seed(seed)
                before = _global_states()
                gradients.append(gradient_of(specimen.estimate(estimator, 4)))
                after = _global_states()
        finally:
            np.random.set_state(untouched[0])  # noqa: NPY002
            random.setstate(untouched[1])
        for library, state in after.items():
            if state != before[library]:
                reason = f"draws from the global random state of {library}"
                raise Defect(f"{reason}: use pudle.streams.generator(seed, name)")
    change = distance(gradients[1], gradients[0])
    yield change, 0, f"the gradient changes by {change:.1e} with the global random state"


def _global_states() -> dict[str, str]:
    numpy = pickle.dumps(np.random.get_state())  # noqa: NPY002
    states = {"torch": torch.get_rng_state().tolist(), "numpy": numpy, "random": random.getstate()}
    return {library: str(state) for library, state in states.items()}


@register(DIFFERENT)
def check_global_modes(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """It works under torch.no_grad, and leaves grad mode, default dtype and threads unchanged."""
    before = torch.get_num_threads(), torch.get_default_dtype()
    expected = gradient_of(specimen.estimate(estimator, 4))
    for enabled in (False, True):
        with torch.enable_grad() if enabled else torch.no_grad():
            result = gradient_of(specimen.estimate(estimator, 4))
            # A generator that pauses inside a context would leave its grad mode with the caller.
            modes = {torch.is_grad_enabled()}
            for _ in estimator.sweep(specimen.make(), specimen.make_algorithm(), [2, 4]):
                modes.add(torch.is_grad_enabled())
        if modes != {enabled}:
            raise Defect(
                "grad mode is switched for the caller: wrap the computation, not a yield, in"
                " enable_grad"
            )
        change = distance(result, expected)
        reason = f"the gradient changes by {change:.1e} under torch.no_grad"
        yield change, 0, f"{reason}: use torch.enable_grad inside"
    if before != (torch.get_num_threads(), torch.get_default_dtype()):
        raise Defect("the number of threads or the default dtype was changed for the whole process")


# --- unusual input


def unless_refused(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or None if it raises an error that names the problem and the
    remedy.
    """
    try:
        return call()
    except MissingDependency:
        raise
    except PudleError:
        return None


@register(specimens("sparse coding"))
def check_impossible_depth(estimator: GradientEstimator, specimen: Specimen) -> None:
    """A negative or fractional depth is refused, not run as another."""
    for depth, method in itertools.product((-1, -20, 2.5), ("estimate", "sweep")):
        depths: Any = depth if method == "estimate" else [2, depth]
        call = functools.partial(getattr(specimen, method), estimator, depths)
        try:
            outcome = "" if unless_refused(call) is None else "returned"
        except MissingDependency:
            raise
        except Exception as error:  # noqa: BLE001  # any other exception is a failed check
            outcome = f"raised {type(error).__name__}, which does not tell a user what to do"
        if outcome:
            advice = "refuse it, as pudle.algorithms.unrolling.check_depths does"
            raise Defect(f"{method} at depth {depth} {outcome}: {advice}")


@register(specimens("sparse coding"))
def check_divergent_step(estimator: GradientEstimator, specimen: Specimen) -> None:
    """A step above 2/L is refused, as `Algorithm.step_size` does."""
    problem = specimen.make()
    step = 2.1 / problem.lipschitz_constant
    algorithm = dataclasses.replace(specimen.make_algorithm(), step=step)
    if unless_refused(lambda: estimator.estimate(problem, algorithm, 3)) is not None:
        raise Defect(
            "a step of 2.1/L was run: take the step from algorithm.step_size(problem)", 2.1, 2.0
        )


@register(specimens("tiny"))
def check_great_depth(estimator: GradientEstimator, specimen: Specimen) -> None:
    """At great depth the gradient is finite, or refused with a reason."""
    require_finite(specimen.estimate(estimator, GREAT), GREAT)


@register(specimens("sparse coding"))
def check_overflow(estimator: GradientEstimator, specimen: Specimen) -> None:
    """Observations so large that the gradient exceeds float64 give no finite number, or are
    refused.
    """
    if claim_of(estimator) == "heuristic":
        # A gradient of these losses grows with the square of the observations; this need not.
        return
    huge: Any = specimen.make()
    changed = {"observations": huge.observations * 1e200}
    result = unless_refused(lambda: specimen.estimate(estimator, SHALLOW[-1], **changed))
    if result is not None and np.isfinite(size := float(torch.linalg.norm(result.gradient))):
        reason = f"a gradient that exceeds float64 came back with norm {size:.1e}"
        raise Defect(f"{reason}: never replace NaN or infinity", size)


@register(specimens("sparse coding"))
def check_empty_supports(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """A penalty that leaves every code zero gives a zero gradient."""
    result = specimen.estimate(estimator, SHALLOW[-1], penalty=1e3)
    for what, tensor in (("codes", result.codes), ("gradient", result.gradient)):
        size = float(tensor.abs().max())
        yield size, 0, f"all codes should be zero, but the {what} reach {size}"


@register(specimens("sparse coding"))
def check_singular_systems(estimator: GradientEstimator, specimen: Specimen) -> None:
    """More active atoms than dimensions give a finite gradient, and diagnostics say how singular
    the systems were.
    """
    result = specimen.estimate(estimator, 1, penalty=1e-4)
    require_finite(result, 1)
    enough = {"condition_number", "largest_relative_residual", "unconverged", "singular"}
    if result.diagnostics.get("solves") and not enough & set(result.diagnostics):
        raise Defect(
            "diagnostics report solves, but not how singular they were: add condition_number or a"
            " residual"
        )
