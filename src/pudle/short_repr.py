"""A readable form of records that hold tensors: shapes and facts instead of numbers."""

import dataclasses
from collections.abc import Mapping
from typing import Any

#: Characters after which a text is cut.
LONGEST = 60


def short_repr(record: Any) -> str:
    """Return a dataclass as ``Name(tensor=(3, 4), number=0.2)``: shapes for tensors, names for
    functions.

    Fields that are None, or the default itself, are left out.
    """
    arguments = []
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if field.repr and value is not None and value is not field.default:
            arguments.append(f"{field.name}={abbreviate(value)}")
    return f"{type(record).__name__}({', '.join(arguments)})"


def abbreviate(value: Any) -> str:
    """Return a value in few characters: shapes for tensors, four digits of a number, names for
    functions, and at most 60 characters of anything but a record or a mapping.
    """
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _abbreviate_tensor(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {abbreviate(held)}" for key, held in value.items()) + "}"
    if dataclasses.is_dataclass(value):
        return repr(value)
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _abbreviate_tensor(tensor: Any) -> str:
    """Return the shape of a tensor or an array, or its number, and its dtype and device unless they
    are the usual ones.
    """
    words = [f"{tuple(tensor.shape)}" if tensor.ndim else f"{tensor.item():.4g}"]
    dtype, device = str(tensor.dtype).removeprefix("torch."), str(tensor.device)
    if dtype != "float64":
        words.append(dtype)
    if device != "cpu":
        words.append(device)
    return " ".join(words)
