"""The options of a training, declared once: the learner, the experiments and the commands have the
fields of `TrainingOptions`, and the commands' help texts are the first sentences on each field.
"""

import inspect
import re
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

from .. import names
from ..algorithms import Algorithm
from ..errors import InvalidArgument
from ..estimator import GradientEstimator
from ..validation import check_options
from .optimizers import Optimizer, Schedule

#: A field in a numpydoc docstring: its name and the text on it.
_FIELD = re.compile(r"^(\w+) : .*\n((?:    .*(?:\n|$))+)", re.MULTILINE)


class TrainingParts(NamedTuple):
    """The objects that the specs of a training stand for."""

    estimator: GradientEstimator
    algorithm: Algorithm
    optimizer: Optimizer
    schedule: Schedule


@dataclass(frozen=True)
class TrainingOptions:
    """How a dictionary is learned.

    Parameters
    ----------
    estimator : GradientEstimator or str
        Gradient estimator, such as ``truncated(window=20)``. One with a seed gets a new seed at
        every step, drawn from the training's.
    algorithm : Algorithm or str
        Unrolled algorithm, such as ``ista(step=0.2)``.
    depth : int
        Number of unrolled layers, >= 0.
    optimizer : Optimizer or str
        Optimizer: sgd, momentum, adam or lbfgs, such as ``adam(learning_rate=1e-3)``.
    schedule : Schedule or str
        Learning rate by epoch: constant, step or cosine, such as ``step(every=100)``.
    epochs : int
        Passes over the samples, >= 0.
    batch : int, optional
        Samples per step, all of them by default. An epoch's last batch holds the rest.
    seed : int
        Seed of the sample order and, in an experiment, of the dataset. The order is drawn anew for
        every epoch.
    record_every : int, optional
        Steps between rows of the history, an epoch by default.
    chunk : int, optional
        Samples that the estimator gets at once, the whole batch by default. The gradients of the
        chunks are averaged: the step is the same up to rounding, and memory is that of one chunk.
        Chunks that fit into the processor's cache also save time. One Lipschitz constant is
        computed per chunk.
    fresh : bool
        Draw new samples for every step instead of taking the problem's own in turn: online
        learning. They come from the dataset, a synthetic one or an array on disk that may be larger
        than memory. An epoch has as many steps as without.
    warm_start : bool
        Start each sample from the codes that it had before, since the dictionary has moved little
        meanwhile. A checkpoint holds these codes as well.
    """

    estimator: GradientEstimator | str = names.spec_field("estimators", "backprop")
    algorithm: Algorithm | str = names.spec_field("algorithms", "ista")
    depth: int = 50
    optimizer: Optimizer | str = names.spec_field("optimizers", "adam")
    schedule: Schedule | str = names.spec_field("schedules", "constant")
    epochs: int = 100
    batch: int | None = None
    seed: int = 0
    record_every: int | None = None
    chunk: int | None = None
    fresh: bool = False
    warm_start: bool = False

    @cached_property
    def parts(self) -> TrainingParts:
        """The estimator, the algorithm, the optimizer and the schedule, made once; SpecError says
        that a spec names nothing. Imports the users' files that specs name.
        """
        objects: dict[str, Any] = {}
        for option in fields(TrainingOptions):
            declared = names.declared_part(option, getattr(self, option.name))
            if declared is not None:
                objects[option.name] = declared
        return TrainingParts(**objects)

    def algorithm_at(self, step: int) -> Algorithm:
        """Return the algorithm that a step unrolls, the first step being 0."""
        return self.parts.algorithm

    def check(self) -> None:
        """Refuse, by InvalidArgument, numbers out of range and a warm start with fresh samples, and
        by SpecError a spec that cannot be read.
        """
        check_options(self, least={"depth": 0, "epochs": 0})
        if self.warm_start and self.fresh:
            raise InvalidArgument(
                "warm_start=True starts from the codes that a sample had before, but with"
                " fresh=True no sample comes twice: leave out one of the two"
            )
        _ = self.parts

    def describe(self) -> dict[str, str | int | bool | None]:
        """Return the options as plain values, the parts as canonical specs."""
        parts = {name: names.text(part) for name, part in self.parts._asdict().items()}
        values = {field.name: getattr(self, field.name) for field in fields(TrainingOptions)}
        return values | parts


def summaries(cls: type) -> dict[str, str]:
    """Return the first sentence that the docstrings of a class and of its bases have on each of its
    fields, as a help text without the full stop; a class's own sentence counts before that of a
    base.
    """
    sentences: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        for name, text in _FIELD.findall(inspect.cleandoc(base.__doc__ or "")):
            sentence = re.split(r"\.(?:\s|$)", text, maxsplit=1)[0]
            sentences[name] = " ".join(sentence.replace("``", "`").split())
    return sentences
