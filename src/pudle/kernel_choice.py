"""The choice between compiled kernels and the plain torch path, and how kernels are compiled."""

import contextlib
import fcntl
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
    """Return which path is taken, ``numba`` or ``torch``: the environment variable PUDLE_KERNELS,
    if it is set.

    Raises
    ------
    InvalidArgument
        If the variable is set to anything else.
    """
    chosen = os.environ.get(VARIABLE) or ("numba" if importlib.util.find_spec("numba") else "torch")
    if chosen not in CHOICES:
        raise InvalidArgument(
            f"the environment variable {VARIABLE}={chosen!r} is unknown: set it to numba or torch"
        )
    return chosen


def description() -> str:
    """Return the choice with its version, such as ``numba 0.61.0``."""
    return f"numba {_numba_version()}" if choice() == "numba" else "torch"


@functools.cache
def _numba_version() -> str:
    return importlib.metadata.version("numba")


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator by which numba compiles a function and keeps the result in its cache.

    Multiplication and addition may become one instruction; nothing else may change the order or the
    handling of NaN. Where no folder for the cache can be written to, each process compiles anew.
    """
    import numba  # slow to import, and only needed where kernels are used

    options = {"fastmath": {"contract"}, **options}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            dispatcher = numba.njit(cache=True, **options)(function)
        except RuntimeError:
            return numba.njit(**options)(function)
        _mend(dispatcher._cache, function.__code__.co_filename)
        return dispatcher

    return decorate


def _mend(cache: Any, source: str) -> None:
    """Let a cache of numba survive a damaged file, and two processes that write to it at once.

    Numba itself ends with the error of whatever reads a damaged file. Two processes that compile
    for different dtypes would choose one name for their files, and each would find the code of the
    other.
    """
    load, save = cache.load_overload, cache.save_overload

    def load_or_compile(*arguments: Any) -> Any:
        try:
            return load(*arguments)
        except Exception:  # noqa: BLE001  # damaged bytes raise whatever they happen to say
            cache.flush()
            return None

    def save_alone(*arguments: Any) -> None:
        with open(source, "rb") as lock:
            # Some file systems know no locks.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                save(*arguments)
            except Exception:  # noqa: BLE001  # as above: the index is read before it is written
                cache.flush()
                save(*arguments)

    cache.load_overload, cache.save_overload = load_or_compile, save_alone
