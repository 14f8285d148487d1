"""Specs: ``name(key=literal, ...)`` as text, the way estimators, datasets and algorithms are named everywhere."""

from __future__ import annotations

import ast
import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import InvalidArgument, SpecError

EXAMPLE = "write name or name(key=value, ...), e.g. truncated(window=10)"


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """Split a spec into its name and its keyword arguments.

    The text is read as a syntax tree and never evaluated: values must be literals (numbers, text, True, False, None,
    tuples or lists of these).

    Raises
    ------
    SpecError
        If the text is malformed, holds positional arguments, or a value is anything but a literal.
    """
    try:
        node = ast.parse(spec.strip(), mode="eval").body
    except (SyntaxError, ValueError, AttributeError, MemoryError, RecursionError):
        raise SpecError(f"malformed spec {spec!r}: {EXAMPLE}") from None
    if isinstance(node, ast.Name):
        return node.id, {}
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise SpecError(f"malformed spec {spec!r}: {EXAMPLE}")
    if node.args:
        raise SpecError(f"malformed spec {spec!r}: arguments need their names; {EXAMPLE}")
    arguments: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in arguments:
            raise SpecError(f"malformed spec {spec!r}: give each argument once, by name; {EXAMPLE}")
        try:
            arguments[keyword.arg] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, MemoryError, RecursionError):
            raise SpecError(
                f"spec {spec!r}: {keyword.arg} is not a literal, and a spec never calls or computes anything: "
                f"write a number, text, True, False or None"
            ) from None
    return node.func.id, arguments


def build(spec: str, classes: Mapping[str, type], kind: str, aliases: Mapping[str, type] | None = None) -> Any:
    """Make the object that `spec` names out of `classes`, a mapping from name to class, or out of `aliases`."""
    name, arguments = parse(spec)
    everything = {**(aliases or {}), **classes}
    if name not in everything:
        raise SpecError(
            f"unknown {kind} {name!r}{nearest(name, everything)}: known are {', '.join(sorted(classes)) or 'none'}"
        )
    cls = everything[name]
    if dataclasses.is_dataclass(cls):
        fields = {field.name: field for field in options(cls)}
        for key in arguments:
            if key not in fields:
                takes = f"it takes {', '.join(fields)}" if fields else "it takes no arguments"
                raise SpecError(f"spec {spec!r}: {name} has no argument {key!r}{nearest(key, fields)}; {takes}")
        for key, field in fields.items():
            if key not in arguments and field.default is field.default_factory is dataclasses.MISSING:
                raise SpecError(f"spec {spec!r}: {name} needs {key}: write {name}({key}=...)")
    try:
        return cls(**arguments)
    except SpecError:
        raise
    except InvalidArgument as error:
        raise SpecError(f"spec {spec!r}: {error}") from None
    except TypeError as error:
        raise SpecError(f"spec {spec!r}: {str(error).splitlines()[0]}") from None


def text(thing: Any) -> str:
    """Return the canonical spec of an object: its name and the fields that differ from their defaults.

    A field that holds an object with a spec of its own, as an algorithm's thresholding rule, is written as that spec in
    quotes, which is how it is read.
    """
    parts = []
    for field in options(thing) if dataclasses.is_dataclass(thing) else ():
        value = getattr(thing, field.name)
        if value != field.default:
            nested = dataclasses.is_dataclass(value) and hasattr(value, "name")
            parts.append(f"{field.name}={(text(value) if nested else value)!r}")
    return f"{thing.name}({', '.join(parts)})" if parts else thing.name


def options(thing: Any) -> list[dataclasses.Field[Any]]:
    """Return the fields of a dataclass that a spec can hold: those of its constructor that are not marked as data."""
    return [field for field in dataclasses.fields(thing) if field.init and field.metadata.get("spec", True)]


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
