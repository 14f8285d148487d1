"""Dictionary learning with any gradient estimator, inner algorithm and optimizer."""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..data import SparseCodingDataset
from ..errors import InvalidArgument
from ..measuring.experiment import ProgressCallback, silent
from ..problems import Problem
from ..problems.l1 import DictionaryProblem
from . import checkpoint
from .options import TrainingOptions
from .processes import Processes
from .run import HISTORY, LearningRun, Measure, Row, check_learnable

if TYPE_CHECKING:
    import pandas as pd


class LearningWarning(UserWarning):
    """Warning about a training whose result is probably not the intended one."""


@dataclass(frozen=True, eq=False)
class Training:
    """The result of a training.

    Attributes
    ----------
    dictionary : Tensor
        Shape of the problem's dictionary; every atom has unit norm.
    rows : list of dict
        The rows of the history, in order.
    status, reason : str
        ``ok``; ``rose`` if the loss ended above its start; ``still`` if every gradient was zero;
        ``diverged`` if the training stopped at values that are not finite or not stable, with the
        last good dictionary. The reason is empty for ``ok``.
    steps : int
        Number of steps, including those before a resume.
    theta : Tensor
        The outer parameter: the dictionary, or dictionary and penalties where these are learned as
        well. The problem at this parameter is ``dataclasses.replace(problem,
        **problem.fields_at(theta))``.
    """

    dictionary: Tensor
    rows: list[Row]
    status: str
    reason: str
    steps: int
    theta: Tensor

    @cached_property
    def history(self) -> "pd.DataFrame":
        """One row at the start and one per `TrainingOptions.record_every` steps: ``epoch`` (a
        fraction where rows are more frequent than epochs), ``step``, ``seconds`` (of computing,
        without the records), ``learning_rate`` of the last step, ``loss`` and ``gradient_norm``
        (means over the steps since the row before, each evaluated before its step),
        ``dictionary_error`` and ``relative_error`` (distance to the generating dictionary, atoms
        matched), ``support_recovery`` (the share ``2 |S and S*| / (|S| + |S*|)`` of the supports of
        the last batch's codes and of the codes that generated it, atoms matched) and ``moved``
        (``|D - D_0|_F``). A value that is not known is NaN.
        """
        import pandas as pd  # lists of experiments do without

        return pd.DataFrame(self.rows)


@dataclass(frozen=True)
class Learner(TrainingOptions):
    """Dictionary learning: one step of the optimizer per batch, after which every atom is scaled to
    unit norm.

    The estimator receives every batch as a problem: the observations of the batch, and the current
    dictionary. The arguments are those of `pudle.TrainingOptions`, in that order, such as
    ``Learner("truncated(window=10)", "ista(step=0.2)", depth=100, optimizer="adam")``.

    Raises
    ------
    InvalidArgument
        For numbers out of range, for a warm start with fresh samples, and, as a SpecError, for a
        spec that cannot be read.
    """

    def __post_init__(self) -> None:
        self.check()

    def fit(
        self,
        problem: Problem,
        *,
        folder: str | Path | None = None,
        resume: bool = False,
        save_seconds: float = 30.0,
        progress: ProgressCallback = silent,
        measures: Sequence[Measure] = (),
        clock: Callable[[], float] = time.perf_counter,
        budget: float | None = None,
        source: SparseCodingDataset | None = None,
        processes: Processes | None = None,
    ) -> Training:
        """Learn a dictionary from a problem's observations, starting at its dictionary.

        Parameters
        ----------
        problem : SparseCoding or ConvolutionalSparseCoding
            Its observations are the data and its dictionary is the start. Its generating dictionary
            and codes, if it has them, serve the history only.
        folder : path, optional
            Folder for the checkpoint, the history (CSV) and the dictionary (.npy), which are kept
            up to date.
        resume : bool
            Continue from the checkpoint in `folder`. On the CPU the dictionary ends, bit for bit,
            where that of an uninterrupted training does. The history has one more row where a
            budget ended the first part, and no support recovery in the row of a divergence right
            after the resume. A diverged training is returned as it ended.
        save_seconds : float
            Seconds between checkpoints; zero for one after every step.
        progress : callable
            Called after every step with the steps done, the total, and the loss and the values of
            `measures` of the history's last row as text.
        measures : sequence of Measure
            What to measure at every row of the history, in columns of their own. Its time is not
            counted.
        clock, budget : callable, float, optional
            Clock of the history's ``seconds``, and the seconds after which no further step is
            taken, including those before a resume. The processor seconds of ``time.process_time``
            do not change when the machine is busy with other work.
        source : Dataset, optional
            Where `fresh` samples are drawn from: a dataset such as
            ``make_dataset("sparse_gaussian")``.
        processes : Processes, optional
            The processes that share this training, see `pudle.learning.processes`. Each calls `fit`
            with the same arguments and returns the same training. The steps are those of one
            process, up to rounding. All read the folder, and the first one writes it, reports
            progress and warns. A folder can be resumed by another number of processes.

        Raises
        ------
        InvalidArgument
            For a problem without a dictionary to learn, constant observations, an atom that is
            zero, a folder that holds another training, or a step that the algorithm refuses at the
            start.
        UnreadableResult
            If the checkpoint is damaged.

        Warns
        -----
        LearningWarning
            If there are fewer samples than atoms, the loss ends above its start, every gradient is
            zero, or the training diverges.
        """
        processes = processes or Processes()
        problem = check_learnable(problem)
        if not self.fresh:
            _warn_of_few_samples(problem)
        if self.fresh is not (source is not None):
            raise InvalidArgument(
                "fresh=True and source=... belong together: give the dataset to draw fresh samples"
                " from"
            )
        if resume and folder is None:
            raise InvalidArgument(
                "resume=True needs the folder that holds the checkpoint: give folder=..."
            )
        run = LearningRun(self, problem, measures, clock, source, processes)
        written_folder = None if folder is None or processes.rank else Path(folder)
        if folder:
            # All read the checkpoint, before the first writes one: it waits for them in its first
            # step.
            checkpoint.begin(run, Path(folder), resume=resume)
        if not run.counts.rows:
            run.record()
        for _ in _steps(run, budget, written_folder, save_seconds):
            line = ", ".join(
                f"{name} {value:.4g}"
                for name, value in run.counts.rows[-1].items()
                if name == "loss" or name not in HISTORY and not math.isnan(value)
            )
            progress(run.counts.step, run.total, line)
        if run.counts.weight:
            run.record()
        if written_folder:
            checkpoint.save(run, written_folder)
        return _finish(run)


