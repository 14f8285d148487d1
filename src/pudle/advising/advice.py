"""Records of an advice: the tested choices, how their times compare, and what was left out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan
from typing import Self

from ..answers import Answer, Requirement
from ..paired import SIGNIFICANCE, Ratio
from .candidates import Candidate
from .sentences import name_choice, write_advice

#: Share of the new seeds that may exceed the stated error.
MISSES = 0.05
#: Share of another estimator's decrease of the loss that counts as nearly as much.
NEARLY = 0.95


@dataclass(frozen=True)
class Choice(Candidate):
    """An estimator with an algorithm at a depth, tested on seeds that had no part in its choice.

    Attributes
    ----------
    estimator : GradientEstimator
    algorithm : Algorithm
    depth : int
    error : float
        What the relative error is stated to be at most, or that on the few seeds where it was not
        tested.
    seconds, memory : float
        Time and memory of one gradient, NaN where they are not known.
    seeds_within_error, seeds : int
        Number of seeds with at most this error, of all that were tested.
    share : float
        Lower limit, with 95 % confidence, on the share of all seeds with at most this error; NaN
        where there is one problem only.
    median : float
        Median of the errors.
    at_bound : bool
        Whether the median is the bound of the references, the error being smaller.
    """

    depth: int
    error: float
    seconds: float = nan
    memory: float = nan
    seeds_within_error: int = 0
    seeds: int = 0
    share: float = nan
    median: float = nan
    at_bound: bool = False

    @classmethod
    def from_answer(cls, candidate: Candidate, answer: Answer) -> Self:
        """Make the choice of a candidate at the depth of an answer, with the error, the time and
        the memory there; it is tested on no seeds.
        """
        return cls(
            candidate.estimator,
            candidate.algorithm,
            int(answer.depth),
            answer.error,
            answer.seconds.value,
            answer.memory.value,
        )

    @property
    def passes_test(self) -> bool:
        """Whether nearly all seeds that it was tested on have at most the stated error."""
        return self.seeds - self.seeds_within_error <= MISSES * self.seeds

    def __str__(self) -> str:
        return name_choice(self)


@dataclass(frozen=True)
class ShortTraining:
    """A training of a few steps with a choice.

    Attributes
    ----------
    choice : Choice
    initial_loss : float
        Outer loss before the first step; NaN if the training diverged in that step.
    decrease : float
        By how much the steps lower it: negative where it rose, NaN where the training diverged.
    seconds : float
        Processor time of the steps that were taken.
    divergence : str
        In which step the training diverged, and how; empty if it did not.
    """

    choice: Choice
    initial_loss: float
    decrease: float
    seconds: float
    divergence: str = ""

    @property
    def lowers_loss(self) -> bool:
        """Whether all steps could be taken, and the loss is lower after them."""
        return self.decrease > 0


@dataclass(frozen=True)
class TrainingCheck:
    """Short trainings with the advised estimator and with another one, from the same dictionary.

    Attributes
    ----------
    steps : int
        Number of steps of each training.
    optimizer : str
        Spec of their optimizer.
    trainings : tuple of ShortTraining
        That of the advised estimator first; empty where there was nothing to train.
    reason : str
        Why there was nothing to train; empty otherwise.
    """

    steps: int
    optimizer: str
    trainings: tuple[ShortTraining, ...] = ()
    reason: str = ""

    @property
    def confirms_advice(self) -> bool:
        """Whether the advised estimator lowers the loss, and by `NEARLY` as much as the other one
        or more, or the other one does not lower it; there must be trainings.
        """
        advised, rival = self.trainings
        nearly_as_much = advised.decrease >= NEARLY * rival.decrease
        return advised.lowers_loss and (nearly_as_much or not rival.lowers_loss)


@dataclass(frozen=True, repr=False)
class Advice:
    """Which algorithm and estimator to use on a problem, and which error they keep, as an object;
    printed, it is the advice in words.

    Attributes
    ----------
    problem : str
        The problem and the loss, and the algorithm that was given.
    requirement : Requirement
        What was asked for.
    chosen : Choice or None
        The advised estimator; None where no candidate meets the requirement.
    runner_up : Choice or None
        The next best.
    next_ratio : Ratio or None
        Its time over that of the advised estimator, both measured in turns.
    base : Choice or None
        `backprop` within the same error; None where it does not meet the requirement.
    base_ratio : Ratio or None
        Time of the advised estimator over that of `base`, both measured in turns.
    closest : Choice or None
        What comes closest, where nothing meets the requirement.
    undecided : Choice or None
        What met the requirement on the first seeds and missed it on too many new ones: the data do
        not decide.
    reference : str
        Kind of the references: ``certified``, or ``limit``.
    unscorable : int
        Number of seeds that were left aside because their reference cannot be scored against.
    why_unscorable : str
        Why one of these cannot.
    left_out : mapping
        Candidates that did not take part, each with the reason.
    training : TrainingCheck or None
        Short trainings with the advised estimator and another; None where none were asked for.
    """

    problem: str
    requirement: Requirement
    chosen: Choice | None = None
    runner_up: Choice | None = None
    next_ratio: Ratio | None = None
    base: Choice | None = None
    base_ratio: Ratio | None = None
    closest: Choice | None = None
    undecided: Choice | None = None
    reference: str = "certified"
    unscorable: int = 0
    why_unscorable: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)
    training: TrainingCheck | None = None

    @property
    def is_tied(self) -> bool:
        """Tell whether the advised estimator and the next best cannot be told apart in time."""
        return bool(self.next_ratio and self.next_ratio.p_value > SIGNIFICANCE)

    def __repr__(self) -> str:
        return write_advice(self)
