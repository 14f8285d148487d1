"""Learning experiments: a training by plain values, which are the options of `pudle learn`."""

import math
import time
import warnings
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import numpy as np

from ..data import Dataset, SparseCodingDataset
from ..data.user_files import file_size, read_npy
from ..errors import InvalidArgument, UnsupportedProblem
from ..estimator import Estimate
from ..files import open_regular, readable, state_of
from ..measuring.case import DTYPES
from ..measuring.experiment import (
    Experiment,
    ExperimentResult,
    Outcome,
    Plain,
    ProgressCallback,
    silent,
)
from ..measuring.scoring import score
from ..names import make_dataset, spec_field
from ..problems.l1 import DictionaryProblem
from ..references.certified import default_target, reference
from ..validation import check_choice, check_integer, check_options
from .checkpoint import CHECKPOINT
from .duration import training_seconds
from .images import Images
from .learner import Learner, LearningWarning, Training
from .options import TrainingOptions
from .processes import Processes
from .run import LearningRun, Measure, Row, check_learnable

#: The columns: a gap is 1 where a gradient has no error, because its reference is not certified or
#: is zero.
ERROR, COSINE, GAP = "gradient_error", "gradient_cosine", "gradient_gap"


@dataclass(frozen=True)
class GradientError(Measure):
    """The relative error of the gradient that the last step used, and its cosine with the exact
    one.

    The exact gradient is the certified reference of the same batch at the same dictionary, and the
    errors are those of `pudle.score`, before the optimizer removes or scales anything. A row
    without a measurement has NaN. One whose reference is not certified, or zero, is a gap: its
    error and its cosine are NaN as well, and ``gradient_gap`` is 1 instead of 0.

    Parameters
    ----------
    every : int
        Steps from one measurement to the next, which takes place at the first row of the history
        after them.
    """

    every: int = 1

    def __post_init__(self) -> None:
        check_options(self)

    def at(self, run: LearningRun) -> dict[str, float]:
        """Return error, cosine and gap of the last step's gradient, all NaN in a row without a
        measurement.

        A measurement computes a certified reference. UnsupportedProblem says that the exact
        gradient is not known for the problem or the algorithm.
        """
        nothing, rows = dict.fromkeys((ERROR, COSINE, GAP), math.nan), run.counts.rows
        if default_target(run.problem, run.options.parts.algorithm) != "exact":
            raise UnsupportedProblem(
                "the error of the gradient needs the exact one, which is not known for this"
                " problem and its loss, or where this algorithm leads: leave gradient_error out"
            )
        if run.last is None or run.counts.step // self.every == rows[-1]["step"] // self.every:
            return nothing
        _, batch = run.batch(run.last.number, Processes())
        exact = reference(run.problem_of_batch(batch, run.last.theta))
        # Of several processes none has the codes of all samples; they are not scored here.
        errors = score(Estimate(run.last.estimate, exact.codes), exact)
        if errors.status != "ok":
            return nothing | {GAP: 1}
        return {ERROR: errors.relative_error, COSINE: 1 - errors.cosine_error, GAP: 0}


def gradient_errors_along(rows: list[Row]) -> dict[str, float]:
    """Return the medians of the error and the cosine along a training, as far as they were
    measured (NaN if none was), and the number of gaps, which are rows whose reference could not be
    used; nothing where none was to be measured.
    """
    if GAP not in rows[-1]:
        return {}
    known = [row for row in rows if row.get(GAP) == 0]
    medians = {}
    for name in (ERROR, COSINE):
        medians[name] = median(row[name] for row in known) if known else math.nan
    return medians | {GAP: sum(row.get(GAP) == 1 for row in rows)}


@dataclass(frozen=True)
class OnDataset(Experiment):
    """An experiment on a dataset.

    Attributes
    ----------
    dataset : str
        Dataset with the observations and the first dictionary.
    loss : str
        Outer loss.
    """

    dataset: str = spec_field("datasets")
    loss: str = "lasso"


