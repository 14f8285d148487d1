"""Checks of the options that several datasets share."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from ..errors import InvalidArgument
from ..validation import check_integer, check_positive


def path_option(default: str | None = None) -> Any:
    """Return a dataclass field for an option that holds a path, which `pudle run` stores as seen
    from the working folder.
    """
    return dataclasses.field(default=default, metadata={"path": True})


def check_options(
    dataset: Any, *, least: Mapping[str, int] | None = None, may_be_zero: Collection[str] = ()
) -> None:
    """Refuse numbers and flags that are out of range.

    The type of an option's default says what the option has to be: a whole number >= 1 (the seed:
    >= 0, those in `least`: at least the number given there), a finite number > 0 (those in
    `may_be_zero`: >= 0, a `density`: <= 1), or True or False; a `folder` is None or text. Other
    options are not checked.
    """
    smallest = {"seed": 0} | dict(least or {})
    for field in dataclasses.fields(dataset):
        name, value = field.name, getattr(dataset, field.name)
        match field.default:
            case bool():
                if not isinstance(value, bool):
                    raise InvalidArgument(
                        f"{name}={value!r} is neither True nor False: give one of these"
                    )
            case int():
                check_integer(name, value, smallest.get(name, 1))
            case float():
                check_positive(name, value, allow_zero=name in may_be_zero)
                if name == "density" and value > 1:
                    raise InvalidArgument(
                        f"density={value} is above 1: it is a probability, give a number in (0, 1]"
                    )
            case None if name == "folder" and not isinstance(value, str | None):
                raise InvalidArgument(
                    f"folder={value!r} is not a path: give the path of a folder of images as a"
                    " string"
                )


def check_at_most(dataset: Any, name: str, bound: str, why: str) -> None:
    """Refuse an option that is larger than another one."""
    value, largest = getattr(dataset, name), getattr(dataset, bound)
    if value > largest:
        raise InvalidArgument(f"{name}={value} is above {bound}={largest}: {why}")


def check_filters(dataset: Any) -> None:
    """Refuse filters that do not fit into the images, and a stride that leaves pixels uncovered."""
    check_at_most(dataset, "kernel", "size", "filters must fit into the images")
    check_at_most(dataset, "stride", "kernel", "it would leave pixels uncovered")
