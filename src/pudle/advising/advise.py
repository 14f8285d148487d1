"""`pudle.advise`: which algorithm and estimator to use on a problem, measured, and the advice in
words.

What the search chose is tested on seeds that had no part in it, and timed beside `backprop`.
"""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, Context
from itertools import count, islice
from math import ceil, floor, inf, isnan, nan
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Self

from .. import names, text
from ..algorithms import Algorithm
from ..answers import Answer, Requirement, answer
from ..data import Dataset
from ..errors import InvalidArgument
from ..estimator import GradientEstimator
from ..learning.learner import Learner, LearningWarning
from ..measuring.experiment import ProgressCallback, silent
from ..paired import SIGNIFICANCE, Ratio
from ..problems import Problem
from ..problems.l1 import DictionaryProblem
from ..threads import single_thread
from ..validation import check_integer, check_positive
from .search import MORE, Candidate, Search, candidates
from .tolerance import CONFIDENCE, least_share, tolerance_limit

#: Error that is required where nothing is.
ERROR = 0.01
#: The estimator whose time others are compared with.
BASE = "backprop"
#: Share of the new seeds that may exceed an error; otherwise a more careful choice is tested, so
#: many times at most.
MISSES, ATTEMPTS = 0.05, 3
#: A more careful choice has so many times the layers or, where none is required, so many times the
#: error.
DEEPER, WEAKER = 1.2, 1.5
#: Rounds of the times that are compared at the end.
ROUNDS = 20
#: Steps of a short training, and its optimizer.
STEPS, OPTIMIZER = 20, "adam(learning_rate=0.01)"
#: What the errors are measured against.
TRUTH = {"certified": "the exact gradient", "limit": "the gradient at the algorithm's limit"}
#: Least share of all seeds that is not called little.
ENOUGH = 0.8


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

    depth: int
    error: float
    seconds: float = nan
    memory: float = nan
    kept: int = 0
    seeds: int = 0
    share: float = nan
    median: float = nan
    at_bound: bool = False

    @classmethod
    def of(cls, candidate: Candidate, found: Answer) -> Self:
        """Return the choice of a candidate by an answer."""
        costs = found.seconds.value, found.memory.value
        return cls(candidate.estimator, candidate.algorithm, int(found.depth), found.error, *costs)

    @property
    def is_kept(self) -> bool:
        """Whether nearly all seeds that it was tested on have at most the stated error."""
        return self.seeds - self.kept <= MISSES * self.seeds

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
        elif chosen := self.chosen:
            beside = "; no measurement of backprop reaches that error"
            if (base := self.base) and (ratio := self.base_ratio):
                times, layers = ratio.shown, text.count(base.depth, "layer")
                beside = f", {times} times the time of {base.pair}, which needs {layers} for it"
                beside *= base.pair != chosen.pair
            yield (
                f"{chosen}: {chosen.promise} against {TRUTH[self.reference]} (median"
                f"{f' at the {self.reference} bound,' * chosen.at_bound}"
                f" {text.number(chosen.median)}), {chosen.costs}{beside}."
            )
            if (second := self.runner_up) and (ratio := self.next_ratio):
                how = f"{ratio.shown} times that time"
                how = "its time cannot be told apart from that" if self.tied else how
                yield f"Next: {second}: {second.promise}, {how}."
            if isnan(chosen.share):
                yield "This holds for this one problem: nothing follows for others."
            else:
                # Rounded down: a share is stated as an error is.
                share = floor(100 * chosen.share)
                yield (
                    f"Of all seeds at least {share} % keep this error, with {CONFIDENCE:.0%}"
                    f" confidence: the {chosen.seeds} seeds had no part in the choice."
                )
            if chosen.share < ENOUGH:
                yield f"{chosen.seeds} seeds decide little: more seeds would say more."
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


