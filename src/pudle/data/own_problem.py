"""A dataset of a problem that a function makes, or a class: the options of the one are its
arguments.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import torch

from ..errors import InvalidArgument, SpecError, UnsupportedProblem
from ..files import content_digest, files_in
from ..names import path_options
from ..problems import Problem
from .dataset import Dataset

#: Arguments that are no options: a run chooses them.
CHOSEN = ("seed", "loss", "dtype", "device")


class OwnProblem(Dataset):
    """What `Dataset.of_problem` derives from: its fields are the options of `make`, and `seed`."""

    _make: Callable[..., Problem]
    _takes: frozenset[str]

    def problem(
        self,
        loss: str = "",
        *,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> Problem:
        given = {
            "seed": self.seed,
            "loss": loss or self.losses[0],
            "dtype": dtype,
            "device": device,
        }
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        options |= self._paths() | given
        made: Any = self._make(
            **{name: value for name, value in options.items() if name in self._takes}
        )
        if not isinstance(made, Problem):
            raise InvalidArgument(
                f"{self.name} gives no problem but {type(made).__name__}: return one, such as"
                " pudle.FixedPoint(...)"
            )
        for name, have, wanted in (
            ("dtype", made.theta.dtype, dtype),
            ("device", made.theta.device.type, torch.device(device).type),
        ):
            if have != wanted:
                raise UnsupportedProblem(
                    f"{self.name} gives a problem of {have}, not of {wanted}: let it take {name}"
                )
        return made

    def fingerprint(self) -> str:
        """Return digests of the files that options name."""
        return " ".join(
            content_digest(file) for path in self._paths().values() for file in files_in(path)
        )

    def _paths(self) -> dict[str, Path]:
        values = {name: getattr(self, name) for name in path_options(self)}
        return {
            name: Path(value).expanduser() for name, value in values.items() if value is not None
        }


@functools.cache
def dataset_of(make: Callable[..., Problem]) -> type[Dataset]:
    """Return the class of the datasets whose problem a function or a class makes, see
    `Dataset.of_problem`.
    """
    try:
        parameters = inspect.signature(make, eval_str=True).parameters
    except NameError:
        # An annotation that only type checkers can read.
        parameters = inspect.signature(make).parameters
    fields: list[Any] = [("seed", int, 0)]
    for name, parameter in parameters.items():
        default = (
            str(parameter.default) if isinstance(parameter.default, Path) else parameter.default
        )
        if name in CHOSEN or not (default is parameter.empty or _is_literal(default)):
            continue
        if isinstance(make, type) and default is parameter.empty:
            raise SpecError(
                f"{make.__name__} needs {name}: give it a default, or write a function `problem`"
                " that makes it"
            )
        path = parameter.annotation in (Path, Path | None)
        default = dataclasses.MISSING if default is parameter.empty else default
        kind = Any if parameter.annotation is parameter.empty else parameter.annotation
        fields.append((name, kind, dataclasses.field(default=default, metadata={"path": path})))
    body = {"name": make.__name__, "_make": staticmethod(make), "_takes": frozenset(parameters)}
    body |= {"losses": _losses(parameters), "__doc__": make.__doc__}
    made = dataclasses.make_dataclass(
        make.__name__, fields, bases=(OwnProblem,), namespace=body, frozen=True, kw_only=True
    )
    # Python 3.12 and later put the module there that calls.
    made.__module__ = make.__module__
    return made


def datasets_from(defined: Mapping[str, Any], name: str = "") -> list[type[Dataset]]:
    """Return the datasets of what a file defines, see `Dataset.classes_from`."""
    problems = {
        key: value
        for key, value in defined.items()
        if isinstance(value, type) and issubclass(value, Problem) and not inspect.isabstract(value)
    }
    functions = {key: value for key, value in defined.items() if inspect.isfunction(value)}
    makers = {**functions, **problems}
    if name in makers:
        return [dataset_of(makers[name])]
    if "problem" in functions:
        return [dataset_of(functions["problem"])]
    made = []
    for cls in problems.values():
        with contextlib.suppress(SpecError):
            made.append(dataset_of(cls))
    return made


def _losses(parameters: Any) -> tuple[str, ...]:
    """Return the losses that can be asked for: those of an annotation ``Literal[...]``, else the
    default.
    """
    if "loss" not in parameters:
        return ("own",)
    annotation, default = parameters["loss"].annotation, parameters["loss"].default
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return (default if isinstance(default, str) else "own",)


def _is_literal(value: Any) -> bool:
    """Return whether a spec can hold a value, and a frozen dataclass have it as a default."""
    try:
        return not isinstance(value, (list, dict, set)) and ast.literal_eval(repr(value)) == value
    except (ValueError, SyntaxError):
        return False
