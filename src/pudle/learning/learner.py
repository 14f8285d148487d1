"""Dictionary learning with any estimator, inner algorithm and optimizer: what better gradients buy."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import math
import pickle
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import specs
from ..algorithms import Algorithm
from ..errors import InvalidArgument, UnreadableResult
from ..estimator import GradientEstimator
from ..files import write_atomically
from ..problems import SparseCoding
from ..problems.convolutional import ConvolutionalSparseCoding
from ..registry import make_algorithm, make_estimator, make_optimizer, make_schedule
from ..streams import generator
from ..validation import check_integer
from .matching import match_atoms
from .optimizers import Optimizer, Schedule

#: Problems whose outer parameter is a dictionary.
DictionaryProblem = SparseCoding | ConvolutionalSparseCoding

#: Columns of a history.
HISTORY = (
    "epoch", "step", "seconds", "learning_rate", "loss", "gradient_norm", "dictionary_error", "relative_error",
    "support_recovery", "moved",
)  # fmt: skip

#: What a training leaves in its folder.
CHECKPOINT, HISTORY_FILE, DICTIONARY_FILE = "checkpoint.pt", "history.csv", "dictionary.npy"
SCHEMA = 1

#: Called with the steps done, the steps in all, and the latest row of the history.
ProgressCallback = Callable[[int, int, dict[str, float]], None]
#: Called with the outer parameter, detached: the dictionary, or what the problem's `fields_at` reads the dictionary and the
#: penalties from; gives further columns of the history, always the same ones.
Monitor = Callable[[Tensor], Mapping[str, float]]


class LearningWarning(UserWarning):
    """A training that can go on, or has ended, but probably not where it was meant to."""


class _Diverged(Exception):
    """A step led to what no further step can be computed from."""


@dataclass(frozen=True, eq=False)
class Training:
    """What a training gave.

    Attributes
    ----------
    dictionary : Tensor
        Shape of the problem's dictionary; every atom has unit norm.
    history : DataFrame
        One row at the start and one per `Learner.record_every` steps: ``epoch`` (a fraction where rows are more frequent
        than epochs), ``step``, ``seconds`` (of computing, records left out), ``learning_rate`` of the last step, ``loss``
        and ``gradient_norm`` (means over the steps since the row before, each evaluated before its step; NaN at the
        start), ``dictionary_error`` and ``relative_error`` (distance to the generating dictionary, atoms matched, absolute
        and relative; NaN where there is none), ``support_recovery`` and ``moved`` (``|D - D_0|_F``).

        Support recovery is the share ``2 |S and S*| / (|S| + |S*|)`` of the supports of the last batch's codes and of the
        codes that generated it, atoms matched; NaN where these are not known.
    status : {"ok", "rose", "diverged"}
        ``rose``: the loss ended above where it began. ``diverged``: stopped at something that is not finite or not stable;
        the dictionary is the last good one.
    reason : str
        Why the status is not ``ok``; empty where it is.
    steps : int
        Steps taken in all, those before a resume among them.
    theta : Tensor
        The outer parameter: the dictionary itself, or where penalties are learned as well, both. The problem that codes
        with it is ``dataclasses.replace(problem, **problem.fields_at(theta))``.
    """

    dictionary: Tensor
    history: pd.DataFrame
    status: str
    reason: str
    steps: int
    theta: Tensor


@dataclass(frozen=True)
class Learner:
    """How a dictionary is learned: one step of the optimizer per batch, atoms brought back to unit norm after each.

    Every batch is a problem of its own, of the same class as those that gradients are benchmarked on: the observations of
    the batch and the current dictionary, handed to the estimator with the algorithm and the depth.

    Parameters
    ----------
    estimator : GradientEstimator or str
        Or a spec such as ``"truncated(window=10)"``. One with a seed gets another at every step, drawn from the learner's.
    algorithm : Algorithm or str
        What is unrolled, or a spec such as ``"ista(step=0.2)"``.
    depth : int
        Layers, >= 0.
    optimizer : Optimizer or str
        Or a spec such as ``"adam(learning_rate=1e-3)"``.
    schedule : Schedule or str
        Of the learning rate, epoch by epoch, or a spec such as ``"step(every=100, factor=0.1)"``.
    epochs : int
        Passes over the data, >= 0.
    batch : int, optional
        Samples per step; all of them where not given. An epoch's last batch holds what is left.
    seed : int
        Of the order of the samples, which is drawn anew for every epoch.
    record_every : int, optional
        Steps between rows of the history; one epoch where not given.
    chunk : int, optional
        Samples that the estimator sees at once; the whole batch where not given. The gradients of the chunks are averaged,
        so that the step is the same up to rounding, while memory is that of one chunk, and time is less where a chunk fits
        into the processor's cache. One curvature is computed per chunk.

    Raises
    ------
    InvalidArgument
        For numbers out of range.
    SpecError
        For a spec that cannot be read.
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

    def __post_init__(self) -> None:
        for name, make in (
            ("estimator", make_estimator),
            ("algorithm", make_algorithm),
            ("optimizer", make_optimizer),
            ("schedule", make_schedule),
        ):
            value = getattr(self, name)
            if isinstance(value, str):
                object.__setattr__(self, name, make(value))
        for name, least in (("depth", 0), ("epochs", 0), ("seed", 0), ("batch", 1), ("record_every", 1), ("chunk", 1)):
            value = getattr(self, name)
            if value is not None or name not in ("batch", "record_every", "chunk"):
                check_integer(name, value, least)

    def describe(self) -> dict[str, Any]:
        """Return the options as plain values, components as specs."""
        values = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return {name: specs.text(value) if hasattr(value, "name") else value for name, value in values}

    def fit(
        self,
        problem: DictionaryProblem,
        *,
        folder: str | Path | None = None,
        resume: bool = False,
        save_seconds: float = 30.0,
        progress: ProgressCallback | None = None,
        monitor: Monitor | None = None,
        clock: Callable[[], float] = time.perf_counter,
        budget: float | None = None,
    ) -> Training:
        """Learn a dictionary from a problem's observations, starting at its dictionary.

        Parameters
        ----------
        problem : SparseCoding or ConvolutionalSparseCoding
            Its observations are the data, its dictionary the start; the generating dictionary and codes, where it has them,
            only serve the history.
        folder : path, optional
            Where the checkpoint, the history (CSV) and the dictionary (.npy) are kept up to date; each is written whole or
            not at all.
        resume : bool
            Go on from the checkpoint in `folder`. On the CPU the dictionary ends, bit for bit, where that of a training that
            was never interrupted does. The history has one more row where a budget ended the first part, and no support
            recovery in the row of a divergence in its very first step. One that diverged is over and returned as it ended.
        save_seconds : float
            Seconds between checkpoints; zero for one after every step.
        progress : callable, optional
            Called after every step with the steps done, the steps in all, and the latest row of the history.
        monitor : callable, optional
            Called with the outer parameter at every row of the history; what it returns is added to the row. Its time is not
            counted.
        clock : callable
            What the history's ``seconds`` are read from. ``time.process_time`` counts the seconds of the processor, which
            are the same on a machine that is busy with other things.
        budget : float, optional
            Seconds of that clock after which no further step is taken. Those before a resume are counted.

        Raises
        ------
        InvalidArgument
            For a problem without a dictionary to learn, constant observations, an atom that is zero, a folder that holds
            another training, or a step that the algorithm refuses at the start.
        UnreadableResult
            If the checkpoint is damaged.

        Warns
        -----
        LearningWarning
            If there are fewer samples than atoms, or the loss ends above where it began; if the training diverges, the
            history up to there is returned and kept.
        """
        _check_problem(problem)
        run = _Run(self, problem, monitor, clock)
        target = None if folder is None else Path(folder)
        if resume:
            if target is None:
                raise InvalidArgument("resume=True needs the folder that holds the checkpoint: give folder=...")
            run.restore(target / CHECKPOINT)
        elif target is not None and (target / CHECKPOINT).exists():
            raise InvalidArgument(f"{target} holds a training already: resume it, or give another folder")
        if not run.rows:
            run.record()
        # The first step is saved at once, and not what comes before it: where it is refused, nothing is left behind.
        saved = -math.inf
        total = self.epochs * run.steps_per_epoch

        def over() -> bool:
            return run.step >= total or (budget is not None and run.seconds >= budget)

        # A training that was resumed after it diverged would do so again.
        while not over() and not run.diverged:
            try:
                run.advance()
            except _Diverged as error:
                run.diverged = f"diverged in step {run.step + 1} of {total}: {error}"
                break
            if run.step % (self.record_every or run.steps_per_epoch) == 0 or over():
                run.record()
            if target is not None and (time.monotonic() - saved >= save_seconds or over()):
                run.save(target)
                saved = time.monotonic()
            if progress is not None:
                progress(run.step, total, run.rows[-1])
        if run.diverged and run.weight:
            run.record()
        if target is not None and (run.diverged or saved == -math.inf):
            run.save(target)
        history = run.history()
        status, reason = ("diverged", run.diverged) if run.diverged else _verdict(history)
        if reason:
            warnings.warn(f"{reason}; the history up to there is kept", LearningWarning, stacklevel=2)
        theta = run.theta.detach().clone()
        return Training(problem.dictionary_of(theta), history, status, reason, run.step, theta)


