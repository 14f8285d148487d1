"""The registry: entry points of this package and of installed plug-ins, as far as they can be used.

A plug-in that cannot be used costs itself alone, and `broken` says why.
"""

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import Distribution, EntryPoint, EntryPoints, entry_points
from typing import Any

from ..declared import check_declared
from ..errors import InvalidArgument, MissingDependency, PudleError, SpecError
from .grammar import parse
from .kinds import KINDS, OTHERS, Unusable, check_aliases, describe_error, is_concrete
from .spelling import GROUP, options, text
from .user_files import PACKAGE

#: A name that a file can have without leading elsewhere.
PLAIN_NAME = re.compile(r"\w[\w.()=,+-]*")
#: Names of fields that mostly hold the spec of an object of a group.
SPEC_NAMES = {group.removesuffix("s"): group for group in KINDS}


class Entries(dict[str, Any]):
    """The usable entries of a group by name, with the packages they come from in `origins`.

    `broken` has one line for each entry that is not usable, by name as well.
    """

    broken: dict[str, str]
    origins: dict[str, str]

    def __missing__(self, name: str) -> Any:
        raise PudleError(
            self.broken.get(name) or f"{name!r} is unknown: known are {', '.join(self)}"
        )


def is_plugin(cls: type) -> bool:
    """Tell whether a class comes from elsewhere than this package."""
    return cls.__module__.partition(".")[0] != PACKAGE


def points(group: str) -> list[EntryPoint]:
    """Return the entry points in the group ``pudle.<group>``: first this package's own, each part
    sorted by name.

    Nothing is imported. Installed packages are searched once, and again if the module path changes.
    """
    return sorted(
        _select(tuple(sys.path))(group=f"{PACKAGE}.{group}"),
        key=lambda point: (owner(point) != PACKAGE, point.name, owner(point)),
    )


@functools.cache
def _select(path: tuple[str, ...]) -> Callable[..., EntryPoints]:
    # All groups are found at once, because each search reads a file of every installed package.
    return entry_points().select


def owner(point: EntryPoint) -> str:
    """Return the name of the installed package that an entry point belongs to."""
    return _name(point.dist)


@functools.cache
def _name(package: Distribution | None) -> str:
    # Each time that it is asked, a package reads its metadata.
    return package.name if package else "an installed package"


@functools.cache
def entries(group: str) -> Entries:
    """Return the entries of the group ``pudle.<group>``, sorted by name.

    Every plug-in of the group is imported, once in a process. One is broken if it cannot be loaded,
    is not what the group holds, cannot be made with its default options, or claims a name or an
    alias that is taken: this package's own entries come first, then packages by name.
    """
    return _load(group, points(group))


@functools.cache
def built_in(group: str) -> Entries:
    """Return this package's own entries of a group; no plug-in is imported."""
    return _load(group, [point for point in points(group) if owner(point) == PACKAGE])


def is_built_in(group: str, spec: str) -> bool:
    """Tell whether a spec has the name of one of this package's entries; nothing is imported."""
    name, _ = parse(spec)
    return any(point.name == name and owner(point) == PACKAGE for point in points(group))


def entries_named(group: str, name: str) -> Entries:
    """Return the entries of one name; no other plug-in is imported."""
    return _load(group, [point for point in points(group) if point.name == name])


def broken(*groups: str) -> list[str]:
    """Return one line for each plug-in in some groups that cannot be used."""
    return [line for group in groups for line in entries(group).broken.values()]


