"""From a spec to an object: `make` and its kin, and specs that carry the object they stand for."""

import functools
import inspect
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import MISSING, Field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, get_args

from ..errors import InvalidArgument, MissingDependency, SpecError, first_line
from ..validation import type_hints
from ..workers import failure
from .grammar import file_of, nearest, parse
from .kinds import KINDS
from .registry import Entries, built_in, entries, entries_named
from .spelling import GROUP, options, text
from .user_files import class_in

if TYPE_CHECKING:
    # Every room imports this one: what a spec makes is known here to type checkers alone.
    from ..algorithms import Algorithm
    from ..data import Dataset
    from ..estimator import GradientEstimator
    from ..measuring.experiment import Experiment
    from ..measuring.selection import Selection

T = TypeVar("T")
#: Types of options whose values are checked.
PLAIN_TYPES = {int, float, bool, str, type(None)}


class Spec(str, Generic[T]):
    """The text of a spec with the object that it stands for, which is made once: when it is first
    asked for, unless it is given.

    The text is what is stored, compared and shown. In another process the object is made anew, for
    which no plug-in is imported but that of the name: what others do when they are imported, they
    do not do there.
    """

    group: str
    #: Whether it was a spec in another process, where its name was found among all.
    was_found: bool = False

    def __new__(cls, group: str, spec: str, made: T | None = None) -> Self:
        self = super().__new__(cls, spec)
        self.group = group
        if made is not None:
            self.made = made
        return self

    @functools.cached_property
    def made(self) -> T:
        """The object, made when it is first asked for, which may run a user's file; a spec that
        names nothing raises SpecError then.
        """
        spec, classes = str(self), Entries()
        if self.was_found:
            name, _ = parse(spec)
            classes = entries_named(self.group, name)
        instance: T = make(self.group, spec, classes)
        return instance

    def __reduce__(self) -> tuple[type[Self], tuple[str, str], dict[str, bool]]:
        return type(self), (self.group, str(self)), {"was_found": True}


def specs(group: str, texts: Iterable[str]) -> tuple[str, ...]:
    """Return texts as specs of a group; those that are specs keep their objects."""
    return tuple(spec if isinstance(spec, Spec) else Spec(group, spec) for spec in texts)


def canonical(group: str, source: object) -> Spec[Any]:
    """Return the canonical spec of an object, or of what a spec names, with the object; SpecError
    says that it names nothing.
    """
    instance = make(group, source) if isinstance(source, str) else source
    return Spec(group, text(instance), instance)


def declared_part(declaration: Field[Any], value: object) -> object | None:
    """Return the object that a field declared by `spec_field` holds or names; None for any other
    field.

    A spec as text is made: that may run a user's file, and raises SpecError if it names nothing.
    """
    group = declaration.metadata.get(GROUP)
    if group is None:
        return None
    return make(group, value) if isinstance(value, str) else value


def build(spec: str, cls: Any) -> Any:
    """Make an object of a class with the options in a spec.

    Raises
    ------
    SpecError
        If the class has no such option, needs another one, or refuses a value, or a value is not of
        the type that is annotated.
    MissingDependency
        If the class needs a library that is not installed.
    """
    name, arguments = parse(spec)
    _check_arguments(spec, name, arguments, cls)
    # A class that checks its own options says more than their types do.
    flaw = _wrong_type(cls, arguments)
    try:
        instance = cls(**arguments)
    except (SpecError, MissingDependency):
        raise
    except InvalidArgument as error:
        flaw = first_line(error)
    except Exception as error:  # noqa: BLE001  # a class of others may raise anything
        flaw = flaw or failure(error)[1]
    if flaw:
        raise SpecError(f"spec {spec!r}: {flaw}")
    return instance


def _check_arguments(spec: str, name: str, arguments: Mapping[str, Any], cls: Any) -> None:
    """Raise SpecError for arguments that a class does not have, and for the lack of those that it
    needs.
    """
    by_name = {option.name: option for option in options(cls)}
    for key in arguments.keys() - by_name.keys():
        raise SpecError(
            f"spec {spec!r}: {name} has no argument {key!r}{nearest(key, by_name)}; it takes"
            f" {', '.join(by_name) or 'no arguments'}"
        )
    for key, option in by_name.items():
        if key not in arguments and option.default is option.default_factory is MISSING:
            raise SpecError(f"spec {spec!r}: {name} needs {key}: write {name}({key}=...)")