def _check_problem(problem: Any) -> None:
    """Refuse what no dictionary can be learned from, and warn of what hardly can."""
    if not isinstance(problem, DictionaryProblem):
        raise InvalidArgument(
            f"a {type(problem).__name__} has no dictionary to learn: give a SparseCoding or a ConvolutionalSparseCoding"
        )
    x = problem.observations
    # Of an image, channel by channel: one of a single color is constant as well.
    entries = x if x.ndim == 2 else x.flatten(2)
    for what, constant in (
        ("entries", bool((x == x.flatten()[0]).all())),
        ("samples", len(x) > 1 and bool((x == x[:1]).all())),
        ("entries of a sample", entries.shape[-1] > 1 and bool((entries == entries[..., :1]).all())),
    ):
        if constant:
            raise InvalidArgument(
                f"observations are constant (all {what} are the same): there is nothing to learn a dictionary from"
            )
    # Every position of a filter in an image is a sample of its own.
    atoms = problem.code_shape[1]
    samples = math.prod(problem.code_shape) // atoms
    if samples < atoms:
        warnings.warn(
            f"{samples} samples are fewer than the {atoms} atoms: atoms that no sample needs stay where they are; give more "
            f"samples or fewer atoms",
            LearningWarning,
            stacklevel=3,
        )