def _steps(
    run: LearningRun, budget: float | None, folder: Path | None, save_seconds: float
) -> Iterator[None]:
    """Take the steps that are left, one by one, with the rows of the history and checkpoints; yield
    after each.

    It ends early where the budget is used up or the training has diverged. With a folder, a
    checkpoint is written after the first step, and then every `save_seconds`.
    """
    every = run.options.record_every or run.steps_per_epoch
    # The first checkpoint follows the first step: if the algorithm refuses that step, the folder
    # stays empty.
    saved = -math.inf
    # A training that is resumed after it diverged would only diverge again.
    while run.counts.step < run.total and not run.counts.diverged:
        if budget is not None and run.processes.value_of_first(run.counts.seconds >= budget):
            return
        run.advance()
        if run.counts.weight and run.counts.step % every == 0:
            run.record()
        if folder and time.monotonic() - saved >= save_seconds:
            checkpoint.save(run, folder)
            saved = time.monotonic()
        yield


def _finish(run: LearningRun) -> Training:
    """Return the result of a run, with its status, and warn (LearningWarning) unless that is
    ``ok``.
    """
    rows, status, reason = run.counts.rows, "ok", run.counts.diverged
    losses = [row["loss"] for row in rows if not math.isnan(row["loss"])]
    if reason:
        status = "diverged"
    elif losses and losses[-1] > losses[0]:
        status = "rose"
        reason = (
            f"the loss rose from {losses[0]:.4g} to {losses[-1]:.4g}: the learning rate is"
            " likely too large"
        )
    elif losses and not any(row["gradient_norm"] for row in rows[1:]):
        status = "still"
        reason = (
            "nothing is learned, because every gradient is zero, as where all codes are: lower the"
            " penalty (alpha in scikit-learn's terms)"
        )
    if reason:
        warnings.warn(f"{reason}; the history up to there is kept", LearningWarning, stacklevel=3)
    theta = run.theta.detach().clone()
    dictionary = run.problem.dictionary_of(theta)
    return Training(dictionary, rows, status, reason, run.counts.step, theta)


def _warn_of_few_samples(problem: DictionaryProblem) -> None:
    """Warn (LearningWarning) if there are fewer samples than atoms; every position of a filter in
    an image counts as a sample.
    """
    # Every position of a filter in an image counts as a sample.
    atoms = problem.code_shape[1]
    samples = math.prod(problem.code_shape) // atoms
    if samples < atoms:
        warnings.warn(
            f"{samples} samples are fewer than the {atoms} atoms: atoms that no sample needs stay"
            " where they are; give more samples or fewer atoms",
            LearningWarning,
            stacklevel=3,
        )
