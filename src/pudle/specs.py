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


def build(spec: str, classes: Mapping[str, type], kind: str) -> Any:
    """Make the object that `spec` names out of `classes`, a mapping from name (or alias) to class."""
    name, arguments = parse(spec)
    if name not in classes:
        raise SpecError(unknown(kind, name, classes))
    cls = classes[name]
    known = [field.name for field in dataclasses.fields(cls) if field.init] if dataclasses.is_dataclass(cls) else None
    if known is not None:
        for key in arguments:
            if key not in known:
                takes = f"it takes {', '.join(known)}" if known else "it takes no arguments"
                raise SpecError(f"spec {spec!r}: {name} has no argument {key!r}{nearest(key, known)}; {takes}")
    try:
        return cls(**arguments)
    except SpecError:
        raise
    except InvalidArgument as problem:
        raise SpecError(f"spec {spec!r}: {problem}") from None
    except TypeError as problem:
        raise SpecError(f"spec {spec!r}: {str(problem).splitlines()[0]}") from None


def text(thing: Any) -> str:
    """Return the canonical spec of an object: its name and the fields that differ from their defaults."""
    parts = []
    for field in dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ():
        value = getattr(thing, field.name)
        if field.init and value != field.default:
            parts.append(f"{field.name}={value!r}")
    return f"{thing.name}({', '.join(parts)})" if parts else thing.name


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the text for a name that is not known, with the nearest one that is."""
    known = sorted(known)
    return f"unknown {kind} {name!r}{nearest(name, known)}: known are {', '.join(known) or 'none'}"
