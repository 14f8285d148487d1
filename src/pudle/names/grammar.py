"""The grammar of specs: text to a name and options, and back. Nothing is made or imported here."""

import ast
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from os.path import relpath
from pathlib import Path
from typing import Any

from ..errors import SpecError

#: A name, or a file and maybe a class in it, and maybe options.
SPEC = re.compile(
    r"(?P<name>[^\W\d]\w*|(?P<path>.+?\.py)(?::(?P<cls>[^\W\d]\w*))?)\s*(?P<options>|\(.*\))",
    re.DOTALL,
)


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """Split a spec into its name and its keyword arguments; the name may be ``path/file.py`` or
    ``path/file.py:Class``.

    The text is parsed and never evaluated: values must be literals (numbers, text, True, False,
    None, tuples or lists of these). A malformed text, a positional argument and a value that is not
    a literal raise SpecError.
    """
    spec_match = SPEC.fullmatch(str(spec).strip())
    call = None
    if spec_match:
        with suppress(SyntaxError, ValueError, MemoryError, RecursionError):
            call = ast.parse(f"f{spec_match['options'] or '()'}", mode="eval").body
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
            if spec_match and None not in arguments and len(arguments) == len(keywords):
                return spec_match["name"], arguments
    raise SpecError(
        f"malformed spec {spec!r}: write name, name(key=value, ...) or"
        " path/file.py:Class(key=value, ...), each key once, e.g. truncated(window=10)"
    )


def write(name: str, arguments: Mapping[str, Any]) -> str:
    """Write the spec of a name with keyword arguments, in their order; the name alone where there
    are none.
    """
    if not arguments:
        return name
    pairs = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return f"{name}({pairs})"


def file_of(name: str) -> tuple[Path, str] | None:
    """Return the file that the name of a spec stands for and the class in it, or an empty text;
    None for a plain name.
    """
    if (spec_match := SPEC.fullmatch(name)) and spec_match["path"]:
        return Path(spec_match["path"]).expanduser(), spec_match["cls"] or ""
    return None


def move_paths(spec: str, place: Callable[[Path], Path], paths: Iterable[str] = ()) -> str:
    """Return a spec with other paths, of its file and of the options named in `paths`; one without
    any stays as it is.

    `place` returns the new path for an old one, in which ``~`` is expanded. No file is looked at.
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
    if file:
        path, class_name = file
        name = f"{place(path)}:{class_name}" if class_name else str(place(path))
    return write(name, arguments | moved)


def shown_path(path: Path) -> str:
    """Return a path as specs, names and stored files have it: as seen from the working folder."""
    return Path(relpath(path.expanduser())).as_posix()


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest choice, or nothing if none is close."""
    close = difflib.get_close_matches(word, choices, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
