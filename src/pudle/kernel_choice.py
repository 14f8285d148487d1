"""The choice between compiled kernels and the plain torch path, and how kernels are compiled."""

import functools
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable
from typing import Any

from .errors import InvalidArgument

#: Name of the environment variable that chooses, and what it may be.
VARIABLE, CHOICES = "PUDLE_KERNELS", ("numba", "torch")


def choice() -> str:
    """Return which path is taken, ``numba`` or ``torch``: the environment variable PUDLE_KERNELS, if it is set.

    Raises
    ------
    InvalidArgument
        If the variable is set to anything else.
    """
    chosen = os.environ.get(VARIABLE) or ("numba" if importlib.util.find_spec("numba") else "torch")
    if chosen not in CHOICES:
        raise InvalidArgument(f"the environment variable {VARIABLE}={chosen!r} is unknown: set it to numba or torch")
    return chosen


def description() -> str:
    """Return the choice with its version, such as ``numba 0.61.0``."""
    return f"numba {_numba_version()}" if choice() == "numba" else "torch"


@functools.cache
def _numba_version() -> str:
    return importlib.metadata.version("numba")


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator by which numba compiles a function and keeps the result in its cache.

    Multiplication and addition may become one instruction; nothing else may change the order or the handling of NaN. Where
    no folder for the cache can be written to, each process compiles anew.
    """
    import numba  # slow to import, and only needed where kernels are used

    options = {"fastmath": {"contract"}, **options}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:
            return numba.njit(**options)(function)

    return decorate
