"""The records of an advice: the wish, the contenders, what was tested, and the answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .candidates import Family
from .trials import label


@dataclass(frozen=True)
class Wish:
    """What an estimate may err, take (seconds) and need (bytes); None where anything is allowed."""

    error: float | None = None
    seconds: float | None = None
    memory: float | None = None


@dataclass(frozen=True)
class Contender:
    """An estimator at a depth, with what is known of it: `error` is the largest one, or a limit for
    nearly all seeds.
    """

    estimator: Any
    depth: int
    family: Family | None = None
    number: int = 0
    error: float = math.inf
    seconds: float = math.nan
    memory: float = math.nan

    @property
    def name(self) -> str:
        """The spec of the estimator."""
        return label(self.estimator)

    @property
    def kind(self) -> str:
        """The name of the family, or of the estimator that has none."""
        return self.family.name if self.family else self.name


@dataclass(frozen=True)
class Promise:
    """A contender on seeds that had no part in its choice.

    Attributes
    ----------
    contender : Contender
    error : float
        The promise: its relative error is at most this.
    kept, seeds : int
        Number of seeds on which it is kept, of all that were tried.
    share : float
        Share of all seeds on which it is kept at least, with 95 % confidence; NaN where there is
        one problem only.
    median : float
        Median of the errors.
    """

    contender: Contender
    error: float
    kept: int
    seeds: int
    share: float
    median: float


@dataclass(frozen=True)
class Advice:
    """Which estimator to use on a problem, with what it promises; its text is the answer in words.

    Attributes
    ----------
    problem : str
        The problem, the algorithm and the loss.
    wish : Wish
        What was asked for.
    chosen : Promise or None
        The advised estimator; None where no candidate meets the wish.
    runner_up : Promise or None
        The next best.
    tied : bool
        Whether the times of these two cannot be told apart.
    base : Contender or None
        `backprop` within the same error, with the time that `relative_time` compares with.
    relative_time : float
        Time of the advised estimator over that of `base`, both measured in turns; NaN where `base`
        does not meet the wish.
    nearest : Contender or None
        What comes nearest, where nothing meets the wish.
    undecided : Promise or None
        What met the wish on the seeds of the race and missed it on too many new ones: the data do
        not decide.
    stricter : mapping
        The cheapest estimator for smaller errors, as far as some reach them.
    reference : str
        Kind of the references: ``certified``, or ``limit``.
    unscorable : int
        Number of seeds that were left aside because their reference cannot be scored against.
    left_out : mapping
        Candidates that did not take part, each with the reason.
    """

    problem: str
    wish: Wish
    chosen: Promise | None
    runner_up: Promise | None = None
    tied: bool = False
    base: Contender | None = None
    relative_time: float = math.nan
    nearest: Contender | None = None
    undecided: Promise | None = None
    stricter: Mapping[float, Contender] = field(default_factory=dict)
    reference: str = "certified"
    unscorable: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)
    training: str = ""

    def __str__(self) -> str:
        from .words import sentences

        return "\n".join(sentences(self))

    def __repr__(self) -> str:
        if self.chosen is None:
            return (
                f"Advice({self.problem}:"
                f" {'the data do not decide' if self.undecided else 'nothing meets the wish'})"
            )
        at = self.chosen
        promise = f"error <= {at.error:.2g} in {at.kept} of {at.seeds} seeds"
        return f"Advice({self.problem}: {at.contender.name}, depth {at.contender.depth}, {promise})"
