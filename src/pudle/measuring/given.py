"""Problems that Python code hands over: named by a digest of all that they consist of, or kept in
memory only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

import torch
from torch import Tensor

from .. import names
from ..data import Dataset
from ..errors import InvalidArgument, UnsupportedProblem
from ..problems import Problem
from . import sources

PLAIN = (type(None), bool, int, float, str, bytes)


class NotAddressable(Exception):
    """Nothing can say whether two such objects are the same; the text says which part is why."""


@dataclass(frozen=True, eq=False)
class Given(Dataset):
    """A dataset of one problem, whatever the seed.

    Parameters
    ----------
    given : Problem
    of, digest : str
        Its class, and the digest of its content; of one without an address, a number of this
        process.
    seed : int
    """

    given: Problem = field(repr=False, metadata={"spec": False})
    of: str
    digest: str
    seed: int = 0

    name = "given"

    @property
    def losses(self) -> tuple[str, ...]:  # type: ignore[override]
        """The loss of the problem."""
        loss = getattr(self.given, "loss", None)
        return (loss if isinstance(loss, str) else "own",)

    def problem(
        self,
        loss: str = "",
        *,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> Problem:
        """Return the problem, in its own precision, where it lies on the device and has the loss."""
        if loss and loss not in self.losses:
            raise UnsupportedProblem(
                f"{self.of} has the loss {self.losses[0]}, not {loss}: make another problem with it"
            )
        if self.given.theta.device.type != torch.device(device).type:
            raise InvalidArgument(
                f"{self.of} lies on {self.given.theta.device}, not on {device}: move its tensors"
                " there"
            )
        return self.given


def given(problem: Problem) -> Given:
    """Return the dataset of one problem."""
    try:
        digest = address(problem)
    except NotAddressable:
        digest = f"{id(problem):x}"
    return Given(problem, type(problem).__name__, digest)


def address(thing: Any) -> str:
    """Return a digest of all that an object consists of: tensors, other values, functions with what
    they use, classes.

    Raises
    ------
    NotAddressable
        If it holds something whose content cannot be read, such as a class of a notebook.
    """
    result = hashlib.sha256()
    for part in _parts(thing, type(thing).__name__, frozenset()):
        result.update(len(part).to_bytes(8, "little") + part)
    return result.hexdigest()[:16]


def _parts(value: Any, place: str, around: frozenset[int]) -> Iterator[bytes]:
    """Yield the contents of a value; `around` are the functions in which it was found."""
    kind = type(value)
    yield kind.__qualname__.encode()
    if isinstance(value, PLAIN):
        yield repr(value).encode()
    elif isinstance(value, Tensor):
        dense = value.detach().cpu().contiguous()
        yield f"{dense.dtype} {tuple(dense.shape)}".encode()
        yield dense.flatten().view(torch.uint8).numpy().tobytes()
    elif isinstance(value, (tuple, list)):
        yield str(len(value)).encode()
        for each in value:
            yield from _parts(each, place, around)
    elif isinstance(value, Mapping):
        yield from _parts(tuple(value.items()), place, around)
    elif inspect.ismodule(value) or isinstance(value, type) or inspect.isbuiltin(value):
        yield _importable(value, place)
    elif inspect.isfunction(value):
        yield from _function_parts(value, place, around)
    elif dataclasses.is_dataclass(value):
        yield _importable(kind, place)
        for each in dataclasses.fields(value):
            yield each.name.encode()
            yield from _parts(getattr(value, each.name), f"{place}.{each.name}", around)
    else:
        raise NotAddressable(f"{place} is a {kind.__name__}")


def _function_parts(function: Any, place: str, around: frozenset[int]) -> Iterator[bytes]:
    """Yield the source of a function, and the contents of its defaults and of the variables that it
    uses from outside.
    """
    if id(function) in around:
        return
    if (
        function.__module__ != "__main__"
        and "<locals>" not in function.__qualname__
        and "<lambda>" not in function.__qualname__
    ):
        yield _importable(function, place)
        return
    try:
        yield inspect.getsource(function).encode()
    except (OSError, TypeError):
        raise NotAddressable(f"{place} is a function whose source cannot be read") from None
    used: dict[str, Any] = dict(inspect.getclosurevars(function).nonlocals)
    known, names = function.__globals__, _names(function.__code__)
    used |= {name: known[name] for name in names if name in known}
    inside = around | {id(function)}
    yield from _parts((function.__defaults__, function.__kwdefaults__), place, inside)
    for name in sorted(used):
        yield name.encode()
        yield from _parts(used[name], f"{name} in {place}", inside)


def _names(code: CodeType) -> set[str]:
    """Return the names that code uses, that of the functions in it included."""
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return {*code.co_names}.union(*map(_names, inner))


def _importable(thing: Any, place: str) -> bytes:
    """Return the name and the source file of a module, class or function that other programs can
    import as well.
    """
    module = thing.__name__ if inspect.ismodule(thing) else thing.__module__ or "builtins"
    name = f"{module}.{getattr(thing, '__qualname__', '')}"
    try:
        file = getattr(importlib.import_module(module), "__file__", None)
    except ImportError:
        file = None
    if module == "__main__" or (
        file is None and module not in sys.builtin_module_names and not inspect.isbuiltin(thing)
    ):
        raise NotAddressable(
            f"{place} is {getattr(thing, '__name__', name)}, which other programs cannot import"
        )
    # Of a compiled file the bytes count as well.
    return name.encode() + (Path(file).read_bytes() if file else b"")


def why_unstorable(group: str, made: Any) -> str:
    """Return why records about an estimator, a dataset or an algorithm cannot be kept; empty if
    they can.

    A stored record holds as long as no source that it depends on changes, so these sources must be
    found.
    """
    cls = type(made)
    if isinstance(made, Given):
        try:
            address(made.given)
        except NotAddressable as error:
            return str(error)
        return ""
    hidden = (
        [
            each.name
            for each in dataclasses.fields(made)
            if not each.metadata.get("spec", True) and getattr(made, each.name) is not each.default
        ]
        if dataclasses.is_dataclass(made)
        else []
    )
    if hidden:
        return f"{cls.__name__} has {' and '.join(hidden)}, which no spec holds"
    known = dict(names.entries(group)).get(getattr(made, "name", ""))
    if known is not cls and not sources.is_importable(cls):
        return f"{cls.__name__} is defined where other programs cannot import it"
    return ""
