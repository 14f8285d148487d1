"""Classes in a user's own file, which a spec names by its path: ``path/file.py:Class(options)``."""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import hashlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from . import trial
from .errors import SpecError, first_line

#: How the names of modules begin that were made of such files.
PREFIX = "pudle_file_"


def load(path: Path) -> ModuleType:
    """Run a file as a module, once for each content that it and the files beside it which it
    imports have.

    Raises
    ------
    SpecError
        If there is no such file, or it raises an error; the text says where.
    """
    shown, path = shown_path(path), Path(os.path.abspath(path))
    try:
        name = _name(path)
    except OSError as error:
        raise SpecError(
            f"{shown} cannot be read ({error.strerror}): give the path of a .py file"
        ) from None
    if name not in sys.modules:
        if end := trial.verdict(name, lambda: _run(name, path)):
            raise SpecError(f"{shown} {end}: correct the file")
        try:
            _run(name, path)
        except (
            Exception,
            SystemExit,
        ) as error:  # whatever the file raises is reported as an error in that file
            why = f"{type(error).__name__}: {first_line(error)}{_hint(error, path)}"
            raise SpecError(f"{shown} cannot be imported{_line(error, path)}: {why}") from error
    return sys.modules[name]


def _run(name: str, path: Path) -> None:
    """Run a file as a module of that name, and keep the module unless an error ends it."""
    place = importlib.util.spec_from_file_location(name, path)
    assert place is not None, "a file that ends in .py has a loader"
    # Dataclasses look their module up by its name.
    sys.modules[name] = module = importlib.util.module_from_spec(place)
    # Its own import statements alone find the files beside it, now and when its functions run.
    vars(module)["__builtins__"] = {
        **vars(builtins),
        "__import__": functools.partial(_import, path),
    }
    try:
        # Not an import, which would write a compiled file beside the file.
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(module))
    except BaseException:
        del sys.modules[name]
        raise


def _import(
    path: Path,
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: tuple[str, ...] = (),
    level: int = 0,
) -> ModuleType:
    """Import a module for a file, which may be one that lies beside it: what its import statements
    call.
    """
    beside = _beside(path, name)
    if level or not beside:
        return builtins.__import__(name, globals, locals, fromlist, level)
    if (own := _name(beside)) not in sys.modules:
        _run(own, beside)
    return sys.modules[own]


def _beside(path: Path, module: str) -> Path | None:
    """Return the file of a module that lies beside another file, which comes first as it does for a
    script of Python's.
    """
    beside = path.with_name(f"{module}.py")
    # A file that has the name of a library which it wraps means the library, and the standard
    # library keeps its names.
    return (
        beside
        if beside != path and module not in sys.stdlib_module_names and beside.is_file()
        else None
    )


def _name(path: Path) -> str:
    """Return the name of the module that a file is: a digest of its path and of all that it runs."""
    parts = [
        os.fsencode(path),
        *(part for each in with_neighbors(path) for part in (os.fsencode(each), each.read_bytes())),
    ]
    return PREFIX + hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def with_neighbors(path: Path) -> list[Path]:
    """Return a file and the files beside it that it imports, and those that these import."""
    found, pending = [], [path]
    while pending:
        each = pending.pop()
        if each not in found:
            found.append(each)
            pending += filter(None, (_beside(each, name) for name in _imported(each.read_bytes())))
    return sorted(found)


def neighbors(module: str) -> set[str]:
    """Return the names of the modules that the files beside a file are which it imports; none for
    any other module.
    """
    if not module.startswith(PREFIX):
        return set()
    found, path = set(), Path(str(sys.modules[module].__file__))
    for each in set(with_neighbors(path)) - {path}:
        # One that is imported within a function, and cannot be, costs the function alone.
        with contextlib.suppress(SpecError):
            found.add(load(each).__name__)
    return found


@functools.lru_cache(maxsize=256)
def _imported(content: bytes) -> list[str]:
    """Return the names of the modules that a source imports anywhere, in functions as well."""
    nodes: list[ast.AST] = []
    with contextlib.suppress(SyntaxError, ValueError):
        nodes += ast.walk(ast.parse(content))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return names + [
        node.module
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
    ]


def classes_in(path: Path) -> list[type]:
    """Return the concrete classes that a file defines, in their order; those whose names begin with
    ``_`` are left out.
    """
    defined = [value for value in defined_in(path).values() if isinstance(value, type)]
    return [
        cls
        for cls in dict.fromkeys(defined)
        if not inspect.isabstract(cls) and not cls.__name__.startswith("_")
    ]


def defined_in(path: Path) -> dict[str, Any]:
    """Return the classes and functions that a file defines, by name in their order."""
    module = load(path)
    return {
        name: value
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__
    }


def origin(cls: type) -> Path | None:
    """Return the file that a class was loaded from, or None for a class of an installed package."""
    if not cls.__module__.startswith(PREFIX):
        return None
    return Path(str(sys.modules[cls.__module__].__file__))


def lasting_name(module: str) -> str:
    """Return the name of a module as keys of results have it: it stays when a file and the working
    folder move together.
    """
    return (
        shown_path(Path(str(sys.modules[module].__file__))) if module.startswith(PREFIX) else module
    )


def shown_path(path: Path) -> str:
    """Return a path as specs, names and stored files have it: as seen from the working folder."""
    return Path(os.path.relpath(path.expanduser())).as_posix()


def _line(error: BaseException, path: Path) -> str:
    """Return the line of the file in which an error arose, as text."""
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path)
    ]
    return f" (line {lines[-1]})" if lines else ""


def _hint(error: BaseException, path: Path) -> str:
    """Return what to do about a module that lies beside the file and is not found."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if not name or not path.with_name(name).is_dir():
        return ""
    return (
        f": a file imports files beside it, not folders; put {shown_path(path.parent)} on"
        " PYTHONPATH"
    )
