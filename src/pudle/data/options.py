"""Checks of the options that several datasets share."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from ..errors import InvalidArgument
from ..validation import check_integer, check_positive, check_share


def path_option(default: Any = None) -> Any:
    """Return a dataclass field for an option that holds a path, which `pudle run` stores as seen
    from the working folder.
    """
    return dataclasses.field(default=default, metadata={"path": True})


def check_options(
    dataset: Any, *, least: Mapping[str, int] | None = None, may_be_zero: Collection[str] = ()
) -> None:
    """Refuse numbers that are out of range.

    The type of an option's default (of its value where the default is None) says what the option
    has to be: a whole number >= 1 (the seed: >= 0, those in `least`: at least the number given
    there), or a finite number > 0 (those in `may_be_zero`: >= 0, a `density`: <= 1). Other options
    are not checked.
    """
    smallest = {"seed": 0} | dict(least or {})
    for field in dataclasses.fields(dataset):
        name, value = field.name, getattr(dataset, field.name)
        match value if field.default is None else field.default:
            case bool():
                pass
            case int():
                check_integer(name, value, smallest.get(name, 1))
            case float() if name == "density":
                check_share(name, value)
            case float():
                check_positive(name, value, allow_zero=name in may_be_zero)


def check_at_most(dataset: Any, name: str, bound: str, why: str) -> None:
    """Refuse an option that is larger than another one."""
    value, largest = getattr(dataset, name), getattr(dataset, bound)
    if value > largest:
        raise InvalidArgument(f"{name}={value} is above {bound}={largest}: {why}")


def check_filters(dataset: Any) -> None:
    """Refuse filters that do not fit into the images, and a stride that leaves pixels uncovered."""
    check_at_most(dataset, "kernel", "size", "filters must fit into the images")
    check_at_most(dataset, "stride", "kernel", "it would leave pixels uncovered")
