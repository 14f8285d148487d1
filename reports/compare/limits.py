"""The thresholds of the comparison: how much worse an estimator may become."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import msgspec

from pudle.errors import InvalidArgument

Positive = Annotated[float, msgspec.Meta(gt=0)]


class _Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class ErrorLimit(_Limit):
    """How much an error may grow, where errors below `floor` count as equal to it.

    On one machine with one set of libraries errors are deterministic, and may grow by the factor
    `ratio`. Elsewhere sums are taken in another order, which can change a code's support, and they
    may grow by the factor `elsewhere`.
    """

    ratio: Positive = 1.01
    elsewhere: Positive = 1.25
    floor: Positive = 1e-14


class MemoryLimit(_Limit):
    """How much memory above a process that estimates nothing may grow: by `ratio` or `mebibytes`,
    whichever allows more.
    """

    ratio: Positive = 1.3
    mebibytes: Positive = 4.0


class TimeLimit(_Limit):
    """How much slower an estimate may become: by `ratio`, at the false discovery rate
    `significance`.
    """

    ratio: Positive = 1.3
    significance: Positive = 0.01


class Limits(_Limit):
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
    floor_multiple: Positive = 10.0

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Self:
        """Return the defaults, changed by a table such as ``[tool.pudle.compare]`` in a
        ``pyproject.toml``; unknown names and unusable values raise InvalidArgument.
        """
        content = msgspec.to_builtins(cls())
        for name, value in table.items():
            nested = isinstance(value, dict) and isinstance(content.get(name), dict)
            content[name] = content[name] | value if nested else value
        try:
            return msgspec.convert(content, cls)
        except msgspec.ValidationError as error:
            raise InvalidArgument(
                f"[tool.pudle.compare] cannot be used ({error}): it may have positive numbers for"
                f" {', '.join(cls.__struct_fields__)}"
            ) from None

    @classmethod
    def of_repository(cls, root: Path) -> Self:
        """Return the thresholds that the ``pyproject.toml`` of a repository states, see `of`; the
        file may be missing.
        """
        path = root / "pyproject.toml"
        try:
            content = tomllib.loads(path.read_text()) if path.exists() else {}
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"{path} cannot be read ({error}): correct it") from None
        return cls.of(content.get("tool", {}).get("pudle", {}).get("compare", {}))
