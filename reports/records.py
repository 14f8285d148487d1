"""Read the experiments (trainings, denoised images, ...) that a run stores beside its scores."""

from functools import cached_property
from math import nan
from pathlib import Path

import pandas as pd
from msgspec import Struct, convert

from pudle.errors import UnreadableResult
from pudle.files import REMEDY, content_digest, read_arrays
from pudle.learning.matching import Array
from pudle.measuring import contents
from pudle.measuring.results import experiment

#: By kind of experiment: the arrays that a report shows, with a letter for each axis; axes with the
#: same letter have the same length.
ARRAYS: dict[str, dict[str, str]] = {
    "denoising": dict.fromkeys(("clean", "noisy", "denoised", "denoised_shifted"), "ij")
    | {"filters": "pkl"},
    "interpretation": {"atoms": "pij", "samples": "pskl", "weights": "ps"},
}


class Training(Struct):
    """The options of every training that a report calls by name."""

    dataset: str
    estimator: str
    algorithm: str
    depth: contents.Whole


class ExperimentRecord(experiment.ExperimentRecord, kw_only=True, dict=True):
    """The stored result of one experiment."""

    def __post_init__(self) -> None:
        if self.kind == "learning":
            convert(self.options, Training)

    @classmethod
    def read(cls, path: Path, identity: object = None) -> "ExperimentRecord":
        """Read the record of an experiment of that name, and the arrays that it came with."""
        record: ExperimentRecord = super().read(path, identity)
        axes = ARRAYS.get(record.kind, {})
        vars(record)["shown"] = _arrays(record, path, axes) if record.arrays else {}
        missing = ", ".join(sorted(ARRAYS["interpretation"].keys() - record.shown.keys()))
        if missing and (record.kind, record.status) == ("interpretation", "ok"):
            raise UnreadableResult(f"{path} lacks the arrays {missing}: {REMEDY}")
        return record

    @property
    def shown(self) -> dict[str, Array]:
        """The arrays that a report shows, by name, as far as the experiment has them."""
        shown: dict[str, Array] = vars(self)["shown"]
        return shown

    @property
    def estimator(self) -> str:
        """Spec of the estimator that the experiment trained with, empty if there is none."""
        return str(self.options.get("estimator") or "")

    @property
    def depth(self) -> int | None:
        """The number of layers of the training."""
        depth = self.options.get("depth")
        return depth if isinstance(depth, int) else None

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
        value = self.summary.get(name) if self.status == "ok" else None
        # A whole number in a file may exceed all floats.
        return float(value) if isinstance(value, int | float) and abs(value) < 1e300 else nan

    def history(self, *names: str) -> pd.DataFrame:
        """Return columns of the history as numbers, NaN where nothing was measured."""
        return self._history.reindex(columns=names).astype(float)

    @cached_property
    def _history(self) -> pd.DataFrame:
        """The whole history, converted once for all tables and figures; its steps are numbers of
        rows where the experiment counts none.
        """
        rows = pd.DataFrame(self.rows)
        if not all("step" in row for row in self.rows):
            rows = rows.assign(step=range(len(rows)))
        return rows.apply(pd.to_numeric, errors="coerce")


def _arrays(record: ExperimentRecord, path: Path, axes: dict[str, str]) -> dict[str, Array]:
    """Read the arrays beside a record that a report shows, or raise UnreadableResult."""
    stored, remedy = path.with_suffix(".npz"), f"delete {path} and run `pudle run` again"
    arrays = read_arrays(stored, [name for name in axes if name in record.arrays], owner=path)
    if content_digest(stored) != record.arrays_digest:
        raise UnreadableResult(f"{stored} cannot be read (it was changed or cut): {remedy}")
    lengths: dict[str, int] = {}
    for name, array in arrays.items():
        pairs = zip(axes[name], array.shape, strict=False)
        # A plug-in may have chosen types and shapes that cannot be shown.
        fits = array.size and array.ndim == len(axes[name]) and array.dtype.kind in "iuf"
        if not fits or any(lengths.setdefault(axis, size) != size for axis, size in pairs):
            raise UnreadableResult(
                f"{stored}: a report cannot show the array {name!r} of type {array.dtype}"
                f" and shape {array.shape}: {remedy}"
            )
    return arrays
