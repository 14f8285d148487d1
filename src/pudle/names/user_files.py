"""Files of the user as modules: what a spec such as ``path/file.py:Class`` names."""

import hashlib
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import fsencode
from os.path import abspath, join, splitext
from pathlib import Path
from types import ModuleType

from ..declared import check_declared
from ..errors import SpecError
from .grammar import nearest, shown_path
from .kinds import KINDS, Unusable, check_aliases, describe_error, is_concrete

#: How the names of modules begin that users' files become.
PREFIX = "pudle_file_"
#: This package, whose modules no user's file replaces.
PACKAGE = "pudle"
#: The modules of users' files by name, each with the content that it and the files that it imports
#: from its folder had when it was loaded.
_FILES: dict[str, tuple[ModuleType, dict[Path, bytes]]] = {}


def load(path: Path) -> ModuleType:
    """Run a file as a module, again only if it or a file that it imports from its folder changed.

    It stays in ``sys.modules``, under a name that no import has; what it imports from its folder
    does not.

    Raises
    ------
    SpecError
        If there is no such file, or it raises an error or ends the program; the text says where.
    """
    path_in_errors, path = shown_path(path), Path(abspath(path))
    name = PREFIX + hashlib.sha256(fsencode(path)).hexdigest()[:16]
    with suppress(KeyError, OSError):
        module, contents = _FILES[name]
        if all(file.read_bytes() == content for file, content in contents.items()):
            return module
    try:
        # A pipe would be waited for, and a device has no end.
        if path.exists() and not path.is_file():
            raise OSError("it is no regular file")
        content = path.read_bytes()
        # Dataclasses look their module up by its name.
        sys.modules[name] = module = ModuleType(name)
        module.__file__ = str(path)
        with _as_script(path.parent) as imported:
            # Not an import, which might read a compiled file that is older.
            exec(compile(content, path, "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        raise SpecError(
            f"{path_in_errors} cannot be imported ({describe_error(error)}): correct the file or"
            " its path"
        ) from error
    _FILES[name] = module, {path: content} | {file: file.read_bytes() for file in imported}
    return module


@contextmanager
def _as_script(folder: Path) -> Iterator[list[Path]]:
    """Let imports find the files of a folder first, as those of a script do; they are forgotten
    afterwards, and listed.

    The list is filled when the context is left. Meanwhile, in this process, the folder is first in
    ``sys.path``, no compiled files are written, and modules of the folder that were loaded before
    are put aside. Two folders may therefore have files of one name.
    """
    before, imported = _modules_in(folder), list[Path]()
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    for name in before:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield imported
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes_bytecode
        for name, module in _modules_in(folder).items():
            del sys.modules[name]
            if file := getattr(module, "__file__", None):
                imported.append(Path(file))
        sys.modules.update(before)


def _modules_in(folder: Path) -> dict[str, ModuleType]:
    """Return the loaded modules and packages that lie in a folder, not those of packages that lie
    deeper, such as an environment's.
    """
    loaded = [*sys.modules.items()]
    top_level = set()
    for name, module in loaded:
        for location in (vars(module).get("__file__"), *vars(module).get("__path__", ())):
            # Without a Path for each of thousands of modules, which would take a tenth of a second.
            if name != PACKAGE and location and splitext(location)[0] == join(folder, name):
                top_level.add(name)
    return {name: module for name, module in loaded if name.partition(".")[0] in top_level}


def classes_in(group: str, path: Path, name: str = "") -> dict[str, type]:
    """Run a file and return its concrete, public classes of a group by name, those that it imports
    aside.

    A base class may make more from what the file defines, see `Dataset.classes_from`: where there
    is none, or none of the `name` that is asked for.
    """
    module = load(path)
    defined = {
        key: value
        for key, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__ and not key.startswith("_")
    }
    base = KINDS[group].base_class()
    classes = {value.__name__: value for value in defined.values() if is_concrete(value, base)}
    if hasattr(base, "classes_from") and name not in classes and (name or not classes):
        classes |= {cls.__name__: cls for cls in base.classes_from(defined, name)}
    return classes


def class_in(group: str, path: Path, name: str = "") -> type:
    """Run a file and return its class of a group, the only one there unless its name is given.

    Raises
    ------
    SpecError
        If the file cannot be run, holds no such class or several, or the class lacks what a spec
        needs; the text says what to write.
    """
    kind, path_in_errors = KINDS[group], shown_path(path)
    classes = classes_in(group, path, name)
    if not classes:
        raise SpecError(
            f"{path_in_errors} holds no {kind.noun}: derive a class from pudle's"
            f" {kind.base_class().__name__} and implement all of its methods{kind.or_else}"
        )
    if not name and len(classes) == 1:
        (name,) = classes
    if name not in classes:
        raise SpecError(
            f"{path_in_errors} holds the {kind.noun}s"
            f" {', '.join(classes)}{nearest(name, classes)}: name one of them, as"
            f" {path_in_errors}:{next(iter(classes))}"
        )
    try:
        check_aliases(kind, classes[name])
    except Unusable as defect:
        raise SpecError(f"{path_in_errors}: {name} {defect}: correct the file") from None
    check_declared(classes[name], f"{path_in_errors}: ")
    return classes[name]


def origin(cls: type) -> Path | None:
    """Return the user's file that a class was loaded from, or None for a class of a package."""
    return next(iter(files_of(cls.__module__)), None)


def files_of(module: str) -> list[Path]:
    """Return the file that the module of a user's class is, and those that it imports from its
    folder; none for other modules.
    """
    return [*_FILES[module][1]] if module in _FILES else []


def is_of_a_file(code: str) -> bool:
    """Tell whether the file of some code is a user's, or one that a user's imports."""
    return any(code == str(path) for _, contents in _FILES.values() for path in contents)


def defines(name: str) -> bool:
    """Tell whether a user's file has a class or a function of some name."""
    return any(name in vars(module) for module, _ in _FILES.values())
