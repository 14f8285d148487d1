"""Read the experiments (trainings, denoised images and others) that a run stores beside its scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pudle.errors import UnreadableResult
from pudle.files import read_arrays, read_json
from pudle.measuring.store import SCHEMA

#: Fields of a record and their types.
FIELDS = {
    "kind": str, "study": str, "name": str, "options": dict, "status": str, "reason": str, "summary": dict, "rows": list,
    "arrays": list, "provenance": dict,
}  # fmt: skip
REMEDY = "delete it and run `pudle run` again"


@dataclass(frozen=True, eq=False)
class ExperimentRecord:
    """The stored result of one experiment.

    The options of a training that the experiment contains stand beside its own. The history `rows` holds NaN where nothing
    was measured, and its steps are numbers of rows where the experiment counts none. The arrays named in `array_names` are
    in the file with the ending ``.npz`` beside `path`.
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
        return float(value) if self.status == "ok" and isinstance(value, (int, float)) and math.isfinite(value) else math.nan

    def history(self, *names: str) -> pd.DataFrame:
        """Return columns of the history as numbers, NaN where it has none."""
        return self.rows.reindex(columns=names).apply(pd.to_numeric, errors="coerce").astype(float)

    def arrays(self, **axes: str) -> dict[str, np.ndarray]:
        """Read the arrays with these names, as far as the experiment has them, and check their types and shapes.

        A keyword's value has one letter per axis of the array; axes with the same letter must have the same length. A file
        that is missing or damaged is refused as `UnreadableResult`, as are arrays of other shapes or without real numbers.
        """
        path, names = self.path.with_suffix(".npz"), [name for name in axes if name in self.array_names]
        arrays = read_arrays(path, names, owner=self.path) if names else {}
        lengths: dict[str, int] = {}
        for name, array in arrays.items():
            expected = [lengths.setdefault(letter, length) for letter, length in zip(axes[name], array.shape, strict=False)]
            if array.dtype.kind not in "iuf" or array.ndim != len(axes[name]) or expected != list(array.shape):
                raise UnreadableResult(
                    f"{path}: a report cannot show the array {name!r} of type {array.dtype} and shape {array.shape}: "
                    f"delete {self.path} and run `pudle run` again"
                )
        return arrays


def read_experiments(paths: Iterable[Path]) -> tuple[ExperimentRecord, ...]:
    """Read the experiments in those of these files that exist, in the order of the file names.

    A file that is damaged or has another schema is refused as `UnreadableResult`, with the file and the remedy.
    """
    return tuple(_read(path) for path in sorted(paths) if path.exists())


def check_version(path: Path, what: str, version: Any, known: int, source: str) -> None:
    """Refuse a file of another format: `what` says how the path relates to the version, `source` what to install instead."""
    if version != known:
        raise UnreadableResult(f"{path} {what} {version!r} and this version reads {known}: install {source}, or {REMEDY}")


def _read(path: Path) -> ExperimentRecord:
    content = read_json(path)
    check_version(path, "has schema", content.get("schema"), SCHEMA, "the version of pudle that wrote it")
    wrong = [name for name, kind in FIELDS.items() if not isinstance(content.get(name), kind)]
    wrong += [] if wrong or all(isinstance(row, dict) for row in content["rows"]) else ["rows"]
    wrong += [] if wrong or "date" in content["provenance"] else ["the date of its provenance"]
    if wrong:
        raise UnreadableResult(f"{path} is not the record of an experiment ({wrong[0]} is missing or wrong): {REMEDY}")
    fields = {name: content[name] for name in FIELDS}
    if isinstance(training := fields["options"].get("training"), dict):
        fields["options"] = training | {name: value for name, value in fields["options"].items() if name != "training"}
    rows, arrays = pd.DataFrame(fields.pop("rows")), tuple(map(str, fields.pop("arrays")))
    rows = rows if "step" in rows else rows.assign(step=range(len(rows)))
    return ExperimentRecord(path=path, rows=rows, array_names=arrays, **fields)