def advise(
    problem: Problem | Dataset | str,
    algorithm: Algorithm | str | None = None,
    *,
    error: float | None = None,
    seconds: float | None = None,
    memory: float | None = None,
    loss: str | None = None,
    estimators: Sequence[str | GradientEstimator] = (),
    seeds: int = 20,
    most_depth: int = 1600,
    train: bool = False,
    device: str = "cpu",
    progress: ProgressCallback = silent,
) -> Advice:
    """Measure which algorithm and gradient estimator to use on a problem, and how many iterations,
    and test the answer on new seeds.

    A short run on three seeds measures all candidates, windows and terms included, and goes deeper
    for those that can still win. The best ones of it, by the engine that answers in reports, are
    measured on more seeds; their depth is chosen so that it suffices for 95 % of all seeds. The
    winner and a runner-up are then tested on `seeds` further draws, and only these count in what is
    said about all seeds.

    Parameters
    ----------
    problem : Dataset, str or Problem
        A dataset, or its spec, of which every seed gives a problem; or one problem, for which alone
        the answer then holds. Where all seeds of a dataset draw the same, they count as one
        problem.
    algorithm : Algorithm or str, optional
        The inner algorithm; by default all that are registered and lead to the problem's minimizer
        take part.
    error : float, optional
        Largest relative error of the gradient. Without it the most accurate estimator within the
        time and the memory is advised; 0.01 where these are missing as well.
    seconds, memory : float, optional
        Largest time of one gradient, in seconds of one processor thread, and largest memory, in
        bytes.
    loss : str, optional
        Outer loss; by default the dataset's first.
    estimators : sequence, optional
        Candidates, as specs or objects; a name such as ``truncated`` stands for all its windows. By
        default all built-in deterministic estimators and installed plug-ins.
    seeds : int
        Number of draws that the result is tested on.
    most_depth : int
        Largest number of layers.
    train : bool
        Whether to train shortly with the advised estimator and the runner-up, to see whether the
        advice holds.
    device : {"cpu", "cuda"}
    progress : callable
        Called with the steps done, the steps in all, and one line.

    Returns
    -------
    Advice

    Raises
    ------
    InvalidArgument
        For a requirement that is no positive number, where no seed has a reference to score
        against, and for a training without a dictionary to learn.
    """
    for name, value in {"error": error, "seconds": seconds, "memory": memory}.items():
        if value is not None:
            check_positive(name, value)
    check_integer("seeds", seeds, 2)
    check_integer("most_depth", most_depth, 1)
    if error is seconds is memory is None:
        error = ERROR
    requirement = Requirement(error, seconds or inf, memory or inf)
    with TemporaryDirectory(prefix="pudle-") as folder, single_thread():
        search = Search(problem, algorithm, loss, device, requirement, most_depth, Path(folder))
        start = search.case.make_problem(0)
        if train and not isinstance(start, DictionaryProblem):
            raise InvalidArgument(
                f"a training learns a dictionary, and {search.problem} has none: ask for none"
            )
        progress(0, 4, "references of the first seeds")
        search.check_scorable()
        progress(1, 4, "all candidates on few seeds")
        able = search.run(candidates(search.algorithms, estimators))
        used = {each.estimator.name for each in able.values()}
        left_out = {name: why for name, why in search.failures.items() if name not in used}
        advice = Advice(
            search.problem,
            requirement,
            reference=search.status,
            left_out=left_out,
            training="No training: there is no advice to try." * train,
        )
        progress(2, 4, "the best candidates on more seeds")
        best = search.refined(able)
        if not best:
            # What comes closest to the required error, whatever it costs.
            near = answer(able, Requirement(error))
            at = Choice.of(able[near.source], near) if near.source else None
            return replace(advice, closest=at)
        progress(3, 4, f"the best of these on {seeds} new seeds")
        fresh = count(MORE)
        tested = [verified(search, each, found, fresh, seeds) for each, found in best.items()]
        advice = replace(advice, unscorable=search.unscorable)
        kept = [each for each in tested if each.is_kept]
        if not kept:
            return replace(advice, undecided=tested[0])
        progress(4, 4, "times in turns")
        advice = compared(advice, search, kept)
        if isinstance(start, DictionaryProblem) and train:
            advice = with_training(advice, start)
        return advice


