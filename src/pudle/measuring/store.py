"""The store: one file per (case, estimator, profile), named by the hash of all that the scores depend on."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..estimator import GradientEstimator
from ..files import read_arrays, read_json, write_atomically
from ..references.certified import Certificate, Reference
from ..registry import list_estimators, list_experiments, list_studies, make_dataset, make_estimator
from .case import Case
from .experiment import ExperimentResult
from .provenance import suite_digest, training_digest

SCHEMA = 1
#: Kinds of artifact that a case has, see `pudle.measuring.surfaces`.
ARTIFACTS = ("window_surface", "jacobian_error")


class Store:
    """Scores and references of one profile, as files.

    Parameters
    ----------
    folder : Path
        Where the files are; made when first written to.
    profile : str
        Name of the profile.
    device : str
        Where estimates are computed.

    Notes
    -----
    Writing is atomic, so that a process can be killed at any moment and any number of processes can share a store.
    """

    def __init__(self, folder: Path, profile: str, device: str = "cpu") -> None:
        self.folder = Path(folder)
        self.profile = profile
        self.device = device

    def path(self, case: Case, estimator: str) -> Path:
        """Return where the record of an estimator (a spec) on a case is kept, whether or not it exists."""
        return self.folder / case.name / f"{_slug(estimator)}-{self.key(case, estimator)}.json"

    def key(self, case: Case, estimator: str) -> str:
        """Return the hash of all that the scores depend on: suite, case, dataset's and estimator's source, device."""
        made: GradientEstimator = make_estimator(estimator)
        return _hash(
            schema=SCHEMA,
            suite=suite_digest(),
            case=dataclasses.asdict(case),
            dataset=_fingerprint(case),
            estimator=estimator,
            source=_source(type(made)),
            fingerprint=made.fingerprint(),
            profile=self.profile,
            device=self.device,
        )

    def read(self, case: Case, estimator: str) -> dict[str, Any] | None:
        """Return the record, or None where there is none yet.

        Raises
        ------
        UnreadableResult
            If the file is damaged.
        """
        path = self.path(case, estimator)
        return read_json(path) if path.exists() else None

    def write(self, case: Case, estimator: str, content: dict[str, Any]) -> dict[str, Any]:
        """Write a record atomically and return it with its identification."""
        made: GradientEstimator = make_estimator(estimator)
        record = {
            "schema": SCHEMA,
            "key": self.key(case, estimator),
            "profile": self.profile,
            "case": dataclasses.asdict(case),
            "estimator": estimator,
            "computes": made.computes,
            "consistent_for": made.consistent_for,
            **content,
        }
        # Strict JSON: a NaN is written as null, and read back as such.
        write_atomically(self.path(case, estimator), json.dumps(_strict(record), indent=1, allow_nan=False))
        return record

    def experiment_path(self, name: str) -> Path:
        """Return where the record of an experiment is kept, whether or not it exists; its arrays lie beside it (.npz)."""
        experiment: Any = list_experiments()[name]
        # Not the profile: an experiment is the same in all of them.
        key = _hash(
            schema=SCHEMA,
            suite=suite_digest(),
            training=training_digest(),
            experiment=dataclasses.asdict(experiment),
            source=_source(type(experiment)),
            parts=_parts(experiment),
            files=experiment.fingerprint(),
            device=self.device,
        )
        return self.folder / "experiments" / f"{name}-{key}.json"

    def read_experiment(self, name: str) -> dict[str, Any] | None:
        """Return the record of an experiment, or None where there is none yet."""
        path = self.experiment_path(name)
        return read_json(path) if path.exists() else None

    def write_experiment(self, name: str, outcome: ExperimentResult, content: dict[str, Any]) -> dict[str, Any]:
        """Write what an experiment gave, atomically, the arrays first: a record that is there has its arrays."""
        path = self.experiment_path(name)
        experiment: Any = list_experiments()[name]
        if outcome.arrays:
            buffer = io.BytesIO()
            arrays: Any = {key: np.asarray(value) for key, value in outcome.arrays.items()}
            np.savez_compressed(buffer, **arrays)
            write_atomically(path.with_suffix(".npz"), buffer.getvalue())
        record = {
            "schema": SCHEMA,
            "kind": experiment.kind,
            "study": next(study for study, members in list_studies().items() if name in members),
            "name": name,
            "profile": self.profile,
            "setting": dataclasses.asdict(experiment),
            "status": outcome.status,
            "reason": outcome.reason,
            "summary": dict(outcome.summary),
            "rows": [dict(row) for row in outcome.rows],
            "arrays": sorted(outcome.arrays),
            **content,
        }
        write_atomically(path, json.dumps(_strict(record), indent=1, allow_nan=False))
        return record

    def has_artifacts(self, case: Case, windows: tuple[int, ...]) -> bool:
        """Return whether a case's artifacts are there and were made from what is there now."""
        paths = [self._artifact_path(kind, case) for kind in ARTIFACTS]
        return all(path.exists() and read_json(path).get("key") == self._artifact_key(case, windows) for path in paths)

    def write_artifact(self, kind: str, case: Case, windows: tuple[int, ...], content: dict[str, Any]) -> None:
        """Write one artifact of a case, atomically; it takes the place of an outdated one."""
        artifact = {"kind": kind, "case": case.name, "key": self._artifact_key(case, windows), **content}
        write_atomically(self._artifact_path(kind, case), json.dumps(_strict(artifact), indent=1, allow_nan=False))

    def write_failed_artifacts(self, case: Case, windows: tuple[int, ...], reason: str) -> None:
        """Write artifacts that hold only why there are none."""
        for kind in ARTIFACTS:
            self.write_artifact(kind, case, windows, {"seed": case.seeds[0], "rows": [], "reason": reason})

    def _artifact_path(self, kind: str, case: Case) -> Path:
        return self.folder / "artifacts" / f"{case.name}-{kind}.json"

    def _artifact_key(self, case: Case, windows: tuple[int, ...]) -> str:
        truncated = _source(list_estimators()["truncated"])
        parts = {"case": dataclasses.asdict(case), "data": _fingerprint(case), "windows": windows, "truncated": truncated}
        return _hash(suite=suite_digest(), **parts)

    def read_reference(self, case: Case, seed: int, target: str) -> Reference | None:
        """Return the reference of one seed, or None where there is none yet.

        Raises
        ------
        UnreadableResult
            If its file is damaged.
        """
        path = self.reference_path(case, seed, target)
        if not path.exists():
            return None
        arrays = read_arrays(path, ("gradient", "codes", "scalars"))
        scalars = json.loads(str(arrays["scalars"]))
        return Reference(
            gradient=torch.from_numpy(arrays["gradient"]),
            codes=torch.from_numpy(arrays["codes"]),
            certificate=Certificate(**scalars.pop("certificate")),
            **scalars,
        )

    def write_reference(self, case: Case, seed: int, reference: Reference) -> None:
        """Write the reference of one seed, atomically."""
        scalars = {name: getattr(reference, name) for name in ("target", "bound", "status", "reason")}
        scalars["certificate"] = dataclasses.asdict(reference.certificate)
        buffer = io.BytesIO()
        np.savez(
            buffer, gradient=reference.gradient.numpy(), codes=reference.codes.numpy(), scalars=np.array(json.dumps(scalars))
        )
        write_atomically(self.reference_path(case, seed, reference.target), buffer.getvalue())

    def reference_path(self, case: Case, seed: int, target: str) -> Path:
        """Return where a reference is kept, whether or not it exists."""
        # The algorithm and the depths are left out: the truth does not depend on them, so cases share it. The exception is
        # a truth that is the algorithm's own.
        key = _hash(
            algorithm=case.algorithm if target == "limit" else "",
            suite=suite_digest(),
            dataset=case.dataset,
            source=_fingerprint(case),
            seed=seed,
            loss=case.loss,
            dtype=case.dtype,
            target=target,
        )
        return self.folder / "references" / f"{key}.npz"


def _hash(**parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _fingerprint(case: Case) -> str:
    """Digest of what a case's data depend on beside its spec: the dataset's source, and files it reads."""
    dataset = make_dataset(case.dataset)
    return _hash(source=_source(type(dataset)), files=dataset.fingerprint())


def _source(cls: type) -> str:
    """Digest of the files that define a class and its bases; of a class's name where it has no file."""
    digest = hashlib.sha256()
    for base in cls.__mro__[:-1]:
        try:
            path = inspect.getsourcefile(base)
        except TypeError:
            path = None
        digest.update(Path(path).read_bytes() if path else f"{base.__module__}.{base.__qualname__}".encode())
    return digest.hexdigest()


def _parts(experiment: Any) -> str:
    """Digest of the sources of the dataset and the estimator that an experiment names, where it does."""
    makers = {"dataset": make_dataset, "estimator": make_estimator}
    return _hash(
        **{
            name: _source(type(make(getattr(experiment, name))))
            for name, make in makers.items()
            if hasattr(experiment, name)
        }
    )


def _slug(spec: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", spec).strip("_")


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
