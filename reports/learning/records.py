"""Reading experiments: trainings, denoised images and whatever else a run stored beside its scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pudle.errors import UnreadableResult
from pudle.files import read_arrays, read_json

#: Schema number of the records that this version reads.
SCHEMA = 1
FIELDS = {
    "kind": str, "study": str, "name": str, "setting": dict, "status": str, "reason": str, "summary": dict, "rows": list,
    "arrays": list, "provenance": dict,
}  # fmt: skip
AGAIN = "delete it and run `pudle run` again"


@dataclass(frozen=True, eq=False)
class ExperimentRecord:
    """What one experiment gave.

    Attributes
    ----------
    path : Path
        Of the record; the arrays lie beside it.
    name, study, kind : str
    status, reason : str
        A number counts only where the status is ``ok``.
    setting, summary : mapping
    rows : DataFrame
        The history; what was not measured is NaN.
    array_names : tuple of str
    provenance : mapping
    """

    path: Path
    name: str
    study: str
    kind: str
    status: str
    reason: str
    setting: Mapping[str, Any]
    summary: Mapping[str, Any]
    rows: pd.DataFrame
    array_names: tuple[str, ...]
    provenance: Mapping[str, Any]

    @property
    def options(self) -> dict[str, Any]:
        """The setting, with that of a training inside it laid flat."""
        training = self.setting.get("training")
        inner = dict(training) if isinstance(training, dict) else {}
        return inner | {name: value for name, value in self.setting.items() if not (name == "training" and inner)}

    @property
    def estimator(self) -> str:
        """Spec of the estimator that it trained with, empty where there was none."""
        return str(self.options.get("estimator") or "")

    @property
    def alike(self) -> str:
        """What all experiments have in common that differ in nothing but their seed."""
        return repr(sorted((name, repr(value)) for name, value in self.options.items() if name != "seed"))

    def number(self, name: str) -> float:
        """Return a number of the summary, NaN where there is none or the experiment has failed."""
        value = self.summary.get(name)
        good = self.status == "ok" and isinstance(value, (int, float)) and math.isfinite(value)
        return float(value) if good else math.nan  # type: ignore[arg-type]

    def column(self, name: str) -> pd.Series:
        """Return a column of the history as numbers, NaN where it has none."""
        if name not in self.rows:
            return pd.Series(math.nan, self.rows.index)
        return pd.to_numeric(self.rows[name], errors="coerce")

    def arrays(self) -> dict[str, np.ndarray]:
        """Read the arrays.

        Raises
        ------
        UnreadableResult
            If the file is missing or damaged.
        """
        if not self.array_names:
            return {}
        return read_arrays(self.path.with_suffix(".npz"), self.array_names, owner=self.path)


def read_experiments(folder: Path) -> tuple[ExperimentRecord, ...]:
    """Read the experiments in a folder: of each name the newest, by study and name as their files are sorted.

    Raises
    ------
    UnreadableResult
        If a file is damaged or of an unknown version; the text names the file and the remedy.
    """
    newest: dict[str, ExperimentRecord] = {}
    for path in sorted(folder.glob("*.json")):
        record = _read(path)
        known = newest.get(record.name)
        if known is None or str(record.provenance["date"]) >= str(known.provenance["date"]):
            newest[record.name] = record
    return tuple(newest.values())


def _read(path: Path) -> ExperimentRecord:
    content = read_json(path)
    if content.get("schema") != SCHEMA:
        raise UnreadableResult(
            f"{path} has schema {content.get('schema')!r} and this version reads {SCHEMA}: "
            f"install the version of pudle that wrote it, or {AGAIN}"
        )
    wrong = [name for name, kind in FIELDS.items() if not isinstance(content.get(name), kind)]
    if not wrong and "date" not in content["provenance"]:
        wrong = ["the date of its provenance"]
    if not wrong and not all(isinstance(row, dict) for row in content["rows"]):
        wrong = ["rows"]
    if wrong:
        raise UnreadableResult(f"{path} is not the record of an experiment ({wrong[0]} is missing or wrong): {AGAIN}")
    return ExperimentRecord(
        path=path,
        rows=pd.DataFrame(content["rows"]),
        array_names=tuple(map(str, content["arrays"])),
        **{name: content[name] for name in FIELDS if name not in ("rows", "arrays")},
    )
