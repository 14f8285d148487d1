"""What classes of users declare: options are the fields of a dataclass, and a class without options
need not be one.
"""

import copy
import functools
import inspect
from dataclasses import fields, is_dataclass, replace
from typing import Any, ClassVar, TypeVar, cast, get_origin

from .errors import SpecError

T = TypeVar("T")
#: What a class without options may have all the same: see `with_values`.
ALWAYS_GIVEN = "seed"


def with_values(thing: T, **values: object) -> T:
    """Return a copy of an object with other values; those that are no fields become attributes, as
    the seed of a class without options does.

    A dataclass checks the values anew. Other attributes are those of the object itself, not copies.
    """
    if is_dataclass(thing) and {field.name for field in fields(thing)} >= values.keys():
        copied: T = replace(cast(Any, thing), **values)
        return copied
    copied = copy.copy(thing)
    vars(copied).update(values)
    return copied


@functools.cache
def check_declared(cls: type, where: str = "") -> None:
    """Refuse a class whose options would be lost, because it is no dataclass.

    The text of the error begins with `where`. A class that passes is not looked at again.

    Raises
    ------
    SpecError
        If the class is not decorated, and annotates attributes, or takes arguments; the text says
        what to add.
    """
    if lost := _undeclared(cls):
        noun = "option" if len(lost) == 1 else "options"
        raise SpecError(
            f"{where}{cls.__name__} has the {noun} {', '.join(lost)} and is no dataclass: write"
            " @dataclass(frozen=True) above the class, and each option as a field in it, as in"
            " `window: int = 10`"
        )


def _undeclared(cls: type) -> list[str]:
    """Return the names of the options that a class, and its bases up to a dataclass or one of this
    package, state without being a dataclass.

    Options are annotated attributes, unless private, class variables or the seed, and arguments of
    ``__init__``.
    """
    lost = []
    for owner in cls.__mro__:
        if "__dataclass_fields__" in vars(owner) or _is_own(owner):
            break
        lost += [
            name
            for name, annotation in inspect.get_annotations(owner).items()
            if name != ALWAYS_GIVEN
            and not name.startswith("_")
            and _is_option(cls, name, annotation)
        ]
        initializer = vars(owner).get("__init__")
        if inspect.isfunction(initializer):
            lost += [*inspect.signature(initializer).parameters][1:]
    return lost


def _is_own(cls: type) -> bool:
    """Tell whether a class is of this package, or of Python."""
    return cls.__module__.partition(".")[0] in ("pudle", "abc", "builtins", "typing")


def _is_class_variable(annotation: object) -> bool:
    return ClassVar in (annotation, get_origin(annotation)) or (
        isinstance(annotation, str) and "ClassVar" in annotation
    )


def _is_option(cls: type, name: str, annotation: object) -> bool:
    """Tell whether an annotated attribute is no constant of a class, here or in a base."""
    stated = [inspect.get_annotations(base).get(name) for base in cls.__mro__ if _is_own(base)]
    constant = any(map(_is_class_variable, [annotation, *stated]))
    return not constant and not isinstance(vars(cls).get(name), property)
