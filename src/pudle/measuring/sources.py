"""Which source files a stored result depends on, found by following imports, and a digest of their
contents.

A stored result holds as long as no file that it depends on changes. The search for these files
starts at the module that computes the result and at the classes of the objects that go into it. It
follows every import inside this package; of a plug-in, the whole package counts. So a changed
helper outdates the results of those that import it, and a changed report or command, which nothing
that measures imports, outdates none. Nothing here needs an update when a file is added.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pudle

from .. import names
from ..errors import PudleError
from ..names import files_of, lasting_name, shown_path

PACKAGE = "pudle"


def digest(module: str, *parts: Any) -> str:
    """Return a digest of all source files that a result depends on.

    `module` is the dotted name of the module that computes the result, and `parts` are the objects
    that it is computed from, such as an estimator and a dataset, or their classes.
    """
    return _digest(module, frozenset(cls for part in parts for cls in classes(part)))


def classes(part: Any) -> Iterator[type]:
    """Yield a class, or the classes of an object and of the objects in its fields.

    A field such as ``optimizer="adam"`` counts as the object that its spec makes.
    """
    yield part if isinstance(part, type) else type(part)
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            maker = getattr(names, f"make_{field.name}", None)
            value = maker(value) if maker and isinstance(value, str) else value
            if dataclasses.is_dataclass(value):
                yield from classes(value)


@functools.cache
def _digest(module: str, parts: frozenset[type]) -> str:
    result = hashlib.sha256()
    for name, path in sorted(
        (lasting_name(name), path) for name, path in files(module, parts).items()
    ):
        result.update(f"{name}\0".encode() + path.read_bytes())
    # A class without a file, as one typed into an interpreter, has only its name.
    result.update(
        " ".join(
            sorted(f"{lasting_name(cls.__module__)}.{cls.__qualname__}" for cls in parts)
        ).encode()
    )
    return result.hexdigest()


def read_again() -> None:
    """Let the next digest be one of the files as they are then, and not as they were at the first."""
    _digest.cache_clear()


def files(module: str, parts: frozenset[type] = frozenset()) -> dict[str, Path]:
    """Return the source files that a module and some classes depend on, by name.

    This package's own ``__init__`` is left out: it only says where each public name lives.
    """
    found: dict[str, Path] = {}
    visited = {PACKAGE, ""}
    pending = {module}.union(*map(_homes, parts))
    while pending := pending - visited:
        name = pending.pop()
        visited.add(name)
        package, _, last = name.rpartition(".")
        spec = _spec(name)
        if spec and spec.has_location:
            found[name] = Path(str(spec.origin))
            # Python runs a package's __init__ before any module in it.
            pending |= {package, *_mentions(name, found[name])}
            for path in files_of(name)[1:]:
                found[shown_path(path)] = path
                pending |= _mentions(name, path)
            found |= {} if _top(name) == PACKAGE else _whole(_top(name))
        elif package == PACKAGE:
            # A public name, imported from the package itself.
            pending.add(getattr(getattr(pudle, last, None), "__module__", PACKAGE))
    return found


def _top(module: str) -> str:
    return module.partition(".")[0]


def is_importable(cls: type) -> bool:
    """Return whether a class is in a module whose file can be found again, unlike one of a script
    or a notebook.
    """
    spec = _spec(cls.__module__) if cls.__module__ != "__main__" else None
    return bool(spec and spec.has_location)


def _homes(cls: type) -> set[str]:
    """Return the modules of a class and of those bases that build on this package, unlike bases
    from, say, torch.
    """
    builds_on = [
        base
        for base in cls.__mro__
        if any(_top(ancestor.__module__) == PACKAGE for ancestor in base.__mro__)
    ]
    return {base.__module__ for base in (cls, *builds_on)}


@functools.cache
def _spec(module: str) -> ModuleSpec | None:
    with contextlib.suppress(ImportError, ValueError):
        return importlib.util.find_spec(module)
    return None


@functools.cache
def _whole(top: str) -> dict[str, Path]:
    """Return all source files of a package; none for a module that is a single file."""
    spec = _spec(top)
    roots = map(Path, (spec and spec.submodule_search_locations) or ())
    return {
        f"{top}/{path.relative_to(root).as_posix()}": path
        for root in roots
        for path in root.rglob("*.py")
    }


@functools.cache
def _mentions(name: str, path: Path) -> set[str]:
    """Return the modules that a source file needs: what it imports, but for type checkers alone,
    and specs written in it.

    An import inside a function counts. A spec is written in a source as
    ``make_estimator("backprop")``.
    """
    imported: set[str] = set()
    made: set[str] = set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    pending: list[ast.AST] = []
    with contextlib.suppress(SyntaxError):
        pending.append(ast.parse(path.read_bytes()))
    while pending:
        node = pending.pop()
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                pending += node.orelse
                continue
            case ast.Import(names=aliases):
                imported |= {alias.name for alias in aliases}
            case ast.ImportFrom(module=module, names=aliases, level=level):
                start = importlib.util.resolve_name("." * level + (module or ""), package)
                imported |= {start, *(f"{start}.{alias.name}" for alias in aliases)}
            case ast.Attribute(value=ast.Name(id="pudle"), attr=attribute):
                imported.add(f"{PACKAGE}.{attribute}")
            case ast.Call(
                func=ast.Name(id=maker) | ast.Attribute(attr=maker),
                args=[ast.Constant(value=str(spec)), *_],
            ):
                if maker.startswith("make_") and hasattr(names, maker):
                    with contextlib.suppress(PudleError):
                        made |= _homes(type(getattr(names, maker)(spec)))
        pending += ast.iter_child_nodes(node)
    known = {PACKAGE, _top(name)}
    return made | {
        module
        for module in imported
        if _top(module) in known or _folder(_top(module)) == _folder(_top(name))
    }


@functools.cache
def _folder(top: str) -> str:
    """Return the folder that a top-level module lies in, or the module itself if it is installed
    among other packages.
    """
    spec = _spec(top)
    if top == PACKAGE or spec is None or not spec.has_location:
        return top
    folder = Path(str(spec.origin)).parents[1 if spec.submodule_search_locations else 0]
    return top if {"site-packages", "dist-packages"}.intersection(folder.parts) else str(folder)
