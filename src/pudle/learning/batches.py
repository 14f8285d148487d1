"""The samples of each step of a training: batches of a fixed set in random order, or fresh draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ..problems import SparseCoding
from ..problems.convolutional import ConvolutionalSparseCoding
from ..streams import generator
from .processes import Processes

#: Problems whose outer parameter is a dictionary.
DictionaryProblem = SparseCoding | ConvolutionalSparseCoding


class Source(Protocol):
    """What fresh samples are drawn from, such as a dataset of synthetic observations."""

    def samples(
        self, generating_dictionary: np.ndarray | None, n_samples: int, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return observations, shape (n_samples, m), and the codes that generated them, shape
        (n_samples, p), if known.
        """
        ...


class Batch(NamedTuple):
    """The samples of one step."""

    #: Number of samples over all processes.
    samples: int
    #: Those that this process treats: observations and, where there are any, targets and generating
    #: codes.
    tensors: Mapping[str, Tensor]


class Batches:
    """The batches of a training: functions of the seed and the step alone, so that a training can
    be resumed.

    Parameters
    ----------
    problem : SparseCoding or ConvolutionalSparseCoding
        Its observations are the fixed set. An epoch takes each once.
    size : int, optional
        Samples per batch (default: all).
    seed : int
        Seed of the order of the samples, and of fresh draws.
    source : Source, optional
        Draws new samples for every step instead of the fixed set. Epochs are as long as with the
        fixed set.
    processes : Processes
        Each treats a part of every batch.
    """

    def __init__(
        self,
        problem: DictionaryProblem,
        size: int | None,
        seed: int,
        source: Source | None,
        processes: Processes,
    ) -> None:
        self.problem, self.seed, self.source, self.processes = problem, seed, source, processes
        self.total = len(problem.observations)
        self.size = min(size or self.total, self.total)
        self.steps_per_epoch = -(-self.total // self.size)
        self._order: tuple[int, Tensor] | None = None
        generating = problem.generating_dictionary
        self._generating = None if generating is None else generating.cpu().double().numpy()

    def of_step(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0."""
        if self.source is not None:
            return self._drawn(step)
        epoch, index = divmod(step, self.steps_per_epoch)
        samples = min(self.size, self.total - index * self.size)
        rows: slice | Tensor = self.processes.part(samples)
        if self.size < self.total:
            if self._order is None or self._order[0] != epoch:
                order = generator(self.seed, f"learner order {epoch}").permutation(self.total)
                self._order = (
                    epoch,
                    torch.as_tensor(order, device=self.problem.observations.device),
                )
            rows = self._order[1][index * self.size :][rows]
        problem = self.problem
        tensors = {
            name: getattr(problem, name) for name in ("observations", "targets", "generating_codes")
        }
        return Batch(
            samples, {name: tensor[rows] for name, tensor in tensors.items() if tensor is not None}
        )

    def _drawn(self, step: int) -> Batch:
        assert self.source is not None
        random, part = generator(self.seed, f"learner fresh {step}"), self.processes.part(self.size)
        observations, codes = self.source.samples(self._generating, self.size, random)
        like = self.problem.observations
        drawn = {"observations": observations} | (
            {} if codes is None else {"generating_codes": codes}
        )
        return Batch(
            self.size,
            {name: torch.as_tensor(array[part]).to(like) for name, array in drawn.items()},
        )