def verified(
    search: Search, candidate: Candidate, found: Answer, fresh: Iterator[int], number: int
) -> Choice:
    """Test a candidate at the depth of an answer on a number of `fresh` seeds; where too many of
    them exceed the error, a more careful choice is tested on others.

    Each test has half of the risk that is left, so that all statements hold together with the
    confidence.
    """
    required, risk = search.requirement.error, 1 - CONFIDENCE
    chosen = Choice.of(candidate, found)
    depth, stated = chosen.depth, chosen.error
    if required is None and found.source:
        # Errors that spread over many decades make a limit useless: new seeds test what is stated.
        limit = tolerance_limit(found.source.errors.values[0])
        stated = rounded_up(min(max(limit, stated), 3 * stated))
    for _ in range(ATTEMPTS):
        seeds, risk = [*search.references(islice(fresh, number))], risk / 2
        measured = search.measure({chosen: [depth]}, seeds)[chosen].errors
        # What has no error keeps nothing.
        errors = [*measured.values.ravel().tolist(), *[inf] * (len(seeds) - measured.values.size)]
        kept = sum(error <= stated for error in errors)
        tested = replace(
            chosen,
            depth=depth,
            error=stated,
            kept=kept,
            seeds=len(seeds),
            share=nan if search.single else least_share(kept, len(seeds), 1 - risk),
            median=median(errors),
            at_bound=2 * int(measured.at_floor.sum()) > len(seeds),
        )
        if tested.is_kept:
            break
        if required is None:
            stated = rounded_up(WEAKER * stated)
        else:
            depth = min(ceil(DEEPER * depth), search.most_depth)
    return tested


def rounded_up(value: float) -> float:
    """Return a number rounded up to two digits."""
    return float(Context(prec=2, rounding=ROUND_CEILING).create_decimal(f"{value:.12g}"))


def compared(advice: Advice, search: Search, tested: Sequence[Choice]) -> Advice:
    """Return the advice with one or two choices and `BASE`, whose times are measured in turns.

    The first is chosen; but where both reach the required error, the faster one.
    """
    first, *others = tested
    base = [each for each in tested if each.name == BASE][:1]
    if not base:
        at = Candidate(names.make_estimator(BASE), search.algorithms[0])
        if depth := search.needed(at, first.error, ceil(first.depth / 4)):
            base = [Choice(at.estimator, at.algorithm, depth, first.error)]
    calls = {each: [each.depth] for each in (*tested, *base)}
    rows = search.measure(calls, search.seeds[:1], search.costs, ROUNDS)
    timed = {
        each: replace(each, seconds=end.seconds.value, memory=end.memory.value)
        for each, row in rows.items()
        for end in row.points
    }

    def ratio(one: Choice, other: Choice) -> Ratio:
        return rows[one].rounds.ratio(one.depth, rows[other].rounds, other.depth)

    for second in others:
        # The search timed them in fewer rounds.
        faster = ratio(second, first)
        if search.requirement.error and faster.value < 1 and faster.p_value <= SIGNIFICANCE:
            first, second = second, first
        advice = replace(advice, runner_up=timed[second], next_ratio=ratio(second, first))
    for each in base:
        advice = replace(advice, base=timed[each], base_ratio=ratio(first, each))
    return replace(advice, chosen=timed[first])


def with_training(advice: Advice, start: DictionaryProblem) -> Advice:
    """Return the advice with a sentence about two short trainings, of the advised estimator and of
    the runner-up.

    Both take the same number of steps from the same dictionary with the same optimizer. What counts
    is by how much the outer loss has fallen, and the processor time.
    """
    pair = [each for each in (advice.chosen, advice.runner_up or advice.base) if each]
    if len(pair) < 2:
        return replace(advice, training="No training: there is no runner-up to compare with.")
    falls, results = [], []
    for each in pair:
        # A loss is evaluated before its step.
        learner = Learner(each.estimator, each.algorithm, each.depth, OPTIMIZER, epochs=STEPS + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LearningWarning)
            history = learner.fit(start, clock=time.process_time).history
        losses, took = history["loss"].dropna(), text.seconds(history["seconds"].iloc[-1])
        falls.append(losses.iloc[0] - losses.iloc[-1])
        results.append(f"from {losses.iloc[0]:.4g} by {falls[-1]:.3g} with {each} in {took}")
    # Nearly as much is as good.
    holds = falls[0] >= 0.95 * falls[1] and falls[0] > 0
    verdict = "holds" if holds else "does not hold in this training: prefer the other"
    fell = f"{STEPS} steps of {OPTIMIZER}: the loss fell {', and '.join(results)}"
    return replace(advice, training=f"{fell}: the advice {verdict}.")
