"""`pudle.advise`: which estimator to use on a problem, measured."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from ..algorithms import Algorithm
from ..answers import Requirement, answer
from ..data import Dataset
from ..errors import InvalidArgument
from ..estimator import GradientEstimator
from ..measuring.experiment import ProgressCallback, silent
from ..problems import Problem
from ..references.certified import SCORED
from ..threads import single_thread
from ..validation import check_integer, check_positive
from .advice import Advice, Choice
from .candidates import candidates
from .draws import Draws
from .search import MORE, Search
from .training import check_trainable, with_training
from .verification import compared, is_kept, verified

#: Error that is required where nothing is.
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
    requirement = Requirement(error, seconds or math.inf, memory or math.inf)
    named, draws = candidates(estimators), Draws(problem, algorithm, loss, device)
    if train:
        check_trainable(draws)
    with single_thread():
        progress(0, 4, "references of the first seeds")
        search = Search(draws, requirement, most_depth)
        status = check_scorable(search)
        progress(1, 4, "all candidates on few seeds")
        able = search.run(named)
        advice = Advice(draws.text, requirement, reference=status, left_out=search.left_out)
        progress(2, 4, "the best candidates on more seeds")
        best = search.refined(able)
        if not best:
            # What comes closest to the required error, whatever it costs.
            near = answer(search.measured(able, search.few), Requirement(error))
            costs = near.seconds.value, near.memory.value
            closest = [
                Choice(each.estimator, int(near.depth), near.error, *costs)
                for each in able
                if each.name == near.estimator
            ]
            return replace(advice, closest=closest[0] if closest else None)
        names = " and ".join(candidate.name for candidate, _ in best)
        progress(3, 4, f"{names} on {seeds} new seeds")
        tests = enumerate(
            (range(start, start + seeds) for start in itertools.count(MORE, seeds)), 1
        )
        tested = [verified(search, *each, tests) for each in best]
        unscorable = sum(truth.status not in SCORED for _, truth in draws.drawn.values())
        advice = replace(advice, unscorable=unscorable)
        kept = [each for each in tested if is_kept(each)]
        if not kept:
            return replace(advice, undecided=tested[0])
        progress(4, 4, "times in turns")
        advice = replace(advice, **compared(search, kept))
        return with_training(advice, draws, progress) if train else advice


def check_scorable(search: Search) -> str:
    """Return the kind of the references; refuse a problem without any, with different kinds, or
    with bounds above the required error.
    """
    draws, required = search.draws, search.requirement.error
    if not search.few:
        first = draws.reference(0)
        raise InvalidArgument(
            f"no seed has a reference to score against: {first.status}: {first.reason}"
        )
    references = [draws.reference(seed) for seed in search.more]
    status, *others = sorted({each.status for each in references})
    if others:
        raise InvalidArgument(
            f"references of different kinds ({', '.join([status, *others])}) are not ranked"
            " together: fix the loss"
        )
    bound = max(each.bound for each in references)
    if required is not None and required < bound:
        raise InvalidArgument(
            f"error={required:g} is below the references' bound {bound:.1e}: allow more than that"
        )
    return status
