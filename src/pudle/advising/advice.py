"""Which estimator to use: the race, the test of its result on new seeds, and the answer in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..algorithms import Algorithm
from ..data import Dataset
from ..errors import InvalidArgument
from ..estimator import GradientEstimator
from ..measuring.experiment import ProgressCallback, silent
from ..problems import Problem
from ..validation import check_integer, check_positive
from . import timing
from .candidates import Family, candidates
from .race import LEFT, SEEDS, Contender, Race, Wish
from .statistics import CONFIDENCE, are_equal, least_share
from .trials import Trials

#: The estimator whose time others are compared with.
BASE = "backprop"
#: Error that is wished for where nothing is.
ERROR = 0.01
#: Share of the new seeds that may miss a promise before a deeper one is made.
MISSES = 0.05
ATTEMPTS = 3
ROUNDS = 7
#: Errors that a reader may need next, as shares of the one that was asked for.
STRICTER = (1e-2, 1e-4)


@dataclass(frozen=True)
class Tested:
    """A contender on seeds that had no part in its choice.

    Attributes
    ----------
    contender : Contender
    error : float
        The promise: its relative error is at most this.
    kept, seeds : int
        Number of seeds on which it is kept, of all that were tried.
    share : float
        Share of all seeds on which it is kept at least, with 95 % confidence; NaN where there is one problem only.
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
    chosen : Tested or None
        The advised estimator; None where no candidate meets the wish.
    runner_up : Tested or None
        The next best.
    tied : bool
        Whether the times of these two cannot be told apart.
    base : Contender or None
        `backprop` within the same error, with the time that `relative_time` compares with.
    relative_time : float
        Time of the advised estimator over that of `base`, both measured in turns; NaN where `base` does not meet the wish.
    nearest : Contender or None
        What comes nearest, where nothing meets the wish.
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
    chosen: Tested | None
    runner_up: Tested | None = None
    tied: bool = False
    base: Contender | None = None
    relative_time: float = math.nan
    nearest: Contender | None = None
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
            return f"Advice({self.problem}: nothing meets the wish)"
        at = self.chosen
        promise = f"error <= {at.error:.2g} in {at.kept} of {at.seeds} seeds"
        return f"Advice({self.problem}: {at.contender.name}, depth {at.contender.depth}, {promise})"


def advise(
    problem: Problem | Dataset | str,
    algorithm: Algorithm | str = "ista",
    *,
    error: float | None = None,
    seconds: float | None = None,
    memory: float | None = None,
    loss: str | None = None,
    estimators: Sequence[str | GradientEstimator] = (),
    seeds: int = 20,
    most_depth: int = 1600,
    device: str = "cpu",
    progress: ProgressCallback = silent,
) -> Advice:
    """Measure which gradient estimator to use on a problem, and how deep to unroll, and test the answer on new seeds.

    All candidates start on three seeds and small depths. Windows and terms are searched. Those that cannot win any more are
    dropped, the others go on to more seeds, and their depth is chosen so that an upper limit for 95 % of all seeds meets
    the wish. The winner and a runner-up are then tested on `seeds` further draws, and only these count in the promise.

    Parameters
    ----------
    problem : Dataset, str or Problem
        A dataset, or its spec, of which every seed gives a problem; or one problem, for which alone the answer then holds.
    algorithm : Algorithm or str
        The unrolled algorithm.
    error : float, optional
        Largest relative error of the gradient. Without it the most accurate estimator within the time and the memory is
        advised; 0.01 where these are missing as well.
    seconds, memory : float, optional
        Largest time of one gradient, in seconds of one processor thread, and largest memory, in bytes.
    loss : str, optional
        Outer loss; by default the dataset's first.
    estimators : sequence, optional
        Candidates, as specs or objects; a name such as ``truncated`` stands for all its windows. By default all built-in
        deterministic estimators and installed plug-ins.
    seeds : int
        Number of draws that the result is tested on.
    most_depth : int
        Largest number of layers.
    device : {"cpu", "cuda"}
    progress : callable
        Called with the steps done, the steps in all, and one line.

    Returns
    -------
    Advice

    Raises
    ------
    InvalidArgument
        For a wish that is no positive number, and where no seed has a reference to score against.
    """
    for name, value in (("error", error), ("seconds", seconds), ("memory", memory)):
        if value is not None:
            check_positive(name, value)
    check_integer("seeds", seeds, 2)
    check_integer("most_depth", most_depth, 1)
    if error is seconds is memory is None:
        error = ERROR
    wish = Wish(error, seconds, memory)
    trials = Trials.of(problem, algorithm, loss, device)
    with timing.one_thread():
        return _advise(trials, wish, candidates(estimators), seeds, most_depth, progress)


