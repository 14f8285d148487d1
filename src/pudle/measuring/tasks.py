"""Tasks: pieces of work for other processes, what each kind does, where its result goes, and which
files it reads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .. import names
from ..algorithms import kernels
from ..files import MOST_TRAVELLING, files_in
from ..names import make_dataset, make_estimator
from ..processes import return_freed_blocks
from . import sources
from .costs import fail_cost, measure_cost
from .experiment import carry_out as carry_out_experiment
from .experiment import fail_experiment
from .measurement import fail_scores, measure, store_reference
from .pool import Outcome
from .surfaces import fail_surface, measure_surface

#: For each kind of task the function that does the work in another process, and the one that writes
#: down its failure here. A failed reference is not written down, because the scores that need it
#: give the reason.
WORK: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "reference": (store_reference, lambda *_: None),
    "score": (measure, fail_scores),
    "surface": (measure_surface, fail_surface),
    "kernels": (kernels.prepare, lambda *_: None),
    "memory": (measure_cost, fail_cost),
    "time": (measure_cost, fail_cost),
    "experiment": (carry_out_experiment, fail_experiment),
}


class Task(NamedTuple):
    """A piece of work for another process: its kind, the text to show when it ends, arguments, and
    seconds it may take.

    The last argument is the store that the result goes to; only a task of kind ``kernels`` has
    none, and names dtypes.
    """

    kind: str
    label: str
    arguments: tuple[Any, ...]
    timeout: float


def planned(
    kind: str, label: str, arguments: tuple[Any, ...], timeout: float, key: str = ""
) -> Task:
    """Return a task whose store takes its result, and references that it lacks, only under the keys
    that they have now.

    The result's own `key` is given where it is known.
    """
    *what, store = arguments
    keys = {key or place(kind, arguments)[1], *(path.stem for path in needs(kind, arguments))}
    return Task(kind, label, (*what, dataclasses.replace(store, planned=frozenset(keys))), timeout)


def prepare_worker() -> None:
    """Make a new process ready for tasks."""
    torch.set_num_threads(1)


def prepare_memory_worker() -> None:
    """Make a new process ready to measure memory: what it freed before must not change what an
    estimate takes.

    Times are measured in other processes, because this makes them longer.
    """
    prepare_worker()
    return_freed_blocks()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread here, as in worker processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def carry_out(kind: str, arguments: tuple[Any, ...], keep: Callable[[Any], None]) -> Any:
    """Do the work of a task in its process; scores are kept depth by depth."""
    return WORK[kind][0](*arguments, **({"keep": keep} if kind == "score" else {}))


def concluded(task: Task, outcome: Outcome) -> Any:
    """Return the result of a task; of one that failed, the record of the failure, which is written
    here.
    """
    if outcome.status == "ok":
        return outcome.result
    kept = {"parts": outcome.parts} if outcome.parts else {}
    return WORK[task.kind][1](*task.arguments, outcome.status, outcome.reason, **kept)


def place(kind: str, arguments: tuple[Any, ...]) -> tuple[Path, str]:
    """Return the file that the result of a task goes to and its key, the digest of all that the
    result depends on.
    """
    *what, store = arguments
    if kind == "surface":
        return store.artifact_place(*what)
    find = {
        "reference": store.reference_path,
        "score": store.path,
        "experiment": store.experiment_path,
    }[kind]
    path: Path = find(*what)
    return path, path.stem


def input_files(kind: str, arguments: tuple[Any, ...]) -> list[tuple[Path, bool]]:
    """Return the files of the user that a task reads, each with whether it is small enough to
    travel to another machine.

    They are the files that specs name classes in, and those that options name, such as the data of
    a dataset.
    """
    if kind == "experiment":
        return []
    case = arguments[1 if kind == "surface" else 0]
    made = [make_dataset(case.dataset), case.make_algorithm()]
    made += [make_estimator(arguments[1])] if kind == "score" else []
    found = [
        (path, True)
        for each in made
        for cls in sources.classes(each)
        for path in names.files_of(cls.__module__)
    ]
    for each in made:
        for value in (getattr(each, name) for name in names.path_options(each)):
            if isinstance(value, str):
                path = Path(value).expanduser()
                files = files_in(path)
                small = sum(file.stat().st_size for file in files) <= MOST_TRAVELLING
                found += [(file, True) for file in files] if small else [(path, False)]
    return [(path.absolute(), travels) for path, travels in dict.fromkeys(found)]


def needs(kind: str, arguments: tuple[Any, ...]) -> list[Path]:
    """Return the files of the store that a task reads: the references of its case."""
    if kind not in ("score", "surface"):
        return []
    case, store = arguments[0 if kind == "score" else 1], arguments[-1]
    seeds, targets = (
        (case.seeds, case.targets) if kind == "score" else (case.seeds[:1], case.targets[:1])
    )
    return [store.reference_path(case, *each) for each in itertools.product(seeds, targets)]
