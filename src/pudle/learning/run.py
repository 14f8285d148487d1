"""The steps of a training: batches, updates of the dictionary, and the rows of the history."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..streams import generator
from .matching import match_atoms
from .processes import Processes

#: Function of the outer parameter, detached, that returns further columns of the history, always
#: the same ones. The problem's `fields_at` reads the dictionary, and the penalties where they are
#: learned, from the parameter.
Monitor = Callable[[Tensor], Mapping[str, float]]

#: Columns of a history.
HISTORY = (
    "epoch",
    "step",
    "seconds",
    "learning_rate",
    "loss",
    "gradient_norm",
    "dictionary_error",
    "relative_error",
    "support_recovery",
    "moved",
)
#: Attributes of a run that a checkpoint holds, besides the parameter, the optimizer and the
#: schedule, with their types.
_STATE: dict[str, Any] = {"step": int, "weight": int, "rows": list[dict[str, Any]], "diverged": str}
_STATE |= dict.fromkeys(("seconds", "rate", "loss_sum", "norm_sum"), float)
#: Fields of a problem that an estimator does not see.
_HIDDEN = dict.fromkeys(("generating_dictionary", "generating_codes"))


class Diverged(Exception):
    """A step gave values from which no further step can be computed."""


@dataclass(eq=False)
class LearningRun:
    """The state of one training, and the operations that change it.

    Parameters
    ----------
    learner : Learner
    problem : SparseCoding or ConvolutionalSparseCoding
    monitor, clock, source, processes
        As in `Learner.fit`.
    """

    learner: Any
    problem: Any
    monitor: Monitor | None = None
    clock: Callable[[], float] = time.perf_counter
    source: Any = None
    processes: Processes = Processes()

    def __post_init__(self) -> None:
        dictionary, learner = self.problem.dictionary, self.learner
        # Axes of one atom, in a dense dictionary (m, p) and in filters (p, c, k, k).
        self.axes = (0,) if dictionary.ndim == 2 else (1, 2, 3)
        norms = torch.linalg.vector_norm(dictionary, dim=self.axes, keepdim=True)
        if not norms.all():
            raise InvalidArgument(
                "dictionary has an atom that is zero: it has no direction to learn from; replace it"
            )
        unit = dataclasses.replace(self.problem, dictionary=(dictionary / norms).detach())
        self.start = unit.theta
        self.theta = torch.nn.Parameter(self.start.clone())
        self.optimizer = learner.optimizer.make(self.theta)
        self.schedule = learner.schedule.make(self.optimizer, learner.epochs)
        samples = len(self.problem.observations)
        self.batch_size = min(learner.batch or samples, samples)
        self.steps_per_epoch = math.ceil(samples / self.batch_size)
        self.total = learner.epochs * self.steps_per_epoch
        self.step, self.seconds, self.rate, self.diverged = 0, 0.0, math.nan, ""
        # Sums over the samples seen since the last row of the history, and their number.
        self.loss_sum, self.norm_sum, self.weight = 0.0, 0.0, 0
        self.rows: list[dict[str, float]] = []
        self._evaluated = False
        #: Generating codes and codes of the last batch, as far as this process has them.
        self._last: tuple[Tensor, Tensor] | None = None
        #: The codes that each of the problem's samples starts from; None where all start alike.
        self.codes: Tensor | None = None
        if learner.warm_start:
            self.codes = learner.algorithm.start(self.problem).codes.clone()

    @property
    def dictionary(self) -> Tensor:
        """The current dictionary, a view of the parameter."""
        return self.problem.dictionary_of(self.theta.detach())

    def places(self, step: int) -> Tensor:
        """Return which of the problem's samples a step takes, the first step being 0."""
        epoch, index = divmod(step, self.steps_per_epoch)
        total, first = len(self.problem.observations), index * self.batch_size
        if self.batch_size == total:
            return torch.arange(total)
        return _sample_order(self.learner.seed, epoch, total)[first : first + self.batch_size]

    def batch(self, step: int) -> tuple[int, dict[str, Tensor]]:
        """Return the number of samples of a step, counted from 0, over all processes, and of those
        that this process treats the observations, the targets, the generating codes and the codes
        to start from, as far as there are any.

        A batch is a function of the seed, the step and the codes, so that a training can be
        resumed.
        """
        problem, seed, samples = self.problem, self.learner.seed, self.batch_size
        rows: Any
        if self.source is None:
            places = self.places(step)
            samples = len(places)
            rows = places[self.processes.part(samples)]
            fields = {name: getattr(problem, name) for name in problem.per_sample}
            fields["initial"] = self.codes
        else:
            rows = self.processes.part(samples)
            random = generator(seed, f"learner fresh {step}")
            generating = problem.generating_dictionary
            if generating is not None:
                generating = generating.cpu().double().numpy()
            observations, codes = self.source.samples(generating, samples, random)
            fields = {"observations": observations, "generating_codes": codes}
        return samples, {
            name: torch.as_tensor(values[rows]).to(problem.observations)
            for name, values in fields.items()
            if values is not None
        }

    def advance(self) -> None:
        """Take one step, or set `diverged` to the reason why it failed; the parameter then stays
        the last good one.
        """
        begun = self.clock()
        samples, tensors = batch = self.batch(self.step)
        before = self.theta.detach().clone()
        estimator = self.learner.estimator
        if hasattr(estimator, "seed"):
            # Random directions that are drawn only once would confine the learning to their span.
            random = generator(self.learner.seed, f"learner estimator {self.step}")
            estimator = dataclasses.replace(estimator, seed=int(random.integers(2**31)))
        evaluations = []

        def closure() -> float:
            loss, self.theta.grad, codes = self.evaluate(estimator, batch)
            evaluations.append((loss, float(torch.linalg.vector_norm(self.theta.grad)), codes))
            return loss

        try:
            self.optimizer.step(closure)
            norms = self._norms(self.dictionary, "an atom is zero, NaN or infinite after it")
        except Diverged as error:
            self.theta.data.copy_(before)
            self.diverged = f"diverged in step {self.step + 1} of {self.total}: {error}"
            return
        self.dictionary.div_(norms)
        if self.codes is not None:
            # The codes of all processes' samples, because another may treat them next time.
            known = self.codes.new_zeros(samples, *self.codes.shape[1:])
            known[self.processes.part(samples)] = evaluations[-1][2]
            self.processes.add(known)
            self.codes[self.places(self.step)] = known
        self.rate = float(self.optimizer.param_groups[0]["lr"])
        self.step += 1
        if self.step % self.steps_per_epoch == 0:
            self.schedule.step()
        # A line search evaluates at several dictionaries; the first is the one the step starts
        # from.
        loss, norm, codes = evaluations[0]
        self.loss_sum += samples * loss
        self.norm_sum += samples * norm
        self.weight += samples
        if "generating_codes" in tensors:
            self._last = tensors["generating_codes"], codes
        self.seconds += self.clock() - begun

    def evaluate(self, estimator: Any, batch: Any) -> tuple[float, Tensor, Tensor]:
        """Return loss and gradient of a batch at the current parameter, and the codes of the
        samples of this process.

        For an optimizer that searches, the loss is evaluated at unit atoms ``u = d / |d|``, and the
        gradient is that of this function, ``(I - u u^T) g / |d|`` for every atom, g being the
        estimate at u. For a `tangent` optimizer the gradient is ``(I - d d^T) g``.
        """
        theta, problem, learner = self.theta.detach().clone(), self.problem, self.learner
        dictionary, searches = problem.dictionary_of(theta), learner.optimizer.searches
        if searches:
            norms = self._norms(
                dictionary, "the line search came to an atom that is zero, NaN or infinite"
            )
            dictionary /= norms
        samples, tensors = batch
        own, loss, failure = len(tensors["observations"]), 0.0, ""
        gradient = torch.zeros_like(theta)
        codes = [theta.new_zeros(0, *problem.code_shape[1:])]
        size = learner.chunk or max(own, 1)
        try:
            for first in range(0, own, size):
                fields = {name: tensor[first : first + size] for name, tensor in tensors.items()}
                initial = fields.pop("initial", learner.algorithm.initial)
                algorithm = dataclasses.replace(learner.algorithm, initial=initial)
                part = dataclasses.replace(problem, **fields | problem.fields_at(theta) | _HIDDEN)
                estimate = estimator.estimate(part, algorithm, learner.depth)
                # Losses are means over samples, so that a chunk counts by its size.
                share = len(estimate.codes) / samples
                with torch.no_grad():
                    loss += share * float(part.outer_loss(estimate.codes))
                gradient.add_(estimate.gradient.detach(), alpha=share)
                codes.append(estimate.codes)
        except InvalidArgument as error:
            # At the start the user's argument is wrong; later the learning has led to such a
            # dictionary.
            if not self._evaluated:
                raise
            failure = str(error)
        self._evaluated = True
        # In a step that fails for one process, all must stop.
        sums = torch.tensor([loss, bool(failure)], dtype=torch.float64, device=theta.device)
        self.processes.add(sums, gradient)
        loss, failures = sums.tolist()
        if failures:
            failure = failure or "it failed for the samples of another process"
        elif not math.isfinite(loss):
            failure = "the loss is not finite: lower the learning rate or the algorithm's step"
        elif not gradient.isfinite().all():
            failure = "the gradient has entries that are NaN or infinite: lower the learning rate"
        if failure:
            raise Diverged(failure)
        atoms = problem.dictionary_of(gradient)
        if searches or learner.optimizer.tangent:
            atoms -= dictionary * (dictionary * atoms).sum(self.axes, keepdim=True)
        if searches:
            atoms /= norms
        return loss, gradient, torch.cat(codes)

    def record(self) -> None:
        """Add a row to the history, with means over the steps since the last one."""
        generating = self.problem.generating_dictionary
        moved = self.dictionary - self.problem.dictionary_of(self.start)
        row = dict.fromkeys(HISTORY, math.nan) | {
            "epoch": self.step / self.steps_per_epoch,
            "step": self.step,
            "seconds": self.seconds,
            "learning_rate": self.rate,
            "moved": float(torch.linalg.vector_norm(moved)),
        }
        if self.weight:
            row["loss"] = self.loss_sum / self.weight
            row["gradient_norm"] = self.norm_sum / self.weight
        if generating is not None:
            matching = match_atoms(self.dictionary, generating)
            row |= {"dictionary_error": matching.error, "relative_error": matching.relative_error}
            if self._last:
                own, codes = (each != 0 for each in self._last)
                learned = codes[:, torch.as_tensor(matching.places, device=codes.device)]
                counts = torch.stack([(own & learned).sum(), own.sum() + learned.sum()])
                self.processes.add(counts)
                common, sizes = counts.tolist()
                row["support_recovery"] = 2 * common / max(sizes, 1)
        if self.monitor:
            row |= self.monitor(self.theta.detach())
        self.rows.append(row)
        self.loss_sum, self.norm_sum, self.weight = 0.0, 0.0, 0

    def state(self) -> dict[str, Any]:
        """Return all that changes while a training runs, as tensors and plain values."""
        codes = {} if self.codes is None else {"codes": self.codes.to_sparse()}
        return (
            {name: getattr(self, name) for name in _STATE}
            | codes
            | {
                "theta": self.theta.detach(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
            }
        )

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned; whatever else it is raises an error."""
        vars(self).update({name: msgspec.convert(state[name], _STATE[name]) for name in _STATE})
        own = self.state()
        groups = (each["optimizer"]["param_groups"] for each in (state, own))
        for theirs, mine in ((state["schedule"], own["schedule"]), *zip(*groups, strict=True)):
            if _kinds(theirs) != _kinds(mine):
                raise ValueError("it is of another optimizer or schedule")
        self.theta.data.copy_(state["theta"])
        if self.codes is not None:
            self.codes.copy_(state["codes"].to_dense())
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        sizes = {
            value.numel()
            for kept in self.optimizer.state.values()
            for value in kept.values()
            if isinstance(value, Tensor)
        }
        if sizes - {1, self.theta.numel()}:
            raise ValueError("it is of an optimizer of another parameter")
        self._evaluated = self.step > 0

    def _norms(self, dictionary: Tensor, otherwise: str) -> Tensor:
        """Return the norms of atoms that can be scaled to unit norm, or raise `Diverged`."""
        norms = torch.linalg.vector_norm(dictionary, dim=self.axes, keepdim=True)
        if not (norms.isfinite() & (norms > 0)).all():
            raise Diverged(f"{otherwise}: lower the learning rate")
        return norms


def _kinds(values: Mapping[str, Any]) -> dict[str, type]:
    """Return the types of some values, a whole number being a number like others."""
    return {name: float if type(value) is int else type(value) for name, value in values.items()}


@functools.lru_cache(maxsize=2)
def _sample_order(seed: int, epoch: int, total: int) -> Tensor:
    return torch.as_tensor(generator(seed, f"learner order {epoch}").permutation(total))
