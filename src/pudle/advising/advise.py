"""`pudle.advise`: which estimator to use on a problem, measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..algorithms import Algorithm
from ..data import Dataset
from ..errors import InvalidArgument
from ..estimator import GradientEstimator
from ..measuring.experiment import ProgressCallback, silent
from ..problems import Problem
from ..threads import single_thread
from ..validation import check_integer, check_positive
from .budget import within_budget
from .candidates import Family, candidates
from .practice import check_trainable, practiced
from .promises import Promises
from .race import LEFT, Race, of_each_kind
from .records import Advice, Wish
from .trials import Trials

#: Error that is wished for where nothing is.
ERROR = 0.01


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
    """Measure which gradient estimator to use on a problem, and how deep to unroll, and test the
    answer on new seeds.

    All candidates start on three seeds and small depths. Windows and terms are searched. Those that
    cannot win any more are dropped, the others go on to more seeds, and their depth is chosen so
    that an upper limit for 95 % of all seeds meets the wish. The winner and a runner-up are then
    tested on `seeds` further draws, and only these count in the promise.

    Parameters
    ----------
    problem : Dataset, str or Problem
        A dataset, or its spec, of which every seed gives a problem; or one problem, for which alone
        the answer then holds. Where all seeds of a dataset draw the same, they count as one
        problem.
    algorithm : Algorithm or str, optional
        The unrolled algorithm; by default ISTA, or the own iteration of a `FixedPoint`.
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
        For a wish that is no positive number, where no seed has a reference to score against, and
        for a training without a dictionary to learn.
    """
    for name, value in (("error", error), ("seconds", seconds), ("memory", memory)):
        if value is not None:
            check_positive(name, value)
    check_integer("seeds", seeds, 2)
    check_integer("most_depth", most_depth, 1)
    if error is seconds is memory is None:
        error = ERROR
    wish = Wish(error, seconds, memory)
    trials, taking_part = Trials.of(problem, algorithm, loss, device), candidates(estimators)
    if train:
        check_trainable(trials)
    with single_thread():
        advice = _advise(trials, wish, taking_part, seeds, most_depth, progress)
        return practiced(advice, trials, progress) if train and advice.chosen else advice


def _advise(
    trials: Trials,
    wish: Wish,
    taking_part: tuple[list[Any], list[Family]],
    seeds: int,
    most_depth: int,
    progress: ProgressCallback,
) -> Advice:
    progress(0, 4, "references of the first seeds")
    if trials.repeat:
        trials = replace(trials, text=f"{trials.text}, the same problem for every seed", seeds=1)
    race = Race(trials, wish, most_depth)
    _check_scorable(trials, race)
    progress(1, 4, "all candidates on few seeds")
    able = race.start(*taking_part)
    met, others = race.reached(able) if wish.error is not None else within_budget(race, able)
    progress(2, 4, f"{len(met)} candidates on more seeds")
    best = of_each_kind(race.halve(met) if trials.seeds is None else met)[:LEFT]
    facts: dict[str, Any] = {"problem": trials.text, "wish": wish, "left_out": race.left_out}
    facts |= {"reference": trials.reference(race.seeds[0][0]).status}
    if not best:
        return Advice(chosen=None, nearest=race.missed or next(iter(met or others), None), **facts)
    progress(3, 4, f"{' and '.join(each.name for each in best)} on {seeds} new seeds")
    promises = Promises(race, seeds)
    tested = [promises.test(each) for each in best]
    facts |= {"unscorable": promises.unscorable}
    kept = [each for each in tested if promises.is_kept(each)]
    if not kept:
        return Advice(chosen=None, nearest=best[0], undecided=tested[0], **facts)
    progress(4, 4, "times in turns")
    return Advice(
        **facts, **promises.compared(kept), stricter=promises.stricter(able, kept[0].error)
    )


def _check_scorable(trials: Trials, race: Race) -> None:
    """Refuse a problem without references, with different kinds of them, or with bounds above the
    error of the wish.
    """
    if not all(race.seeds):
        first = trials.reference(0)
        raise InvalidArgument(
            f"no seed has a reference to score against: {first.status}: {first.reason}"
        )
    references = [trials.reference(seed) for seed in race.seeds[-1]]
    if len(statuses := sorted({each.status for each in references})) > 1:
        raise InvalidArgument(
            f"references of different kinds ({', '.join(statuses)}) are not ranked together: fix"
            " the loss"
        )
    bound = max(each.bound for each in references)
    if race.wish.error is not None and race.wish.error < bound:
        raise InvalidArgument(
            f"error={race.wish.error:g} is below the references' bound {bound:.1e}: allow more than"
            " that"
        )