@dataclass(frozen=True)
class LearningExperiment(TrainingOptions, OnDataset):
    """A training, with its options as specs and numbers: `dataset`, `loss`, those of
    `pudle.TrainingOptions`, and these. A subclass says what else is learned from or measured, and
    what comes of it: `data`, `problem`, `measures` and `outcome`.

    Attributes
    ----------
    dtype : {"float64", "float32"}
        Precision, float64 or float32.
    start : str, optional
        File (.npy) of the dictionary to start at, the dataset's by default. It is such as the
        ``dictionary.npy`` of an earlier training.
    gradient_error : int, optional
        Measure the error of the gradient against the exact one every so many steps, rounded up to
        rows of the history; never by default. See `pudle.GradientError`.
    budget : float, optional
        Seconds for the training, of the processor on the CPU. No further step is taken then.
    """

    kind: ClassVar[str] = "learning"

    dtype: str = "float64"
    start: str | None = None
    gradient_error: int | None = None
    budget: float | None = None

    @property
    def title(self) -> str:
        """The name of the training in tables and on terminals."""
        return f"{self.estimator} with {self.optimizer}"

    @property
    def shows(self) -> str:
        """The loss, the estimator, the layers and the optimizer."""
        layers = f"{self.depth} layers of {self.algorithm}"
        if not self.parts.algorithm.differentiable:
            layers = f"codes solved by {self.algorithm}"
        return f"{self.loss} loss: {self.estimator}, {layers}, {self.optimizer}"

    def expected_seconds(self) -> float | None:
        """Return about how many seconds it takes on one core, the budget at most; None where the
        dataset does not say how large it is.
        """
        seconds = training_seconds(self, self.data, self.gradient_error)
        if seconds is None or self.budget is None:
            return seconds
        return min(seconds, self.budget)

    @property
    def data(self) -> Dataset:
        """The dataset."""
        return make_dataset(self.dataset)

    def learner(self) -> Learner:
        """Return the learner with these options; numbers out of range, and specs that cannot be
        read, raise InvalidArgument.
        """
        return Learner(
            **{field.name: getattr(self, field.name) for field in fields(TrainingOptions)}
        )

    def problem(self, device: str = "cpu", **options: Images) -> DictionaryProblem:
        """Draw the problem of the seed on a device; `options` go to the dataset's `problem`.

        InvalidArgument refuses an unknown dtype, a dataset without the loss or without a dictionary
        to learn, and a `start` of another shape; UnreadableResult one that cannot be read. Reads
        that file, and imports the user's file that the dataset's spec names.
        """
        check_choice("dtype", self.dtype, DTYPES)
        dataset = self.data
        check_choice("loss", self.loss, dataset.losses)
        drawn: Any = dataset.reseeded(self.seed)
        problem = check_learnable(
            drawn.problem(self.loss, dtype=DTYPES[self.dtype], device=device, **options)
        )
        if self.start is None:
            return problem
        shape = tuple(problem.dictionary.shape)
        path, remedy = Path(self.start), f"give a file (.npy) of a dictionary of shape {shape}"
        with readable(path, remedy), open_regular(path) as file:
            array = read_npy(file, file_size(file))
            start = array.astype(np.float64, casting="same_kind").reshape(shape)
        return replace(problem, dictionary=problem.dictionary.new_tensor(start))

    def source(self) -> SparseCodingDataset | None:
        """Return the dataset that fresh samples are drawn from, or None if the training takes the
        problem's own; InvalidArgument refuses a dataset that cannot draw any.
        """
        if not self.fresh:
            return None
        dataset = self.data
        if isinstance(dataset, SparseCodingDataset):
            return dataset
        raise InvalidArgument(
            f"dataset {self.dataset!r} has no fresh samples to draw: use one such as"
            " sparse_gaussian"
        )

    def measures(self) -> list[Measure]:
        """Return the measures that every row of the history has: the error of the gradient, if it
        is asked for.
        """
        every = self.gradient_error
        return [] if every is None else [GradientError(check_integer("gradient_error", every, 1))]

    def outcome(
        self, problem: DictionaryProblem, training: Training, progress: ProgressCallback
    ) -> Outcome:
        """Return summary and arrays of a training that began at a problem.

        The summary holds the first ``dictionary_error`` as ``start_dictionary_error``, and the last
        one with ``relative_error``, ``support_recovery`` and ``seconds``. The array ``dictionary``
        is the learned one.
        """
        names = ("dictionary_error", "relative_error", "support_recovery", "seconds")
        summary: dict[str, Plain] = {name: training.rows[-1][name] for name in names}
        summary["start_dictionary_error"] = training.rows[0]["dictionary_error"]
        return summary, {"dictionary": training.dictionary.cpu().numpy()}

    def run(
        self,
        folder: Path,
        device: str = "cpu",
        progress: ProgressCallback = silent,
        *,
        resume: bool | None = None,
        processes: Processes | None = None,
    ) -> ExperimentResult:
        """Learn the dictionary; `resume` and `processes` are as in `Learner.fit`.

        By default a training in the folder is resumed. Checkpoint, history and dictionary are
        written there. On the CPU, seconds are processor seconds of the process, which do not change
        when the machine is busy with other work. Rows are those of `Training.history`; summary and
        arrays are those of `outcome`, with ``steps`` and the errors of the gradient. The status is
        ``diverged`` or ``ok``. The reason holds the warnings, if any, which are not shown.
        """
        problem = self.problem(device)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", LearningWarning)
            training = self.learner().fit(
                problem,
                folder=folder,
                resume=(folder / CHECKPOINT).exists() if resume is None else resume,
                progress=progress,
                measures=self.measures(),
                clock=time.process_time if device == "cpu" else time.perf_counter,
                budget=self.budget,
                source=self.source(),
                processes=processes,
            )
        texts = (str(entry.message) for entry in caught if entry.category is LearningWarning)
        summary, arrays = self.outcome(problem, training, progress)
        return ExperimentResult(
            training.rows,
            summary | {"steps": training.steps} | gradient_errors_along(training.rows),
            arrays,
            "diverged" if training.status == "diverged" else "ok",
            training.reason or "; ".join(texts),
        )

    def fingerprint(self) -> str:
        """Return a text of the dataset's state and, if there is one, of the `start`'s file."""
        if self.start is None:
            return self.data.fingerprint()
        with readable(Path(self.start), "give another one"):
            return f"{self.data.fingerprint()} {state_of(Path(self.start))}"
