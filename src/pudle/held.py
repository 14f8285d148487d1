"""Objects of Python code that take part in a run: while they are held, specs that stand for them
make these very objects.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

#: Empty but within `holding`.
_HELD: ContextVar[Mapping[tuple[str, str], Any]] = ContextVar("pudle held objects", default={})  # noqa: B039  # never changed


@contextlib.contextmanager
def holding(objects: Mapping[tuple[str, str], Any]) -> Iterator[None]:
    """Let specs stand for objects within this context, in this process and in copies of it.

    The keys are pairs: the group, such as ``estimators``, and the spec.
    """
    token = _HELD.set({**_HELD.get(), **objects})
    try:
        yield
    finally:
        _HELD.reset(token)


def held(group: str, spec: str) -> Any | None:
    """Return the object that a spec stands for here, or None."""
    return _HELD.get().get((group, spec))