def _wrong_type(cls: type, arguments: Mapping[str, Any]) -> str:
    """Describe the fault of the first value that a plain annotation, such as ``int | None``,
    rules out; an empty text where there is none.
    """
    hints: dict[str, Any] = {}
    # Annotations that only type checkers can read check nothing here.
    with suppress(Exception):
        hints = type_hints(cls)
    for key, value in arguments.items():
        hint = hints.get(key)
        accepted = {*(get_args(hint) or [hint])}
        if float in accepted:
            accepted |= {int}
        if accepted <= PLAIN_TYPES and type(value) not in accepted:
            expected = inspect.formatannotation(hint)
            return f"{key}={value!r} is of type {type(value).__name__}: give {expected}"
    return ""


def make(group: str, spec: str, known: Mapping[str, Any] | None = None) -> Any:
    """Make an object of a group, such as ``thresholding``, from a spec; a `Spec` gives the object
    that it carries.

    Classes that are `known` by their names are looked at first, then the built-in ones, whose names
    no plug-in can take, then all, for which every plug-in of the group is imported. A user's file
    is run, again only if it has changed. SpecError says what is wrong with a spec.
    """
    if isinstance(spec, Spec):
        return spec.made
    name, _ = parse(spec)
    if file := file_of(name):
        return build(spec, class_in(group, *file))
    for classes in (known or {}, built_in(group)):
        if cls := _by_name_or_alias(classes).get(name):
            return build(spec, cls)
    every_class = entries(group)
    if cls := _by_name_or_alias(every_class).get(name):
        return build(spec, cls)
    if name in every_class.broken:
        raise SpecError(every_class.broken[name])
    lies_here = f" ({name}.py lies here)" if Path(f"{name}.py").is_file() else ""
    raise SpecError(
        f"unknown {KINDS[group].noun} {name!r}{nearest(name, every_class)}: known are"
        f" {', '.join(every_class) or 'none'}, and your own as path/file.py{lies_here}"
    )


def _by_name_or_alias(classes: Mapping[str, Any]) -> Mapping[str, Any]:
    aliases = {alias: cls for cls in classes.values() for alias in getattr(cls, "aliases", ())}
    return aliases | dict(classes)


def make_estimator(spec: str) -> "GradientEstimator":
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
    estimator: GradientEstimator = make("estimators", spec)
    return estimator


def make_dataset(spec: str) -> "Dataset":
    """Make a dataset from a spec such as ``"sparse_gaussian(n_samples=1000, seed=0)"``."""
    dataset: Dataset = make("datasets", spec)
    return dataset


def make_algorithm(spec: str) -> "Algorithm":
    """Make an inner algorithm from a spec such as ``"ista(step=0.2)"``."""
    algorithm: Algorithm = make("algorithms", spec)
    return algorithm


def list_estimators() -> "dict[str, type[GradientEstimator]]":
    """Return every registered estimator as ``{name: class}``, sorted by name; plug-ins are
    imported, and broken ones left out.
    """
    return dict(entries("estimators"))


def list_datasets() -> "dict[str, type[Dataset]]":
    """Return every registered dataset as ``{name: class}``, sorted by name; plug-ins are imported,
    and broken ones left out.
    """
    return dict(entries("datasets"))


def list_profiles() -> "Mapping[str, Selection]":
    """Return every profile as ``{name: selection}``; the name of a broken one raises PudleError."""
    return entries("profiles")


def list_experiments() -> "dict[str, Experiment]":
    """Return every experiment of every study as ``{name: experiment}``; each entry point of
    ``pudle.experiments`` is a study, and broken ones are left out.
    """
    experiments: dict[str, Experiment] = {}
    for study in entries("experiments").values():
        experiments |= study
    return experiments