@dataclass
class _Loader:
    """The entries of a group that were loaded so far, and who has which name."""

    group: str
    usable: dict[str, Any] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def add(self, point: EntryPoint) -> None:
        """Import an entry point and add it to the usable ones, or to the broken ones with a line
        that says why.

        Changes this object alone; no error is raised, not even SystemExit.
        """
        name, package = point.name, owner(point)
        step = f"cannot be loaded from {point.value}"
        # A plug-in may raise anything, or try to end the program.
        try:
            entry = point.load()
            if self.usable.get(name) is entry:
                return
            claims = _claimed_names(self.group, name, entry)
            step = "cannot be made with its default options"
            if package != PACKAGE and isinstance(entry, type):
                _try_default(entry)
            self._check_free(claims)
        except (Exception, SystemExit) as error:  # noqa: BLE001
            why = str(error) if isinstance(error, Unusable) else f"{step} ({describe_error(error)})"
            line = f"plug-in {name!r} of {package} {why}: repair or uninstall {package}"
            self.broken[name] = f"{self.broken[name]}; {line}" if name in self.broken else line
            return
        self.usable[name] = entry
        self.holders |= dict.fromkeys(claims, f"{name!r} of {package}")
        version = getattr(point.dist, "version", "")
        self.origins[name] = "built-in" if package == PACKAGE else f"{package} {version}"

    def _check_free(self, claims: Iterable[str]) -> None:
        """Raise Unusable for the first name that another entry has already."""
        for name in claims:
            if name in self.holders:
                raise Unusable(f"claims the name {name!r}, which belongs to {self.holders[name]}")


def _load(group: str, listed_points: Iterable[EntryPoint]) -> Entries:
    """Import entry points of a group, in order, and return those that can be used, sorted by name,
    with those that cannot in `broken`.
    """
    loader = _Loader(group)
    for point in listed_points:
        loader.add(point)
    result = Entries(sorted(loader.usable.items()))
    result.broken, result.origins = loader.broken, loader.origins
    return result


def _claimed_names(group: str, name: str, entry: Any) -> list[str]:
    """Return the names that an entry claims: its own and its aliases, or those of a study's
    experiments. Raise Unusable if it is not what the group holds.
    """
    kind = KINDS.get(group) or OTHERS.get(group)
    if not kind:
        return [name]
    base = kind.base_class()
    if group == "experiments":
        if not isinstance(entry, Mapping) or not all(
            PLAIN_NAME.fullmatch(str(key)) and isinstance(value, base)
            for key, value in entry.items()
        ):
            raise Unusable("is not a mapping from plain file names to experiments")
        for experiment in entry.values():
            _check_specs_declared(experiment)
        return list(entry)
    if not is_concrete(entry, base):
        raise Unusable(
            f"is not a class that derives from {base.__name__} and implements all of its methods,"
            f" but {entry!r:.80}"
        )
    aliases = check_aliases(kind, entry)
    if group in KINDS and (not name.isidentifier() or entry.name != name):
        raise Unusable(
            f"has name={entry.name!r}, which must be that of its entry point and an identifier"
        )
    try:
        check_declared(entry)
    except SpecError as error:
        raise Unusable(f"cannot be used ({error})") from None
    return [name, *aliases]


def _check_specs_declared(experiment: Any) -> None:
    """Raise Unusable for a spec as text in a field of an experiment that `pudle.names.spec_field`
    does not declare: the class that it names could change without a trace.
    """
    for option in options(experiment):
        value, group = getattr(experiment, option.name), SPEC_NAMES.get(option.name)
        if group and isinstance(value, str) and GROUP not in option.metadata:
            raise Unusable(
                f"has a field {option.name} with a spec that is not declared: write"
                f" {option.name}: str = pudle.names.spec_field({group!r}, {value!r})"
            )


def _try_default(cls: Any) -> None:
    """Make the default object of a plug-in's class, if it needs no argument, and ask for its spec
    and its fingerprint, as every use of it does.

    Whatever the class raises passes to the caller, but for a refusal (InvalidArgument) and a
    library that is not installed.
    """
    try:
        inspect.signature(cls).bind()
    except TypeError:
        return
    with suppress(InvalidArgument, MissingDependency):
        instance = cls()
        text(instance)
        if not isinstance(getattr(instance, "fingerprint", str)(), str):
            raise TypeError("its fingerprint is not a text")
