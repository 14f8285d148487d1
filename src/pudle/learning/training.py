"""Learning experiments: a training described by plain values, the options of `pudle learn`."""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..data import Dataset, SparseCodingDataset
from ..errors import InvalidArgument
from ..files import readable, state_of
from ..measuring.case import DTYPES
from ..measuring.experiment import (
    Experiment,
    ExperimentResult,
    Plain,
    ProgressCallback,
    Stored,
    silent,
)
from ..names import make_dataset
from ..problems.l1 import DictionaryProblem
from ..validation import check_choice, check_integer
from .checkpoint import CHECKPOINT
from .gradient_error import GradientError, along
from .images import Images
from .learner import Learner, LearningWarning, Training
from .options import TrainingOptions
from .processes import Processes
from .run import Measure, learnable


@dataclass(frozen=True)
class OnDataset(Experiment):
    """What is learned from.

    Attributes
    ----------
    dataset : str
        Dataset with the observations and the first dictionary.
    loss : str
        Outer loss.
    """

    dataset: str
    loss: str = "lasso"


@dataclass(frozen=True)
class LearningExperiment(TrainingOptions, OnDataset):
    """A training, with its options as specs and numbers: `dataset`, `loss`, those of
    `pudle.TrainingOptions`, and these.

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
    """

    kind: ClassVar[str] = "learning"

    dtype: str = "float64"
    start: str | None = None
    gradient_error: int | None = None

    def learner(self) -> Learner:
        """Return the learner."""
        return Learner(**{each.name: getattr(self, each.name) for each in fields(TrainingOptions)})

    def problem(self, device: str = "cpu", **options: Images) -> DictionaryProblem:
        """Draw the problem on a device; `options` go to the dataset's `problem`.

        A dataset without the loss or without a dictionary to learn is refused, and so is a `start`
        without a dictionary of that shape.
        """
        check_choice("dtype", self.dtype, DTYPES)
        dataset = make_dataset(self.dataset)
        check_choice("loss", self.loss, dataset.losses)
        drawn: Any = dataset.reseeded(self.seed)
        problem = learnable(
            drawn.problem(self.loss, dtype=DTYPES[self.dtype], device=device, **options)
        )
        if self.start is None:
            return problem
        shape = tuple(problem.dictionary.shape)
        with readable(Path(self.start), f"give a file (.npy) of a dictionary of shape {shape}"):
            array = np.load(self.start, allow_pickle=False)
            start = array.astype(np.float64, casting="same_kind").reshape(shape)
        return replace(problem, dictionary=problem.dictionary.new_tensor(start))

    def source(self) -> SparseCodingDataset | None:
        """Return what fresh samples are drawn from, or None if the training takes the problem's
        own.
        """
        if not self.fresh:
            return None
        dataset = make_dataset(self.dataset)
        if isinstance(dataset, SparseCodingDataset):
            return dataset
        raise InvalidArgument(
            f"dataset {self.dataset!r} has no fresh samples to draw: use one such as"
            " sparse_gaussian"
        )

    def errors(self) -> list[Measure]:
        """Return what measures the error of the gradient, if it is to be measured."""
        every = self.gradient_error
        return [] if every is None else [GradientError(check_integer("gradient_error", every, 1))]

    def train(
        self,
        problem: DictionaryProblem,
        folder: Path,
        device: str,
        progress: ProgressCallback,
        *,
        resume: bool | None = None,
        processes: Processes | None = None,
        measures: Sequence[Measure] = (),
        budget: float | None = None,
    ) -> Training:
        """Learn from a problem on the device, with further arguments as in `Learner.fit`.

        By default a training in the folder is resumed. On the CPU, seconds are processor seconds of
        the process, which do not change when the machine is busy with other work. The training's
        reason holds its warnings where it would be empty.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", LearningWarning)
            training = self.learner().fit(
                problem,
                folder=folder,
                resume=(folder / CHECKPOINT).exists() if resume is None else resume,
                progress=progress,
                measures=[*measures, *self.errors()],
                clock=time.process_time if device == "cpu" else time.perf_counter,
                budget=budget,
                source=self.source(),
                processes=processes,
            )
        texts = (f"{each.message}" for each in caught if each.category is LearningWarning)
        return replace(training, reason=training.reason or "; ".join(texts))

    def run(
        self,
        folder: Path,
        device: str = "cpu",
        progress: ProgressCallback = silent,
        *,
        resume: bool | None = None,
        processes: Processes | None = None,
    ) -> ExperimentResult:
        """Learn the dictionary; `resume` and `processes` are as in `train`.

        Rows are those of `Training.history`. The summary holds the first and the last
        ``dictionary_error``, ``relative_error`` and ``loss`` (the first with the prefix
        ``start_``), and ``support_recovery``, ``steps`` and ``seconds``. The array ``dictionary``
        is the learned one. The reason holds the warnings, if any.
        """
        problem = self.problem(device)
        training = self.train(problem, folder, device, progress, resume=resume, processes=processes)
        # The first row has no loss yet: the second has that of the start.
        start = training.rows[0] | {"loss": training.rows[:2][-1]["loss"]}
        end, errors = training.rows[-1], ("dictionary_error", "relative_error", "loss")
        summary: dict[str, Plain] = {f"start_{name}": start[name] for name in errors}
        summary |= {name: end[name] for name in (*errors, "support_recovery", "seconds")}
        return result_of(training, summary, {"dictionary": training.dictionary.cpu().numpy()})

    def fingerprint(self) -> str:
        dataset: Dataset = make_dataset(self.dataset)
        if self.start is None:
            return dataset.fingerprint()
        with readable(Path(self.start), "give another one"):
            return f"{dataset.fingerprint()} {state_of(Path(self.start))}"


def result_of(
    training: Training, summary: Mapping[str, Plain], arrays: Mapping[str, Stored]
) -> ExperimentResult:
    """Return the result of an experiment whose history, number of steps, errors of the gradient,
    status and reason are those of a training.
    """
    status = "diverged" if training.status == "diverged" else "ok"
    summary = {**summary, "steps": training.steps, **along(training.rows)}
    return ExperimentResult(training.rows, summary, arrays, status, training.reason)
