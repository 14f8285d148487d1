"""Which source files a stored result rests on, and a digest of their contents.

A stored result holds as long as none of these changes: rooms of this package, which its kind names
and which are taken whole, commands and studies aside; the file of each class that takes part; of a
plug-in, the whole package; and of a user's file, those that it imports from its folder. A report or
a command is in no room of a score.
"""

import dataclasses
import functools
import hashlib
import inspect
import itertools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pudle

from .. import names
from ..workers import Owners


def digest(rooms: tuple[str, ...], *parts: object) -> str:
    """Return a digest of all source files that a result depends on, whose contents are read once
    per process, until `forget` is called.

    `rooms` are folders or files of this package, and `parts` are the objects that the result is
    computed from, such as an estimator and a dataset.
    """
    return digest_of_classes(rooms, frozenset(cls for part in parts for cls in classes(part)))


def classes(part: object) -> Iterator[type]:
    """Yield the class of an object and, recursively, the classes of the objects in the fields of a
    dataclass.

    A field that `pudle.names.spec_field` declares counts as the object that its spec makes, for
    which a user's file is imported.
    """
    yield type(part)
    for field in dataclasses.fields(part) if dataclasses.is_dataclass(part) else ():
        value = getattr(part, field.name)
        declared = names.declared_part(field, value)
        if declared is not None:
            yield from classes(declared)
        elif dataclasses.is_dataclass(value):
            yield from classes(value)


def owners(*parts: object) -> Owners:
    """Return the names of the classes, of objects and of those in their fields, that come from
    plug-ins and users' files; none where all is built in.
    """
    every = {cls for part in parts for cls in classes(part)}
    return frozenset(
        f"{cls.__module__}.{cls.__qualname__}" for cls in filter(names.is_plugin, every)
    )


def files(rooms: tuple[str, ...], parts: frozenset[type] = frozenset()) -> dict[str, Path]:
    """Return the source files that some rooms and classes rest on, by lasting name: of a class also
    those of its bases, foreign packages such as torch aside.
    """
    paths = dict(itertools.chain(*(_files_in_room(room).items() for room in rooms)))
    for cls in parts:
        for base in cls.__mro__:
            # Not those from, say, torch.
            if base is cls or not all(map(names.is_plugin, base.__mro__)):
                paths |= _files_of(base)
    return paths


@functools.cache
def _files_in_room(room: str) -> dict[str, Path]:
    """Return the Python files of a room of this package, a folder with all below it or a single
    file, by path; commands and studies are left out.

    They are listed once per process, until `forget` is called.
    """
    root = Path(inspect.getfile(pudle)).parent
    return {
        path.relative_to(root).as_posix(): path
        for path in (*root.glob(f"{room}.py"), *(root / room).rglob("*.py"))
        # A study names experiments: what one of them computes is in its fields and its class.
        if "command" not in path.stem and "studies" not in path.parent.parts
    }


def forget() -> None:
    """Look at all files again from now on."""
    _files_in_room.cache_clear()
    digest_of_classes.cache_clear()


@functools.cache
def digest_of_classes(rooms: tuple[str, ...], parts: frozenset[type]) -> str:
    """Return the digest of some rooms and classes, with the names of the classes.

    Files are read once per process: the digest stays that of the files as they were then until
    `forget` is called.
    """
    class_names = []
    for cls in parts:
        # A class without a file, as one typed into an interpreter, has only its name.
        file = names.origin(cls)
        class_names.append(
            f"{names.shown_path(file) if file else cls.__module__}.{cls.__qualname__}"
        )
    return f"{digest_of(files(rooms, parts))} {' '.join(sorted(class_names))}"


def digest_of(files: Mapping[str, Path]) -> str:
    """Return a digest of the names and the contents of files, which are read now."""
    result = hashlib.sha256()
    for name, path in sorted(files.items()):
        result.update(f"{name}\0".encode() + path.read_bytes())
    return result.hexdigest()


def _files_of(cls: type) -> dict[str, Path]:
    """Return the files of a class: of this package its own, of a user's file those that it reaches,
    and of a plug-in the whole package.
    """
    if user_files := names.files_of(cls.__module__):
        return {names.shown_path(path): path for path in user_files}
    name = cls.__module__.partition(".")[0] if names.is_plugin(cls) else cls.__module__
    module = sys.modules.get(name)
    file, roots = getattr(module, "__file__", None), getattr(module, "__path__", ())
    return ({name: Path(file)} if file and not roots else {}) | {
        f"{name}/{path.relative_to(root).as_posix()}": path
        for root in roots
        for path in Path(root).rglob("*.py")
    }
