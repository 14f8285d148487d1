"""Entry points: what packages offer under each group, this one's own first, and which of it can be
used.

A plug-in that cannot be used costs itself alone: it is left out, and `broken` says why.
"""

from __future__ import annotations

import functools
import inspect
import re
import traceback
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any

from . import specs, trial
from .errors import InvalidArgument, MissingDependency, PudleError, first_line

#: The installed package whose entries no other may take the names of.
PACKAGE = "pudle"

#: Of each group that specs can name: the kind of thing, as texts call it, and the base class of
#: those in a user's file.
KINDS = {
    "estimators": ("estimator", "GradientEstimator"),
    "datasets": ("dataset", "Dataset"),
    "algorithms": ("algorithm", "Algorithm"),
    "thresholding": ("thresholding rule", "Thresholding"),
    "optimizers": ("optimizer", "Optimizer"),
    "schedules": ("schedule", "Schedule"),
}
#: What a class of each group has besides its name; other groups hold something else, or classes
#: that need no more.
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

    def __init__(
        self,
        usable: Mapping[str, Any],
        broken: Mapping[str, str],
        origins: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(sorted(usable.items()))
        self.broken, self.origins = dict(broken), dict(origins)

    def __missing__(self, name: str) -> Any:
        raise PudleError(
            self.broken.get(name) or f"{name!r} is unknown: known are {', '.join(self)}"
        )


class Broken(Exception):
    """A plug-in cannot be used; the text says what it does wrong, as the rest of a sentence."""


def points(group: str) -> list[EntryPoint]:
    """Return the entry points in the group ``pudle.<group>``: first this package's own, each part
    sorted by name.
    """
    return sorted(
        entry_points(group=f"pudle.{group}"),
        key=lambda point: (owner(point) != PACKAGE, point.name, owner(point)),
    )


def owner(point: EntryPoint) -> str:
    """Return the name of the installed package that an entry point belongs to."""
    return point.dist.name if point.dist else "an installed package"


@functools.cache
def entries(group: str) -> Entries:
    """Return the entries of the group ``pudle.<group>``, sorted by name.

    A plug-in is broken if it cannot be loaded, is not what the group holds, cannot be made with its
    default options, or claims a name or an alias that is taken: this package's own entries come
    first, then packages by name.
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
                    raise Broken(f"claims the name {name!r}, which belongs to {taken[name]}")
        except Broken as defect:
            line = f"plug-in {point.name!r} of {package} {defect}: repair or uninstall {package}"
            broken[point.name] = "; ".join(filter(None, (broken.get(point.name), line)))
        else:
            found[point.name] = entry
            origins[point.name] = (
                "built-in"
                if package == PACKAGE or not point.dist
                else f"{package} {point.dist.version}"
            )
            taken |= dict.fromkeys(claimed, f"{point.name!r} of {package}")
    return Entries(found, broken, origins)


def broken(*groups: str) -> list[str]:
    """Return one line for each plug-in in some groups that cannot be used."""
    return [line for group in groups for line in entries(group).broken.values()]


def _load(point: EntryPoint) -> Any:
    if owner(point) != PACKAGE and (end := trial.verdict(point.value, point.load)):
        raise Broken(f"({point.value}) {end}")
    try:
        return point.load()
    except (
        Exception,
        SystemExit,
    ) as error:  # a plug-in may raise anything, or try to end the program
        why = f"{type(error).__name__}: {first_line(error)}"
        raise Broken(f"cannot be loaded from {point.value} ({why}){_place(error)}") from error


def _place(error: BaseException) -> str:
    """Return where in a package an error arose, as the rest of a sentence; a syntax error says so
    itself.
    """
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)[1:]
        if "importlib" not in frame.filename
    ]
    if not frames or isinstance(error, SyntaxError):
        return ""
    return f" at {Path(frames[-1].filename).name}, line {frames[-1].lineno}"


def _check(group: str, name: str, entry: Any, *, made: bool) -> list[str]:
    """Return the names that an entry claims, or raise Broken if it is not what the group holds.

    If `made`, the default object of a class is made as well.
    """
    if group == "experiments":
        if not isinstance(entry, Mapping) or not all(
            _is_experiment(*item) for item in entry.items()
        ):
            raise Broken("is not a mapping from plain file names to experiments")
        return list(entry)
    if group not in REQUIRED:
        return [name]
    if not isinstance(entry, type) or inspect.isabstract(entry):
        raise Broken(f"is not a class that implements all of its methods, but {entry!r:.80}")
    cls: Any = entry
    aliases = check_class(group, cls)
    if group in KINDS and (not name.isidentifier() or cls.name != name):
        raise Broken(
            f"has name={cls.name!r}, which must be that of its entry point and an identifier"
        )
    if made:
        try:
            _make_default(entry)
        except (Exception, SystemExit) as error:
            why = f"{type(error).__name__}: {first_line(error)}"
            raise Broken(f"cannot be made with its default options ({why})") from error
    return [name, *aliases]


def check_class(group: str, cls: Any) -> tuple[str, ...]:
    """Return the aliases of a class, or raise Broken if it lacks what every class of the group has."""
    named = ("name",) if group in KINDS else ()
    missing = [attribute for attribute in (*named, *REQUIRED[group]) if not hasattr(cls, attribute)]
    if missing:
        raise Broken(f"lacks {', '.join(missing)}")
    aliases = getattr(cls, "aliases", ())
    if not isinstance(aliases, tuple) or not all(isinstance(alias, str) for alias in aliases):
        raise Broken(f"has aliases={aliases!r:.80}, which is not a tuple of texts")
    if not isinstance(getattr(cls, "computes", ""), str):
        raise Broken(f"has computes={cls.computes!r:.80}, which is not a text")
    return aliases


def _is_experiment(name: Any, experiment: Any) -> bool:
    """Return whether a name can be that of a file, and an experiment has what is asked of every
    one.
    """
    plain = isinstance(name, str) and re.fullmatch(r"\w[\w.()=,+-]*", name)
    return bool(plain) and all(
        hasattr(experiment, attribute) for attribute in ("kind", "run", "fingerprint")
    )


def _make_default(cls: type) -> None:
    """Make the default object of a class and ask for its spec and its fingerprint, as every use of
    it does.

    A class that needs an argument, refuses its defaults, or lacks a package has no default object
    to check.
    """
    parameters = inspect.signature(cls).parameters.values()
    if any(
        each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        for each in parameters
    ):
        return
    try:
        made: Any = cls()
    except (InvalidArgument, MissingDependency):
        return
    specs.text(made)
    first, second = (
        (made.fingerprint() for _ in range(2)) if hasattr(made, "fingerprint") else ("", "")
    )
    if not isinstance(first, str) or first != second:
        raise TypeError(f"its fingerprint is not a text that stays the same, but {first!r:.80}")
