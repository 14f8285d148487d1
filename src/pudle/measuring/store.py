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
from typing import Any, TypedDict
from urllib.parse import quote

import numpy as np
import torch

from ..errors import ChangedSources, UnreadableResult
from ..files import converted, read_arrays, read_json, strict, write_atomically
from ..kernel_choice import choice, description
from ..names import list_experiments, list_studies, make_dataset, make_estimator
from ..references.certified import Certificate, Reference
from . import sources
from .case import Case, slug
from .contents import SCHEMA, Artifact, CostRecord, ExperimentRecord, ReferenceStatus, ScoreRecord
from .costs import Cell
from .experiment import ExperimentResult
from .provenance import machine, provenance

#: The modules from which the sources of a score, a reference, a surface and an experiment are
#: followed.
SCORES, REFERENCES = "pudle.measuring.measurement", "pudle.measuring.case"
SURFACES, EXPERIMENTS = "pudle.measuring.surfaces", "pudle.measuring.experiment"
COSTS = "pudle.measuring.costs"


class _Scalars(TypedDict):
    """The fields of a reference that are no tensors."""

    target: str
    bound: float
    status: ReferenceStatus
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
        return self.folder / case.name / f"{slug(estimator)}-{self.key(case, estimator)}.json"

    def key(self, case: Case, estimator: str) -> str:
        """Return the hash of all that the scores depend on: case, estimator, source files, files of
        data, device.
        """
        made = make_estimator(estimator)
        parts = {
            "estimator": estimator,
            "fingerprint": made.fingerprint(),
            "profile": self.profile,
            "device": self.device,
        }
        parts |= {"kernels": choice()}
        return _key_on_data(
            SCORES, case, made, case.make_algorithm(), case=dataclasses.asdict(case), **parts
        )

    def read(self, case: Case, estimator: str) -> dict[str, Any] | None:
        """Return the record, or None where there is none yet."""
        return _read(self.path(case, estimator), ScoreRecord, (case.name, estimator))

    def write(self, case: Case, estimator: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Write a record atomically and return it with its identification and provenance."""
        path, made = self._confirmed(self.path, case, estimator), make_estimator(estimator)
        record: dict[str, Any] = {
            "key": self.key(case, estimator),
            "case": dataclasses.asdict(case),
            **content,
        }
        record |= {
            "estimator": estimator,
            "computes": made.computes,
            "consistent_for": made.consistent_for,
        }
        return self._write_record(path, record)

    def _confirmed(self, find: Callable[..., Any], *what: Any) -> Any:
        """Return the place of a result that is to be written, found anew, or raise ChangedSources."""
        if self.planned is None:
            return find(*what)
        sources.read_again()
        place = find(*what)
        if (place.stem if isinstance(place, Path) else place[1]) not in self.planned:
            raise ChangedSources(
                "sources or data were changed during the run: finished results are kept; run again"
            )
        return place

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
        shared: dict[tuple[Case, str], dict[str, Any]] = {}
        paths = {}
        for cell in cells:
            case, estimator = pair = cell.case, cell.estimator
            if pair not in shared:
                made = make_estimator(estimator)
                parts = {
                    name: getattr(case, name) for name in ("dataset", "algorithm", "loss", "dtype")
                }
                parts |= {
                    "estimator": estimator,
                    "fingerprint": made.fingerprint(),
                    "seed": case.seeds[0],
                }
                parts |= {"device": self.device, "machine": machine()}
                shared[pair] = _on_data(COSTS, case, made, case.make_algorithm()) | parts
            kernels = "torch" if cell.metric == "seconds_torch" else description()
            parts = {
                "metric": cell.metric,
                "depth": cell.depth,
                "kernels": kernels,
            }
            key = _hash(**shared[pair], **parts)
            paths[cell] = (
                self.folder
                / case.name
                / "costs"
                / f"{cell.metric}-{slug(estimator)}-{cell.depth}-{key}.json"
            )
        return paths

    def read_cost(self, cell: Cell) -> dict[str, Any] | None:
        """Return the record of a time or memory, or None where there is none yet."""
        return _read(self.cost_path(cell), CostRecord, cell.label)

    def write_cost(self, cell: Cell, content: Mapping[str, Any]) -> dict[str, Any]:
        """Write the record of a time or memory atomically."""
        identity: dict[str, Any] = {
            "metric": cell.metric,
            "case": cell.case.name,
            "estimator": cell.estimator,
            "depth": cell.depth,
        }
        return self._write_record(self._confirmed(self.cost_path, cell), {**identity, **content})

    def _write_record(self, path: Path, content: dict[str, Any]) -> dict[str, Any]:
        label = {"provenance": provenance(self.device, self.commit, self.dirty)}
        return _write_json(path, {"schema": SCHEMA, "profile": self.profile} | content | label)

    def experiment_path(self, name: str) -> Path:
        """Return where the record of an experiment is kept, whether or not it exists; its arrays
        lie beside it (.npz).
        """
        experiment: Any = list_experiments()[name]
        # The profile is left out: an experiment is the same in all of them.
        content = {
            "experiment": dataclasses.asdict(experiment),
            "data": experiment.fingerprint(),
            "device": self.device,
        }
        key = _hash(sources=sources.digest(EXPERIMENTS, experiment), kernels=choice(), **content)
        # Whatever a package calls its experiment, the file stays in its folder; plain names stand
        # as they are.
        return self.folder / "experiments" / f"{quote(name, safe='')}-{key}.json"

    def read_experiment(self, name: str) -> dict[str, Any] | None:
        """Return the record of an experiment, or None where there is none yet."""
        return _read(self.experiment_path(name), ExperimentRecord, name)

    def write_experiment(
        self, name: str, result: ExperimentResult, seconds: float | None
    ) -> dict[str, Any]:
        """Write the result of an experiment atomically, the arrays first: a record that exists has
        its arrays.
        """
        path = self._confirmed(self.experiment_path, name)
        experiment: Any = list_experiments()[name]
        if result.arrays:
            _write_arrays(path.with_suffix(".npz"), np.savez_compressed, result.arrays)
        study = next(study for study, members in list_studies().items() if name in members)
        identity = {
            "kind": experiment.kind,
            "study": study,
            "name": name,
            "options": dataclasses.asdict(experiment),
        }
        content = vars(result) | {"arrays": sorted(result.arrays), "seconds": seconds}
        return self._write_record(path, identity | content)

    def has_artifact(self, kind: str, case: Case, windows: tuple[int, ...]) -> bool:
        """Return whether an artifact of a case, such as a surface, exists and is up to date."""
        path, key = self.artifact_place(kind, case, windows)
        return (_read(path, Artifact) or {}).get("key") == key

    def write_artifact(
        self, kind: str, case: Case, windows: tuple[int, ...], rows: list[Any], reason: str
    ) -> None:
        """Write an artifact of a case, or the reason why it has none, atomically in place of an
        outdated one.
        """
        path, key = self._confirmed(self.artifact_place, kind, case, windows)
        identity = {"kind": kind, "case": case.name, "key": key, "seed": case.seeds[0]}
        _write_json(path, identity | {"rows": rows, "reason": reason})

    def artifact_place(self, kind: str, case: Case, windows: tuple[int, ...]) -> tuple[Path, str]:
        """Return where an artifact is kept, whether or not it exists, and the key that it has if it
        is up to date.
        """
        parts = {"case": dataclasses.asdict(case), "windows": windows, "kernels": choice()}
        key = _key_on_data(SURFACES, case, case.make_algorithm(), **parts)
        return self.folder / "artifacts" / f"{case.name}-{kind}.json", key

    def read_reference(self, case: Case, seed: int, target: str) -> Reference | None:
        """Return the reference of one seed, or None where there is none yet."""
        path = self.reference_path(case, seed, target)
        try:
            arrays = read_arrays(path, ("gradient", "codes", "scalars"))
            content = json.loads(str(arrays["scalars"]))
            scalars = converted(path, content, _Scalars)
            if content.get("key", path.stem) != path.stem:
                return None
            gradient, codes = (
                torch.from_numpy(arrays[name]).to(torch.float64) for name in ("gradient", "codes")
            )
        except (UnreadableResult, ValueError, TypeError, RecursionError):
            return None
        return Reference(gradient=gradient, codes=codes, **scalars)

    def write_reference(self, case: Case, seed: int, reference: Reference) -> None:
        """Write the reference of one seed, atomically."""
        scalars = {name: getattr(reference, name) for name in _Scalars.__annotations__}
        scalars["certificate"] = dataclasses.asdict(reference.certificate)
        path = self._confirmed(self.reference_path, case, seed, reference.target)
        arrays = {"gradient": reference.gradient.numpy(), "codes": reference.codes.numpy()}
        _write_arrays(
            path, np.savez, arrays | {"scalars": json.dumps(scalars | {"key": path.stem})}
        )

    def reference_path(self, case: Case, seed: int, target: str) -> Path:
        """Return where a reference is kept, whether or not it exists.

        Cases that differ in the algorithm or in the depths share it, unless the target is the limit
        of the algorithm.
        """
        limit = target == "limit"
        parts = {
            "dataset": case.dataset,
            "seed": seed,
            "loss": case.loss,
            "dtype": case.dtype,
            "target": target,
        }
        made = [case.make_algorithm()] if limit else []
        key = _key_on_data(
            REFERENCES, case, *made, algorithm=case.algorithm if limit else "", **parts
        )
        return self.folder / "references" / f"{key}.npz"


def _key_on_data(module: str, case: Case, /, *made: Any, **parts: Any) -> str:
    """Return the key of a result on a case's dataset: its sources, the files that it reads, and
    `parts`.
    """
    return _hash(**_on_data(module, case, *made), **parts)


def _on_data(module: str, case: Case, *made: Any) -> dict[str, str]:
    dataset = make_dataset(case.dataset)
    return {"sources": sources.digest(module, dataset, *made), "data": dataset.fingerprint()}


def _hash(**parts: Any) -> str:
    return hashlib.sha256(
        json.dumps({"schema": SCHEMA, **parts}, sort_keys=True).encode()
    ).hexdigest()[:16]


def _write_arrays(path: Path, save: Callable[..., None], arrays: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    save(buffer, **{name: np.asarray(value) for name, value in arrays.items()})
    write_atomically(path, buffer.getvalue())


def _write_json(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Write strict JSON, atomically, and return the content: a number that is not finite is written
    as null.
    """
    write_atomically(path, json.dumps(strict(content), indent=1))
    return content


def _read(path: Path, kind: Any, identity: Any = None) -> dict[str, Any] | None:
    try:
        return read_json(path, kind, identity) if path.exists() else None
    except UnreadableResult:
        return None
