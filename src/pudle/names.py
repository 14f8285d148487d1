"""Names: a spec, a file of the user's or an entry point becomes an object, and an object a spec.

A spec is text: ``name(key=literal, ...)`` or ``path/file.py:Class(key=literal, ...)``. Names are
those of entry points, built in or of an installed plug-in; one that cannot be used costs itself
alone, and `broken` says why. No class is known here but by its dotted name, so that every room can
import this module.
"""

import ast
import difflib
import functools
import hashlib
import importlib
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, Field, field, fields, is_dataclass
from importlib.metadata import Distribution, EntryPoint, EntryPoints, entry_points
from os import fsencode
from os.path import abspath, join, relpath, splitext
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar, get_args

from .errors import InvalidArgument, MissingDependency, PudleError, SpecError, first_line
from .validation import type_hints

if TYPE_CHECKING:
    # Every room imports this module: what a spec makes is known here to type checkers alone.
    from .algorithms import Algorithm
    from .data import Dataset
    from .estimator import GradientEstimator
    from .measuring.experiment import Experiment
    from .measuring.selection import Selection

T = TypeVar("T")
#: The installed package whose entries no other may take the names of.
PACKAGE = "pudle"
#: How the names of modules begin that users' files become.
PREFIX = "pudle_file_"
#: A name, or a file and maybe a class in it, and maybe options.
SPEC = re.compile(
    r"(?P<name>[^\W\d]\w*|(?P<path>.+?\.py)(?::(?P<cls>[^\W\d]\w*))?)\s*(?P<options>|\(.*\))",
    re.DOTALL,
)
#: A name that a file can have without leading elsewhere.
PLAIN_NAME = re.compile(r"\w[\w.()=,+-]*")
#: The key in a field's metadata of the group whose objects it holds.
GROUP = "group"
#: Types of options whose values are checked.
PLAIN_TYPES = {int, float, bool, str, type(None)}


class Kind(NamedTuple):
    """What an entry-point group holds: its noun, its base class, and what else a user's file may
    hold.
    """

    noun: str
    base: str
    or_else: str = ""

    def base_class(self) -> Any:
        return pkgutil.resolve_name(self.base)


#: The groups that specs can name.
KINDS = {
    "estimators": Kind("estimator", "pudle.estimator:GradientEstimator"),
    "datasets": Kind(
        "dataset",
        "pudle.data:Dataset",
        ", or write a function `problem` that returns a problem",
    ),
    "algorithms": Kind("algorithm", "pudle.algorithms:Algorithm"),
    "thresholding": Kind("thresholding rule", "pudle.algorithms.thresholding:Thresholding"),
    "optimizers": Kind("optimizer", "pudle.learning.optimizers:Optimizer"),
    "schedules": Kind("schedule", "pudle.learning.optimizers:Schedule"),
}
#: Names of fields that mostly hold the spec of an object of a group.
SPEC_NAMES = {group.removesuffix("s"): group for group in KINDS}
#: Groups of other things than specs can name.
OTHERS = {
    "problems": Kind("problem", "pudle.problems:Problem"),
    "experiments": Kind("experiment", "pudle.measuring.experiment:Experiment"),
}


# Specs: text to name and options, and back


class Spec(str, Generic[T]):
    """The text of a spec with the object that it stands for, which is made once: when it is first
    asked for, unless it is given.

    The text is what is stored, compared and shown. In another process the object is made anew, for
    which no plug-in is imported but that of the name: what others do when they are imported, they
    do not do there.
    """

    group: str
    #: Whether it was a spec in another process, where its name was found among all.
    was_found: bool = False

    def __new__(cls, group: str, spec: str, made: T | None = None) -> Self:
        self = super().__new__(cls, spec)
        self.group = group
        if made is not None:
            self.made = made
        return self

    @functools.cached_property
    def made(self) -> T:
        """The object."""
        text, classes = str(self), Entries()
        if self.was_found:
            name, _ = parse(text)
            classes = _entries_named(self.group, name)
        made: T = make(self.group, text, classes)
        return made

    def __reduce__(self) -> tuple[type[Self], tuple[str, str], dict[str, bool]]:
        return type(self), (self.group, str(self)), {"was_found": True}