def _advise(
    trials: Trials,
    wish: Wish,
    taking_part: tuple[list[Any], list[Family]],
    seeds: int,
    most_depth: int,
    progress: ProgressCallback,
) -> Advice:
    progress(0, 4, "references of the first seeds")
    race = Race(trials, wish, most_depth)
    _check_scorable(trials, race)
    progress(1, 4, "all candidates on few seeds")
    able = race.start(*taking_part)
    met, others = race.reached(able) if wish.error is not None else race.within_budget(able)
    progress(2, 4, f"{len(met)} candidates on more seeds")
    best = race.halve(met) if trials.seeds is None else met[:LEFT]
    facts: dict[str, Any] = {"problem": trials.text, "wish": wish, "left_out": race.left_out}
    facts |= {"reference": trials.reference(race.seeds[0][0]).status}
    if not best:
        nearest = next(iter(met or others), None)
        return Advice(chosen=None, nearest=nearest, **facts)
    progress(3, 4, f"{' and '.join(each.name for each in best[:LEFT])} on {seeds} new seeds")
    new = range(SEEDS[-1], SEEDS[-1] + seeds) if trials.seeds is None else range(1)
    scorable = trials.scorable(new)
    tested = _tested(race, best, scorable)
    if not tested:
        return Advice(chosen=None, nearest=best[0], unscorable=len(new) - len(scorable), **facts)
    chosen, *rest = tested
    base = _base(race, chosen)
    advice = Advice(chosen=chosen, runner_up=rest[0] if rest else None, unscorable=len(new) - len(scorable), **facts)
    advice = _with_times(race, advice, base)
    progress(4, 4, "done")
    return replace(advice, stricter=_stricter(race, able, chosen))


def _check_scorable(trials: Trials, race: Race) -> None:
    if not all(race.seeds):
        first = trials.reference(0)
        raise InvalidArgument(f"no seed has a reference to score against: {first.status}: {first.reason}")
    statuses = {trials.reference(seed).status for seeds in race.seeds for seed in seeds}
    if len(statuses) > 1:
        raise InvalidArgument(f"references of different kinds ({', '.join(sorted(statuses))}) cannot be ranked together")


def _tested(race: Race, best: list[Contender], seeds: list[int]) -> list[Tested]:
    """Test the contenders on new seeds; one that misses its promise too often is tried deeper, a few times."""
    found = []
    for contender in best[:LEFT]:
        for attempt in range(1, ATTEMPTS + 1):
            promise = race.wish.error or _rounded_up(contender.error)
            errors = race.trials.errors(contender.estimator, seeds, [contender.depth])[:, 0]
            kept = int((errors <= promise).sum())
            if len(seeds) - kept <= MISSES * len(seeds):
                # Every attempt had its chance: the confidence is shared among them.
                alone = race.trials.seeds == 1
                share = math.nan if alone else least_share(kept, len(seeds), 1 - (1 - CONFIDENCE) / attempt)
                found.append(Tested(contender, promise, kept, len(seeds), share, float(np.median(errors))))
                break
            contender = _careful(race, contender)
    return found


def _careful(race: Race, contender: Contender) -> Contender:
    """Return the contender with more layers, or, where the depth is given by the budget, with a weaker promise."""
    if race.wish.error is None:
        return replace(contender, error=1.5 * contender.error)
    return replace(contender, depth=min(math.ceil(1.2 * contender.depth), race.most_depth))


def _rounded_up(value: float) -> float:
    """Return a number rounded up to two digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.2g}")


def _base(race: Race, chosen: Tested) -> Contender | None:
    """Return `BASE` at the smallest depth at which it keeps the same promise on the seeds of the race."""

    seeds = race.seeds[-1]
    for level in race.levels:
        errors = race.trials.errors(BASE, seeds, level)
        for place, depth in enumerate(level):
            if race.limit_of(errors[:, place]) <= chosen.error:
                return Contender(BASE, depth)
    return None


def _with_times(race: Race, advice: Advice, base: Contender | None) -> Advice:
    """Add the times of the advised, the next and the basic estimator, measured in turns on several of the new seeds."""
    assert advice.chosen
    rows = [each.contender for each in (advice.chosen, advice.runner_up) if each] + ([base] if base else [])
    seeds = race.seeds[-1][:3]
    calls = [(each.estimator, each.depth) for each in rows]
    parts = [timing.times(calls, race.trials.problem(seed), race.trials.algorithm, ROUNDS) for seed in seeds]
    seconds = np.concatenate(parts)
    medians = [float(value) for value in np.median(seconds, 0)]
    chosen = replace(advice.chosen, contender=replace(advice.chosen.contender, seconds=medians[0]))
    advice = replace(advice, chosen=chosen)
    if advice.runner_up:
        second = replace(advice.runner_up, contender=replace(advice.runner_up.contender, seconds=medians[1]))
        advice = replace(advice, runner_up=second, tied=are_equal(seconds[:, 0], seconds[:, 1]))
    if base:
        ratio = float(np.median(seconds[:, 0] / seconds[:, -1]))
        advice = replace(advice, base=replace(base, seconds=medians[-1]), relative_time=ratio)
    return advice


def _stricter(race: Race, able: list[Contender], chosen: Tested) -> dict[float, Contender]:
    """Return the cheapest candidate for smaller errors, as far as what was measured shows one."""
    found = {}
    for share in STRICTER:
        goal = chosen.error * share
        met = []
        for level in race.levels:
            for each in able:
                if each.family:
                    continue
                worst = race.trials.errors(each.estimator, race.seeds[0], level).max(0)
                within = np.flatnonzero(worst <= goal)
                if len(within):
                    met.append(replace(each, depth=level[int(within[0])], error=float(worst[within[0]])))
            if met:
                break
        if met:
            found[goal] = race.timed(met)[0]
    return found
