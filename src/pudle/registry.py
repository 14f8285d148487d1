"""Find estimators, datasets, algorithms and so on: entry points, built in or of a plug-in, or
classes in a user's own file.

The registry knows none of the classes that it returns, so that every room can ask it; `pudle`
itself has the types.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pudle

from . import source_files, specs
from .errors import SpecError
from .held import held
from .plugins import KINDS, PACKAGE, Broken, Entries, check_class, entries
from .plugins import broken as broken


def list_estimators() -> dict[str, Any]:
    """Return every registered estimator as ``{name: class}``."""
    return dict(entries("estimators"))


def list_datasets() -> dict[str, Any]:
    """Return every registered dataset as ``{name: class}``."""
    return dict(entries("datasets"))


def list_profiles() -> dict[str, Any]:
    """Return every profile as ``{name: selection}``; the name of a broken one raises PudleError."""
    profiles = entries("profiles")
    return Entries(profiles, profiles.broken, profiles.origins)


def list_studies() -> dict[str, dict[str, Any]]:
    """Return every study as ``{name: {name: experiment}}``; each entry point of
    ``pudle.experiments`` is a study.
    """
    return dict(entries("experiments"))


def list_experiments() -> dict[str, Any]:
    """Return every experiment of every study as ``{name: experiment}``."""
    return {
        name: experiment for study in list_studies().values() for name, experiment in study.items()
    }


def make_estimator(spec: str) -> Any:
    """Make an estimator from a spec: a name, which may be an alias from the literature, or a file
    of the user's own.

    Examples are ``"truncated(window=10)"`` and ``"path/file.py:Mine(window=10)"``; a file named
    without a class holds one.

    Raises
    ------
    SpecError
        If the spec is malformed, or its name is unknown (the text suggests the nearest name) or
        that of a broken plug-in, or the file cannot be used.
    """
    return _make("estimators", spec)


def make_dataset(spec: str) -> Any:
    """Make a dataset from a spec such as ``"sparse_gaussian(n_samples=1000, seed=0)"``."""
    return _make("datasets", spec)


def make_algorithm(spec: str) -> Any:
    """Make an inner algorithm from a spec such as ``"ista(step=0.2)"``."""
    return _make("algorithms", spec)


def make_thresholding(spec: str) -> Any:
    """Make a thresholding rule from a spec such as ``"decaying(decay=0.99)"``."""
    return _make("thresholding", spec)


def make_optimizer(spec: str) -> Any:
    """Make an optimizer from a spec such as ``"adam(learning_rate=1e-3, epsilon=1e-8)"``."""
    return _make("optimizers", spec)


def make_schedule(spec: str) -> Any:
    """Make a learning-rate schedule from a spec such as ``"step(every=100, factor=0.1)"``."""
    return _make("schedules", spec)


def _make(group: str, spec: str) -> Any:
    kind, _ = KINDS[group]
    if (held_object := held(group, spec)) is not None:
        return held_object
    name, _ = specs.parse(spec)
    if file := specs.file_of(name):
        return specs.build(spec, {name: class_in(group, *file)}, kind)
    classes = entries(group)
    aliases = {alias: cls for cls in classes.values() for alias in getattr(cls, "aliases", ())}
    return specs.build(spec, classes, kind, aliases, classes.broken)


def class_in(group: str, path: Path, name: str = "") -> type:
    """Return the class of a group in a file, the only one there unless its name is given, or raise
    SpecError.
    """
    kind, shown = KINDS[group][0], source_files.shown_path(path)
    classes = {cls.__name__: cls for cls in classes_in(group, path)}
    if name and group == "datasets" and name not in classes:
        # Any function may make a problem, if it is asked for.
        classes |= {each.__name__: each for each in _datasets_of_problems(path, name)}
    if name and name not in classes:
        raise SpecError(
            f"{shown} holds no {kind} {name!r}{specs.nearest(name, classes)}:"
            f" {_bases(group, classes)}"
        )
    if not name and len(classes) != 1:
        remedy = (
            f"name one of them, as {shown}:{next(iter(classes))}"
            if classes
            else _bases(group, classes)
        )
        raise SpecError(
            f"{shown} holds {len(classes)} {kind}s ({', '.join(classes) or 'none'}): {remedy}"
        )
    return checked(group, classes[name] if name else next(iter(classes.values())), shown)


def checked(group: str, cls: type, shown: str) -> type:
    """Return a class of a file, or raise SpecError if it lacks what every class of the group has."""
    try:
        check_class(group, cls)
    except Broken as defect:
        raise SpecError(f"{shown}: {cls.__name__} {defect}: correct the file") from None
    return cls


def classes_in(group: str, path: Path) -> list[type]:
    """Return the classes of a group in a file: those that derive from the group's base class.

    A file without a dataset has those of its function ``problem`` or, without one, of its classes
    of problems.
    """
    found = [cls for cls in source_files.classes_in(path) if _derives(cls, KINDS[group][1])]
    return found or (_datasets_of_problems(path) if group == "datasets" else [])


def _datasets_of_problems(path: Path, name: str = "") -> list[type]:
    """Return the dataset of the function or class `name` that makes a problem.

    Without a name, it is that of the function ``problem`` or, without one, those of classes of
    problems with defaults.
    """
    classes = [cls for cls in source_files.classes_in(path) if _derives(cls, "Problem")]
    makers: dict[str, Any] = {
        key: value
        for key, value in source_files.defined_in(path).items()
        if inspect.isfunction(value)
    }
    makers |= {cls.__name__: cls for cls in classes} if name else {}
    if name or "problem" in makers:
        return [
            pudle.Dataset.of_problem(make)
            for key, make in makers.items()
            if key == (name or "problem")
        ]
    found = []
    for cls in classes:
        with contextlib.suppress(SpecError):
            found.append(pudle.Dataset.of_problem(cls))
    return found


def _derives(cls: type, base: str) -> bool:
    """Return whether a class derives from the base of that name in this package."""
    return any(
        each.__name__ == base and each.__module__.partition(".")[0] == PACKAGE
        for each in cls.__mro__
    )


def _bases(group: str, classes: Mapping[str, type]) -> str:
    if classes:
        return f"it has {', '.join(classes)}"
    way = f"derive a class from pudle's {KINDS[group][1]} and implement all of its methods"
    return (
        f"{way}, or write a function `problem` that returns a problem"
        if group == "datasets"
        else way
    )
