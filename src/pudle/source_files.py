"""Classes in a user's own file, which a spec names by its path: ``path/file.py:Class(options)``."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from . import trial
from .errors import SpecError, first_line

#: How the names of modules begin that were made of such files.
PREFIX = "pudle_file_"


def load(path: Path) -> ModuleType:
    """Run a file as a module, once for each content that it has.

    Raises
    ------
    SpecError
        If there is no such file, or it raises an error; the text says where.
    """
    shown, path = shown_path(path), Path(os.path.abspath(path))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SpecError(f"{shown} cannot be read ({error.strerror}): give the path of a .py file") from None
    name = PREFIX + hashlib.sha256(f"{path}\0".encode() + content).hexdigest()[:16]
    if name not in sys.modules:
        if end := trial.verdict(name, lambda: _run(name, path, content)):
            raise SpecError(f"{shown} {end}: correct the file")
        try:
            _run(name, path, content)
        except (Exception, SystemExit) as error:  # whatever the file raises is reported as an error in that file
            why = f"{type(error).__name__}: {first_line(error)}{_hint(error, path)}"
            raise SpecError(f"{shown} cannot be imported{_line(error, path)}: {why}") from error
    return sys.modules[name]


def _run(name: str, path: Path, content: bytes) -> None:
    """Run a file as a module of that name, and keep the module unless an error ends it."""
    place = importlib.util.spec_from_file_location(name, path)
    assert place is not None, "a file that ends in .py has a loader"
    # Dataclasses look their module up by its name.
    sys.modules[name] = module = importlib.util.module_from_spec(place)
    try:
        # Not an import, which would write a compiled file beside the file.
        exec(compile(content, str(path), "exec", dont_inherit=True), vars(module))
    except BaseException:
        del sys.modules[name]
        raise


def classes_in(path: Path) -> list[type]:
    """Return the concrete classes that a file defines, in their order; those whose names begin with ``_`` are left out."""
    module = load(path)
    defined = [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__]
    return [cls for cls in dict.fromkeys(defined) if not inspect.isabstract(cls) and not cls.__name__.startswith("_")]


def origin(cls: type) -> Path | None:
    """Return the file that a class was loaded from, or None for a class of an installed package."""
    if not cls.__module__.startswith(PREFIX):
        return None
    return Path(str(sys.modules[cls.__module__].__file__))


def lasting_name(module: str) -> str:
    """Return the name of a module as keys of results have it: it stays when a file and the working folder move together."""
    return shown_path(Path(str(sys.modules[module].__file__))) if module.startswith(PREFIX) else module


def shown_path(path: Path) -> str:
    """Return a path as specs, names and stored files have it: as seen from the working folder."""
    return Path(os.path.relpath(path.expanduser())).as_posix()


def _line(error: BaseException, path: Path) -> str:
    """Return the line of the file in which an error arose, as text."""
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f" (line {lines[-1]})" if lines else ""


def _hint(error: BaseException, path: Path) -> str:
    """Return what to do about a module that lies beside the file and is not found."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if not name or not (path.with_name(f"{name}.py").exists() or path.with_name(name).is_dir()):
        return ""
    return f": a file stands alone; put both into one, or {shown_path(path.parent)} on PYTHONPATH"
