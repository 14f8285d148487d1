"""What an advice consists of, and its text."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import floor, isnan, nan

from .. import names, text
from ..algorithms import Algorithm
from ..answers import Requirement
from ..estimator import GradientEstimator
from ..paired import SIGNIFICANCE, Ratio
from .search import CONFIDENCE

#: What the errors are measured against.
TRUTH = {"certified": "the exact gradient", "limit": "the gradient at the algorithm's limit"}
#: Least share of all seeds that is not called little.
ENOUGH = 0.8


@dataclass(frozen=True)
class Choice:
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
    kept, seeds : int
        Number of seeds with at most this error, of all that were tested.
    share : float
        Share of all seeds that keep it at least, with 95 % confidence; NaN where there is one
        problem only.
    median : float
        Median of the errors.
    at_bound : bool
        Whether the median is the bound of the references, the error being smaller.
    """

    estimator: GradientEstimator
    algorithm: Algorithm
    depth: int
    error: float
    seconds: float = nan
    memory: float = nan
    kept: int = 0
    seeds: int = 0
    share: float = nan
    median: float = nan
    at_bound: bool = False

    @property
    def name(self) -> str:
        """The spec of the estimator."""
        return names.text(self.estimator)

    @property
    def pair(self) -> str:
        """The specs of estimator and algorithm, as in a sentence."""
        return f"{self.name} with {names.text(self.algorithm)}"

    def __str__(self) -> str:
        return f"{self.pair} at {text.count(self.depth, 'layer')}"

    @property
    def costs(self) -> str:
        """Time and memory, as far as they are known."""
        shown = text.seconds(self.seconds), text.memory(self.memory)
        return " and ".join(cost for cost in shown if cost != text.DASH)

    @property
    def promise(self) -> str:
        """The error, with all its digits, and on which of the tested seeds it is kept."""
        where = "this problem" if isnan(self.share) else f"{self.kept} of {self.seeds} seeds"
        return f"error at most {self.error:.12g} on {where}"


@dataclass(frozen=True, repr=False)
class Advice:
    """Which algorithm and estimator to use on a problem, and what they keep, as an object and in
    words.

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
    left_out : mapping
        Candidates that did not take part, each with the reason.
    training : str
        What short trainings say.
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
    left_out: Mapping[str, str] = field(default_factory=dict)
    training: str = ""

    @property
    def tied(self) -> bool:
        """Tell whether the advised estimator and the next best cannot be told apart in time."""
        return bool(self.next_ratio and self.next_ratio.p_value > SIGNIFICANCE)

    @property
    def relative_time(self) -> float:
        """Time of the advised estimator over that of `base`, NaN where there is none."""
        return float(self.base_ratio.value) if self.base_ratio else nan

    def __repr__(self) -> str:
        return "\n".join(filter(None, self._sentences()))

    def _sentences(self) -> Iterator[str]:
        """Yield the lines: the answer, what else there is, and what it rests on."""
        if tested := self.undecided:
            yield (
                f"The data do not decide: {tested} had an error of at most {tested.error:.12g} on"
                f" the seeds of the choice, but only on {tested.kept} of {tested.seeds} new seeds;"
                " allow a larger error, or more layers."
            )
        elif self.chosen:
            yield from self._choice(self.chosen)
        else:
            yield f"Nothing meets the requirement ({self.requirement}) on {self.problem}."
            if at := self.closest:
                error = f"error {text.number(at.error)} on the seeds that were tried"
                yield f"Closest: {', '.join(filter(None, [str(at), error, at.costs]))}."
        if self.unscorable:
            seeds = text.count(self.unscorable, "seed has", "seeds have")
            yield f"{seeds} no reference to score against; nothing is said about these."
        yield self.training
        if at := self.chosen:
            made = f"pudle.make_algorithm({names.text(at.algorithm)!r}), depth={at.depth}"
            yield f"In Python: pudle.make_estimator({at.name!r}).estimate(problem, {made})"
        yield f"Problem: {self.problem}. References: {self.reference}."

    def _choice(self, chosen: Choice) -> Iterator[str]:
        beside = "; backprop does not reach that error within the depths that were tried"
        if self.base and self.base_ratio:
            times, layers = self.base_ratio, text.count(self.base.depth, "layer")
            beside = f", {times} times the time of {self.base.pair}, which needs {layers} for it"
            beside *= self.base.pair != chosen.pair
        yield (
            f"{chosen}: {chosen.promise} against {TRUTH[self.reference]} (median"
            f"{f' at the {self.reference} bound,' * chosen.at_bound}"
            f" {text.number(chosen.median)}), {chosen.costs}{beside}."
        )
        if second := self.runner_up:
            how = f"{self.next_ratio} times that time"
            how = "its time cannot be told apart from that" if self.tied else how
            yield f"Next: {second}: {second.promise}, {how}."
        if isnan(chosen.share):
            yield "This holds for this one problem: nothing follows for others."
            return
        yield (
            # Rounded down: a share is stated as an error is.
            f"Of all seeds at least {floor(100 * chosen.share)} % keep this error, with"
            f" {CONFIDENCE:.0%} confidence: the {chosen.seeds} seeds had no part in the choice."
        )
        if chosen.share < ENOUGH:
            yield f"{chosen.seeds} seeds decide little: more seeds would say more."
