"""Checks of the options that several datasets share."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..errors import InvalidArgument


def path_option(default: Any = None) -> Any:
    """Return a dataclass field for an option that holds a path, which `pudle run` stores as seen
    from the working folder.
    """
    return dataclasses.field(default=default, metadata={"path": True})


def check_at_most(dataset: Any, name: str, bound: str, why: str) -> None:
    """Refuse an option that is larger than another one."""
    value, largest = getattr(dataset, name), getattr(dataset, bound)
    if value > largest:
        raise InvalidArgument(f"{name}={value} is above {bound}={largest}: {why}")


def check_filters(dataset: Any) -> None:
    """Refuse filters that do not fit into the images, and a stride that leaves pixels uncovered."""
    check_at_most(dataset, "kernel", "size", "filters must fit into the images")
    check_at_most(dataset, "stride", "kernel", "it would leave pixels uncovered")
