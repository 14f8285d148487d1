"""The store: one file per (case, estimator, profile), named by the hash of all that the scores
depend on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, TypeVar
from urllib.parse import quote

import numpy as np
import torch

from ..errors import ChangedSources, UnreadableResult
from ..files import converted, read_arrays, write_atomically
from ..kernel_choice import choice, description
from ..names import list_experiments, list_studies, make_dataset, make_estimator
from ..references.certified import Certificate, Reference
from . import sources
from .case import Case, slug
from .contents import SCHEMA, Artifact, CostRecord, ExperimentRecord, Record, ScoreRecord
from .costs import Cell
from .experiment import ExperimentResult
from .provenance import machine, provenance

R = TypeVar("R", bound=Record)


class _Scalars(TypedDict):
    """The fields of a reference that are no tensors."""

    target: str
    bound: float
    status: str
    reason: str
    certificate: Certificate


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
        Keys of the results that may be written, see `pudle.measuring.runner.Task`; by default of
        all. One of another key is refused with ChangedSources: its sources or data have changed
        since, and nobody knows which of them it comes from.
    """

    folder: Path
    profile: str
    device: str = "cpu"
    commit: str = ""
    dirty: bool = False
    planned: frozenset[str] | None = None

    def __post_init__(self) -> None:
        self.folder = Path(self.folder)

    def path(self, case: Case, estimator: str) -> Path:
        """Return where the record of an estimator (a spec) on a case is kept, whether or not it
        exists.
        """
        made = make_estimator(estimator)
        key = self._key(
            "score",
            *(case, made, case.make_algorithm()),
            case=case,
            estimator=(estimator, made.fingerprint()),
            profile=self.profile,
            kernels=choice(),
        )
        return self.folder / case.name / f"{slug(estimator)}-{key}.json"

    def read(self, case: Case, estimator: str) -> ScoreRecord | None:
        """Return the record, or None where there is none yet."""
        return _read(self.path(case, estimator), ScoreRecord, (case.name, estimator))

    def write(self, case: Case, estimator: str, **content: Any) -> ScoreRecord:
        """Write a record atomically and return it."""
        path, made = self._confirmed(self.path, case, estimator), make_estimator(estimator)
        content |= {"computes": made.computes, "consistent_for": made.consistent_for}
        return self._write(path, ScoreRecord, case=case, estimator=estimator, **content)

    def cost_path(self, cell: Cell) -> Path:
        """Return where the record of a time or memory is kept, whether or not it exists.

        It depends on the machine, and on the case as far as one estimate does: its first seed is
        what is measured. The number of threads is always one.
        """
        return self.cost_paths([cell])[cell]

    def cost_paths(self, cells: Iterable[Cell]) -> dict[Cell, Path]:
        """Return where the records of some cells are kept; what those of one estimator on one case
        share is found once.
        """
        shared: dict[tuple[Case, str], str] = {}
        paths = {}
        for cell in cells:
            case, estimator = pair = cell.case, cell.estimator
            if pair not in shared:
                made = make_estimator(estimator)
                shared[pair] = self._key(
                    "cost",
                    *(case, made, case.make_algorithm()),
                    case=(case.dataset, case.algorithm, case.loss, case.dtype, case.seeds[0]),
                    estimator=(estimator, made.fingerprint()),
                    machine=machine(),
                )
            kernels = "torch" if cell.metric == "seconds_torch" else description()
            key = _hash(shared=shared[pair], cost=(cell.metric, cell.depth, kernels))
            name = f"{cell.metric}-{slug(estimator)}-{cell.depth}-{key}.json"
            paths[cell] = self.folder / case.name / "costs" / name
        return paths

    def read_cost(self, cell: Cell) -> CostRecord | None:
        """Return the record of a time or memory, or None where there is none yet."""
        return _read(self.cost_path(cell), CostRecord, cell.label)

    def write_cost(self, cell: Cell, **content: Any) -> CostRecord:
        """Write the record of a time or memory atomically."""
        identity = dict(zip(("metric", "case", "estimator", "depth"), cell.label, strict=True))
        path = self._confirmed(self.cost_path, cell)
        return self._write(path, CostRecord, **identity, **content)

    def experiment_path(self, name: str) -> Path:
        """Return where the record of an experiment is kept, whether or not it exists; its arrays
        lie beside it (.npz).
        """
        experiment: Any = list_experiments()[name]
        # The profile is left out: an experiment is the same in all of them.
        key = _hash(
            sources=sources.digest("experiment", experiment),
            experiment=experiment,
            data=experiment.fingerprint(),
            device=self.device,
            kernels=choice(),
        )
        # Whatever a package calls its experiment, the file stays in its folder; plain names stand
        # as they are.
        return self.folder / "experiments" / f"{quote(name, safe='')}-{key}.json"

    def read_experiment(self, name: str) -> ExperimentRecord | None:
        """Return the record of an experiment, or None where there is none yet."""
        return _read(self.experiment_path(name), ExperimentRecord, name)

    def write_experiment(
        self, name: str, result: ExperimentResult, seconds: float | None
    ) -> ExperimentRecord:
        """Write the result of an experiment atomically, the arrays first: a record that exists has
        its arrays.
        """
        path = self._confirmed(self.experiment_path, name)
        experiment: Any = list_experiments()[name]
        content = vars(result) | {"arrays": sorted(result.arrays), "arrays_digest": ""}
        if result.arrays:
            arrays = _packed(np.savez_compressed, result.arrays)
            write_atomically(path.with_suffix(".npz"), arrays)
            content["arrays_digest"] = hashlib.sha256(arrays).hexdigest()
        return self._write(
            path,
            ExperimentRecord,
            kind=experiment.kind,
            study=next(study for study, members in list_studies().items() if name in members),
            name=name,
            options=dataclasses.asdict(experiment),
            seconds=seconds,
            **content,
        )

    def has_artifact(self, kind: str, case: Case, windows: tuple[int, ...]) -> bool:
        """Return whether an artifact of a case, such as a surface, exists and is up to date."""
        path, key = self.artifact_place(kind, case, windows)
        stored = _read(path, Artifact, (case.name, kind))
        return stored is not None and stored.key == key

    def write_artifact(
        self, kind: str, case: Case, windows: tuple[int, ...], **content: Any
    ) -> Artifact:
        """Write an artifact of a case, or the reason why it has none, atomically in place of an
        outdated one.
        """
        path, key = self._confirmed(self.artifact_place, kind, case, windows)
        identity = {"kind": kind, "case": case.name, "seed": case.seeds[0]}
        return self._write(path, Artifact, key=key, **identity, **content)

    def artifact_place(self, kind: str, case: Case, windows: tuple[int, ...]) -> tuple[Path, str]:
        """Return where an artifact is kept, whether or not it exists, and the key that it has if it
        is up to date.
        """
        made = make_estimator("truncated(window=1)") if windows else None
        parts = {"windows": windows, "kernels": choice()}
        key = self._key("surface", case, case.make_algorithm(), made, case=case, **parts)
        return self.folder / "artifacts" / f"{case.name}-{kind}.json", key

    def read_reference(self, case: Case, seed: int, target: str) -> Reference | None:
        """Return the reference of one seed, or None where there is none yet."""
        path = self.reference_path(case, seed, target)
        try:
            arrays = read_arrays(path, ("gradient", "codes", "scalars"))
            content = json.loads(str(arrays["scalars"]))
            scalars = converted(path, content, _Scalars)
            # A whole file may have been copied to another's place.
            if content["key"] != path.stem:
                return None
            gradient, codes = (
                torch.from_numpy(arrays[name]).to(torch.float64) for name in ("gradient", "codes")
            )
        except (UnreadableResult, ValueError, TypeError, KeyError, RecursionError):
            return None
        return Reference(gradient=gradient, codes=codes, **scalars)

    def write_reference(self, case: Case, seed: int, reference: Reference) -> None:
        """Write the reference of one seed, atomically."""
        path = self._confirmed(self.reference_path, case, seed, reference.target)
        scalars = {name: getattr(reference, name) for name in _Scalars.__annotations__}
        scalars |= {"certificate": dataclasses.asdict(reference.certificate), "key": path.stem}
        arrays = {"gradient": reference.gradient.numpy(), "codes": reference.codes.numpy()}
        write_atomically(path, _packed(np.savez, arrays | {"scalars": json.dumps(scalars)}))

    def reference_path(self, case: Case, seed: int, target: str) -> Path:
        """Return where a reference is kept, whether or not it exists.

        Cases that differ in the algorithm or in the depths share it, unless the target is the limit
        of the algorithm. It is computed on the CPU.
        """
        made = (case.make_algorithm(),) if target == "limit" else ()
        algorithm = case.algorithm if target == "limit" else ""
        parts = (case.dataset, seed, case.loss, case.dtype, target, algorithm)
        key = self._key("reference", case, *made, device="cpu", reference=parts)
        return self.folder / "references" / f"{key}.npz"

    def _key(self, kind: str, of: Case, /, *made: Any, **parts: Any) -> str:
        """Return the key of a result on a case's dataset: its sources, the files that it reads, and
        `parts`.
        """
        dataset = make_dataset(of.dataset)
        return _hash(
            sources=sources.digest(kind, dataset, *made),
            data=dataset.fingerprint(),
            **{"device": self.device} | parts,
        )

    def _confirmed(self, find: Callable[..., Any], *what: Any) -> Any:
        """Return the place of a result to be written, computed anew, or raise ChangedSources."""
        if self.planned is None:
            return find(*what)
        sources.read_again()
        place = find(*what)
        if (place.stem if isinstance(place, Path) else place[1]) not in self.planned:
            raise ChangedSources(
                "sources or data were changed during the run: finished results are kept; run again"
            )
        return place

    def _write(self, path: Path, record: type[R], /, **content: Any) -> R:
        origin = provenance(self.device, self.commit, self.dirty) | {"profile": self.profile}
        key = path.stem.rpartition("-")[2]
        written = record(**{"key": key, "provenance": origin} | content)
        written.write(path)
        return written


def _hash(**parts: Any) -> str:
    text = json.dumps({"schema": SCHEMA, **parts}, sort_keys=True, default=dataclasses.asdict)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _packed(save: Callable[..., None], arrays: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **{name: np.asarray(value) for name, value in arrays.items()})
    return buffer.getvalue()


def _read(path: Path, kind: type[R], identity: Any) -> R | None:
    try:
        return kind.read(path, identity) if path.exists() else None
    except UnreadableResult:
        return None
