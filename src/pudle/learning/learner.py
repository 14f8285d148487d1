"""Dictionary learning with any gradient estimator, inner algorithm and optimizer."""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from .. import names
from ..algorithms import Algorithm
from ..errors import InvalidArgument, PudleError
from ..estimator import GradientEstimator
from ..measuring.experiment import ProgressCallback, silent
from ..problems.l1 import DictionaryProblem
from ..validation import check_options
from .optimizers import Optimizer, Schedule
from .processes import Processes
from .run import HISTORY, LearningRun, Monitor


class LearningWarning(UserWarning):
    """Warning about a training whose result is probably not the intended one."""


@dataclass(frozen=True, eq=False)
class Training:
    """The result of a training.

    Attributes
    ----------
    dictionary : Tensor
        Shape of the problem's dictionary; every atom has unit norm.
    history : DataFrame
        One row at the start and one per `Learner.record_every` steps: ``epoch`` (a fraction where
        rows are more frequent than epochs), ``step``, ``seconds`` (of computing, without the
        records), ``learning_rate`` of the last step, ``loss`` and ``gradient_norm`` (means over the
        steps since the row before, each evaluated before its step), ``dictionary_error`` and
        ``relative_error`` (distance to the generating dictionary, atoms matched),
        ``support_recovery`` (the share ``2 |S and S*| / (|S| + |S*|)`` of the supports of the last
        batch's codes and of the codes that generated it, atoms matched) and ``moved`` (``|D -
        D_0|_F``). A value that is not known is NaN.
    status, reason : str
        ``ok``; ``rose`` if the loss ended above its start; ``diverged`` if the training stopped at
        values that are not finite or not stable, with the last good dictionary. The reason is empty
        for ``ok``.
    steps : int
        Number of steps, including those before a resume.
    theta : Tensor
        The outer parameter: the dictionary, or dictionary and penalties where these are learned as
        well. The problem at this parameter is ``dataclasses.replace(problem,
        **problem.fields_at(theta))``.
    """

    dictionary: Tensor
    history: pd.DataFrame
    status: str
    reason: str
    steps: int
    theta: Tensor


