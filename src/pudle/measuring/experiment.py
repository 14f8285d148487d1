"""Experiments: what a profile carries out besides its cases, such as trainings, each with a history
and pictures.
"""

import hashlib
import io
import json
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote

import numpy as np

from ..files import write_atomically
from ..names import list_experiments
from ..workers import failure
from .contents import BROKEN, ExperimentRecord, RunList
from .provenance import provenance
from .store import Store

#: A number or a text in a table.
Plain = str | int | float | bool | None
#: An array of any shape and type.
Stored = np.ndarray[tuple[int, ...], np.dtype[np.generic]]
#: Called with the steps done, the steps in all, and one line about the current step.
ProgressCallback = Callable[[int, int, str], None]


def silent(done: int, total: int, line: str) -> None:
    """Show no progress."""


@dataclass(frozen=True, eq=False)
class ExperimentResult:
    """The result of an experiment.

    Attributes
    ----------
    rows : list of mapping
        The history as plain numbers and text, in order; each kind of experiment has its own
        columns.
    summary : mapping
        Plain numbers and text for a table.
    arrays : mapping from str to array
        Pictures, filters, dictionaries.
    status : str
        One of `pudle.measuring.contents.STATUSES`; the fields above count only where it is ``ok``.
    reason : str
        Why the status is not ``ok``; empty where it is.
    """

    rows: Sequence[Mapping[str, Plain]]
    summary: Mapping[str, Plain] = field(default_factory=dict)
    arrays: Mapping[str, Stored] = field(default_factory=dict)
    status: str = "ok"
    reason: str = ""


@dataclass(frozen=True)
class Experiment(ABC):
    """One thing to carry out, described by plain values: subclasses are frozen dataclasses.

    A package offers experiments as a mapping from names to experiments, one mapping per study, in
    the entry-point group ``pudle.experiments``; the entry point's name is that of the study.

    Attributes
    ----------
    kind : str
        Name of the rows, summary and arrays that its result has.
    """

    kind: ClassVar[str]

    @abstractmethod
    def run(
        self, folder: Path, device: str = "cpu", progress: ProgressCallback = silent
    ) -> ExperimentResult:
        """Carry the experiment out.

        Parameters
        ----------
        folder : Path
            Folder for checkpoints. What an interrupted run left there is continued; the folder is
            removed once the result is stored.
        device : {"cpu", "cuda"}
        progress : callable
            Called now and then.

        Raises
        ------
        InvalidArgument, MissingDependency
            If the experiment cannot be carried out as described, or a package is missing.
        """

    def fingerprint(self) -> str:
        """Return what the result depends on besides the fields and the sources, such as the state
        of files that are read.
        """
        return ""


def carry_out(name: str, store: Store) -> ExperimentRecord:
    """Carry out an experiment, or continue an interrupted one, and write its record to the store.

    Whatever it raises becomes a status with a reason.
    """
    start = time.perf_counter()
    folder = store.place("experiment", name).path.with_suffix("")
    try:
        result = list_experiments()[name].run(folder, store.device)
    except (Exception, SystemExit) as error:  # noqa: BLE001
        # Whatever breaks in one experiment is a result to report.
        result = ExperimentResult([], {}, {}, *failure(error))
    record = write_experiment(name, store, result, time.perf_counter() - start)
    if result.status not in BROKEN:
        shutil.rmtree(folder, ignore_errors=True)
    return record


def write_experiment(
    name: str, store: Store, result: ExperimentResult, seconds: float
) -> ExperimentRecord:
    """Write the result of an experiment atomically, the arrays first: a record that exists has its
    arrays, which lie beside it (.npz).
    """
    digest = _write_arrays(store.confirmed("experiment", name).path, result)
    content = _content(result) | {"arrays_digest": digest, "seconds": seconds}
    record: ExperimentRecord = store.write("experiment", name, **content)
    return record


class CarriedOut(NamedTuple):
    """The result of an experiment that need not be a registered one."""

    study: str
    name: str
    experiment: Experiment
    result: ExperimentResult


def write_apart(folder: Path, carried_out: Sequence[CarriedOut], device: str) -> None:
    """Write results into a folder of their own, which `pudle report` reads like that of a run."""
    run = RunList(commit="", dirty=False)
    origin = provenance(device) | {"profile": folder.name}
    for study, name, experiment, result in carried_out:
        place = f"experiments/{quote(name, safe='')}.json"
        path = folder / "store" / place
        options = asdict(experiment)
        key = hashlib.sha256(json.dumps([name, options]).encode()).hexdigest()[:16]
        digest = _write_arrays(path, result)
        record = ExperimentRecord(
            key=key,
            provenance=origin,
            kind=experiment.kind,
            study=study,
            name=name,
            options=options,
            arrays_digest=digest,
            **_content(result),
        )
        record.write(path)
        run.experiments[name] = place
    run.write(folder / "run.json")


def _content(result: ExperimentResult) -> dict[str, Any]:
    """Return the fields of a record that a result has."""
    return vars(result) | {"arrays": sorted(result.arrays)}


def _write_arrays(path: Path, result: ExperimentResult) -> str:
    """Write the arrays of a result beside its record, and return the digest of their file."""
    if not result.arrays:
        return ""
    buffer, arrays = io.BytesIO(), dict[str, Any](result.arrays)
    np.savez_compressed(buffer, **arrays)
    write_atomically(path.with_suffix(".npz"), buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()
