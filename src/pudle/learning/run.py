"""The steps of a training: batches, updates of the dictionary, the rows of the history, and the
files that it keeps in its folder, from which it continues.
"""

import functools
import hashlib
import io
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.linalg import vector_norm

from .. import names
from ..errors import InvalidArgument
from ..files import lies_at, opened, readable, write_atomically
from ..streams import generator
from ..validation import as_tensor
from .matching import float64_array, match_atoms
from .processes import Processes

#: Function of the outer parameter, detached, that returns further columns of the history, always
#: the same ones. The problem's `fields_at` reads the dictionary, and the penalties where they are
#: learned, from the parameter.
Monitor = Callable[[Tensor], Mapping[str, float]]

CHECKPOINT, HISTORY_FILE, DICTIONARY_FILE = "checkpoint.pt", "history.csv", "dictionary.npy"
#: Version of the checkpoint's content.
SCHEMA = 4
#: Columns of a history.
HISTORY = (
    "epoch step seconds learning_rate loss gradient_norm dictionary_error relative_error"
    " support_recovery moved"
).split()
#: Attributes of a run that a checkpoint holds, besides the parameter, the optimizer and the
#: schedule.
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

    step, seconds, rate, diverged = 0, 0.0, math.nan, ""
    #: Sums over the samples seen since the last row of the history, and their number.
    loss_sum, norm_sum, weight = 0.0, 0.0, 0
    _evaluated = False

    def __post_init__(self) -> None:
        dictionary, learner = self.problem.dictionary, self.learner
        # Axes of one atom, in a dense dictionary (m, p) and in filters (p, c, k, k).
        self.axes = (0,) if dictionary.ndim == 2 else (1, 2, 3)
        norms = vector_norm(dictionary, dim=self.axes, keepdim=True)
        if not norms.all():
            raise InvalidArgument(
                "dictionary has an atom that is zero: it has no direction to learn from; replace it"
            )
        self.start = replace(self.problem, dictionary=(dictionary / norms).detach()).theta
        self.theta = torch.nn.Parameter(self.start.clone())
        self.optimizer = learner.optimizer.make(self.theta)
        self.schedule = learner.schedule.make(self.optimizer, learner.epochs)
        samples = len(self.problem.observations)
        self.batch_size = min(learner.batch or samples, samples)
        self.steps_per_epoch = math.ceil(samples / self.batch_size)
        self.total = learner.epochs * self.steps_per_epoch
        self.rows: list[dict[str, float]] = []
        #: Generating codes and codes of the last batch, as far as this process has them.
        self._last: tuple[Tensor, Tensor] | None = None
        #: The codes that each of the problem's samples starts from; None where all start alike.
        self.codes = (
            learner.algorithm.start(self.problem).codes.clone() if learner.warm_start else None
        )

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
        problem, samples = self.problem, self.batch_size
        rows: Any
        if self.source is None:
            places = self.places(step)
            samples = len(places)
            rows = places[self.processes.part(samples)]
            fields = {name: getattr(problem, name) for name in problem.per_sample}
            fields["initial"] = self.codes
        else:
            rows = self.processes.part(samples)
            random = generator(self.learner.seed, f"learner fresh {step}")
            generating = problem.generating_dictionary
            if generating is not None:
                generating = float64_array(generating)
            observations, codes = self.source.samples(generating, samples, random)
            fields = {"observations": observations, "generating_codes": codes}
        return samples, {
            name: as_tensor(values[rows]).to(problem.observations)
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
            estimator = replace(estimator, seed=int(random.integers(2**31)))
        evaluations = []

        def closure() -> float:
            loss, self.theta.grad, codes = self.evaluate(estimator, batch)
            evaluations.append((loss, float(vector_norm(self.theta.grad)), codes))
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
        self.rate = self.optimizer.param_groups[0]["lr"]
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
                algorithm = replace(learner.algorithm, initial=initial)
                part = replace(problem, **fields | problem.fields_at(theta) | _HIDDEN)
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
        generating, weight = self.problem.generating_dictionary, self.weight or math.nan
        row = dict.fromkeys(HISTORY, math.nan) | {
            "epoch": self.step / self.steps_per_epoch,
            "step": self.step,
            "seconds": self.seconds,
            "learning_rate": self.rate,
            "loss": self.loss_sum / weight,
            "gradient_norm": self.norm_sum / weight,
            "moved": float(vector_norm(self.dictionary - self.problem.dictionary_of(self.start))),
        }
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

    @functools.cached_property
    def configuration(self) -> dict[str, Any]:
        """All that the steps depend on, so that a checkpoint is never continued as another
        training.
        """
        configuration = self.learner.describe()
        if not self.learner.schedule.needs_epochs:
            del configuration["epochs"]
        del configuration["fresh"]
        if source := self.source:
            configuration["source"] = names.text(source) if hasattr(source, "name") else str(source)
        digest = hashlib.sha256()
        for field in fields(self.problem):
            name, value = field.name, getattr(self.problem, field.name)
            if isinstance(value, Tensor):
                digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
                digest.update(value.detach().cpu().numpy().tobytes())
            else:
                configuration[name] = value
        return configuration | {"data": digest.hexdigest()[:16]}

    def save(self, folder: Path) -> None:
        """Write the checkpoint, the history and the dictionary, each whole or not at all."""
        content, dictionary = io.BytesIO(), io.BytesIO()
        torch.save({"configuration": self.configuration, **self.state()}, content)
        np.save(dictionary, self.dictionary.cpu().numpy())
        payload = content.getvalue()
        write_atomically(folder / CHECKPOINT, header(payload) + payload)
        write_atomically(folder / HISTORY_FILE, pd.DataFrame(self.rows).to_csv(index=False))
        write_atomically(folder / DICTIONARY_FILE, dictionary.getvalue())

    def begin(self, folder: Path, *, resume: bool) -> None:
        """Continue from the checkpoint in a folder, or refuse one that holds a checkpoint.

        To continue, one that is missing, damaged, or of other options or data is refused.
        """
        path = folder / CHECKPOINT
        if lies_at(path) is not resume:
            raise InvalidArgument(
                f"{folder} holds no checkpoint to resume: start without resuming first"
                if resume
                else f"{folder} holds a training already: resume it, or give another folder"
            )
        if not resume:
            return
        remedy = "delete it and start again"
        with readable(path, remedy), opened(path) as file:
            first, _, payload = file.read().partition(b"\n")
            if first + b"\n" != header(payload):
                raise OSError("it is damaged or written by another version of the suite")
            content = torch.load(io.BytesIO(payload), self.theta.device, weights_only=True)
            stored, now = dict(content["configuration"]), self.configuration
        for name in sorted(stored | now):
            if stored.get(name) != now.get(name):
                difference = (
                    "other data or another start"
                    if name == "data"
                    else f"{name}={stored.get(name)!r}, not {now.get(name)!r}"
                )
                raise InvalidArgument(
                    f"{folder} holds a training with {difference}: resume it with the options"
                    " and data it was started with, or give another folder"
                )
        with readable(path, remedy):
            self.set_state(content)
        if self.step > self.total:
            raise InvalidArgument(
                f"{folder} holds {self.step} steps, more than the {self.total} of"
                f" epochs={self.learner.epochs}: give more epochs, or another folder"
            )

    def _norms(self, dictionary: Tensor, otherwise: str) -> Tensor:
        """Return the norms of atoms that can be scaled to unit norm, or raise `Diverged`."""
        norms = vector_norm(dictionary, dim=self.axes, keepdim=True)
        if not (norms.isfinite() & (norms > 0)).all():
            raise Diverged(f"{otherwise}: lower the learning rate")
        return norms


def _kinds(values: Mapping[str, Any]) -> dict[str, type]:
    """Return the types of some values, a whole number being a number like others."""
    return {name: float if type(value) is int else type(value) for name, value in values.items()}


def header(payload: bytes) -> bytes:
    """Return the first line of a checkpoint: its version, and a digest that vouches for every field
    of its content.
    """
    return f"pudle checkpoint {SCHEMA} {hashlib.sha256(payload).hexdigest()}\n".encode()


@functools.lru_cache(maxsize=2)
def _sample_order(seed: int, epoch: int, total: int) -> Tensor:
    return torch.as_tensor(generator(seed, f"learner order {epoch}").permutation(total))
