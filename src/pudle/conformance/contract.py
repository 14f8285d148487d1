"""Checks of the contract: what an estimator says about itself, what it returns, and what it leaves
unchanged.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pickle
import random
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from .. import names
from ..estimator import Estimate, GradientEstimator
from .checks import (
    Measurement,
    NotMet,
    claim_of,
    codes_of,
    distance,
    gradient_of,
    is_quotient,
    register,
    require_finite,
)
from .draws import FEW
from .explanations import explain_codes
from .specimens import CLASS_ALONE, GRID, PLAIN, VARIED, Specimen, specimens
from .tolerances import EXACT, SETTLED, SHALLOW, SINGLE, SINGLE_QUOTIENT


@register(CLASS_ALONE)
def check_description(estimator: GradientEstimator, specimen: Specimen) -> None:
    """It is a frozen dataclass with a name, a claim, and a spec that makes it again."""
    cls = type(estimator)
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise NotMet(
            f"name is {name!r}: set name to a word that a spec can hold, such as 'my_method'"
        )
    claim_of(estimator)
    for attribute in ("aliases", "references", "consistent_for"):
        value = getattr(cls, attribute)
        if attribute == "consistent_for" and value is None:
            continue
        # A single string is a sequence of letters, so it is refused explicitly.
        if not isinstance(value, tuple) or not all(
            isinstance(text, str) and text for text in value
        ):
            raise NotMet(f"{attribute} is {value!r}: give a tuple of strings")
    losses = {specimen.loss for specimen in GRID}
    unknown = set(cls.consistent_for or ()) - losses
    if unknown:
        raise NotMet(
            f"consistent_for names {sorted(unknown)}: known losses are {', '.join(sorted(losses))}"
        )
    if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:
        raise NotMet(f"{cls.__name__} is not frozen: decorate it with @dataclass(frozen=True)")
    if names.build(names.text(estimator), cls) != estimator:
        raise NotMet(
            f"the spec {names.text(estimator)!r} makes another estimator: keep all options in"
            " fields"
        )


@register(specimens() + FEW, few_samples=True)
def check_form(estimator: GradientEstimator, specimen: Specimen) -> None:
    """Gradient and codes have the problem's shape, dtype and device, no graph, and finite entries."""
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    for dtype, device in itertools.product((torch.float64, torch.float32), devices):
        problem = specimen.make(dtype, device)
        problem.theta.requires_grad_()
        result = estimator.estimate(problem, specimen.make_algorithm(dtype, device), 3)
        if not isinstance(result, Estimate):
            raise NotMet(f"estimate returned a {type(result).__name__}: return a pudle.Estimate")
        theta = problem.theta
        for name, shape in (("gradient", tuple(theta.shape)), ("codes", problem.code_shape)):
            tensor = getattr(result, name)
            if not isinstance(tensor, torch.Tensor):
                raise NotMet(f"{name} is a {type(tensor).__name__}: return a tensor")
            if tuple(tensor.shape) != shape:
                raise NotMet(f"{name} has shape {tuple(tensor.shape)} instead of {shape}")
            for what in ("dtype", "device"):
                mine, expected = getattr(tensor, what), getattr(theta, what)
                if mine != expected:
                    problem_has = f"on a problem with {what} {expected}"
                    raise NotMet(
                        f"{name} has {what} {mine} {problem_has}: follow the problem's tensors"
                    )
            if tensor.requires_grad:
                raise NotMet(f"{name} still has a graph: return {name}.detach()")
        require_finite(result, 3)
        if result.gradient.numel() and result.gradient.data_ptr() == theta.data_ptr():
            raise NotMet("gradient shares its memory with theta: return a tensor of its own")


