"""Find estimators, datasets, algorithms and so on: entry points, built in or of a plug-in, or classes in a user's own file.

The registry knows none of the classes that it returns, so that every room can ask it; `pudle` itself has the types. A
plug-in that cannot be used costs itself alone: it is left out, and `broken` says why.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from . import source_files, specs, trial
from .errors import InvalidArgument, MissingDependency, PudleError, SpecError, first_line
from .held import held

#: The installed package whose entries no other may take the names of.
PACKAGE = "pudle"

#: Of each group that specs can name: the kind of thing, as texts call it, and the base class of those in a user's file.
KINDS = {
    "estimators": ("estimator", "GradientEstimator"),
    "datasets": ("dataset", "Dataset"),
    "algorithms": ("algorithm", "Algorithm"),
    "thresholding": ("thresholding rule", "Thresholding"),
    "optimizers": ("optimizer", "Optimizer"),
    "schedules": ("schedule", "Schedule"),
}
#: What a class of each group has besides its name; other groups hold something else, or classes that need no more.
REQUIRED = {
    "estimators": ("computes", "aliases", "estimate", "sweep", "fingerprint"),
    "datasets": ("losses", "problem", "fingerprint"),
    "algorithms": ("run", "step_size"),
    "thresholding": (),
    "optimizers": (),
    "schedules": (),
    "problems": ("outer_loss",),
}


class Entries(dict[str, Any]):
    """The usable entries of a group by name, with the packages they come from in `origins`.

    `broken` has one line for each entry that is not usable, by name as well.
    """

    def __init__(self, usable: Mapping[str, Any], broken: Mapping[str, str], origins: Mapping[str, str]) -> None:
        super().__init__(sorted(usable.items()))
        self.broken, self.origins = dict(broken), dict(origins)

    def __missing__(self, name: str) -> Any:
        raise PudleError(self.broken.get(name) or f"{name!r} is unknown: known are {', '.join(self)}")


class _Broken(Exception):
    """A plug-in cannot be used; the text says what it does wrong, as the rest of a sentence."""


def points(group: str) -> list[EntryPoint]:
    """Return the entry points in the group ``pudle.<group>``: first this package's own, each part sorted by name."""
    return sorted(
        entry_points(group=f"pudle.{group}"), key=lambda point: (owner(point) != PACKAGE, point.name, owner(point))
    )


def owner(point: EntryPoint) -> str:
    """Return the name of the installed package that an entry point belongs to."""
    return point.dist.name if point.dist else "an installed package"


@functools.cache
def entries(group: str) -> Entries:
    """Return the entries of the group ``pudle.<group>``, sorted by name.

    A plug-in is broken if it cannot be loaded, is not what the group holds, cannot be made with its default options, or
    claims a name or an alias that is taken: this package's own entries come first, then packages by name.
    """
    found: dict[str, Any] = {}
    broken: dict[str, str] = {}
    taken: dict[str, str] = {}
    origins: dict[str, str] = {}
    for point in points(group):
        package = owner(point)
        try:
            entry = _load(point)
            if found.get(point.name) is entry:
                continue
            claimed = _check(group, point.name, entry, made=package != PACKAGE)
            for name in claimed:
                if name in taken:
                    raise _Broken(f"claims the name {name!r}, which belongs to {taken[name]}")
        except _Broken as defect:
            line = f"plug-in {point.name!r} of {package} {defect}: repair or uninstall {package}"
            broken[point.name] = "; ".join(filter(None, (broken.get(point.name), line)))
        else:
            found[point.name] = entry
            origins[point.name] = "built-in" if package == PACKAGE or not point.dist else f"{package} {point.dist.version}"
            taken |= dict.fromkeys(claimed, f"{point.name!r} of {package}")
    return Entries(found, broken, origins)


def broken(*groups: str) -> list[str]:
    """Return one line for each plug-in in some groups that cannot be used."""
    return [line for group in groups for line in entries(group).broken.values()]


def _load(point: EntryPoint) -> Any:
    if owner(point) != PACKAGE and (end := trial.verdict(point.value, point.load)):
        raise _Broken(f"({point.value}) {end}")
    try:
        return point.load()
    except (Exception, SystemExit) as error:  # a plug-in may raise anything, or try to end the program
        raise _Broken(f"cannot be loaded from {point.value} ({type(error).__name__}: {first_line(error)})") from error


