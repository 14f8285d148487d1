"""The steps of a training: batches, updates of the dictionary, and the rows of the history."""

from __future__ import annotations

import functools
import hashlib
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, TypeVar

import msgspec
import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.optim.lr_scheduler import LRScheduler

from .. import names
from ..data import SparseCodingDataset
from ..declared import check_declared, with_values
from ..errors import InvalidArgument
from ..estimator import Estimate, GradientEstimator
from ..problems import Problem
from ..problems.l1 import DictionaryProblem
from ..streams import generator
from ..threads import single_thread, torch_threads
from ..validation import as_tensor
from .matching import float64_array, match_atoms
from .optimizers import Optimizer, Schedule
from .options import TrainingOptions
from .processes import Processes

T = TypeVar("T")
Row = dict[str, int | float]
#: Columns of every history.
HISTORY = (
    "epoch step seconds learning_rate loss gradient_norm dictionary_error relative_error"
    " support_recovery moved"
).split()
#: Fields of a problem that an estimator does not see.
_HIDDEN = dict.fromkeys(("generating_dictionary", "generating_codes"))


class Measure(ABC):
    """Something that is measured at every row of a history, such as the PSNR of held-out images."""

    @abstractmethod
    def at(self, run: LearningRun) -> dict[str, float]:
        """Return numbers of a run at its current step by the names of their columns, always the
        same ones; its time does not count as the training's.

        What is measured follows from the run's `problem`, its `theta`, the problem `learned` there,
        the `options`, and the `last` step, if there was one yet. The run is not changed.
        """


class RecoveryErrors(Measure):
    """The distance to the generating dictionary, and to the supports of the codes that generated
    the last batch, after the atoms are matched; nothing where they are not known.
    """

    def at(self, run: LearningRun) -> dict[str, float]:
        """Return ``dictionary_error`` and ``relative_error``, with ``support_recovery``, over the
        samples of all processes, once a step was taken on samples whose codes are known; nothing
        without a generating dictionary.
        """
        generating = run.problem.generating_dictionary
        if generating is None:
            return {}
        matching = match_atoms(run.dictionary, generating)
        last = run.last
        if last is None or "generating_codes" not in last.batch:
            return matching.errors
        generating_support, support = last.batch["generating_codes"] != 0, last.codes != 0
        matched = support[:, torch.as_tensor(matching.places, device=support.device)]
        common_size = (generating_support & matched).sum()
        counts = torch.stack([common_size, generating_support.sum() + matched.sum()])
        run.processes.sum_in_place(counts)
        common, sizes = counts.tolist()
        return matching.errors | {"support_recovery": 2 * common / max(sizes, 1)}


class Diverged(Exception):
    """A step gave values from which no further step can be computed."""


class Counts(msgspec.Struct):
    """The plain values that change while a training runs."""

    step: int = 0
    seconds: float = 0.0
    #: Learning rate of the last step.
    rate: float = math.nan
    #: Why no further step can be taken; empty as long as one can.
    diverged: str = ""
    #: Sums over the samples seen since the last row of the history, and their number.
    loss_sum: float = 0.0
    norm_sum: float = 0.0
    weight: int = 0
    rows: list[Row] = []


class Evaluation(NamedTuple):
    """Loss of a batch, the estimate of its gradient, what the optimizer receives of that and its
    norm, and the codes of the samples that this process treats.
    """

    loss: float
    estimate: Tensor
    gradient: Tensor
    norm: float
    codes: Tensor


class TakenStep(NamedTuple):
    """A step that was taken: its number, from 0, the parameter and the batch of this process that
    it started from, with the estimate of the gradient and the codes there.
    """

    number: int
    theta: Tensor
    batch: dict[str, Tensor]
    estimate: Tensor
    codes: Tensor