@register(VARIED)
def check_codes(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """Codes are those of the algorithm, at its own step."""
    for depth in SHALLOW:
        mine, expected = codes_of(specimen.estimate(estimator, depth)), specimen.codes(depth)
        yield (
            distance(mine, expected),
            EXACT,
            functools.partial(explain_codes, mine, expected, specimen, depth),
        )


@register(specimens("square", algorithms=PLAIN))
def check_single_precision(
    estimator: GradientEstimator, specimen: Specimen
) -> Iterator[Measurement]:
    """float32 agrees with float64 to the accuracy of float32."""
    single, double = (
        specimen.estimate(estimator, SETTLED, dtype) for dtype in (torch.float32, torch.float64)
    )
    error = distance(gradient_of(single), gradient_of(double))
    limit = SINGLE_QUOTIENT if is_quotient(double) else SINGLE
    yield error, limit, f"float32 and float64 differ by {error:.1e} at depth {SETTLED}"


@register(specimens() + FEW, few_samples=True)
def check_no_mutation(estimator: GradientEstimator, specimen: Specimen) -> None:
    """The tensors of the problem and the algorithm, their gradients and their flags stay unchanged."""
    for flag in (False, True):
        problem, algorithm = specimen.make(), specimen.make_algorithm()
        problem.theta.requires_grad_(flag)
        fields = [(owner, name) for owner in (problem, algorithm) for name in vars(owner)]
        tensors = {
            name: (owner, value)
            for owner, name in fields
            if isinstance(value := getattr(owner, name), torch.Tensor)
        }
        before = {
            name: (tensor.detach().clone(), tensor._version)
            for name, (_, tensor) in tensors.items()
        }
        with _Writes({name: tensor for name, (_, tensor) in tensors.items()}) as written:
            estimator.estimate(problem, algorithm, 4)
        for name, (owner, tensor) in tensors.items():
            if getattr(owner, name) is not tensor:
                raise NotMet(
                    f"{name} was replaced by another tensor: problems are immutable, use with_theta"
                )
            copy, version = before[name]
            if not torch.equal(tensor.detach(), copy):
                change = float((tensor.detach() - copy).norm() / copy.norm())
                raise NotMet(
                    f"{name} was changed, by {change:.1e} of its norm: problems are immutable",
                    change,
                    0.0,
                )
            if name in written.names or tensor._version != version:
                raise NotMet(
                    f"{name} was written to, and the old values put back: another thread would"
                    " see it"
                )
            if tensor.grad is not None:
                raise NotMet(
                    f"{name}.grad was filled: use torch.autograd.grad on"
                    " theta.detach().requires_grad_()"
                )
            if tensor.requires_grad is not (flag and name == problem.parameter):
                raise NotMet(
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
    """Notes which of the given tensors torch writes to, be it through a view or through ``.data``."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.owners = {
            tensor.untyped_storage().data_ptr(): name for name, tensor in tensors.items()
        }
        self.names: set[str] = set()

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        targets = [
            kwargs.get("out"),
            *(args[:1] if IN_PLACE.fullmatch(name) and name not in FLAGS else ()),
        ]
        for target in targets:
            # Tensors of another kind, such as those within vmap, have no memory of their own.
            if type(target) is torch.Tensor and not torch._C._functorch.is_functorch_wrapped_tensor(
                target
            ):
                self.names |= {self.owners.get(target.untyped_storage().data_ptr(), "")}
        return function(*args, **kwargs)


@register(specimens() + FEW, few_samples=True)
def check_repeatable(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """A second call, an equal estimator, and one from another start before it change no bit and no
    earlier result.
    """
    equal = dataclasses.replace(estimator) if dataclasses.is_dataclass(estimator) else estimator
    result = specimen.estimate(estimator, SHALLOW[-1])
    first = gradient_of(result).copy()
    specimen.estimate(estimator, SHALLOW[0])
    difference = distance(gradient_of(result), first)
    yield (
        difference,
        0,
        (
            f"a later call changes the gradient returned before by {difference:.1e}: return a"
            " tensor of its own"
        ),
    )
    for name, one in (("a second call", estimator), ("an equal estimator", equal)):
        difference = distance(gradient_of(specimen.estimate(one, SHALLOW[-1])), first)
        yield (
            difference,
            0,
            f"{name} gives a gradient that differs by {difference:.1e}: keep no state",
        )
    # Algorithms that differ in their warm start alone are equal: what is kept for one must not
    # serve the other.
    problem, algorithm = specimen.make(), specimen.make_algorithm()
    warm = dataclasses.replace(
        algorithm, initial=torch.ones(problem.code_shape, dtype=torch.float64)
    )
    estimator.estimate(problem, algorithm, SHALLOW[-1])
    after, alone = (
        gradient_of(estimator.estimate(made, warm, SHALLOW[-1]))
        for made in (problem, specimen.make())
    )
    difference = distance(after, alone)
    yield (
        difference,
        0,
        f"after a call from another start the gradient differs by {difference:.1e}: keep no state",
    )


@register(specimens("sparse coding", "convolutional", "penalty", "ridge"))
def check_random_state(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """Global random state (torch, numpy, random) is neither read nor changed."""
    untouched = (
        torch.get_rng_state(),
        np.random.get_state(),  # noqa: NPY002  # it is what is checked
        random.getstate(),
    )
    results = []
    try:
        for seed in (1, 2):
            torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            before = _global_states()
            results.append(gradient_of(specimen.estimate(estimator, 4)))
            for library, state in _global_states().items():
                if state != before[library]:
                    raise NotMet(
                        f"draws from the global random state of {library}: use"
                        " pudle.streams.generator(seed, name)"
                    )
    finally:
        torch.set_rng_state(untouched[0])
        np.random.set_state(untouched[1])  # noqa: NPY002
        random.setstate(untouched[2])
    difference = distance(results[1], results[0])
    yield difference, 0, f"the gradient changes by {difference:.1e} with the global random state"


def _global_states() -> dict[str, bytes]:
    """Return the global random states in a form that can be compared."""
    states = {
        "torch": torch.get_rng_state().numpy(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "random": random.getstate(),
    }
    return {library: pickle.dumps(state) for library, state in states.items()}


@register(specimens("sparse coding", "convolutional", "penalty", "ridge"))
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
            raise NotMet(
                "grad mode is switched for the caller: wrap the computation, not a yield, in"
                " enable_grad"
            )
        difference = distance(result, expected)
        yield (
            difference,
            0,
            (
                f"the gradient changes by {difference:.1e} under torch.no_grad: use"
                " torch.enable_grad inside"
            ),
        )
    if before != (torch.get_num_threads(), torch.get_default_dtype()):
        raise NotMet("the number of threads or the default dtype was changed for the whole process")