def _verdict(history: pd.DataFrame) -> tuple[str, str]:
    """Return status and reason of a training that went to its end."""
    losses = history.loss.dropna()
    if len(losses) < 2 or losses.iloc[-1] <= losses.iloc[0]:
        return "ok", ""
    return "rose", (
        f"the loss rose from {losses.iloc[0]:.4g} to {losses.iloc[-1]:.4g}: the learning rate is likely too large"
    )


def atoms_of(dictionary: Tensor) -> Tensor:
    """Return the atoms as columns: a dense dictionary as it is, filters (p, c, k, k) as (c k k, p)."""
    return dictionary if dictionary.ndim == 2 else dictionary.flatten(1).T


def _norms(dictionary: Tensor) -> Tensor:
    """Norm of every atom, in a shape that broadcasts over the dictionary."""
    return torch.linalg.vector_norm(dictionary, dim=_axes(dictionary), keepdim=True)


def _axes(dictionary: Tensor) -> tuple[int, ...]:
    """Axes along an atom."""
    return (0,) if dictionary.ndim == 2 else tuple(range(1, dictionary.ndim))


class _Run:
    """All that changes while a training runs; a checkpoint holds the whole of it."""

    def __init__(
        self,
        learner: Learner,
        problem: DictionaryProblem,
        monitor: Monitor | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.learner, self.problem, self.monitor, self.clock = learner, problem, monitor, clock
        norms = _norms(problem.dictionary)
        if not bool((norms > 0).all()):
            raise InvalidArgument("dictionary has an atom that is zero: it has no direction to learn from; replace it")
        self.start = dataclasses.replace(problem, dictionary=(problem.dictionary / norms).detach()).theta
        self.theta = torch.nn.Parameter(self.start.clone())
        assert isinstance(learner.optimizer, Optimizer) and isinstance(learner.schedule, Schedule)
        self.optimizer = learner.optimizer.make(self.theta)
        self.schedule = learner.schedule.make(self.optimizer, learner.epochs)
        self.samples = len(problem.observations)
        self.batch = min(learner.batch or self.samples, self.samples)
        self.steps_per_epoch = -(-self.samples // self.batch)
        self.step, self.seconds = 0, 0.0
        self.loss_sum = self.norm_sum = 0.0
        self.weight = 0
        self.rate = float("nan")
        self.rows: list[dict[str, float]] = []
        self.order: tuple[int, Tensor] | None = None
        self.last: tuple[Tensor | None, Tensor] | None = None
        self.evaluations = 0
        self.diverged = ""

    @property
    def dictionary(self) -> Tensor:
        """A view of the parameter."""
        return self.problem.dictionary_of(self.theta.detach())

    def rows_of(self, step: int) -> Tensor | None:
        """Return which samples a step uses; None for all.

        The order is a function of seed and epoch alone, so that the position in the stream is the step's number.
        """
        epoch, index = divmod(step, self.steps_per_epoch)
        if self.batch == self.samples:
            return None
        if self.order is None or self.order[0] != epoch:
            order = generator(self.learner.seed, f"learner order {epoch}").permutation(self.samples)
            self.order = (epoch, torch.as_tensor(order, device=self.problem.observations.device))
        return self.order[1][index * self.batch : (index + 1) * self.batch]

    def estimator(self) -> GradientEstimator:
        """Return the estimator of this step: directions drawn once would confine the learning to their span."""
        chosen: Any = self.learner.estimator
        if any(field.name == "seed" for field in dataclasses.fields(chosen)):
            seed = int(generator(self.learner.seed, f"learner estimator {self.step}").integers(2**31))
            return dataclasses.replace(chosen, seed=seed)
        return chosen

    def advance(self) -> None:
        """Take one step.

        Raises
        ------
        _Diverged
            The dictionary is then that before the step.
        """
        begun = self.clock()
        rows, before = self.rows_of(self.step), self.theta.detach().clone()
        x = self.problem.observations
        observations = x if rows is None else x[rows]
        targets = self.problem.targets if rows is None or self.problem.targets is None else self.problem.targets[rows]
        estimator = self.estimator()
        evaluated: list[tuple[float, float, Tensor]] = []

        def closure() -> float:
            loss, gradient, codes = self.evaluate(estimator, observations, targets)
            self.theta.grad = gradient
            evaluated.append((loss, float(torch.linalg.vector_norm(gradient)), codes))
            return loss

        try:
            self.optimizer.step(closure)
            norms = _norms(self.dictionary)
            if not bool((torch.isfinite(norms) & (norms > 0)).all()):
                raise _Diverged("an atom is zero, NaN or infinite after it: lower the learning rate")
        except _Diverged:
            self.theta.data.copy_(before)
            raise
        self.dictionary.div_(norms)
        self.rate = float(self.optimizer.param_groups[0]["lr"])
        self.step += 1
        if self.step % self.steps_per_epoch == 0:
            self.schedule.step()
        # A line search evaluates at several dictionaries; the first is the one the step starts from.
        loss, norm, codes = evaluated[0]
        self.loss_sum += len(observations) * loss
        self.norm_sum += len(observations) * norm
        self.weight += len(observations)
        self.last = (rows, codes)
        self.seconds += self.clock() - begun

    def evaluate(
        self, estimator: GradientEstimator, observations: Tensor, targets: Tensor | None = None
    ) -> tuple[float, Tensor, Tensor]:
        """Return loss, gradient and codes of some observations at the current dictionary.

        For an optimizer that searches, the loss is that at unit atoms ``d / |d|``, and the gradient the one of that
        function, ``(I - u u^T) g / |d|`` for every atom, u being ``d / |d|`` and g the estimate there. For one that is
        `tangent` the gradient is ``(I - d d^T) g``.
        """
        algorithm: Any = self.learner.algorithm
        optimizer: Any = self.learner.optimizer
        theta = self.theta.detach().clone()
        dictionary = self.problem.dictionary_of(theta)
        norms = _norms(dictionary) if optimizer.searches else None
        if norms is not None:
            if not bool((torch.isfinite(norms) & (norms > 0)).all()):
                raise _Diverged("the line search came to an atom that is zero, NaN or infinite: lower the learning rate")
            dictionary /= norms
        loss, gradient, codes = 0.0, torch.zeros_like(theta), []
        size = self.learner.chunk or len(observations)
        for index, chunk in enumerate(observations.split(size)):
            fields = self.problem.fields_at(theta)
            if targets is not None:
                fields["targets"] = targets.split(size)[index]
            try:
                part = dataclasses.replace(
                    self.problem, observations=chunk, generating_dictionary=None, generating_codes=None, **fields
                )
                estimate = estimator.estimate(part, algorithm, self.learner.depth)
            except InvalidArgument as error:
                # At the start it is the user's argument; later it is where the learning has led.
                if not self.evaluations:
                    raise
                raise _Diverged(str(error)) from error
            # Losses are means over samples, so that a chunk counts by its size.
            share = len(chunk) / len(observations)
            with torch.no_grad():
                loss += share * float(part.outer_loss(estimate.codes))
            gradient.add_(estimate.gradient.detach(), alpha=share)
            codes.append(estimate.codes)
        self.evaluations += 1
        if not math.isfinite(loss):
            raise _Diverged("the loss is not finite: lower the learning rate or the algorithm's step")
        if not bool(torch.isfinite(gradient).all()):
            raise _Diverged("the gradient has entries that are NaN or infinite: lower the learning rate")
        in_atoms = self.problem.dictionary_of(gradient)
        if optimizer.searches or optimizer.tangent:
            along = (dictionary * in_atoms).sum(_axes(dictionary), keepdim=True)
            in_atoms -= dictionary * along
        if norms is not None:
            in_atoms /= norms
        return loss, gradient, torch.cat(codes)

    def record(self) -> None:
        """Add a row to the history."""
        nan = float("nan")
        error = relative = support = nan
        truth = self.problem.generating_dictionary
        if truth is not None:
            matching = match_atoms(atoms_of(self.dictionary), atoms_of(truth))
            error, relative = matching.error, matching.relative_error
            true_codes = self.problem.generating_codes
            if true_codes is not None and self.last is not None:
                rows, codes = self.last
                true = (true_codes if rows is None else true_codes[rows]) != 0
                found = codes[:, torch.as_tensor(matching.places, device=codes.device)] != 0
                support = 2 * int((true & found).sum()) / max(int(true.sum()) + int(found.sum()), 1)
        row = {
            "epoch": self.step / self.steps_per_epoch,
            "step": self.step,
            "seconds": self.seconds,
            "learning_rate": self.rate,
            "loss": self.loss_sum / self.weight if self.weight else nan,
            "gradient_norm": self.norm_sum / self.weight if self.weight else nan,
            "dictionary_error": error,
            "relative_error": relative,
            "support_recovery": support,
            "moved": float(torch.linalg.vector_norm(self.dictionary - self.problem.dictionary_of(self.start))),
        }
        if self.monitor is not None:
            row |= self.monitor(self.theta.detach())
        self.rows.append(row)
        self.loss_sum = self.norm_sum = 0.0
        self.weight = 0

    def history(self) -> pd.DataFrame:
        columns = list(dict.fromkeys([*HISTORY, *(name for row in self.rows for name in row)]))
        return pd.DataFrame(self.rows, columns=columns).astype({"step": int})

    @functools.cached_property
    def configuration(self) -> dict[str, Any]:
        """Return all that the steps depend on, so that a checkpoint is never continued as something else."""
        described = self.learner.describe()
        schedule: Any = self.learner.schedule
        if not schedule.needs_epochs:
            del described["epochs"]
        digest = hashlib.sha256()
        for field in dataclasses.fields(self.problem):
            value = getattr(self.problem, field.name)
            if isinstance(value, Tensor):
                digest.update(f"{field.name} {tuple(value.shape)} {value.dtype}".encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
            else:
                described[field.name] = value
        return described | {"data": digest.hexdigest()[:16]}

    def save(self, folder: Path) -> None:
        """Write checkpoint, history and dictionary."""
        content = {
            "schema": SCHEMA,
            "configuration": self.configuration,
            "dictionary": self.theta.detach(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "progress": [self.step, self.seconds, self.loss_sum, self.norm_sum, self.weight, self.rate],
            "history": self.rows,
            "diverged": self.diverged,
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_atomically(folder / CHECKPOINT, buffer.getvalue())
        _write_results(folder, self.history(), self.dictionary)

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint.

        Raises
        ------
        InvalidArgument
            If there is none, or it belongs to a training with other options or data.
        UnreadableResult
            If it is damaged.
        """
        if not path.exists():
            raise InvalidArgument(f"{path.parent} holds no checkpoint to resume: start without resuming first")
        try:
            content = torch.load(path, map_location=self.theta.device, weights_only=True)
            kept = content["configuration"]
            step, self.seconds, self.loss_sum, self.norm_sum, self.weight, self.rate = content["progress"]
            schema = content["schema"]
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UnreadableResult(f"{path} cannot be read ({reason}): delete it and start again") from None
        if schema != SCHEMA:
            raise UnreadableResult(f"{path} was written by another version of the suite: delete it and start again")
        mine = self.configuration
        for name in sorted({*kept, *mine}):
            if kept.get(name) != mine.get(name):
                differs = f"{name}={kept.get(name)!r}, not {mine.get(name)!r}"
                raise InvalidArgument(
                    f"{path.parent} holds a training with {'other data or another start' if name == 'data' else differs}: "
                    f"resume it with the options and data it was started with, or give another folder"
                )
        self.theta.data.copy_(content["dictionary"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.schedule.load_state_dict(content["schedule"])
        self.step, self.rows = step, content["history"]
        self.diverged = content.get("diverged", "")
        # What was refused at the start was refused then.
        self.evaluations = step


def _write_results(folder: Path, history: pd.DataFrame, dictionary: Tensor) -> None:
    write_atomically(folder / HISTORY_FILE, history.to_csv(index=False))
    buffer = io.BytesIO()
    np.save(buffer, dictionary.cpu().numpy())
    write_atomically(folder / DICTIONARY_FILE, buffer.getvalue())
