"""The thresholds of the comparison: how much worse an estimator may become."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pudle.errors import InvalidArgument
from pudle.measuring.commits.turns import TimeLimit


@dataclass(frozen=True)
class ErrorLimit:
    """How much an error may grow, where errors below `floor` count as equal to it.

    On one machine with one set of libraries errors are deterministic, and may grow by the factor
    `ratio`. Elsewhere sums are taken in another order, which can change a code's support, and they
    may grow by the factor `elsewhere`.
    """

    ratio: float = 1.01
    elsewhere: float = 1.25
    floor: float = 1e-14


@dataclass(frozen=True)
class MemoryLimit:
    """How much memory above a process that estimates nothing may grow: by `ratio` or `mebibytes`,
    whichever allows more.
    """

    ratio: float = 1.3
    mebibytes: float = 4.0


@dataclass(frozen=True)
class Limits:
    """The thresholds of every metric."""

    relative_error: ErrorLimit = ErrorLimit()
    absolute_error: ErrorLimit = ErrorLimit()
    # Of second order in the relative error: the same loss of accuracy is its square, and so is the
    # floor.
    cosine_error: ErrorLimit = ErrorLimit(ratio=1.02, elsewhere=1.6, floor=1e-28)
    code_error: ErrorLimit = ErrorLimit(floor=1e-12)
    # A share of a few hundred samples: below a hundredth, one sample more or less would change it
    # by a factor.
    support_error: ErrorLimit = ErrorLimit(floor=0.01)
    seconds: TimeLimit = TimeLimit()
    memory_bytes: MemoryLimit = MemoryLimit()
    # Errors up to this many times the reference's bound count as equal: an error of that size is
    # rounding in the estimate and the reference, and a mere reordering of sums changes it by a
    # factor.
    floor_multiple: float = 10.0

    def of_error(self, metric: str) -> ErrorLimit:
        """Return the threshold of an error, which is the usual one where no other is stated."""
        return getattr(self, metric, ErrorLimit())

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Limits:
        """Return the defaults, changed by a table such as ``[tool.pudle.compare]`` in a
        ``pyproject.toml``.

        An unknown metric or threshold is refused, and so is a value that is not a positive number.
        """
        return _changed(cls(), table, "[tool.pudle.compare]")

    @classmethod
    def of_repository(cls, root: Path) -> Limits:
        """Return the thresholds that the ``pyproject.toml`` of a repository states, see `of`; the
        file may be missing.
        """
        path = root / "pyproject.toml"
        try:
            content = tomllib.loads(path.read_text()) if path.exists() else {}
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"{path} cannot be read ({error}): correct it") from None
        return cls.of(content.get("tool", {}).get("pudle", {}).get("compare", {}))


def _changed(limits: Any, table: Mapping[str, Any], where: str) -> Any:
    changes: dict[str, Any] = {}
    known = {item.name: getattr(limits, item.name) for item in dataclasses.fields(limits)}
    for name, value in table.items():
        if name not in known:
            raise InvalidArgument(f"{where} has no entry {name!r}: known are {', '.join(known)}")
        if dataclasses.is_dataclass(known[name]):
            if not isinstance(value, Mapping):
                raise InvalidArgument(f"{where} {name}={value!r} is not a table of thresholds")
            changes[name] = _changed(known[name], value, f"{where} {name}")
        elif (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not 0 < value < math.inf
        ):
            raise InvalidArgument(f"{where} {name}={value!r} is not a positive number")
        else:
            changes[name] = float(value)
    return dataclasses.replace(limits, **changes)
