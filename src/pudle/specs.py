"""Specs: estimators, datasets and so on as text, ``name(key=literal, ...)`` or
``path/file.py:Class(key=literal, ...)``.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import difflib
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from . import source_files
from .errors import InvalidArgument, MissingDependency, SpecError, first_line

EXAMPLE = (
    "write name, name(key=value, ...) or path/file.py:Class(key=value, ...), e.g."
    " truncated(window=10)"
)
#: A file, maybe a class in it, and maybe its options. The shortest path counts, because options may
#: hold paths as well.
FILE = re.compile(
    r"(?P<name>(?P<path>.+?\.py)(?::(?P<cls>[^\W\d]\w*))?)\s*(?P<options>|\(.*\))", re.DOTALL
)

#: Types of options whose values are checked, in words.
PLAIN = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "text in quotes",
    type(None): "None",
}


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """Split a spec into its name and its keyword arguments; the name may be ``path/file.py`` or
    ``path/file.py:Class``.

    The text is parsed and never evaluated: values must be literals (numbers, text, True, False,
    None, tuples or lists of these). A malformed text, a positional argument and a value that is not
    a literal raise SpecError.
    """
    name, node = "", _expression(spec)
    named = node.func if isinstance(node, ast.Call) else node
    if (
        not isinstance(named, ast.Name)
        and isinstance(spec, str)
        and (file := FILE.fullmatch(spec.strip()))
    ):
        # The options of a file are read as those of any name are.
        name, node = file["name"], _expression(f"file{file['options']}")
    if isinstance(node, ast.Name):
        return name or node.id, {}
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise SpecError(f"malformed spec {spec!r}: {EXAMPLE}")
    names = [keyword.arg for keyword in node.keywords]
    if node.args or None in names or len(set(names)) < len(names):
        raise SpecError(f"malformed spec {spec!r}: give each argument once, by its name; {EXAMPLE}")
    arguments: dict[str, Any] = {}
    for keyword in node.keywords:
        try:
            arguments[str(keyword.arg)] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, MemoryError, RecursionError):
            raise SpecError(
                f"spec {spec!r}: {keyword.arg} is not a literal, and a spec never calls or computes"
                " anything: write a number, text, True, False or None"
            ) from None
    return name or node.func.id, arguments


def _expression(text: str) -> ast.expr | None:
    """Return the expression that a text is, or None if it is none."""
    with contextlib.suppress(SyntaxError, ValueError, AttributeError, MemoryError, RecursionError):
        return ast.parse(text.strip(), mode="eval").body
    return None


def file_of(name: str) -> tuple[Path, str] | None:
    """Return the file that the name of a spec stands for and the class in it, or an empty text;
    None for a plain name.
    """
    file = None if name.isidentifier() else FILE.fullmatch(name)
    return (Path(file["path"]).expanduser(), file["cls"] or "") if file else None


def placed(spec: str, place: Callable[[Path], Path], paths: Iterable[str] = ()) -> str:
    """Return a spec with other paths, of its file and of the options named in `paths`; without any
    it stays as it is.
    """
    name, arguments = parse(spec)
    moved = {key: value for key in paths if isinstance(value := arguments.get(key), str)}
    file = file_of(name)
    if not file and not moved:
        return spec
    name = f"{place(file[0])}{':' * bool(file[1])}{file[1]}" if file else name
    arguments |= {key: str(place(Path(value).expanduser())) for key, value in moved.items()}
    return (
        f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
        if arguments
        else name
    )


def build(
    spec: str,
    classes: Mapping[str, type],
    kind: str,
    aliases: Mapping[str, type] = MappingProxyType({}),
    broken: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """Make the object that a spec names, from mappings of names and of aliases to classes.

    A malformed spec, a name that is not among them, and arguments that the class refuses raise
    SpecError. `broken` has the text of the error for names that cannot be used.
    """
    name, arguments = parse(spec)
    known = {**aliases, **classes}
    if name not in known:
        if name in broken:
            raise SpecError(broken[name])
        names = ", ".join(sorted(classes)) or "none"
        raise SpecError(
            f"unknown {kind} {name!r}{nearest(name, known)}: known are {names}, and your own as"
            " path/file.py"
        )
    cls = known[name]
    if dataclasses.is_dataclass(cls):
        fields = {field.name: field for field in options(cls)}
        for key in arguments:
            if key not in fields:
                takes = ", ".join(fields) or "no arguments"
                raise SpecError(
                    f"spec {spec!r}: {name} has no argument {key!r}{nearest(key, fields)}; it takes"
                    f" {takes}"
                )
        for key, field in fields.items():
            if (
                key not in arguments
                and field.default is field.default_factory is dataclasses.MISSING
            ):
                raise SpecError(f"spec {spec!r}: {name} needs {key}: write {name}({key}=...)")
    # A class that checks its own options says more than their types do.
    wrong = _wrong_type(cls, arguments)
    try:
        made = cls(**arguments)
    except (SpecError, MissingDependency):
        raise
    except Exception as error:
        plain = isinstance(error, InvalidArgument | TypeError)
        why = f"{'' if plain else f'{type(error).__name__}: '}{first_line(error)}"
        raise SpecError(
            f"spec {spec!r}: {why if isinstance(error, InvalidArgument) else wrong or why}"
        ) from error
    if wrong:
        raise SpecError(f"spec {spec!r}: {wrong}")
    return made


def _wrong_type(cls: type, arguments: Mapping[str, Any]) -> str:
    """Return what is wrong with the first value that a plain annotation, such as ``int | None``,
    rules out, or nothing.
    """
    hints: dict[str, Any] = {}
    # Annotations that only type checkers can read check nothing here.
    with contextlib.suppress(Exception):
        hints = typing.get_type_hints(cls) if dataclasses.is_dataclass(cls) else {}
    for key, value in arguments.items():
        kinds = typing.get_args(hints.get(key)) or (hints.get(key),)
        takes = {*kinds, int} if float in kinds else {*kinds}
        if takes <= PLAIN.keys() and type(value) not in takes:
            wanted = " or ".join(PLAIN[kind] for kind in kinds)
            return f"{key}={value!r} is of type {type(value).__name__}: give {wanted}"
    return ""


def text(instance: Any) -> str:
    """Return the canonical spec of an object: its name and the fields that differ from their
    defaults.

    If a field holds an object with a spec of its own, such as an algorithm's thresholding rule,
    that spec is written in quotes. Paths are those seen from the working folder, so that what is
    stored holds no other.
    """
    parts = []
    for field in options(instance) if dataclasses.is_dataclass(instance) else ():
        value = getattr(instance, field.name)
        if value != field.default:
            if dataclasses.is_dataclass(value) and hasattr(value, "name"):
                value = text(value)
            elif field.metadata.get("path") and isinstance(value, str):
                value = source_files.shown_path(Path(value))
            parts.append(f"{field.name}={value!r}")
    name = name_of(type(instance))
    return f"{name}({', '.join(parts)})" if parts else name


def name_of(cls: Any) -> str:
    """Return the name that specs have for a class: its own, or ``path/file.py:Class`` if a file of
    the user's holds it.
    """
    file = source_files.origin(cls)
    return f"{source_files.shown_path(file)}:{cls.__name__}" if file else cls.name


def path_options(instance: Any) -> list[str]:
    """Return the names of the options that hold paths: fields whose metadata say ``path=True``."""
    return [
        field.name
        for field in (options(instance) if dataclasses.is_dataclass(instance) else ())
        if field.metadata.get("path")
    ]


def options(cls: Any) -> list[dataclasses.Field[Any]]:
    """Return the fields that a spec of a dataclass can hold: the constructor's, without those
    marked ``spec=False``.
    """
    return [
        field
        for field in dataclasses.fields(cls)
        if field.init and field.metadata.get("spec", True)
    ]


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest known word, or an empty text if none is
    close.
    """
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