def specs(group: str, texts: Iterable[str]) -> tuple[str, ...]:
    """Return texts as specs of a group; those that are specs keep their objects."""
    return tuple(each if isinstance(each, Spec) else Spec(group, each) for each in texts)


def canonical(group: str, thing: object) -> Spec[Any]:
    """Return the canonical spec of an object, or of what a spec names, with the object; SpecError
    says that it names nothing.
    """
    made = make(group, thing) if isinstance(thing, str) else thing
    return Spec(group, text(made), made)


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """Split a spec into its name and its keyword arguments; the name may be ``path/file.py`` or
    ``path/file.py:Class``.

    The text is parsed and never evaluated: values must be literals (numbers, text, True, False,
    None, tuples or lists of these). A malformed text, a positional argument and a value that is not
    a literal raise SpecError.
    """
    found = SPEC.fullmatch(str(spec).strip())
    call = None
    if found:
        with suppress(SyntaxError, ValueError, MemoryError, RecursionError):
            call = ast.parse(f"f{found['options'] or '()'}", mode="eval").body
    match call:
        case ast.Call(ast.Name(), [], keywords):
            arguments: dict[Any, Any] = {}
            for keyword in keywords:
                try:
                    arguments[keyword.arg] = ast.literal_eval(keyword.value)
                except (ValueError, TypeError, MemoryError, RecursionError):
                    raise SpecError(
                        f"spec {spec!r}: {keyword.arg} is not a literal, and a spec never calls or"
                        " computes anything: write a number, text, True, False or None"
                    ) from None
            if found and None not in arguments and len(arguments) == len(keywords):
                return found["name"], arguments
    raise SpecError(
        f"malformed spec {spec!r}: write name, name(key=value, ...) or"
        " path/file.py:Class(key=value, ...), each key once, e.g. truncated(window=10)"
    )


def text(instance: Any) -> str:
    """Return the canonical spec of an object: its name and the fields that differ from their
    defaults.

    If a field holds an object with a spec of its own, such as an algorithm's thresholding rule,
    that spec is written in quotes. Paths are those seen from the working folder, so that what is
    stored holds no other.
    """
    changed = {}
    for each in options(instance):
        value = getattr(instance, each.name)
        if value != each.default:
            if is_dataclass(value) and hasattr(value, "name"):
                value = text(value)
            elif each.metadata.get("path") and isinstance(value, str):
                value = shown_path(Path(value))
            changed[each.name] = value
    return _written(name_of(type(instance)), changed)