@dataclass(eq=False)
class LearningRun:
    """The state of one training, and the operations that change it.

    Parameters
    ----------
    options : TrainingOptions
    problem : SparseCoding or ConvolutionalSparseCoding
        The problem as the training was given it.
    measures, clock, source, processes
        As in `Learner.fit`.
    """

    options: TrainingOptions
    problem: DictionaryProblem
    measures: Sequence[Measure] = ()
    clock: Callable[[], float] = time.perf_counter
    source: SparseCodingDataset | None = None
    processes: Processes = Processes()

    def __post_init__(self) -> None:
        self.counts = Counts()
        dictionary, options, parts = self.problem.dictionary, self.options, self.options.parts
        # Axes of one atom, in a dense dictionary (m, p) and in filters (p, c, k, k).
        self.axes = (0,) if dictionary.ndim == 2 else (1, 2, 3)
        norms = vector_norm(dictionary, dim=self.axes, keepdim=True)
        if not norms.all():
            raise InvalidArgument(
                "dictionary has an atom that is zero: it has no direction to learn from; replace it"
            )
        self.start = replace(self.problem, dictionary=(dictionary / norms).detach()).theta
        self.theta = torch.nn.Parameter(self.start.clone())
        self.optimizer = check_maker_result(
            parts.optimizer, parts.optimizer.make(self.theta), torch.optim.Optimizer
        )
        self.schedule = check_maker_result(
            parts.schedule, parts.schedule.make(self.optimizer, options.epochs), LRScheduler
        )
        samples = len(self.problem.observations)
        self.batch_size = min(options.batch or samples, samples)
        self.steps_per_epoch = math.ceil(samples / self.batch_size)
        self.total = options.epochs * self.steps_per_epoch
        #: Whether the algorithm ran on a batch without refusing it.
        self.evaluated = False
        #: The last step that was taken here, since the start or a resume.
        self.last: TakenStep | None = None
        #: The codes that each of the problem's samples starts from; None where all start alike.
        self.codes = (
            parts.algorithm.start(self.problem).codes.clone() if options.warm_start else None
        )

    @property
    def dictionary(self) -> Tensor:
        """The current dictionary, a view of the parameter."""
        return self.problem.dictionary_of(self.theta.detach())

    @property
    def learned(self) -> DictionaryProblem:
        """The problem at the current parameter."""
        return replace(self.problem, **self.problem.fields_at(self.theta.detach()))

    def problem_of_batch(self, batch: dict[str, Tensor], theta: Tensor) -> DictionaryProblem:
        """Return the problem of a batch at a parameter, as the estimator sees it: without the
        generating dictionary and codes.
        """
        changes = batch | self.problem.fields_at(theta) | _HIDDEN
        changes.pop("initial", None)
        return replace(self.problem, **changes)

    @functools.cached_property
    def configuration(self) -> dict[str, object]:
        """All that the steps depend on, as plain values by name and a digest of the data, so that a
        checkpoint is never continued as another training.

        The number of epochs is left out unless the schedule depends on it.
        """
        configuration: dict[str, object] = {**self.options.describe()}
        if not self.options.parts.schedule.needs_epochs:
            del configuration["epochs"]
        del configuration["fresh"]
        if self.source:
            configuration["source"] = names.text(self.source)
        digest = hashlib.sha256()
        for field in fields(self.problem):
            name, value = field.name, getattr(self.problem, field.name)
            if isinstance(value, Tensor):
                digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
                digest.update(value.detach().cpu().numpy().tobytes())
            else:
                configuration[name] = value
        return configuration | {"data": digest.hexdigest()[:16]}

    def sample_indices(self, step: int) -> Tensor:
        """Return the indices of the samples that a step takes, over all processes, the first step
        being 0: in their order where a batch is all of them, else in one that is drawn by the seed
        for every epoch.
        """
        epoch, index = divmod(step, self.steps_per_epoch)
        total, first = len(self.problem.observations), index * self.batch_size
        if self.batch_size == total:
            return torch.arange(total)
        return _sample_order(self.options.seed, epoch, total)[first : first + self.batch_size]

    def batch(self, step: int, processes: Processes | None = None) -> tuple[int, dict[str, Tensor]]:
        """Return the number of samples of a step, counted from 0, over all processes, and the
        tensors, by field, of the samples among them that this process, or another, treats.

        These are the observations, the targets, the generating codes and, as ``initial``, the codes
        to start from, as far as there are any. A batch is a function of the seed, the step and the
        codes, so that a training can be resumed; fresh samples come from a stream of the step.
        """
        processes = processes or self.processes
        if self.source is None:
            samples, batch = self._own_samples(step, processes)
        else:
            samples, batch = self._fresh_samples(self.source, step, processes)
        like = self.problem.observations
        return samples, {name: tensor.to(like) for name, tensor in batch.items()}

    def _own_samples(self, step: int, processes: Processes) -> tuple[int, dict[str, Tensor]]:
        """Return what `batch` does, for samples of the problem."""
        places = self.sample_indices(step)
        samples = len(places)
        rows = places[processes.part(samples)]
        batch = {name: tensor[rows] for name, tensor in self.problem.sample_fields().items()}
        if self.codes is not None:
            batch["initial"] = self.codes[rows]
        return samples, batch

    def _fresh_samples(
        self, source: SparseCodingDataset, step: int, processes: Processes
    ) -> tuple[int, dict[str, Tensor]]:
        """Return what `batch` does, for samples that a dataset draws, all of them in each process,
        from a stream of the step.
        """
        samples = self.batch_size
        random = generator(self.options.seed, f"learner fresh {step}")
        generating = self.problem.generating_dictionary
        known = None if generating is None else float64_array(generating)
        observations, codes = source.samples(known, samples, random)
        part = processes.part(samples)
        batch = {"observations": as_tensor(observations[part])}
        if codes is not None:
            batch["generating_codes"] = as_tensor(codes[part])
        return samples, batch

    @torch_threads(1)
    def advance(self) -> None:
        """Take one step, or note in `counts.diverged` why none can be taken; the parameter then
        stays the last good one.

        Changes the parameter, whose atoms have unit norm afterwards, the optimizer, the schedule,
        the codes of a warm start, `counts` and `last`. An estimator with a seed gets another one in
        every step. Torch has one thread meanwhile; estimators take more where their tensors are
        large or come in blocks.
        """
        start, counts = self.clock(), self.counts
        samples, batch = self.batch(counts.step)
        before = self.theta.detach().clone()
        estimator = self.options.parts.estimator
        if hasattr(estimator, "seed"):
            # Random directions that are drawn only once would confine the learning to their span.
            random = generator(self.options.seed, f"learner estimator {counts.step}")
            estimator = with_values(estimator, seed=int(random.integers(2**31)))
        evaluations: list[Evaluation] = []

        def closure() -> float:
            evaluations.append(self.evaluate(estimator, samples, batch))
            self.theta.grad = evaluations[-1].gradient
            return evaluations[-1].loss

        try:
            self.optimizer.step(closure)
            norms = self._norms(self.dictionary, "an atom is zero, NaN or infinite after it")
        except Diverged as error:
            self.theta.data.copy_(before)
            counts.diverged = f"diverged in step {counts.step + 1} of {self.total}: {error}"
            return
        self.dictionary.div_(norms)
        if self.codes is not None:
            # The codes of all processes' samples, because another may treat them next time.
            known = self.codes.new_zeros(samples, *self.codes.shape[1:])
            known[self.processes.part(samples)] = evaluations[-1].codes
            self.processes.sum_in_place(known)
            self.codes[self.sample_indices(counts.step)] = known
        # A line search evaluates at several dictionaries; the first is the one the step starts
        # from.
        first = evaluations[0]
        self.last = TakenStep(counts.step, before, batch, first.estimate, first.codes)
        counts.rate = float(self.optimizer.param_groups[0]["lr"])
        counts.step += 1
        if counts.step % self.steps_per_epoch == 0:
            self.schedule.step()
        counts.loss_sum += samples * first.loss
        counts.norm_sum += samples * first.norm
        counts.weight += samples
        counts.seconds += self.clock() - start

    def evaluate(
        self, estimator: GradientEstimator, samples: int, batch: dict[str, Tensor]
    ) -> Evaluation:
        """Evaluate a batch at the current parameter: its loss, and the gradient that the optimizer
        receives. The parameter is not changed.

        For an optimizer that searches, the loss is evaluated at unit atoms ``u = d / |d|``, and the
        gradient is that of this function, ``(I - u u^T) g / |d|`` for every atom, g being the
        estimate at u. For a `tangent` optimizer the gradient is ``(I - d d^T) g``. `Diverged` is
        raised for numbers that are not finite, and for what an algorithm refuses after the first
        step.
        """
        theta, optimizer = self.theta.detach().clone(), self.options.parts.optimizer
        dictionary = self.problem.dictionary_of(theta)
        if optimizer.searches:
            norms = self._norms(
                dictionary, "the line search came to an atom that is zero, NaN or infinite"
            )
            dictionary /= norms
        loss, estimate, codes = self._estimate(estimator, samples, batch, theta)
        gradient = estimate.clone()
        atoms = self.problem.dictionary_of(gradient)
        if optimizer.searches or optimizer.tangent:
            atoms -= dictionary * (dictionary * atoms).sum(self.axes, keepdim=True)
        if optimizer.searches:
            atoms /= norms
        return Evaluation(loss, estimate, gradient, float(vector_norm(gradient)), codes)

    def _estimate(
        self, estimator: GradientEstimator, samples: int, batch: dict[str, Tensor], theta: Tensor
    ) -> tuple[float, Tensor, Tensor]:
        """Return the mean loss and gradient of a batch over all processes, and the codes of this
        one's samples, or raise `Diverged`.

        What an algorithm or the estimator refuses (InvalidArgument) is raised as it is in the first
        evaluation, where the user's argument is wrong; later the learning has led there.
        """
        n_here, loss, failure = len(batch["observations"]), 0.0, ""
        gradient = torch.zeros_like(theta)
        codes = [theta.new_zeros(0, *self.problem.code_shape[1:])]
        size = self.options.chunk or max(n_here, 1)
        try:
            for first in range(0, n_here, size):
                algorithm = self.options.algorithm_at(self.counts.step)
                chunk = {name: tensor[first : first + size] for name, tensor in batch.items()}
                if (initial := chunk.get("initial")) is not None:
                    algorithm = replace(algorithm, initial=initial)
                part = self.problem_of_batch(chunk, theta)
                estimate = estimator.estimate(part, algorithm, self.options.depth)
                check_estimate(estimator, estimate, theta)
                # Losses are means over samples, so that a chunk counts by its size.
                share = len(estimate.codes) / samples
                with torch.no_grad():
                    loss += share * float(part.outer_loss(estimate.codes))
                gradient.add_(estimate.gradient.detach(), alpha=share)
                codes.append(estimate.codes)
        except InvalidArgument as error:
            # At the start the user's argument is wrong; later the learning has led to such a
            # dictionary.
            if not self.evaluated:
                raise
            failure = str(error)
        self.evaluated = True
        return self._sum_over_processes(loss, gradient, failure), gradient, torch.cat(codes)

    def _sum_over_processes(self, loss: float, gradient: Tensor, failure: str) -> float:
        """Sum loss and gradient over the processes, the gradient in place, and return the loss.

        All processes raise `Diverged` in a step that fails for one, or whose loss or gradient is
        not finite.
        """
        sums = torch.tensor([loss, bool(failure)], dtype=torch.float64, device=gradient.device)
        self.processes.sum_in_place(sums, gradient)
        total, failures = map(float, sums)
        if failures:
            failure = failure or "it failed for the samples of another process"
        elif not math.isfinite(total):
            failure = "the loss is not finite: lower the learning rate or the algorithm's step"
        elif not gradient.isfinite().all():
            failure = "the gradient has entries that are NaN or infinite: lower the learning rate"
        if failure:
            raise Diverged(failure)
        return total

    @single_thread()
    def record(self) -> None:
        """Add a row to the history, with means over the samples since the row before, whose sums
        begin anew; the errors of recovery and the measures of the run add their columns.

        Torch and dense products have one thread meanwhile: a history has the same bits with any
        number of them.
        """
        counts, weight = self.counts, self.counts.weight or math.nan
        row = dict.fromkeys(HISTORY, math.nan) | {
            "epoch": counts.step / self.steps_per_epoch,
            "step": counts.step,
            "seconds": counts.seconds,
            "learning_rate": counts.rate,
            "loss": counts.loss_sum / weight,
            "gradient_norm": counts.norm_sum / weight,
            "moved": float(vector_norm(self.dictionary - self.problem.dictionary_of(self.start))),
        }
        for measure in (RecoveryErrors(), *self.measures):
            row |= measure.at(self)
        counts.rows.append(row)
        counts.loss_sum, counts.norm_sum, counts.weight = 0.0, 0.0, 0

    def _norms(self, dictionary: Tensor, otherwise: str) -> Tensor:
        """Return the norms of the atoms; `Diverged`, whose text begins with `otherwise`, says that
        one is zero or not finite.
        """
        norms: Tensor = vector_norm(dictionary, dim=self.axes, keepdim=True)
        if not (norms.isfinite() & (norms > 0)).all():
            raise Diverged(f"{otherwise}: lower the learning rate")
        return norms


