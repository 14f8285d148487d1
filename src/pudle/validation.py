"""Checks of arguments: each error is one line that names the argument and the remedy."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Collection, Mapping
from math import inf, isfinite
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from .errors import InvalidArgument
from .text import count

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


def check_integer(name: str, value: object, minimum: int) -> int:
    """Return `value` as an int, or raise InvalidArgument unless it is an integer, not a boolean, of
    at least `minimum`.
    """
    flaw = "not an integer"
    if isinstance(value, Integral) and not isinstance(value, bool):
        if (number := int(value)) >= minimum:
            return number
        flaw = "too small"
    raise InvalidArgument(f"{name}={value!r} is {flaw}: give a whole number >= {minimum}")


def check_positive(
    name: str, value: object, *, allow_zero: bool = False, most: float = inf
) -> float:
    """Return `value` as a float, or raise InvalidArgument unless it is a finite positive number, at
    most `most`; zero only if `allow_zero`.
    """
    flaw = "not a finite number"
    if isinstance(value, Real) and not isinstance(value, bool) and isfinite(value):
        number = float(value)
        if (number > 0 or (number == 0 and allow_zero)) and number <= most:
            return number
        flaw = "out of range"
    limit = f" and <= {most}" if most < inf else ""
    raise InvalidArgument(
        f"{name}={value!r} is {flaw}: give a number {'>=' if allow_zero else '>'} 0{limit}"
    )


def check_choice(name: str, value: T, choices: Collection[T]) -> T:
    """Return `value`, or raise InvalidArgument unless it is one of `choices`."""
    if value not in choices:
        raise InvalidArgument(
            f"{name}={value!r} is unknown: choose from {', '.join(map(str, choices))}"
        )
    return value


@functools.lru_cache(maxsize=256)
def type_hints(cls: type) -> dict[str, Any]:
    """Return a class's annotations as types, made once: a survey asks for them for thousands of
    objects of a few classes.
    """
    return get_type_hints(cls)


def check_options(
    record: Any,
    *,
    least: Mapping[str, int] = {},
    may_be_zero: Collection[str] = (),
    below_one: Collection[str] = (),
    at_most: Mapping[str, str | int] = {},
) -> None:
    """Raise InvalidArgument for options of a dataclass that are out of range, by their annotations;
    it may be the ``__post_init__`` itself.

    A whole number is at least 1 (a seed: 0, those in `least`: as given there), another number
    positive (those in `may_be_zero`: or zero, a `density` and a `damping`: at most 1, those in
    `below_one`: below 1), a text one of a literal's. An option whose default is None may be None.
    Those in `at_most` are no greater than a number or another option.
    """
    hints = type_hints(record.__class__)
    smallest = {"seed": 0, **least}
    for option in dataclasses.fields(record):
        name, value, kind = option.name, getattr(record, option.name), hints[option.name]
        if value is None and option.default is None:
            continue
        if get_origin(kind) is Literal:
            check_choice(name, value, get_args(kind))
        elif kind in (int, int | None):
            check_integer(name, value, smallest.get(name, 1))
        elif kind in (float, float | None):
            most = 1 if name in ("density", "damping") else inf
            check_positive(name, value, allow_zero=name in may_be_zero, most=most)
    for name in below_one:
        if (value := getattr(record, name)) >= 1:
            raise InvalidArgument(f"{name}={value}: give a number below 1")
    for name, bound in at_most.items():
        value, largest = getattr(record, name), getattr(record, str(bound), bound)
        if value > largest:
            limit = largest if bound is largest else f"{bound}={largest}"
            raise InvalidArgument(f"{name}={value} is above {limit}: give at most that")


class CheckedOptions:
    """A dataclass that refuses options out of range, see `check_options`, when it is made."""

    def __post_init__(self) -> None:
        check_options(self)


def as_tensor(value: object) -> Tensor:
    """Return a tensor as it is, and an array or a data frame as a tensor, in the same memory unless
    it runs backwards or must not be written to, which torch refuses or warns of.
    """
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        return value
    array = np.require(value, requirements="W")
    return torch.as_tensor(array.copy() if min(array.strides, default=0) < 0 else array)


def plain_tensor(value: Any) -> Any:
    """Return a tensor of a subclass as a plain one in the same memory, and anything else as it is.

    A subclass may have a norm or a difference of its own. One that takes torch's operations over,
    so that its entries may lie elsewhere, has no plain form, and stays what it is.
    """
    import torch

    kind = type(value)
    if kind is torch.Tensor or not isinstance(value, torch.Tensor):
        return value
    if kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return value
    with torch._C.DisableTorchFunctionSubclass():
        return torch.Tensor.as_subclass(value, torch.Tensor)


def check_tensor(name: str, value: object, shape: str | None) -> Tensor:
    """Return a tensor, an array or a data frame as a tensor with as many axes as `shape`, such as
    ``"(n, m)"``, names; a tensor itself, not a copy.

    Any number of axes will do if `shape` is None.

    Raises
    ------
    InvalidArgument
        If it is not a dense tensor of float32 or float64, or has the wrong number of axes, no
        entries, or entries that are NaN or infinite.
    """
    import torch  # not at the top, because reading specs and help texts does not need it

    expected = f"a tensor of shape {shape}" if shape else "a tensor"
    try:
        tensor = as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidArgument(f"{name} is a {type(value).__name__}: give {expected}") from error
    size = tuple(tensor.shape)
    if tensor.dtype not in (torch.float32, torch.float64):
        kind = str(tensor.dtype).removeprefix("torch.")
        problem = f"has dtype {kind}: convert it to float32 or float64, e.g. {name}.double()"
    elif tensor.layout != torch.strided or tensor.is_meta or tensor.is_nested:
        problem = f"is a sparse, nested or meta tensor: give a dense one, e.g. {name}.to_dense()"
    elif shape and tensor.ndim != len(re.findall(r"\w+", shape)):
        problem = f"has shape {size}: give {expected}"
    elif tensor.numel() == 0:
        problem = f"has shape {size}, which is empty: give at least one entry per axis"
    # A finite sum has finite terms, and is far cheaper than a look at each.
    elif not isfinite(tensor.detach().sum()) and not tensor.isfinite().all():
        entries = count(int((~tensor.isfinite()).sum()), "entry that is", "entries that are")
        problem = f"has {entries} NaN or infinite: remove or replace what is not finite"
    else:
        return tensor
    raise InvalidArgument(f"{name} {problem}")


def check_scalar(name: str, value: object, like: Tensor | None = None) -> Tensor:
    """Return the value of a user's function `name` as a tensor without axes, or raise
    InvalidArgument unless it is a tensor of one real number, in no lower precision than another
    tensor, `like`.
    """
    import torch

    if isinstance(value, torch.Tensor) and value.numel() == 1 and value.is_floating_point():
        if like is None or value.dtype.itemsize >= like.dtype.itemsize:
            return value.reshape(())
        raise InvalidArgument(
            f"{name} returns {value.dtype}, less precise than theta: convert data with .to(theta)"
        )
    kind = type(value).__name__
    if isinstance(value, torch.Tensor):
        kind = f"{value.dtype} of shape {tuple(value.shape)}"
    raise InvalidArgument(
        f"{name} returns {kind}: return one real number as a tensor, such as a mean over samples"
    )


def check_nonzero(name: str, tensor: Tensor) -> None:
    """Raise InvalidArgument if a tensor has only zeros: no step size follows from it."""
    if not tensor.any():
        raise InvalidArgument(f"{name} has only zeros: give at least one entry another value")


def check_alike(name: str, tensor: Tensor, other_name: str, other_tensor: Tensor) -> None:
    """Raise InvalidArgument if two tensors differ in dtype or device."""
    pairs = {
        "dtype": (tensor.dtype, other_tensor.dtype),
        "device": (tensor.device, other_tensor.device),
    }
    for kind, (value, other_value) in pairs.items():
        if value != other_value:
            raise InvalidArgument(
                f"{name} and {other_name} differ in {kind} ({value} and {other_value}): convert"
                " one, e.g."
                f" {name}.to({other_name})"
            )
