"""`pudle.advise`: which algorithm and estimator to use on a problem, measured.

What the search chose is tested on seeds that had no part in it, and timed beside `backprop`.
"""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, Context
from itertools import count, islice
from math import ceil, inf, nan
from statistics import median

from .. import names
from ..algorithms import Algorithm
from ..answers import Answer, Measured, Requirement, answer
from ..data import Dataset
from ..errors import InvalidArgument
from ..estimator import GradientEstimator
from ..files import temporary_folder
from ..learning.learner import Learner, LearningWarning
from ..measuring.experiment import ProgressCallback, silent
from ..paired import SIGNIFICANCE, Ratio
from ..problems import Problem
from ..problems.l1 import DictionaryProblem
from ..threads import single_thread
from ..validation import check_integer, check_positive
from .advice import Advice, Choice, ShortTraining, TrainingCheck
from .candidates import Candidate, list_candidates
from .search import SEEDS_OF_REFINEMENT, Search
from .tolerance import CONFIDENCE, least_share, tolerance_limit

#: Error that is required where nothing is.
ERROR = 0.01
#: The estimator whose time others are compared with.
BASE = "backprop"
#: Where too many of the new seeds exceed an error, a more careful choice is tested, so many times
#: at most.
ATTEMPTS = 3
#: A more careful choice has so many times the layers or, where none is required, so many times the
#: error.
DEEPER, WEAKER = 1.2, 1.5
#: Rounds of the times that are compared at the end.
ROUNDS = 20
#: Steps of a short training, and its optimizer.
STEPS, OPTIMIZER = 20, "adam(learning_rate=0.01)"


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

    All runs in this process, with products in one thread; files lie in a temporary folder, which is
    removed.

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
    with temporary_folder() as folder, single_thread():
        search = Search(problem, algorithm, loss, device, requirement, most_depth, folder)
        start = search.case.make_problem(0)
        if train and not isinstance(start, DictionaryProblem):
            raise InvalidArgument(
                f"a training learns a dictionary, and {search.problem} has none: ask for none"
            )
        progress(0, 4, "references of the first seeds")
        search.check_scorable()
        progress(1, 4, "all candidates on few seeds")
        measured = search.run(list_candidates(search.algorithms, estimators))
        advice = Advice(
            search.problem,
            requirement,
            reference=search.status,
            left_out=_left_out(search, measured),
            training=_no_training("there is no advice to try") if train else None,
        )
        progress(2, 4, "the best candidates on more seeds")
        best = search.refine(measured)
        if not best:
            return replace(advice, closest=_closest(measured, error))
        progress(3, 4, f"the best of these on {seeds} new seeds")
        fresh = count(SEEDS_OF_REFINEMENT)
        tested = [
            verify_choice(search, candidate, at, fresh, seeds) for candidate, at in best.items()
        ]
        advice = replace(advice, unscorable=search.unscorable, why_unscorable=search.why_unscorable)
        passing = [choice for choice in tested if choice.passes_test]
        if not passing:
            return replace(advice, undecided=tested[0])
        progress(4, 4, "times in turns")
        advice = compare_times(advice, search, passing)
        if isinstance(start, DictionaryProblem) and train:
            advice = replace(advice, training=train_shortly(advice, start))
        return advice


def _left_out(search: Search, measured: Mapping[Measured, Candidate]) -> dict[str, str]:
    """Return the reasons of the estimators of which nothing was measured, by name."""
    measured_names = {candidate.estimator.name for candidate in measured.values()}
    return {name: why for name, why in search.failures.items() if name not in measured_names}


def _closest(measured: Mapping[Measured, Candidate], error: float | None) -> Choice | None:
    """Choose the candidate that comes closest to an error, whatever it costs; None if none was
    measured.
    """
    nearest = answer(measured, Requirement(error))
    if not nearest.source:
        return None
    return Choice.from_answer(measured[nearest.source], nearest)


