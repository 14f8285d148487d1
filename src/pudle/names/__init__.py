"""Names: a spec, a file of the user's or an entry point becomes an object, and an object a spec.

A spec is text: ``name(key=literal, ...)`` or ``path/file.py:Class(key=literal, ...)``. Names are
those of entry points, built in or of an installed plug-in; one that cannot be used costs itself
alone, and `broken` says why. No class is known here but by its dotted name, so that every room can
import this one.
"""

from .grammar import file_of, move_paths, nearest, parse, shown_path
from .kinds import KINDS, EntryKind, is_concrete
from .making import (
    Spec,
    build,
    canonical,
    declared_part,
    list_datasets,
    list_estimators,
    list_experiments,
    list_profiles,
    make,
    make_algorithm,
    make_dataset,
    make_estimator,
    specs,
)
from .registry import Entries, broken, entries, is_built_in, is_plugin, owner, points
from .spelling import name_of, options, path_options, spec_field, text
from .user_files import PACKAGE, class_in, classes_in, files_of, load, origin
from .users_errors import users_error

__all__ = [
    "KINDS",
    "PACKAGE",
    "Entries",
    "EntryKind",
    "Spec",
    "broken",
    "build",
    "canonical",
    "class_in",
    "classes_in",
    "declared_part",
    "entries",
    "file_of",
    "files_of",
    "is_built_in",
    "is_concrete",
    "is_plugin",
    "list_datasets",
    "list_estimators",
    "list_experiments",
    "list_profiles",
    "load",
    "make",
    "make_algorithm",
    "make_dataset",
    "make_estimator",
    "move_paths",
    "name_of",
    "nearest",
    "options",
    "origin",
    "owner",
    "parse",
    "path_options",
    "points",
    "shown_path",
    "spec_field",
    "specs",
    "text",
    "users_error",
]
