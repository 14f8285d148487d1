"""What an experiment brought: its history, its summary and its pictures."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import numpy as np

from ... import names
from ...files import plain, write_atomically
from ...threads import block_threads
from ...workers import failure
from ..experiment import Experiment, ExperimentResult
from ..stored_files import BROKEN, Plain, Record
from .result import RecordedResult
from .score import Scores

if TYPE_CHECKING:
    from ..store import Store


class ExperimentRecord(Record, kw_only=True):
    """The result of one experiment; the digest is that of the file of its arrays."""

    identity = property(attrgetter("name"))
    kind: str
    study: str
    name: str
    options: dict[str, Plain]
    summary: dict[str, Plain] = {}
    rows: list[dict[str, Plain]] = []
    arrays: list[str] = []
    arrays_digest: str = ""


def measure_in_threads(carried: CarriedExperiment, threads: int, store: Store) -> ExperimentRecord:
    """Measure an experiment in so many threads, and return its record; in one thread if it counts
    seconds of the processor (a ``budget``), which would add up over threads.
    """
    with block_threads(1 if getattr(carried.experiment, "budget", None) else threads):
        return carried.measure(store)


@dataclass(frozen=True)
class CarriedExperiment(RecordedResult[ExperimentRecord]):
    """A registered experiment, whose result is stored under its name: the same in all profiles."""

    name: str
    study: str = field(compare=False)
    experiment: Experiment = field(compare=False)

    rooms = (*Scores.rooms, "learning", "measuring/experiment", "measuring/results/experiment")
    record = ExperimentRecord

    def label(self, case_labels: Mapping[str, str]) -> str:
        return self.name

    @classmethod
    def registered(cls, name: str) -> Self:
        """Return the registered experiment of that name, with the study that has it; all studies
        are loaded.
        """
        studies = names.entries("experiments").items()
        study, members = next(
            (study, experiments) for study, experiments in studies if name in experiments
        )
        return cls(name, study, members[name])

    @property
    def objects(self) -> tuple[object, ...]:
        return (self.experiment,)

    @property
    def identity(self) -> Mapping[str, object]:
        facts = {"name": self.name, "study": self.study, "kind": self.experiment.kind}
        return facts | {"options": plain(self.experiment)}

    def context(self, store: Store) -> object:
        return store.device, store.kernels, self.identity

    def file(self, key: str) -> str:
        # Whatever a package calls its experiment, the file stays in its folder.
        return f"experiments/{quote(self.name, safe='')}-{key}.json"

    def files_at(self, path: Path) -> list[Path]:
        return [path.with_suffix(".npz"), path]

    def measure(self, store: Store) -> ExperimentRecord:
        """Carry out the experiment, or continue an interrupted one, and write its arrays (.npz) and
        then its record; return the record.

        What the experiment raises, except an interrupt, becomes a status with a reason. Its
        checkpoints lie in a folder beside the record. That is removed at the end, unless the status
        says that something broke: then the next call continues from it. ChangedSources says that
        sources or data were changed meanwhile; nothing is written then.
        """
        folder = store.place(self).path.with_suffix("")
        try:
            result = self.experiment.run(folder, store.device)
        except (Exception, SystemExit) as error:  # noqa: BLE001
            # Whatever breaks in one experiment is a result to report.
            status, reason = failure(error)
            result = ExperimentResult([], {}, {}, status, reason)
        record = self.write_result(store, result)
        if result.status not in BROKEN:
            shutil.rmtree(folder, ignore_errors=True)
        return record

    def write_result(self, store: Store, result: ExperimentResult) -> ExperimentRecord:
        """Write a result atomically, the arrays first, and return its record: a record that exists
        has its arrays, which lie beside it (.npz).
        """
        digest = ""
        if result.arrays:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **dict[str, Any](result.arrays))
            content = buffer.getvalue()
            write_atomically(store.unchanged_place(self).path.with_suffix(".npz"), content)
            digest = hashlib.sha256(content).hexdigest()
        return self.write(
            store,
            status=result.status,
            reason=result.reason,
            rows=result.rows,
            summary=result.summary,
            arrays=sorted(result.arrays),
            arrays_digest=digest,
        )
