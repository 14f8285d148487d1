"""The kinds of things that entry points and users' files hold, and what each has to be."""

import inspect
import pkgutil
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import first_line


class EntryKind(NamedTuple):
    """A kind of things in an entry-point group: its noun, the dotted name of its base class, and
    what a user's file may hold instead.
    """

    noun: str
    base: str
    or_else: str = ""

    def base_class(self) -> Any:
        """Import and return the base class."""
        return pkgutil.resolve_name(self.base)


#: The groups that specs can name.
KINDS = {
    "estimators": EntryKind("estimator", "pudle.estimator:GradientEstimator"),
    "datasets": EntryKind(
        "dataset",
        "pudle.data:Dataset",
        ", or write a function `problem` that returns a problem",
    ),
    "algorithms": EntryKind("algorithm", "pudle.algorithms:Algorithm"),
    "thresholding": EntryKind("thresholding rule", "pudle.algorithms.thresholding:Thresholding"),
    "optimizers": EntryKind("optimizer", "pudle.learning.optimizers:Optimizer"),
    "schedules": EntryKind("schedule", "pudle.learning.optimizers:Schedule"),
}
#: Groups of other things than specs can name.
OTHERS = {
    "problems": EntryKind("problem", "pudle.problems:Problem"),
    "experiments": EntryKind("experiment", "pudle.measuring.experiment:Experiment"),
}


class Unusable(Exception):
    """A class or an entry cannot be used; the text says why, as the rest of a sentence."""


def is_concrete(value: Any, base: type) -> bool:
    """Tell whether a value is a class that derives from a base and implements all its methods."""
    return isinstance(value, type) and issubclass(value, base) and not inspect.isabstract(value)


def check_aliases(kind: EntryKind, cls: Any) -> tuple[str, ...]:
    """Return the aliases of a class, or raise Unusable if it lacks a `name` (an estimator: or a
    `computes`) or its aliases are no tuple of texts.
    """
    required = [name for name in ("name", "computes") if name in kind.base_class().__annotations__]
    missing = [name for name in required if not isinstance(getattr(cls, name, 0), str)]
    if missing:
        raise Unusable(f"lacks a text {' and '.join(missing)}")
    aliases = getattr(cls, "aliases", ())
    if not isinstance(aliases, tuple) or not all(isinstance(alias, str) for alias in aliases):
        raise Unusable(f"has aliases={aliases!r:.80}, which is not a tuple of texts")
    return aliases


def describe_error(error: BaseException) -> str:
    """Describe an error by its type, the first line of its text, and the file and line of others'
    code in which it arose; a syntax error says that itself.
    """
    description = f"{type(error).__name__}: {first_line(error)}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename
        and Path(frame.filename).parent != Path(__file__).parent
    ]
    if not frames or isinstance(error, SyntaxError):
        return description
    return f"{description}, at {Path(frames[-1].filename).name}, line {frames[-1].lineno}"
