"""A readable form of records that hold tensors: shapes and facts instead of numbers."""

import dataclasses
from collections.abc import Mapping
from typing import Any

#: Characters after which a text is cut.
LONGEST = 60


def described(record: Any) -> str:
    """Return a dataclass as ``Name(tensor=(3, 4), number=0.2)``: shapes for tensors, names for
    functions, no defaults.
    """
    shown = [
        f"{field.name}={short(value)}"
        for field in dataclasses.fields(record)
        if field.repr
        and (value := getattr(record, field.name)) is not None
        and value is not field.default
    ]
    return f"{type(record).__name__}({', '.join(shown)})"


def short(value: Any) -> str:
    """Return a value in few characters."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        shown = f"{tuple(value.shape)}" if value.ndim else f"{value.item():.4g}"
        kind, device = str(value.dtype).removeprefix("torch."), str(value.device)
        return " ".join(each for each in (shown, kind, device) if each not in ("float64", "cpu"))
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {short(item)}" for name, item in value.items()) + "}"
    if dataclasses.is_dataclass(value):
        return repr(value)
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
