"""The store: one file per result, named by the hash of all that the result depends on; and the lock
on a folder of results.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import torch
from filelock import FileLock, Timeout

from ..errors import ChangedSources, PudleError, UnreadableResult
from ..files import read_arrays, sweep, write_atomically
from ..kernel_choice import choice, description
from ..names import entries, make_dataset, make_estimator
from ..references.certified import Certificate, Reference
from . import sources
from .case import Case, slug
from .contents import SCHEMA, Artifact, CostRecord, ExperimentRecord, Record, Row, ScoreRecord
from .provenance import machine, provenance

#: The type of each kind of record.
RECORDS: dict[str, type[Record]] = {
    "score": ScoreRecord,
    "cost": CostRecord,
    "surface": Artifact,
    "experiment": ExperimentRecord,
}


class Place(NamedTuple):
    """Where a result is kept, its key, and the fields of its record that say what it is of."""

    path: Path
    key: str
    of: Row


@dataclass
class Store:
    """Scores, costs, references, surfaces and experiments of one profile, as files.

    Writing is atomic, so that a process can be killed at any moment and any number of processes can
    share a store. A file that is damaged counts as missing, so that a run measures it again and
    replaces it.

    Parameters
    ----------
    folder : Path
        Folder of the files; made when first written to.
    profile : str
        Name of the profile.
    device : str
        Device that estimates are computed on.
    commit, dirty : str, bool
        Label of the records that are written: the commit that is measured, and whether files differ
        from it.
    planned : frozenset of str, optional
        Keys of the results that may be written, by default all. One of another key is refused with
        ChangedSources: its sources or data have changed since, and nobody knows which of them it
        comes from.
    """

    folder: Path
    profile: str
    device: str = "cpu"
    commit: str = ""
    dirty: bool = False
    planned: frozenset[str] | None = None

    def place(self, kind: str, *what: Any) -> Place:
        """Return the file of a result, whether or not it exists, its key while it is up to date,
        and what its record says that it is of.

        What a result is of depends on its kind:

        - ``score``: a case and an estimator (a spec);
        - ``reference``: a case, a seed and a target. Cases that differ in the algorithm or in the
          depths share it, unless the target is the limit of the algorithm;
        - ``cost``: a metric, a case, an estimator and a depth. It depends on the machine, and on
          the case as far as one estimate does: its first seed is what is measured;
        - ``surface``: its name, a case and windows;
        - ``experiment``: its name. It is the same in all profiles.
        """
        parts: tuple[Any, ...] = (self.device, choice())
        of = {}
        match kind, *what:
            case "score", case, estimator:
                made = objects(case, estimator)
                stem, of = f"{case.name}/{slug(estimator)}-", {"case": case, "estimator": estimator}
                parts += of, self.profile
            case "reference", case, seed, target:
                made = objects(case)[: 1 + (target == "limit")]
                stem, algorithm = "references/", case.algorithm if made[1:] else ""
                # It is computed on the CPU.
                parts = case.dataset, case.loss, case.dtype, algorithm, seed, target
            case "cost", metric, case, estimator, depth:
                made = objects(case, estimator)
                stem = f"{case.name}/costs/{metric}-{slug(estimator)}-{depth}-"
                of = {"metric": metric, "estimator": estimator, "depth": depth, "case": case.name}
                kernels = "torch" if metric == "seconds_torch" else description()
                problem = (case.dataset, case.loss, case.dtype, case.algorithm, case.seeds[0])
                parts = self.device, kernels, machine(), of, problem
            case "surface", name, case, windows:
                made = objects(case, "truncated(window=1)" if windows else "")
                stem = f"artifacts/{case.name}-{name}"
                of = {"kind": name, "case": case.name, "seed": case.seeds[0]}
                parts += case, windows
            case _, name:
                study, experiment = next(
                    (study, members[name])
                    for study, members in entries("experiments").items()
                    if name in members
                )
                made = [experiment]
                # Whatever a package calls its experiment, the file stays in its folder.
                stem = f"experiments/{quote(name, safe='')}-"
                of = {"name": name, "study": study, "kind": experiment.kind}
                of["options"] = asdict(experiment)
                parts += (of,)
        data = [getattr(each, "fingerprint", str)() for each in made]
        parts = SCHEMA, sources.digest(kind, *made), data, *parts
        text = json.dumps(parts, sort_keys=True, default=asdict)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        # One file has the surfaces of all keys in turn; references are arrays.
        end = {"surface": ".json", "reference": f"{key}.npz"}.get(kind, f"{key}.json")
        return Place(self.folder / f"{stem}{end}", key, of)

    def path(self, case: Case, estimator: str) -> Path:
        """Return where the record of an estimator (a spec) on a case is kept."""
        return self.place("score", case, estimator).path

    def reference_path(self, case: Case, seed: int, target: str) -> Path:
        """Return where the reference of a seed is kept."""
        return self.place("reference", case, seed, target).path

    def read(self, kind: str, *what: Any) -> Any:
        """Return a record, or None where there is none that is whole and up to date."""
        return self.read_at(kind, self.place(kind, *what))

    def read_at(self, kind: str, place: Place) -> Any:
        """Return the record of a kind at a place."""
        with contextlib.suppress(UnreadableResult):
            record = RECORDS[kind].read(place.path)
            if record.key == place.key:
                return record
        return None

    def write(self, kind: str, /, *what: Any, **content: Any) -> Any:
        """Write a record atomically and return it; without a content it says only its status and
        reason.
        """
        path, key, of = self.confirmed(kind, *what)
        origin = provenance(self.device, self.commit, self.dirty) | {"profile": self.profile}
        record = RECORDS[kind](key=key, provenance=origin, **of, **content)
        record.write(path)
        return record

    def confirmed(self, kind: str, *what: Any) -> Place:
        """Return the place of a result to be written, computed anew, or raise ChangedSources."""
        if self.planned is not None:
            sources.digest_of_classes.cache_clear()
        place = self.place(kind, *what)
        if self.planned is not None and place.key not in self.planned:
            raise ChangedSources(
                "sources or data were changed during the run: finished results are kept; run again"
            )
        return place

    def read_reference(self, case: Case, seed: int, target: str) -> Reference | None:
        """Return the reference of one seed, or None where there is none yet."""
        path, key, _ = self.place("reference", case, seed, target)
        with contextlib.suppress(UnreadableResult, ValueError, TypeError, KeyError, RecursionError):
            arrays = read_arrays(path, ("gradient", "codes", "scalars"))
            scalars = json.loads(str(arrays["scalars"]))
            # A whole file may have been copied to another's place.
            if scalars.pop("key") == key:
                scalars["certificate"] = Certificate(**scalars["certificate"])
                for name in ("gradient", "codes"):
                    scalars[name] = torch.from_numpy(arrays[name]).to(torch.float64)
                return Reference(**scalars)
        return None

    def write_reference(self, case: Case, seed: int, reference: Reference) -> None:
        """Write the reference of one seed, atomically."""
        path, key, _ = self.confirmed("reference", case, seed, reference.target)
        scalars = vars(reference) | {"certificate": asdict(reference.certificate)}
        arrays = {name: scalars.pop(name).numpy() for name in ("gradient", "codes")}
        arrays["scalars"] = json.dumps(scalars | {"key": key})
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write_atomically(path, buffer.getvalue())


def objects(case: Case, estimator: str = "") -> list[Any]:
    """Return what a result of a case is computed with: its dataset, its algorithm, and an
    estimator.
    """
    made = [make_dataset(case.dataset), case.make_algorithm()]
    return [*made, make_estimator(estimator)] if estimator else made


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a folder, made if missing and cleared of unfinished files, or raise
    PudleError if it is held: two commands never write to it at once.

    `what` says for the error text what writes to the folder, such as a run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            sweep(folder)
            yield
    except Timeout:
        raise PudleError(
            f"another {what} is writing to {folder}: wait for it to end, or choose another --home"
        ) from None