@dataclass(frozen=True)
class Learner:
    """Dictionary learning: one step of the optimizer per batch, after which every atom is scaled to
    unit norm.

    The estimator receives every batch as a problem: the observations of the batch, and the current
    dictionary.

    Parameters
    ----------
    estimator : GradientEstimator or str
        Gradient estimator, or a spec such as ``"truncated(window=10)"``. One with a seed gets a new
        seed at every step, drawn from the learner's.
    algorithm : Algorithm or str
        Unrolled algorithm, or a spec such as ``"ista(step=0.2)"``.
    depth : int
        Number of unrolled layers, >= 0.
    optimizer, schedule : Optimizer or str, Schedule or str
        Specs such as ``"adam(learning_rate=1e-3)"`` and, for the learning rate by epoch,
        ``"step(every=100, factor=0.1)"``.
    epochs : int
        Passes over the data, >= 0.
    batch : int, optional
        Samples per step (default: all). An epoch's last batch holds the rest.
    seed : int
        Seed of the sample order, which is drawn anew for every epoch.
    record_every : int, optional
        Steps between rows of the history (default: one epoch).
    chunk : int, optional
        Samples that the estimator gets at once (default: the whole batch). The gradients of the
        chunks are averaged: the step is the same up to rounding, and memory is that of one chunk.
        Chunks that fit into the processor's cache also save time. One Lipschitz constant is
        computed per chunk.
    fresh : bool
        Draw new samples for every step instead of taking the problem's own in turn: online
        learning. `fit` needs the dataset to draw them from, a synthetic one or an array on disk
        that may be larger than memory. An epoch has as many steps as without.
    warm_start : bool
        Keep the codes of every sample, and start from them when it comes again: the dictionary has
        moved little since. A checkpoint holds these codes as well.

    Raises
    ------
    InvalidArgument
        For numbers out of range, for a warm start with fresh samples, and, as a SpecError, for a
        spec that cannot be read.
    """

    estimator: GradientEstimator | str = "backprop"
    algorithm: Algorithm | str = "ista"
    depth: int = 50
    optimizer: Optimizer | str = "adam"
    schedule: Schedule | str = "constant"
    epochs: int = 100
    batch: int | None = None
    seed: int = 0
    record_every: int | None = None
    chunk: int | None = None
    fresh: bool = False
    warm_start: bool = False

    def __post_init__(self) -> None:
        for name in ("estimator", "algorithm", "optimizer", "schedule"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, getattr(names, f"make_{name}")(value))
        check_options(self, least={"depth": 0, "epochs": 0})
        if self.warm_start and self.fresh:
            raise InvalidArgument(
                "warm_start=True starts from the codes that a sample had before, but with"
                " fresh=True no sample comes twice: leave out one of the two"
            )

    def describe(self) -> dict[str, Any]:
        """Return the options as plain values, components as specs."""
        return {
            name: names.text(value) if hasattr(value, "name") else value
            for name, value in vars(self).items()
        }

    def fit(
        self,
        problem: DictionaryProblem,
        *,
        folder: str | Path | None = None,
        resume: bool = False,
        save_seconds: float = 30.0,
        progress: ProgressCallback = silent,
        monitor: Monitor | None = None,
        clock: Callable[[], float] = time.perf_counter,
        budget: float | None = None,
        source: Any = None,
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
            Called after every step with the steps done, the total, and the loss and the monitor's
            values of the history's last row as text.
        monitor : callable, optional
            Called with the outer parameter at every row of the history; the mapping it returns is
            added to the row. Its time is not counted.
        clock, budget : callable, float, optional
            Clock of the history's ``seconds``, and the seconds after which no further step is
            taken, including those before a resume. The processor seconds of ``time.process_time``
            do not change when the machine is busy with other work.
        source : Dataset, optional
            Where `fresh` samples are drawn from: a dataset such as
            ``make_dataset("sparse_gaussian")``, or anything with its method `samples`.
        processes : Processes, optional
            The processes that share this training, see `pudle.learning.processes`. Each calls `fit`
            with the same arguments and returns the same training. The steps are those of one
            process, up to rounding. The first one keeps the folder, reports progress and warns. A
            folder can be resumed by another number of processes.

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
            If there are fewer samples than atoms, the loss ends above its start, or the training
            diverges.
        """
        processes = processes or Processes()
        _check_problem(problem, self.fresh)
        if self.fresh is not (source is not None):
            raise InvalidArgument(
                "fresh=True and source=... belong together: give the dataset to draw fresh samples"
                " from"
            )
        if resume and folder is None:
            raise InvalidArgument(
                "resume=True needs the folder that holds the checkpoint: give folder=..."
            )
        run = LearningRun(self, problem, monitor, clock, source, processes)
        kept = None if folder is None or processes.rank else Path(folder)
        refusal = None
        try:
            if kept:
                run.begin(kept, resume=resume)
        except PudleError as error:
            refusal = error
        # All processes refuse alike, and begin alike.
        if refusal := processes.first_of(refusal):
            raise refusal
        if processes.size > 1:
            run.set_state(processes.first_of(run.state()))
        if not run.rows:
            run.record()
        every = self.record_every or run.steps_per_epoch
        # The first checkpoint follows the first step: if the algorithm refuses that step, the
        # folder stays empty.
        saved = -math.inf
        # A training that is resumed after it diverged would only diverge again.
        while run.step < run.total and not run.diverged:
            if budget is not None and processes.first_of(run.seconds >= budget):
                break
            run.advance()
            if run.weight and run.step % every == 0:
                run.record()
            if kept and time.monotonic() - saved >= save_seconds:
                run.save(kept)
                saved = time.monotonic()
            line = ", ".join(
                f"{name} {value:.4g}"
                for name, value in run.rows[-1].items()
                if name == "loss" or name not in HISTORY
            )
            progress(run.step, run.total, line)
        if run.weight:
            run.record()
        if kept:
            run.save(kept)
        history, status, reason = pd.DataFrame(run.rows), "ok", run.diverged
        losses = history.loss.dropna().tolist()
        if reason:
            status = "diverged"
        elif losses and losses[-1] > losses[0]:
            status = "rose"
            reason = (
                f"the loss rose from {losses[0]:.4g} to {losses[-1]:.4g}: the learning rate is"
                " likely too large"
            )
        if reason:
            warnings.warn(
                f"{reason}; the history up to there is kept", LearningWarning, stacklevel=2
            )
        theta = run.theta.detach().clone()
        return Training(problem.dictionary_of(theta), history, status, reason, run.step, theta)


def _check_problem(problem: Any, fresh: bool) -> None:
    """Refuse a problem that no dictionary can be learned from, and warn of too few samples if no
    fresh ones come.
    """
    if not isinstance(problem, DictionaryProblem):
        raise InvalidArgument(
            f"a {type(problem).__name__} has no dictionary to learn: give a SparseCoding or a"
            " ConvolutionalSparseCoding"
        )
    x = problem.observations
    # Entries are compared channel by channel: an image of a single color is constant as well.
    entries = x if x.ndim == 2 else x.flatten(2)
    alike = len(x) > 1 and bool((x == x[:1]).all())
    if alike or (entries.shape[-1] > 1 and bool((entries == entries[..., :1]).all())):
        raise InvalidArgument(
            f"observations are constant (all {'samples' if alike else 'entries of a sample'} are"
            " the same): there is no dictionary to learn"
        )
    # Every position of a filter in an image counts as a sample.
    atoms = problem.code_shape[1]
    samples = math.prod(problem.code_shape) // atoms
    if samples < atoms and not fresh:
        warnings.warn(
            f"{samples} samples are fewer than the {atoms} atoms: atoms that no sample needs stay"
            " where they are; give more samples or fewer atoms",
            LearningWarning,
            stacklevel=3,
        )
