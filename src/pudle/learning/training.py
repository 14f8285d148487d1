"""Learning experiments: a training described by plain values, the options of `pudle learn`."""

from __future__ import annotations

import hashlib
import io
import time
import tokenize
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import InvalidArgument
from ..measuring.case import DTYPES
from ..measuring.experiment import Experiment, ExperimentResult, ProgressCallback, silent
from ..names import make_dataset
from ..validation import check_choice

# Lists of experiments do without pandas: what imports it is imported where it is used.
if TYPE_CHECKING:
    from .learner import Learner, Training


@dataclass(frozen=True)
class LearningExperiment(Experiment):
    """A training, with its options as specs and numbers.

    Attributes
    ----------
    dataset, loss, seed
        Spec of the dataset, its outer loss, and the seed of the dataset and of the sample order.
    estimator, algorithm, depth, optimizer, schedule, epochs, batch, record_every, chunk, fresh,
    warm_start
        As in `pudle.Learner`.
    dtype : {"float64", "float32"}
        Precision.
    start : str, optional
        File (.npy) of the dictionary to start at, such as the ``dictionary.npy`` of an earlier
        training; by default the training starts at the dataset's dictionary.
    """

    kind: ClassVar[str] = "learning"

    dataset: str
    loss: str = "lasso"
    estimator: str = "backprop"
    algorithm: str = "ista"
    depth: int = 50
    optimizer: str = "adam"
    schedule: str = "constant"
    epochs: int = 100
    batch: int | None = None
    seed: int = 0
    record_every: int | None = None
    chunk: int | None = None
    dtype: str = "float64"
    start: str | None = None
    fresh: bool = False
    warm_start: bool = False

    def learner(self) -> Learner:
        """Return the learner."""
        from .learner import Learner

        return Learner(**{field.name: getattr(self, field.name) for field in fields(Learner)})

    def problem(self, device: str = "cpu", **options: Any) -> Any:
        """Draw the problem on a device; `options` go to the dataset's `problem`.

        A dataset without the loss is refused, and so is a `start` without a dictionary of that
        shape.
        """
        check_choice("dtype", self.dtype, DTYPES)
        dataset = make_dataset(self.dataset)
        check_choice("loss", self.loss, dataset.losses)
        dataset = replace(dataset, seed=self.seed)
        problem = dataset.problem(self.loss, dtype=DTYPES[self.dtype], device=device, **options)
        if self.start is None or not hasattr(problem, "dictionary"):
            return problem
        shape, content = tuple(problem.dictionary.shape), io.BytesIO(_read(self.start))
        try:
            start = np.lib.format.read_array(content, allow_pickle=False)
        except (ValueError, tokenize.TokenError):
            raise InvalidArgument(
                f"start={self.start!r} is not a whole array of numbers (.npy)"
            ) from None
        if start.shape != shape or start.dtype.kind not in "fiu" or not np.isfinite(start).all():
            raise InvalidArgument(
                f"start={self.start!r} holds {start.dtype} of shape {start.shape}: give finite real"
                f" numbers of the shape {shape} of the dataset's dictionary"
            )
        # In this machine's byte order.
        start = start.astype(np.float64)
        return replace(problem, dictionary=problem.dictionary.new_tensor(start))

    def source(self) -> Any:
        """Return what fresh samples are drawn from, or None if the training takes the problem's
        own.
        """
        dataset = make_dataset(self.dataset) if self.fresh else None
        if self.fresh and not hasattr(dataset, "samples"):
            raise InvalidArgument(
                f"dataset {self.dataset!r} has no fresh samples to draw: use one such as"
                " sparse_gaussian"
            )
        return dataset

    def train(
        self, problem: Any, folder: Path, device: str, progress: ProgressCallback, **options: Any
    ) -> Training:
        """Learn from a problem on the device; `options` go to `Learner.fit`.

        By default a training in the folder is resumed. On the CPU, seconds are processor seconds of
        the process, which do not change when the machine is busy with other work. The training's
        reason holds its warnings where it would be empty.
        """
        from .learner import LearningWarning
        from .run import CHECKPOINT

        options = {
            "resume": (folder / CHECKPOINT).exists(),
            "clock": time.process_time if device == "cpu" else time.perf_counter,
            "source": self.source(),
        } | options
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", LearningWarning)
            training = self.learner().fit(problem, folder=folder, progress=progress, **options)
        texts = (f"{each.message}" for each in caught if each.category is LearningWarning)
        return replace(training, reason=training.reason or "; ".join(texts))

    def run(
        self, folder: Path, device: str = "cpu", progress: ProgressCallback = silent, **options: Any
    ) -> ExperimentResult:
        """Learn the dictionary.

        Rows are those of `Training.history`. The summary holds the first and the last
        ``dictionary_error``, ``relative_error`` and ``loss`` (the first with the prefix
        ``start_``), and ``support_recovery``, ``steps`` and ``seconds``. The array ``dictionary``
        is the learned one. The reason holds the warnings, if any.
        """
        training = self.train(self.problem(device), folder, device, progress, **options)
        history, names = training.history, ["dictionary_error", "relative_error", "loss"]
        # The first row has no loss yet: the second has that of the start.
        start = history[names].bfill().iloc[0].add_prefix("start_")
        end = history[[*names, "support_recovery", "seconds"]].iloc[-1]
        return result_of(
            training, {**start, **end}, {"dictionary": training.dictionary.cpu().numpy()}
        )

    def fingerprint(self) -> str:
        start = f" {hashlib.sha256(_read(self.start)).hexdigest()}" if self.start else ""
        return f"{make_dataset(self.dataset).fingerprint()}{start}"


def result_of(
    training: Training, summary: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> ExperimentResult:
    """Return the result of an experiment whose history, number of steps, status and reason are
    those of a training.
    """
    status = "diverged" if training.status == "diverged" else "ok"
    rows, summary = training.history.to_dict("records"), {**summary, "steps": training.steps}
    return ExperimentResult(rows, summary, arrays, status, training.reason)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"start={path!r} cannot be read: {error.strerror}") from None
