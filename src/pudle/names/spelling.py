"""From an object to its spec: its name, and the options that differ from their defaults."""

from dataclasses import MISSING, Field, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from ..declared import check_declared
from .grammar import shown_path, write
from .user_files import origin

#: The key in a field's metadata of the group whose objects it holds.
GROUP = "group"


def text(instance: Any) -> str:
    """Return the canonical spec of an object: its name and the fields that differ from their
    defaults.

    If a field holds an object with a spec of its own, such as an algorithm's thresholding rule,
    that spec is written in quotes. Paths are those seen from the working folder, so that what is
    stored holds no other. A class with options that is no dataclass raises SpecError.
    """
    cls: type = type(instance)
    check_declared(cls)
    changed = {}
    for option in options(instance):
        value = getattr(instance, option.name)
        if value != option.default:
            if is_dataclass(value) and hasattr(value, "name"):
                value = text(value)
            elif option.metadata.get("path") and isinstance(value, str):
                value = shown_path(Path(value))
            changed[option.name] = value
    return write(name_of(type(instance)), changed)


def name_of(cls: Any) -> str:
    """Return the name that specs have for a class: its own, or ``path/file.py:Class`` if it is of a
    user's file.
    """
    file = origin(cls)
    return f"{shown_path(file)}:{cls.__name__}" if file else cls.name


def options(cls: Any) -> list[Field[Any]]:
    """Return the fields that a spec of a class, or of an object, can hold: the constructor's of a
    dataclass, without those marked ``spec=False``; none without a dataclass.
    """
    if not is_dataclass(cls):
        return []
    return [option for option in fields(cls) if option.init and option.metadata.get("spec", True)]


def path_options(instance: Any) -> list[str]:
    """Return the names of the options that hold paths: fields whose metadata say ``path=True``."""
    return [option.name for option in options(instance) if option.metadata.get("path")]


def spec_field(group: str, default: Any = MISSING) -> Any:
    """Return a dataclass field that holds an object of a group, or the spec of one, and is required
    unless a default is given: what rests on the instance rests on the sources of that object as
    well.
    """
    return field(default=default, metadata={GROUP: group})
