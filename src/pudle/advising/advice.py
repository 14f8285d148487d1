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
from ..measuring.tasks import one_thread
from ..problems import Problem
from ..validation import check_integer, check_positive
from . import timing
from .candidates import Family, candidates
from .race import LEFT, SEEDS, Contender, Race, Wish, of_each_kind
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
    undecided : Tested or None
        What met the wish on the seeds of the race and missed it on too many new ones: the data do not decide.
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
    undecided: Tested | None = None
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
    algorithm: Algorithm | str | None = None,
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
    algorithm : Algorithm or str, optional
        The unrolled algorithm; by default ISTA, or the own iteration of a `FixedPoint`.
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
    with one_thread():
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
    best = of_each_kind(race.halve(met) if trials.seeds is None else met)[:LEFT]
    facts: dict[str, Any] = {"problem": trials.text, "wish": wish, "left_out": race.left_out}
    facts |= {"reference": trials.reference(race.seeds[0][0]).status}
    if not best:
        return Advice(chosen=None, nearest=race.missed or next(iter(met or others), None), **facts)
    progress(3, 4, f"{' and '.join(each.name for each in best)} on {seeds} new seeds")
    new = range(SEEDS[-1], SEEDS[-1] + seeds) if trials.seeds is None else range(1)
    scorable = trials.scorable(new)
    facts |= {"unscorable": len(new) - len(scorable)}
    tested = _tested(race, best, scorable)
    kept = [each for each in tested if _is_kept(each)]
    if not kept:
        return Advice(chosen=None, nearest=best[0], undecided=tested[0], **facts)
    advice = Advice(chosen=kept[0], runner_up=kept[1] if len(kept) > 1 else None, **facts)
    advice = _with_times(race, advice, _base(race, kept))
    progress(4, 4, "done")
    return replace(advice, stricter=_stricter(race, able, kept[0]))


def _check_scorable(trials: Trials, race: Race) -> None:
    """Refuse a problem without references, with different kinds of them, or with bounds above the error of the wish."""
    if not all(race.seeds):
        first = trials.reference(0)
        raise InvalidArgument(f"no seed has a reference to score against: {first.status}: {first.reason}")
    references = [trials.reference(seed) for seed in race.seeds[-1]]
    if len(statuses := sorted({each.status for each in references})) > 1:
        raise InvalidArgument(f"references of different kinds ({', '.join(statuses)}) are not ranked together: fix the loss")
    bound = max(each.bound for each in references)
    if race.wish.error is not None and race.wish.error < bound:
        raise InvalidArgument(f"error={race.wish.error:g} is below the references' bound {bound:.1e}: allow more than that")


def _tested(race: Race, best: list[Contender], seeds: list[int]) -> list[Tested]:
    """Return the contenders tested on new seeds; one that misses its promise too often is tried more carefully."""
    found = []
    for contender in best:
        for attempt in range(1, ATTEMPTS + 1):
            promise = race.wish.error or _rounded_up(contender.error)
            errors = race.trials.errors(contender.estimator, seeds, [contender.depth])[:, 0]
            kept = int((errors <= promise).sum())
            # Every attempt had its chance: the confidence is shared among them.
            alone = race.trials.seeds is not None
            share = math.nan if alone else least_share(kept, len(seeds), 1 - (1 - CONFIDENCE) / attempt)
            tested = Tested(contender, promise, kept, len(seeds), share, float(np.median(errors)))
            if _is_kept(tested):
                break
            contender = _careful(race, contender)
        found.append(tested)
    return found


def _is_kept(tested: Tested) -> bool:
    return tested.seeds - tested.kept <= MISSES * tested.seeds


def _careful(race: Race, contender: Contender) -> Contender:
    """Return the contender with more layers, or, where the depth is given by the budget, with a weaker promise."""
    if race.wish.error is None:
        return replace(contender, error=1.5 * contender.error)
    return replace(contender, depth=min(math.ceil(1.2 * contender.depth), race.most_depth))


def _rounded_up(value: float) -> float:
    """Return a number rounded up to two digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.2g}")


def _base(race: Race, tested: list[Tested]) -> Contender | None:
    """Return `BASE` at the depth at which it makes the same promise, by the same rule."""
    for each in tested:
        if each.contender.name == BASE:
            return each.contender
    seeds, error = race.seeds[-1], tested[0].error
    for level in race.levels:
        worst = race.trials.errors(BASE, seeds, level).max(0)
        if (within := np.flatnonzero(worst <= error)).size:
            return race.refined(Contender(BASE, level[int(within[0])]), seeds, error, last=True)
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
