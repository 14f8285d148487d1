"""The choice between compiled kernels and the plain torch path, and how kernels are compiled."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import os
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from .errors import InvalidArgument

if TYPE_CHECKING:
    import numpy as np

#: Name of the environment variable that chooses, and what it may be.
VARIABLE, CHOICES = "PUDLE_KERNELS", ("numba", "torch")
Function = TypeVar("Function", bound=Callable[..., object])
Place = TypeVar("Place", contravariant=True)
Entry = TypeVar("Entry")
_version, _find_spec = functools.cache(version), functools.cache(find_spec)


class CompiledArray(Protocol[Place, Entry]):
    """An array as compiled code uses it, one entry at a time."""

    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, place: Place, /) -> Entry: ...
    def __setitem__(self, place: Place, entry: Entry, /) -> None: ...


#: Arrays with one axis, two and three, whichever their precision.
Vector = CompiledArray[int, float]
Matrix = CompiledArray[tuple[int, int], float]
Cube = CompiledArray[tuple[int, int, int], float]
#: Whole numbers, such as those of atoms.
Indices = CompiledArray[int, int]


def chosen_path() -> str:
    """Return what computations run on: ``numba``, the compiled kernels where there are some, or
    ``torch`` alone.

    It is what the environment variable PUDLE_KERNELS says now, if that is set and not empty,
    whether numba is installed or not; else numba where it is installed, and torch elsewhere.

    Raises
    ------
    InvalidArgument
        If the variable is set to anything else.
    """
    chosen = os.environ.get(VARIABLE) or ("numba" if _find_spec("numba") else "torch")
    if chosen not in CHOICES:
        raise InvalidArgument(
            f"the environment variable {VARIABLE}={chosen!r} is unknown: set it to numba or torch"
        )
    return chosen


def description() -> str:
    """Return the choice with its version, such as ``numba 0.61.0``."""
    return f"numba {_version('numba')}" if chosen_path() == "numba" else "torch"


def compiled(
    *, nogil: bool = False, error_model: Literal["python", "numpy"] = "python"
) -> Callable[[Function], Function]:
    """Return a decorator by which numba compiles a function, when it is first called with some
    types, and keeps the result in its cache.

    Multiplication and addition may become one instruction; nothing else may change the order or the
    handling of NaN. The cache lies where NUMBA_CACHE_DIR says, or in the user's folder for caches.
    Where no folder for it can be written to, each process compiles anew. Imports numba.
    """
    import numba  # slow to import, and only needed where kernels are used

    def decorate(function: Function) -> Function:
        """Return the compiled function, with the cache of this package where there is a folder for
        one.
        """
        compiler = numba.njit(fastmath={"contract"}, nogil=nogil, error_model=error_model)
        dispatcher: Any = compiler(function)
        with contextlib.suppress(RuntimeError):
            dispatcher._cache = _cache_type()(function)
        compiled: Function = dispatcher
        return compiled

    return decorate


def compiled_part(function: Function) -> Function:
    """Compile a part of `compiled` functions, in whose caches it is kept."""
    return _part(function)


def inlined_part(function: Function) -> Function:
    """Compile a part that costs less than a call."""
    return _part(function, forceinline=True)


def _part(function: Function, **options: Any) -> Function:
    """Compile a function with options of numba, so that compiled functions alone can call it.

    Division by zero gives infinity or NaN in it, as in numpy.
    """
    import numba  # as above

    # Python never calls it: what would let it do so takes long to compile.
    options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    dispatcher: Function = numba.njit(fastmath={"contract"}, error_model="numpy", **options)(
        function
    )
    return dispatcher


@functools.cache
def announce_compilation() -> None:
    """Log a warning, once in a process, of why its first call takes so long."""
    logging.getLogger("pudle").warning(
        "pudle: compiling kernels, which takes some seconds at the first call and is kept"
    )


@functools.cache
def _cache_type() -> type:
    """Return numba's cache of a function, kept outside the package, which survives a damaged file,
    and two processes that write to it at once.

    Numba itself ends with the error of whatever reads a damaged file. Two processes that compile
    for different dtypes would choose one name for their files, and each would find the code of the
    other.
    """
    from numba.core import caching

    class CacheImplementation(caching.CompileResultCacheImpl):
        # Beside the sources, pip would leave the files and so a package without modules: that is
        # the last resort, for who has no folder that can be written to.
        _locator_classes = sorted(
            caching.CompileResultCacheImpl._locator_classes,
            key=lambda locator: "InTree" in locator.__name__,
        )

    # numba states no types of what is called below.
    class Cache(caching.FunctionCache):
        _impl_class = CacheImplementation

        def load_overload(self, *arguments: object) -> object:
            """Return the compiled code that the cache has, or None where it has none or is damaged,
            which removes it; then a warning is logged once.
            """
            try:
                loaded: object = super().load_overload(*arguments)  # type: ignore[no-untyped-call]
            except Exception:  # noqa: BLE001  # damaged bytes raise whatever they happen to say
                self.flush()  # type: ignore[no-untyped-call]
                loaded = None
            if loaded is None:
                announce_compilation()
            return loaded

        def save_overload(self, *arguments: object) -> None:
            """Write to the cache, one process at a time; a damaged index is removed first."""
            with open(self._py_func.__code__.co_filename, "rb") as lock:
                # Some file systems know no locks.
                with contextlib.suppress(OSError):
                    fcntl.flock(lock, fcntl.LOCK_EX)
                try:
                    super().save_overload(*arguments)  # type: ignore[no-untyped-call]
                except Exception:  # noqa: BLE001  # as above: the index is read first
                    self.flush()  # type: ignore[no-untyped-call]
                    super().save_overload(*arguments)  # type: ignore[no-untyped-call]

    return Cache
