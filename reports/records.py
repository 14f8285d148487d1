"""Read the experiments (trainings, denoised images, ...) that a run stores beside its scores."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pudle.errors import UnreadableResult
from pudle.files import REMEDY, read_arrays
from pudle.measuring import contents

#: By kind of experiment: the arrays that a report shows, and their axes; see
#: `ExperimentRecord.arrays`.
ARRAYS = {
    "denoising": {
        "clean": "ij",
        "noisy": "ij",
        "denoised": "ij",
        "denoised_shifted": "ij",
        "filters": "pkl",
    },
    "interpretation": {"atoms": "pij", "samples": "pskl", "weights": "ps"},
}


@dataclass(frozen=True, eq=False)
class ExperimentRecord:
    """The stored result of one experiment.

    The options of a training that the experiment contains stand beside its own. The history `rows`
    holds NaN where nothing was measured, and its steps are numbers of rows where the experiment
    counts none. The arrays named in `array_names` are in the file with the ending ``.npz`` beside
    `path`.
    """

    path: Path
    name: str
    study: str
    kind: str
    status: str
    reason: str
    options: Mapping[str, Any]
    summary: Mapping[str, Any]
    rows: pd.DataFrame
    array_names: tuple[str, ...]
    provenance: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, name: str) -> ExperimentRecord:
        """Read the record of an experiment of that name, and see that its arrays are there."""
        stored = contents.ExperimentRecord.read(path, name)
        taken = [field.name for field in dataclasses.fields(cls)]
        content = {name: getattr(stored, name) for name in taken if hasattr(stored, name)}
        options = dict(stored.options)
        training = options.pop("training", None) or {}
        content |= {"options": training | options, "path": path}
        rows = pd.DataFrame(stored.rows)
        if not all("step" in row for row in stored.rows):
            rows = rows.assign(step=range(len(rows)))
        record = cls(**content | {"rows": rows, "array_names": tuple(stored.arrays)})
        if stored.arrays:
            _check_digest(path, stored.arrays_digest)
        record.arrays(**ARRAYS.get(record.kind, {}))
        missing = ARRAYS["interpretation"].keys() - record.array_names
        if missing and (record.kind, record.status) == ("interpretation", "ok"):
            raise UnreadableResult(
                f"{path} lacks the arrays {', '.join(sorted(missing))}: {REMEDY}"
            )
        return record

    @property
    def estimator(self) -> str:
        """Spec of the estimator that the experiment trained with, empty if there is none."""
        return str(self.options.get("estimator") or "")

    @property
    def method(self) -> str:
        """Name that the experiment gives its method."""
        return str(self.summary.get("method") or self.estimator or self.name)

    @property
    def dataset(self) -> str:
        """Spec of the dataset."""
        return str(self.options.get("dataset", "unknown dataset"))

    def number(self, name: str) -> float:
        """Return a number of the summary, NaN if it has none or the experiment failed."""
        value = self.summary.get(name)
        return (
            float(value)
            if self.status == "ok" and isinstance(value, (int, float)) and math.isfinite(value)
            else math.nan
        )

    def history(self, *names: str) -> pd.DataFrame:
        """Return columns of the history as numbers, NaN where it has none."""
        return self._numbers.reindex(columns=names).astype(float)

    @cached_property
    def _numbers(self) -> pd.DataFrame:
        """The whole history as numbers, converted once: several tables and charts ask for the same
        one.
        """
        return self.rows.apply(pd.to_numeric, errors="coerce")

    def arrays(self, **axes: str) -> dict[str, np.ndarray]:
        """Read the arrays with these names, as far as the experiment has them, and check their
        types and shapes, which a plug-in may have chosen otherwise.

        A keyword's value has one letter per axis of the array; axes with the same letter must have
        the same length. Other arrays raise UnreadableResult.
        """
        names = [name for name in axes if name in self.array_names]
        path = self.path.with_suffix(".npz")
        arrays = read_arrays(path, names, owner=self.path) if names else {}
        lengths: dict[str, int] = {}
        for name, array in arrays.items():
            pairs = zip(axes[name], array.shape, strict=False)
            expected = tuple(lengths.setdefault(letter, length) for letter, length in pairs)
            shape = array.shape if array.ndim == len(axes[name]) else None
            if array.dtype.kind not in "iuf" or expected != shape:
                raise UnreadableResult(
                    f"{path}: a report cannot show the array {name!r} of type {array.dtype} and"
                    f" shape {array.shape}: delete {self.path} and run `pudle run` again"
                )
        return arrays


def _check_digest(path: Path, digest: str) -> None:
    """Refuse a file of arrays that is not the one that a record came with."""
    arrays = path.with_suffix(".npz")
    try:
        same = hashlib.sha256(arrays.read_bytes()).hexdigest() == digest
    except OSError as error:
        raise UnreadableResult(
            f"{arrays} cannot be read ({error.strerror}): delete {path} and run `pudle run` again"
        ) from None
    if not same:
        raise UnreadableResult(
            f"{arrays} cannot be read (it was changed or cut): delete {path} and run `pudle run`"
            " again"
        )
