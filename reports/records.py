"""Read the experiments (trainings, denoised images and others) that a run stores beside its scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pudle.errors import UnreadableResult
from pudle.files import REMEDY, converted, lies_at, read_arrays, read_each, read_json
from pudle.measuring import contents

#: Fields of a record that are taken as they are.
FIELDS = ("kind", "study", "name", "options", "status", "reason", "summary", "provenance")
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
        types and shapes.

        A keyword's value has one letter per axis of the array; axes with the same letter must have
        the same length. A file that is missing or damaged is refused as `UnreadableResult`, as are
        arrays of other shapes or without real numbers.
        """
        path, names = (
            self.path.with_suffix(".npz"),
            [name for name in axes if name in self.array_names],
        )
        arrays = read_arrays(path, names, owner=self.path) if names else {}
        lengths: dict[str, int] = {}
        for name, array in arrays.items():
            expected = [
                lengths.setdefault(letter, length)
                for letter, length in zip(axes[name], array.shape, strict=False)
            ]
            if (
                array.dtype.kind not in "iuf"
                or array.ndim != len(axes[name])
                or expected != list(array.shape)
            ):
                raise UnreadableResult(
                    f"{path}: a report cannot show the array {name!r} of type {array.dtype} and"
                    f" shape {array.shape}: delete {self.path} and run `pudle run` again"
                )
        return arrays


def read_experiments(names: Mapping[Path, str], damaged: list[str]) -> tuple[ExperimentRecord, ...]:
    """Read the experiments in those of these files that exist, in the order of the file names, with
    their names.

    A file that is damaged, or whose arrays are, adds a line to `damaged`, with the file and the
    remedy.
    """
    paths = [path for path in sorted(names) if lies_at(path)]
    return tuple(read_each(paths, lambda path: _read(path, names[path]), damaged))


def _read(path: Path, name: str) -> ExperimentRecord:
    content = read_json(path, contents.ExperimentRecord, name)
    fields = {name: content[name] for name in FIELDS}
    if isinstance(training := fields["options"].get("training"), dict):
        fields["options"] = training | {
            name: value for name, value in fields["options"].items() if name != "training"
        }
    converted(path, content["rows"], list[contents.HistoryRow])
    rows = pd.DataFrame(content["rows"])
    rows = (
        rows
        if all("step" in row for row in content["rows"])
        else rows.assign(step=range(len(rows)))
    )
    record = ExperimentRecord(path=path, rows=rows, array_names=tuple(content["arrays"]), **fields)
    record.arrays(**ARRAYS.get(record.kind, {}))
    if record.kind == "interpretation" and record.status == "ok":
        if missing := ARRAYS["interpretation"].keys() - record.array_names:
            raise UnreadableResult(
                f"{path} lacks the arrays {', '.join(sorted(missing))}: {REMEDY}"
            )
    return record