def _written(name: str, arguments: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return f"{name}({shown})" if shown else name


def name_of(cls: Any) -> str:
    """Return the name that specs have for a class: its own, or ``path/file.py:Class`` if it is of a
    user's file.
    """
    file = origin(cls)
    return f"{shown_path(file)}:{cls.__name__}" if file else cls.name


def options(cls: Any) -> list[Field[Any]]:
    """Return the fields that a spec of a class can hold: the constructor's of a dataclass, without
    those marked ``spec=False``.
    """
    stated = fields(cls) if is_dataclass(cls) else ()
    return [each for each in stated if each.init and each.metadata.get("spec", True)]


def spec_field(group: str, default: Any = MISSING) -> Any:
    """Return a dataclass field that holds an object of a group, or the spec of one: what rests on
    the instance rests on the sources of that object as well.
    """
    return field(default=default, metadata={GROUP: group})


def declared_part(declaration: Field[Any], value: object) -> object | None:
    """Return the object that a field declared by `spec_field` holds or names; None for any other
    field.
    """
    group = declaration.metadata.get(GROUP)
    if group is None:
        return None
    return make(group, value) if isinstance(value, str) else value


def path_options(instance: Any) -> list[str]:
    """Return the names of the options that hold paths: fields whose metadata say ``path=True``."""
    return [each.name for each in options(instance) if each.metadata.get("path")]


def file_of(name: str) -> tuple[Path, str] | None:
    """Return the file that the name of a spec stands for and the class in it, or an empty text;
    None for a plain name.
    """
    if (match := SPEC.fullmatch(name)) and match["path"]:
        return Path(match["path"]).expanduser(), match["cls"] or ""
    return None


def placed(spec: str, place: Callable[[Path], Path], paths: Iterable[str] = ()) -> str:
    """Return a spec with other paths, of its file and of the options named in `paths`; without any
    it stays as it is.
    """
    name, arguments = parse(spec)
    moved = {
        key: str(place(Path(value).expanduser()))
        for key in paths
        if isinstance(value := arguments.get(key), str)
    }
    file = file_of(name)
    if not file and not moved:
        return spec
    name = f"{place(file[0])}{':' * bool(file[1])}{file[1]}" if file else name
    return _written(name, arguments | moved)


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest choice, or nothing if none is close."""
    close = difflib.get_close_matches(word, choices, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


# Objects


def build(spec: str, cls: Any) -> Any:
    """Make an object of a class with the options in a spec, or raise SpecError if the class refuses
    them.
    """
    name, arguments = parse(spec)
    if is_dataclass(cls):
        taken = {each.name: each for each in options(cls)}
        for key in arguments.keys() - taken.keys():
            raise SpecError(
                f"spec {spec!r}: {name} has no argument {key!r}{nearest(key, taken)}; it takes"
                f" {', '.join(taken) or 'no arguments'}"
            )
        for key, each in taken.items():
            if key not in arguments and each.default is each.default_factory is MISSING:
                raise SpecError(f"spec {spec!r}: {name} needs {key}: write {name}({key}=...)")
    # A class that checks its own options says more than their types do.
    wrong = _wrong_type(cls, arguments)
    try:
        made = cls(**arguments)
    except (SpecError, MissingDependency):
        raise
    except InvalidArgument as error:
        wrong = first_line(error)
    except Exception as error:  # noqa: BLE001  # a class of others may raise anything
        wrong = wrong or f"{type(error).__name__}: {first_line(error)}"
    if wrong:
        raise SpecError(f"spec {spec!r}: {wrong}")
    return made


def _wrong_type(cls: type, arguments: Mapping[str, Any]) -> str:
    """Return what is wrong with the first value that a plain annotation, such as ``int | None``,
    rules out, or nothing.
    """
    hints: dict[str, Any] = {}
    # Annotations that only type checkers can read check nothing here.
    with suppress(Exception):
        hints = type_hints(cls)
    for key, value in arguments.items():
        hint = hints.get(key)
        accepted = {*(get_args(hint) or [hint])}
        accepted |= {int} if float in accepted else set()
        if accepted <= PLAIN_TYPES and type(value) not in accepted:
            wanted = inspect.formatannotation(hint)
            return f"{key}={value!r} is of type {type(value).__name__}: give {wanted}"
    return ""


def make(group: str, spec: str, known: Mapping[str, Any] | None = None) -> Any:
    """Make an object of a group, such as ``thresholding``, from a spec.

    Classes that are `known` by their names are looked at first, then the built-in ones, whose names
    no plug-in can take, then all.
    """
    if isinstance(spec, Spec):
        return spec.made
    name, _ = parse(spec)
    if file := file_of(name):
        return build(spec, class_in(group, *file))
    for some in (known or {}, built_in(group)):
        if cls := _by_name_or_alias(some).get(name):
            return build(spec, cls)
    classes = entries(group)
    if cls := _by_name_or_alias(classes).get(name):
        return build(spec, cls)
    raise SpecError(
        classes.broken.get(name)
        or f"unknown {KINDS[group].noun} {name!r}{nearest(name, classes)}: known are"
        f" {', '.join(classes) or 'none'}, and your own as path/file.py"
        + f" ({name}.py lies here)" * Path(f"{name}.py").is_file()
    )


def _by_name_or_alias(classes: Mapping[str, Any]) -> Mapping[str, Any]:
    aliases = {alias: cls for cls in classes.values() for alias in getattr(cls, "aliases", ())}
    return aliases | dict(classes)


def make_estimator(spec: str) -> "GradientEstimator":
    """Make an estimator from a spec: a name, which may be an alias from the literature, or a file
    of the user's own.

    Examples are ``"truncated(window=10)"`` and ``"path/file.py:Mine(window=10)"``; a file named
    without a class holds one.

    Raises
    ------
    SpecError
        If the spec is malformed, or its name is unknown (the text suggests the nearest name) or
        that of a broken plug-in, or the file cannot be used.
    """
    made: GradientEstimator = make("estimators", spec)
    return made


def make_dataset(spec: str) -> "Dataset":
    """Make a dataset from a spec such as ``"sparse_gaussian(n_samples=1000, seed=0)"``."""
    made: Dataset = make("datasets", spec)
    return made


def make_algorithm(spec: str) -> "Algorithm":
    """Make an inner algorithm from a spec such as ``"ista(step=0.2)"``."""
    made: Algorithm = make("algorithms", spec)
    return made


# Entry points


class Entries(dict[str, Any]):
    """The usable entries of a group by name, with the packages they come from in `origins`.

    `broken` has one line for each entry that is not usable, by name as well.
    """

    broken: dict[str, str]
    origins: dict[str, str]

    def __missing__(self, name: str) -> Any:
        raise PudleError(
            self.broken.get(name) or f"{name!r} is unknown: known are {', '.join(self)}"
        )


class _Defect(Exception):
    """A class or an entry cannot be used; the text says why, as the rest of a sentence."""


def list_estimators() -> "dict[str, type[GradientEstimator]]":
    """Return every registered estimator as ``{name: class}``."""
    return dict(entries("estimators"))


def list_datasets() -> "dict[str, type[Dataset]]":
    """Return every registered dataset as ``{name: class}``."""
    return dict(entries("datasets"))


def list_profiles() -> "Mapping[str, Selection]":
    """Return every profile as ``{name: selection}``; the name of a broken one raises PudleError."""
    return entries("profiles")


def list_experiments() -> "dict[str, Experiment]":
    """Return every experiment of every study as ``{name: experiment}``; each entry point of
    ``pudle.experiments`` is a study.
    """
    return {name: each for study in entries("experiments").values() for name, each in study.items()}


def points(group: str) -> list[EntryPoint]:
    """Return the entry points in the group ``pudle.<group>``: first this package's own, each part
    sorted by name.
    """
    return sorted(
        _select(tuple(sys.path))(group=f"{PACKAGE}.{group}"),
        key=lambda point: (owner(point) != PACKAGE, point.name, owner(point)),
    )


@functools.cache
def _select(path: tuple[str, ...]) -> Callable[..., EntryPoints]:
    # All groups are found at once, because each search reads a file of every installed package.
    return entry_points().select


def owner(point: EntryPoint) -> str:
    """Return the name of the installed package that an entry point belongs to."""
    return _name(point.dist)


@functools.cache
def _name(package: Distribution | None) -> str:
    # Each time that it is asked, a package reads its metadata.
    return package.name if package else "an installed package"


@functools.cache
def entries(group: str) -> Entries:
    """Return the entries of the group ``pudle.<group>``, sorted by name.

    A plug-in is broken if it cannot be loaded, is not what the group holds, cannot be made with its
    default options, or claims a name or an alias that is taken: this package's own entries come
    first, then packages by name.
    """
    return _loaded(group, points(group))


@functools.cache
def built_in(group: str) -> Entries:
    """Return this package's own entries of a group; no plug-in is imported."""
    return _loaded(group, [point for point in points(group) if owner(point) == PACKAGE])


def is_built_in(group: str, spec: str) -> bool:
    """Tell whether a spec has the name of one of this package's entries; nothing is imported."""
    name, _ = parse(spec)
    return any(point.name == name and owner(point) == PACKAGE for point in points(group))


def _entries_named(group: str, name: str) -> Entries:
    """Return the entries of one name; no other plug-in is imported."""
    return _loaded(group, [point for point in points(group) if point.name == name])


def _loaded(group: str, some: Iterable[EntryPoint]) -> Entries:
    """Load entry points of a group, and return what can be used of them."""
    usable: dict[str, Any] = {}
    taken: dict[str, str] = {}
    defects: dict[str, str] = {}
    origins: dict[str, str] = {}
    for point in some:
        name, package = point.name, owner(point)
        # A plug-in may raise anything, or try to end the program.
        step = f"cannot be loaded from {point.value}"
        try:
            entry = point.load()
            if usable.get(name) is entry:
                continue
            claimed = _claimed(group, name, entry)
            step = "cannot be made with its default options"
            if package != PACKAGE and isinstance(entry, type):
                _try_default(entry)
            for each in claimed:
                if each in taken:
                    raise _Defect(f"claims the name {each!r}, which belongs to {taken[each]}")
        except (Exception, SystemExit) as error:  # noqa: BLE001
            why = str(error) if isinstance(error, _Defect) else f"{step} ({_why(error)})"
            line = f"plug-in {name!r} of {package} {why}: repair or uninstall {package}"
            defects[name] = f"{defects[name]}; {line}" if name in defects else line
        else:
            usable[name] = entry
            taken |= dict.fromkeys(claimed, f"{name!r} of {package}")
            version = getattr(point.dist, "version", "")
            origins[name] = "built-in" if package == PACKAGE else f"{package} {version}"
    result = Entries(sorted(usable.items()))
    result.broken, result.origins = defects, origins
    return result


def broken(*groups: str) -> list[str]:
    """Return one line for each plug-in in some groups that cannot be used."""
    return [line for group in groups for line in entries(group).broken.values()]


def _claimed(group: str, name: str, entry: Any) -> list[str]:
    """Return the names that an entry claims, or raise _Defect if it is not what the group holds."""
    if not (kind := KINDS.get(group) or OTHERS.get(group)):
        return [name]
    base = kind.base_class()
    if group == "experiments":
        if not isinstance(entry, Mapping) or not all(
            PLAIN_NAME.fullmatch(str(key)) and isinstance(value, base)
            for key, value in entry.items()
        ):
            raise _Defect("is not a mapping from plain file names to experiments")
        for experiment in entry.values():
            _check_declared(experiment)
        return list(entry)
    if not is_concrete(entry, base):
        raise _Defect(
            f"is not a class that derives from {base.__name__} and implements all of its methods,"
            f" but {entry!r:.80}"
        )
    aliases = _aliases(kind, entry)
    if group in KINDS and (not name.isidentifier() or entry.name != name):
        raise _Defect(
            f"has name={entry.name!r}, which must be that of its entry point and an identifier"
        )
    return [name, *aliases]


def _check_declared(experiment: Any) -> None:
    """Raise _Defect for a spec in a field that does not say so: what it names could change without
    a trace.
    """
    for option in options(experiment):
        value, group = getattr(experiment, option.name), SPEC_NAMES.get(option.name)
        if group and isinstance(value, str) and GROUP not in option.metadata:
            raise _Defect(
                f"has a field {option.name} with a spec that is not declared: write"
                f" {option.name}: str = pudle.names.spec_field({group!r}, {value!r})"
            )


def is_concrete(value: Any, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base) and not inspect.isabstract(value)


def _aliases(kind: Kind, cls: Any) -> tuple[str, ...]:
    """Return the aliases of a class, or raise _Defect if it lacks what every class has."""
    stated = [name for name in ("name", "computes") if name in kind.base_class().__annotations__]
    if lacking := [name for name in stated if not isinstance(getattr(cls, name, 0), str)]:
        raise _Defect(f"lacks a text {' and '.join(lacking)}")
    aliases = getattr(cls, "aliases", ())
    if not isinstance(aliases, tuple) or not all(isinstance(alias, str) for alias in aliases):
        raise _Defect(f"has aliases={aliases!r:.80}, which is not a tuple of texts")
    return aliases


def _try_default(cls: Any) -> None:
    """Make the default object of a plug-in's class, if there is one, and ask for its spec and its
    fingerprint, as every use of it does.
    """
    try:
        inspect.signature(cls).bind()
    except TypeError:
        return
    with suppress(InvalidArgument, MissingDependency):
        made = cls()
        text(made)
        if not isinstance(getattr(made, "fingerprint", str)(), str):
            raise TypeError("its fingerprint is not a text")


def _why(error: BaseException) -> str:
    """Return what an error says and in which line of others' code it arose; a syntax error says
    that itself.
    """
    says = f"{type(error).__name__}: {first_line(error)}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and frame.filename != __file__
    ]
    if not frames or isinstance(error, SyntaxError):
        return says
    return f"{says}, at {Path(frames[-1].filename).name}, line {frames[-1].lineno}"