def _check(group: str, name: str, entry: Any, *, made: bool) -> list[str]:
    """Return the names that an entry claims, or raise _Broken if it is not what the group holds.

    If `made`, the default object of a class is made as well.
    """
    if group == "experiments":
        if not isinstance(entry, Mapping) or not all(_is_experiment(*item) for item in entry.items()):
            raise _Broken("is not a mapping from plain file names to experiments")
        return list(entry)
    if group not in REQUIRED:
        return [name]
    if not isinstance(entry, type) or inspect.isabstract(entry):
        raise _Broken(f"is not a class that implements all of its methods, but {entry!r:.80}")
    cls: Any = entry
    aliases = _check_class(group, cls)
    if group in KINDS and (not name.isidentifier() or cls.name != name):
        raise _Broken(f"has name={cls.name!r}, which must be that of its entry point and an identifier")
    if made:
        try:
            _make_default(entry)
        except (Exception, SystemExit) as error:
            why = f"{type(error).__name__}: {first_line(error)}"
            raise _Broken(f"cannot be made with its default options ({why})") from error
    return [name, *aliases]


def _check_class(group: str, cls: Any) -> tuple[str, ...]:
    """Return the aliases of a class, or raise _Broken if it lacks what every class of the group has."""
    named = ("name",) if group in KINDS else ()
    missing = [attribute for attribute in (*named, *REQUIRED[group]) if not hasattr(cls, attribute)]
    if missing:
        raise _Broken(f"lacks {', '.join(missing)}")
    aliases = getattr(cls, "aliases", ())
    if not isinstance(aliases, tuple) or not all(isinstance(alias, str) for alias in aliases):
        raise _Broken(f"has aliases={aliases!r:.80}, which is not a tuple of texts")
    if not isinstance(getattr(cls, "computes", ""), str):
        raise _Broken(f"has computes={cls.computes!r:.80}, which is not a text")
    return aliases


def _is_experiment(name: Any, experiment: Any) -> bool:
    """Return whether a name can be that of a file, and an experiment has what is asked of every one."""
    plain = isinstance(name, str) and re.fullmatch(r"\w[\w.()=,+-]*", name)
    return bool(plain) and all(hasattr(experiment, attribute) for attribute in ("kind", "run", "fingerprint"))


def _make_default(cls: type) -> None:
    """Make the default object of a class and ask for its spec and its fingerprint, as every use of it does.

    A class that needs an argument, refuses its defaults, or lacks a package has no default object to check.
    """
    parameters = inspect.signature(cls).parameters.values()
    if any(each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in parameters):
        return
    try:
        made: Any = cls()
    except (InvalidArgument, MissingDependency):
        return
    specs.text(made)
    first, second = (made.fingerprint() for _ in range(2)) if hasattr(made, "fingerprint") else ("", "")
    if not isinstance(first, str) or first != second:
        raise TypeError(f"its fingerprint is not a text that stays the same, but {first!r:.80}")


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
    """Return every study as ``{name: {name: experiment}}``; each entry point of ``pudle.experiments`` is a study."""
    return dict(entries("experiments"))


def list_experiments() -> dict[str, Any]:
    """Return every experiment of every study as ``{name: experiment}``."""
    return {name: experiment for study in list_studies().values() for name, experiment in study.items()}


def make_estimator(spec: str) -> Any:
    """Make an estimator from a spec: a name, which may be an alias from the literature, or a file of the user's own.

    Examples are ``"truncated(window=10)"`` and ``"path/file.py:Mine(window=10)"``; a file named without a class holds one.

    Raises
    ------
    SpecError
        If the spec is malformed, or its name is unknown (the text suggests the nearest name) or that of a broken plug-in, or
        the file cannot be used.
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
    """Return the class of a group in a file, the only one there unless its name is given, or raise SpecError."""
    kind, shown = KINDS[group][0], source_files.shown_path(path)
    classes = {cls.__name__: cls for cls in classes_in(group, path)}
    if name and name not in classes:
        raise SpecError(f"{shown} holds no {kind} {name!r}{specs.nearest(name, classes)}: {_bases(group, classes)}")
    if not name and len(classes) != 1:
        remedy = f"name one of them, as {shown}:{next(iter(classes))}" if classes else _bases(group, classes)
        raise SpecError(f"{shown} holds {len(classes)} {kind}s ({', '.join(classes) or 'none'}): {remedy}")
    return checked(group, classes[name] if name else next(iter(classes.values())), shown)


def checked(group: str, cls: type, shown: str) -> type:
    """Return a class of a file, or raise SpecError if it lacks what every class of the group has."""
    try:
        _check_class(group, cls)
    except _Broken as defect:
        raise SpecError(f"{shown}: {cls.__name__} {defect}: correct the file") from None
    return cls


def classes_in(group: str, path: Path) -> list[type]:
    """Return the classes of a group in a file: those that derive from the group's base class."""
    base = KINDS[group][1]
    return [cls for cls in source_files.classes_in(path) if any(_is_ours(each, base) for each in cls.__mro__)]


def _is_ours(cls: type, name: str) -> bool:
    return cls.__name__ == name and cls.__module__.partition(".")[0] == PACKAGE


def _bases(group: str, classes: Mapping[str, type]) -> str:
    if classes:
        return f"it has {', '.join(classes)}"
    return f"derive a class from pudle's {KINDS[group][1]} and implement all of its methods"