def check_maker_result(maker: Optimizer | Schedule, result: object, kind: type[T]) -> T:
    """Return the optimizer or the schedule that a user's class made for torch, or refuse, by
    InvalidArgument, another type than `kind`.
    """
    if not isinstance(result, kind):
        raise InvalidArgument(
            f"{names.text(maker)}: its method make returns {type(result).__name__}: return a"
            f" {kind.__module__}.{kind.__qualname__}"
        )
    return result


def check_estimate(estimator: GradientEstimator, estimate: object, theta: Tensor) -> None:
    """Refuse, by InvalidArgument, what a user's estimator returns in place of an estimate whose
    gradient has theta's shape.
    """
    if not isinstance(estimate, Estimate):
        raise InvalidArgument(
            f"{names.text(estimator)} returns {type(estimate).__name__}: return a pudle.Estimate"
        )
    gradient: object = estimate.gradient
    if not isinstance(gradient, Tensor) or gradient.shape != theta.shape:
        shape = tuple(gradient.shape) if isinstance(gradient, Tensor) else type(gradient).__name__
        raise InvalidArgument(
            f"{names.text(estimator)} gives a gradient of shape {shape}: give one of shape"
            f" {tuple(theta.shape)}, that of the dictionary"
        )


def check_learnable(problem: Problem) -> DictionaryProblem:
    """Return the problem, or refuse, by InvalidArgument, one that no dictionary can be learned
    from: of another kind, or whose samples are all the same.
    """
    if not isinstance(problem, DictionaryProblem):
        raise InvalidArgument(
            f"a {type(problem).__name__} has no dictionary to learn: give a SparseCoding or a"
            " ConvolutionalSparseCoding"
        )
    check_declared(type(problem))
    x = problem.observations
    if len(x) > 1 and (x == x[:1]).all():
        raise InvalidArgument(
            "observations are constant (all samples are the same): there is no dictionary to learn"
        )
    return problem


@functools.lru_cache(maxsize=2)
def _sample_order(seed: int, epoch: int, total: int) -> Tensor:
    return torch.as_tensor(generator(seed, f"learner order {epoch}").permutation(total))