# Users' files


#: The modules of users' files by name, each with what it and the files that it imports from its
#: folder held when it was loaded.
_FILES: dict[str, tuple[ModuleType, dict[Path, bytes]]] = {}


def load(path: Path) -> ModuleType:
    """Run a file as a module, again only if it or a file that it imports from its folder changed.

    Raises
    ------
    SpecError
        If there is no such file, or it raises an error; the text says where.
    """
    shown, path = shown_path(path), Path(abspath(path))
    name = PREFIX + hashlib.sha256(fsencode(path)).hexdigest()[:16]
    with suppress(KeyError, OSError):
        module, contents = _FILES[name]
        if all(each.read_bytes() == content for each, content in contents.items()):
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
            f"{shown} cannot be imported ({_why(error)}): correct the file or its path"
        ) from error
    _FILES[name] = module, {path: content} | {each: each.read_bytes() for each in imported}
    return module


@contextmanager
def _as_script(folder: Path) -> Iterator[list[Path]]:
    """Let imports find the files of a folder first, as those of a script do; they are forgotten
    afterwards, and listed.

    Two folders may therefore have files of one name.
    """
    before, imported = _modules_in(folder), list[Path]()
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    for name in before:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield imported
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes
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
    top = {
        name
        for name, module in loaded
        for place in (vars(module).get("__file__"), *vars(module).get("__path__", ()))
        # Without a Path for each of thousands of modules, which would take a tenth of a second.
        if name != PACKAGE and place and splitext(place)[0] == join(folder, name)
    }
    return {name: module for name, module in loaded if name.partition(".")[0] in top}