def verify_choice(
    search: Search, candidate: Candidate, chosen_at: Answer, fresh: Iterator[int], n_seeds: int
) -> Choice:
    """Test a candidate at the depth of an answer on a number of `fresh` seeds, which are taken from
    the iterator; where too many of them exceed the error, a more careful choice is tested on
    others.

    At most `ATTEMPTS` are tested, and the last one is returned, whether it passes or not. Each test
    has half of the risk that is left, so that all statements hold together with the confidence.
    """
    required, risk = search.requirement.error, 1 - CONFIDENCE
    chosen = Choice.from_answer(candidate, chosen_at)
    depth, stated = chosen.depth, chosen.error
    if required is None and chosen_at.source:
        # Errors that spread over many decades make a limit useless: new seeds test what is stated.
        limit = tolerance_limit(chosen_at.source.errors.values[0])
        stated = round_up(min(max(limit, stated), 3 * stated))
    for _ in range(ATTEMPTS):
        seeds, risk = [*search.references(islice(fresh, n_seeds))], risk / 2
        measured = search.measure({chosen: [depth]}, seeds)[chosen].errors
        # A seed without an error does not have the stated one.
        errors = [*measured.values.ravel().tolist(), *[inf] * (len(seeds) - measured.values.size)]
        n_within = sum(error <= stated for error in errors)
        tested = replace(
            chosen,
            depth=depth,
            error=stated,
            seeds_within_error=n_within,
            seeds=len(seeds),
            share=nan if search.single else least_share(n_within, len(seeds), 1 - risk),
            median=median(errors),
            at_bound=2 * int(measured.at_floor.sum()) > len(seeds),
        )
        if tested.passes_test:
            break
        if required is None:
            stated = round_up(WEAKER * stated)
        else:
            depth = min(ceil(DEEPER * depth), search.most_depth)
    return tested


def round_up(value: float) -> float:
    """Return a number rounded up to two digits."""
    return float(Context(prec=2, rounding=ROUND_CEILING).create_decimal(f"{value:.12g}"))


def compare_times(advice: Advice, search: Search, tested: Sequence[Choice]) -> Advice:
    """Measure one or two choices and `BASE` in turns, and return the advice with them, their costs,
    and ratios of their times.

    The first is chosen; but where an error is required and the second is faster beyond doubt, that
    one.
    """
    first, *next_best = tested
    base = _base_choice(search, tested)
    timed = [*tested, base] if base else [*tested]
    rows = search.measure(
        {choice: [choice.depth] for choice in timed}, search.seeds[:1], search.costs, ROUNDS
    )
    with_costs = {
        choice: replace(choice, seconds=point.seconds.value, memory=point.memory.value)
        for choice, row in rows.items()
        for point in row.points
    }

    def ratio(choice: Choice, beside: Choice) -> Ratio:
        return rows[choice].rounds.ratio(choice.depth, rows[beside].rounds, beside.depth)

    for second in next_best:
        # The search timed them in fewer rounds.
        faster = ratio(second, first)
        if search.requirement.error and faster.value < 1 and faster.p_value <= SIGNIFICANCE:
            first, second = second, first
        advice = replace(advice, runner_up=with_costs[second], next_ratio=ratio(second, first))
    if base is not None:
        advice = replace(advice, base=with_costs[base], base_ratio=ratio(first, base))
    return replace(advice, chosen=with_costs[first])


def _base_choice(search: Search, tested: Sequence[Choice]) -> Choice | None:
    """Return `BASE` among the tested choices, or else measure at which depth of the first algorithm
    it has the same error as the first choice; None where it has not.
    """
    for choice in tested:
        if choice.name == BASE:
            return choice
    base, first = Candidate(names.make_estimator(BASE), search.algorithms[0]), tested[0]
    depth = search.sufficient_depth(base, first.error, ceil(first.depth / 4))
    return Choice(base.estimator, base.algorithm, depth, first.error) if depth else None


def _no_training(reason: str) -> TrainingCheck:
    return TrainingCheck(STEPS, OPTIMIZER, reason=reason)


def train_shortly(advice: Advice, start: DictionaryProblem) -> TrainingCheck:
    """Train shortly with the advised estimator and with the runner-up, or `BASE` without one, and
    return both trainings.

    Both take the same number of steps from the same dictionary with the same optimizer. What counts
    is by how much the outer loss has fallen, and the processor time. With nothing to compare,
    nothing is trained, and the reason says so. Neither the advice nor `start` is changed.
    """
    rival = advice.runner_up or advice.base
    if not (advice.chosen and rival):
        return _no_training("there is no runner-up to compare with")
    trainings = tuple(_short_training(choice, start) for choice in (advice.chosen, rival))
    return TrainingCheck(STEPS, OPTIMIZER, trainings)


def _short_training(choice: Choice, start: DictionaryProblem) -> ShortTraining:
    """Train for `STEPS` steps from a problem's dictionary, which is not changed, and return by how
    much the outer loss has fallen, and the processor time; or that the training diverged, in one of
    the steps or where the loss is evaluated after the last.

    Warnings of the training are hidden.
    """
    # A loss is evaluated before its step.
    learner = Learner(choice.estimator, choice.algorithm, choice.depth, OPTIMIZER, epochs=STEPS + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LearningWarning)
        training = learner.fit(start, clock=time.process_time)
    # The first row has no loss: none is evaluated yet.
    losses = [*training.history["loss"].dropna()]
    seconds = training.history["seconds"].iloc[-1]
    if training.status == "diverged":
        return ShortTraining(choice, losses[0] if losses else nan, nan, seconds, training.reason)
    return ShortTraining(choice, losses[0], losses[0] - losses[-1], seconds)
