"""Problems that Python code hands over: named by a digest of all that they consist of, or kept in memory only."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import registry
from ..data import Dataset
from ..errors import InvalidArgument
from ..problems import Problem
from . import sources

PLAIN = (type(None), bool, int, float, str, bytes)


class NotAddressable(Exception):
    """Nothing can say whether two such objects are the same; the text says which part is why."""


@dataclass(frozen=True, eq=False)
class Given(Dataset):
    """A dataset of one problem, whatever the seed."""

    given: Problem = field(repr=False, metadata={"spec": False})
    name: str = field(metadata={"spec": False})  # type: ignore[misc]
    seed: int = 0

    @property
    def losses(self) -> tuple[str, ...]:  # type: ignore[override]
        """The loss of the problem."""
        loss = getattr(self.given, "loss", None)
        return (loss if isinstance(loss, str) else "own",)

    def problem(self, loss: str = "", *, dtype: torch.dtype = torch.float64, device: str | torch.device = "cpu") -> Problem:
        """Return the problem, on the device and in its own precision."""
        if self.given.theta.device.type != torch.device(device).type:
            raise InvalidArgument(f"{self.name} lies on {self.given.theta.device}, not on {device}: move its tensors there")
        return self.given


def address(thing: Any) -> str:
    """Return a digest of all that an object consists of: its tensors, other values, and the source of its classes.

    Raises
    ------
    NotAddressable
        If it holds something without a content of its own, such as a function that remembers variables.
    """
    result = hashlib.sha256()
    for part in _parts(thing, type(thing).__name__):
        result.update(len(part).to_bytes(8, "little") + part)
    return result.hexdigest()[:16]


def _parts(value: Any, place: str) -> Iterator[bytes]:
    kind = type(value)
    yield kind.__qualname__.encode()
    if isinstance(value, PLAIN):
        yield repr(value).encode()
    elif isinstance(value, Tensor):
        dense = value.detach().cpu().contiguous()
        yield f"{dense.dtype} {tuple(dense.shape)}".encode()
        yield dense.flatten().view(torch.uint8).numpy().tobytes()
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from _parts(each, place)
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _parts(name, place)
            yield from _parts(each, f"{place}.{name}")
    elif dataclasses.is_dataclass(value):
        yield _source(kind, place)
        for each in dataclasses.fields(value):
            yield each.name.encode()
            yield from _parts(getattr(value, each.name), f"{place}.{each.name}")
    elif inspect.isfunction(value):
        if value.__closure__ or value.__defaults__ or value.__kwdefaults__:
            raise NotAddressable(f"{place} is a function that remembers variables")
        yield _source(value, place)
    else:
        raise NotAddressable(f"{place} is a {kind.__name__}")


def _source(thing: Any, place: str) -> bytes:
    try:
        return inspect.getsource(thing).encode()
    except (OSError, TypeError) as error:
        raise NotAddressable(f"{place} has no source that can be read") from error


def why_unstorable(group: str, made: Any) -> str:
    """Return why records about an estimator, a dataset or an algorithm cannot be kept; empty if they can.

    A stored record holds as long as no source that it depends on changes, so these sources must be found.
    """
    cls = type(made)
    if isinstance(made, Given):
        try:
            address(made.given)
        except NotAddressable as error:
            return str(error)
        return ""
    hidden = [each.name for each in dataclasses.fields(made) if not each.metadata.get("spec", True)
              and getattr(made, each.name) is not None] if dataclasses.is_dataclass(made) else []  # fmt: skip
    if hidden:
        return f"{cls.__name__} has {' and '.join(hidden)}, which no spec holds"
    known = dict(registry.entries(group)).get(getattr(made, "name", ""))
    if known is not cls and not sources.is_importable(cls):
        return f"{cls.__name__} is defined where other programs cannot import it"
    return ""