def classes_in(group: str, path: Path, name: str = "") -> dict[str, type]:
    """Return the concrete, public classes of a group in a file by name.

    A base class may make more from what the file defines, see `Dataset.classes_from`; `name` is
    that of one that is asked for.
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
    """Return the class of a group in a file, the only one there unless its name is given, or raise
    SpecError.
    """
    kind, shown = KINDS[group], shown_path(path)
    classes = classes_in(group, path, name)
    if not classes:
        raise SpecError(
            f"{shown} holds no {kind.noun}: derive a class from pudle's"
            f" {kind.base_class().__name__} and implement all of its methods{kind.or_else}"
        )
    if not name and len(classes) == 1:
        (name,) = classes
    if name not in classes:
        raise SpecError(
            f"{shown} holds the {kind.noun}s {', '.join(classes)}{nearest(name, classes)}: name one"
            f" of them, as {shown}:{next(iter(classes))}"
        )
    try:
        _aliases(kind, classes[name])
    except _Defect as defect:
        raise SpecError(f"{shown}: {name} {defect}: correct the file") from None
    return classes[name]


def is_plugin(cls: type) -> bool:
    """Tell whether a class comes from elsewhere than this package."""
    return cls.__module__.partition(".")[0] != PACKAGE


def origin(cls: type) -> Path | None:
    """Return the user's file that a class was loaded from, or None for a class of a package."""
    return next(iter(files_of(cls.__module__)), None)


def files_of(module: str) -> list[Path]:
    """Return the file that the module of a user's class is, and those that it imports from its
    folder; none for other modules.
    """
    return [*_FILES[module][1]] if module in _FILES else []


def shown_path(path: Path) -> str:
    """Return a path as specs, names and stored files have it: as seen from the working folder."""
    return Path(relpath(path.expanduser())).as_posix()
