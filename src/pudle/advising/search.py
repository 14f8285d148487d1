"""What takes part: algorithms with estimators, single ones, and families whose number of windows or
terms is searched. A short run on few seeds has the errors, times and memory of all of them, for the
answers. How much do a few seeds say about all seeds?
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, replace
from functools import partial
from math import inf, log2, nan, sqrt
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from .. import names, paired
from ..algorithms import Algorithm
from ..answers import Answer, Curve, Line, Measured, Requirement, answer
from ..data import Dataset
from ..errors import InvalidArgument, PudleError
from ..estimator import CLAIMS, GradientEstimator
from ..measuring import costs as meter
from ..measuring.measurement import attempt
from ..measuring.scoring import Score, score
from ..peers import Peer
from ..problems import Problem
from ..references.certified import SCORED, Reference, default_target, reference
from ..validation import check_choice
from ..workers import return_freed_memory, run_in_copy

#: Windows and terms that are tried.
NUMBERS = (2, 4, 8, 16, 32, 64, 128, 256, 512)
#: Share of all seeds that are to keep an error, and the confidence with which that is stated.
SHARE, CONFIDENCE = 0.95, 0.95
#: Depths that are measured, the next one only for what can still win there.
DEPTHS = (1, 2, 5, 10, 20, 50, 100, 200, 400, 800, 1600)
#: Before this depth an error need not fall yet, a refusal may be one of small depths, and times are
#: so short that they are measured in turns.
EARLY = 50
#: Number of seeds of the short run, and on which the best candidates are refined.
FEW, MORE = 3, 12
#: Estimators that are refined, up to two of a claim, and those advised: the choice and a runner-up.
REFINED, MEMBERS, ADVISED = 6, 2, 2
#: A candidate that takes so many times as long as the median one goes no deeper, from `EARLY` on;
#: with few layers, where codes are dense, it may take longer in proportion.
SLOWEST = 10.0
#: An error has a floor where doubling the depth leaves more than this share of it.
FLOOR = 0.9
#: Number of depths that are tried below one that suffices, down to this share of it: neighbors in
#: `DEPTHS` are no further apart.
FINER, COARSE = 12, 0.4
#: A time may take this share of what is allowed: it is measured once more at the end.
MARGIN = 0.9
#: Of equal times, that with fewer layers run and differentiated is preferred, or with the simpler
#: claim in the order of `CLAIMS`, which is worth this power of two of layers.
SIMPLER = 0.25
#: Rounds of the times of all candidates, and of those that are refined.
ROUNDS, FINAL_ROUNDS = 3, 10


@dataclass(frozen=True)
class Candidate:
    """An estimator with an algorithm; those of one `kind` differ in one number, such as the window
    of `truncated`, or in the algorithm.
    """

    estimator: GradientEstimator
    algorithm: Algorithm
    kind: str = field(default="", compare=False)
    #: Layers that a member of a truncated family differentiates, 0 for any other.
    window: int = field(default=0, compare=False)

    @property
    def name(self) -> str:
        """The spec of the estimator."""
        return names.text(self.estimator)


#: Candidates, each at a depth.
Calls = Sequence[tuple[Candidate, int]]


def candidates(
    algorithms: Iterable[Algorithm], estimators: Iterable[str | GradientEstimator] = ()
) -> list[Candidate]:
    """Return the estimators that take part with each of the algorithms, but none that
    differentiates layers with one that has none.

    Without `estimators` these are all built-in ones and installed plug-ins whose claim is
    deterministic, but not other packages' twins of them. A name whose class needs one whole number,
    such as ``truncated``, stands for all `NUMBERS`.
    """
    classes: Any = names.list_estimators()
    named = list(estimators)
    chosen = {}
    for each in named or [name for name, cls in classes.items() if not issubclass(cls, Peer)]:
        option, specs = "", [each]
        stated = names.options(classes.get(each))
        needed = [one for one in stated if one.default is one.default_factory is MISSING]
        if len(needed) == 1 and needed[0].type in (int, "int"):
            option = needed[0].name
            specs = [f"{each}({option}={number})" for number in NUMBERS]
        for spec in specs:
            # What nobody named is left out where it cannot be made.
            with suppress(*[] if named else [PudleError]):
                made = names.make_estimator(spec) if isinstance(spec, str) else spec
                name = names.text(made)
                if made.computes in ("stochastic", "heuristic"):
                    raise InvalidArgument(
                        f"estimator {name!r} is {made.computes}: no error can be stated for it;"
                        " leave it out"
                    )
                window = getattr(made, option, 0) if made.computes == "truncated" else 0
                chosen[name] = made, str(each) if option else name, window
    return [
        Candidate(made, algorithm, kind, window)
        for algorithm in algorithms
        for made, kind, window in chosen.values()
        if algorithm.differentiable or made.computes not in ("unrolled", "truncated")
    ]


class Draws:
    """Draws of one kind of problem, and the errors measured on them so far.

    Parameters
    ----------
    problem : Dataset, str or Problem
        A dataset, or its spec, of which every seed draws a problem; or one problem.
    algorithm : Algorithm or str, optional
        By default all that are registered and lead to the problem's minimizer.
    loss : str, optional
        By default the dataset's first.
    device : {"cpu", "cuda"}

    Attributes
    ----------
    text : str
        The problem in words.
    single : bool
        Whether all seeds draw the same problem.
    algorithms : list of Algorithm
        Those that take part, the problem's default one first.
    failures : dict
        Why a candidate has no error somewhere.
    drawn : dict
        Problem and reference by seed.
    seconds : dict
        Times of single estimates, by candidate and depth.
    """

    def __init__(
        self,
        problem: Problem | Dataset | str,
        algorithm: Algorithm | str | None = None,
        loss: str | None = None,
        device: str = "cpu",
    ) -> None:
        made: Any = names.make_dataset(problem) if isinstance(problem, str) else problem
        self.single = isinstance(made, Problem)
        losses = [getattr(made, "loss", "")] if self.single else made.losses
        loss = check_choice("loss", loss or losses[0], losses)

        def draw(seed: int) -> Any:
            if isinstance(made, Problem):
                return made
            return replace(made, seed=seed).problem(loss, device=device)

        first = draw(0)
        if isinstance(algorithm, str):
            algorithm = names.make_algorithm(algorithm)
        self.algorithms: list[Any] = [algorithm] if algorithm else suitable(first)
        self.failures: dict[Candidate, str] = {}
        self.spec = problem if isinstance(problem, str) else ""
        self.drawn: dict[int, tuple[Any, Reference]] = {}
        self.seconds = defaultdict[tuple[Candidate, int], list[float]](list)
        self._draw, self._errors = draw, defaultdict[Any, dict[int, float]](dict)
        self._target = default_target(first, self.algorithms[0])
        self.text = type(made).__name__ if self.single else f"{names.text(made)}, {loss} loss"
        if algorithm:
            self.text = f"{self.text}, {names.text(algorithm)}"
        if not self.single:
            scored = [self.reference(seed).gradient for seed in self.scorable((0, 1))]
            if len(scored) == 2 and torch.equal(*scored):
                self.single, self.text = True, f"{self.text}, the same problem for every seed"

    def problem(self, seed: int) -> Any:
        """Return the problem of a seed."""
        self.reference(seed)
        return self.drawn[seed][0]

    def reference(self, seed: int) -> Reference:
        """Return the reference of a seed; all seeds have the same target."""
        if seed not in self.drawn:
            problem = self._draw(seed)
            found = reference(problem, self._target, self.algorithms[0])
            self.drawn[seed] = problem, found.of_spec(self.spec) if self.spec else found
        return self.drawn[seed][1]

    def scorable(self, seeds: Iterable[int]) -> list[int]:
        """Return the seeds whose reference can be scored against; of one problem the first."""
        seeds = [0] if self.single else seeds
        return [seed for seed in seeds if self.reference(seed).status in SCORED]

    def errors(
        self, candidate: Candidate, seeds: Sequence[int], depths: Iterable[int] = ()
    ) -> pd.DataFrame:
        """Return all relative errors by depth and seed, after some depths are measured where they
        are not yet; NaN where there is none, and `failures` says why.
        """
        for seed in seeds:
            problem, errors = self.problem(seed), self._errors[candidate, seed]
            missing = tuple(sorted({*depths} - errors.keys()))
            results = attempt(candidate.estimator, problem, candidate.algorithm, missing)
            clock = meter.clock(problem.theta.device.type)
            start = clock()
            for depth, judged in zip(missing, results, strict=True):
                if len(missing) == 1:
                    self.seconds[candidate, depth].append(clock() - start)
                if not isinstance(judged, Score):
                    judged = score(judged, self.reference(seed))
                if judged.status != "ok":
                    self.failures.setdefault(
                        candidate, f"{judged.status} at depth {depth}: {judged.reason}"
                    )
                errors[depth] = judged.relative_error
        return pd.DataFrame(
            {seed: self._errors[candidate, seed] for seed in seeds}, dtype=float
        ).sort_index()


def suitable(problem: Problem) -> list[Algorithm]:
    """Return the registered algorithms that lead to the minimizer of a problem, its default one
    first.
    """
    made = []
    for name in dict.fromkeys((problem.default_algorithm, *names.entries("algorithms"))):
        # What needs arguments, or refuses the problem, does not suit it.
        with suppress(Exception):
            algorithm = names.make_algorithm(name)
            algorithm.run(problem, 1)
            if algorithm.thresholding.proximal:
                made.append(algorithm)
    return made


class Search:
    """What was measured of the candidates, and the answers that follow from it.

    Parameters
    ----------
    draws : Draws
    requirement : Requirement
    most_depth : int
        Largest depth that is tried.
    """

    def __init__(self, draws: Draws, requirement: Requirement, most_depth: int) -> None:
        self.draws, self.most_depth = draws, most_depth
        self.requirement = replace(requirement, seconds=MARGIN * requirement.seconds)
        self.more = draws.scorable(range(MORE))
        self.few = self.more[:FEW]
        self.left_out: dict[str, str] = {}
        #: Costs by candidate and by depth.
        self._seconds, self._memory = (defaultdict[Candidate, dict[int, float]](dict) for _ in "sm")

    # -- the short run

    def run(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Measure all candidates on few seeds, at depths as they are needed; return those that can
        treat the problem.
        """
        waiting = candidates
        for depth in [*(depth for depth in DEPTHS if depth < self.most_depth), self.most_depth]:
            calls = [
                (each, depth)
                for each in waiting
                if depth > each.window
                and self.draws.errors(each, self.few, [depth]).loc[depth].notna().all()
            ]
            # Other work on the machine only adds to a time.
            taken = [[min(self.draws.seconds[call])] for call in calls]
            if depth < EARLY:
                taken = self.in_turns(calls, ROUNDS).T.tolist()
            self._note_costs(calls, taken)
            best = answer(self.measured(candidates, self.few), self.requirement)
            waiting = [each for each in waiting if self._may_win_deeper(each, depth, best)]
        able = [each for each in candidates if self._seconds[each]]
        kinds, failures = {each.kind for each in able}, self.draws.failures
        for each in candidates:
            if each.kind not in kinds and each in failures:
                self.left_out.setdefault(each.kind, failures[each])
        return able

    def _may_win_deeper(self, candidate: Candidate, depth: int, best: Answer) -> bool:
        """Return whether more layers could help a candidate: they never take less time."""
        seconds = self._seconds[candidate].get(depth)
        if seconds is None:
            return depth <= candidate.window or depth < EARLY
        taken = [costs[depth] for costs in self._seconds.values() if depth in costs]
        slowest = SLOWEST * max(1, EARLY / depth) * np.median(taken)
        if seconds >= slowest or (best.reached and seconds >= best.seconds.value):
            return False
        if not self.requirement.allows(seconds, self._memory[candidate].get(depth, nan)):
            return False
        if depth < EARLY:
            return True
        errors = self.draws.errors(candidate, self.few, [depth // 2])
        before, after = errors.loc[depth // 2], errors.loc[depth]
        return bool((before.isna() | (after < FLOOR * before)).any())

    # -- times and memory

    def in_turns(self, calls: Calls, rounds: int, seed: int = 0) -> np.ndarray:
        """Return the seconds of one estimate, shape (rounds, calls), each at a depth.

        All take turns in every round, so that a machine whose speed drifts treats them alike.
        """
        problem = self.draws.problem(seed)
        clock = meter.clock(problem.theta.device.type)
        timed = [
            partial(each.estimator.estimate, problem, each.algorithm, depth)
            for each, depth in calls
        ]
        for call in timed:
            # The first call fills caches.
            call()
        taken = np.empty((rounds, len(timed)))
        for turn in range(rounds):
            for number in paired.order(turn, len(timed)):
                taken[turn, number] = meter.sample(timed[number], clock)
        return taken

    def memory_of(self, candidate: Candidate, depth: int) -> float:
        """Return the peak memory of an estimate in bytes; NaN if it fails."""
        problem, algorithm = self.draws.problem(0), candidate.algorithm
        call = partial(candidate.estimator.estimate, problem, algorithm, depth)
        device = problem.theta.device.type
        if device != "cpu":
            return meter.peak_memory(call, device)[0]
        algorithm.step_size(problem)
        return_freed_memory()
        outcome = run_in_copy(meter.peak_memory, call, device)
        return outcome.result[0] if outcome.status == "ok" else nan

    def _note_costs(self, calls: Calls, taken: Iterable[Sequence[float]]) -> None:
        """Note the medians of some times, and measure memories if they are limited."""
        for (each, depth), seconds in zip(calls, taken, strict=True):
            self._seconds[each][depth] = float(np.median(seconds))
            if self.requirement.memory < inf:
                self._memory[each][depth] = self.memory_of(each, depth)

    # -- answers

    def measured(
        self,
        candidates: Sequence[Candidate],
        seeds: Sequence[int],
        least: Mapping[Candidate, float] = {},
    ) -> dict[Measured, Candidate]:
        """Return what was measured of some candidates on some seeds, from its `least` depth on."""
        rows = {}
        for each in candidates:
            # What fails on a seed is no answer at that depth.
            errors = self.draws.errors(each, seeds).dropna()
            errors = errors[errors.index >= least.get(each, 0)]
            curve = Curve(
                errors.index.to_numpy(int),
                np.array(seeds),
                errors.to_numpy(),
                np.zeros(errors.shape, bool),
            )
            costs = Line(self._seconds[each]), Line(self._memory[each])
            rows[Measured(each.name, curve, *costs, algorithm=names.text(each.algorithm))] = each
        return rows

    def best(
        self,
        candidates: Sequence[Candidate],
        seeds: Sequence[int],
        most: int,
        group: str = "kind",
        members: int = 1,
        least: Mapping[Candidate, float] = {},
    ) -> dict[Candidate, Answer]:
        """Return the best candidates that meet the requirement, so many `members` of a group."""
        ranked: dict[Candidate, Answer] = {}
        of = attrgetter(group)
        while len(ranked) < most:
            groups = Counter(map(of, ranked))
            left = [
                each for each in candidates if each not in ranked and groups[of(each)] < members
            ]
            rows = self.measured(left, seeds, least)
            chosen = answer(rows, self.requirement)
            if not chosen.source or chosen.reached is (self.requirement.error is None):
                break
            ranked[rows[chosen.source]] = chosen
        return ranked

    def refined(self, able: Sequence[Candidate]) -> dict[Candidate, Answer]:
        """Return the best candidates on more seeds, each at the depth that nearly all of these
        need.
        """
        chosen = {
            each: self.needed(each, self.requirement.error, int(first.depth))
            for each, first in self.best(
                able, self.few, REFINED, "estimator.computes", MEMBERS
            ).items()
        }
        calls = [(each, int(depth)) for each, depth in chosen.items() if depth < inf]
        if calls:
            taken = self.in_turns(calls, FINAL_ROUNDS).T
            fastest = min(taken, key=np.median).copy()
            for (each, depth), seconds in zip(calls, taken, strict=True):
                if paired.compare(seconds, fastest).p_value > paired.SIGNIFICANCE:
                    # What cannot be told from the least time counts as that, the simplest first.
                    claim = each.estimator.computes
                    layers = depth + (depth if claim == "unrolled" else min(each.window, depth))
                    effort = log2(layers) + SIMPLER * [*CLAIMS].index(claim)
                    seconds[:] = fastest * (1 + 1e-9 * effort)
            self._note_costs(calls, taken)
        return self.best([*chosen], self.more, ADVISED, least=chosen)

    def needed(self, candidate: Candidate, error: float | None, depth: int) -> float:
        """Measure errors on more seeds, from a depth on, until nearly all reach a required one;
        return the least measured depth where they do, infinite beyond the largest.
        """
        if error is None:
            self.draws.errors(candidate, self.more, [depth])
            return depth
        new, finer = [depth], False
        while True:
            tried = self.draws.errors(candidate, self.more, new).index
            (measured,) = self.measured([candidate], self.more)
            depths = [*measured.reach(error).depths.values()] or [inf]
            # More than the greatest of a few is needed to hold for nearly all.
            needed = float(np.ceil(tolerance_limit(depths) if self.more[1:] else max(depths)))
            if needed == inf and depth < self.most_depth:
                depth = min(2 * depth, self.most_depth)
                new = [depth]
            elif needed < inf and not finer:
                finer = True
                spaced = np.geomspace(max(COARSE * depth, 1), depth, FINER)
                new = spaced.round().astype(int).tolist()
            elif needed == inf or needed in tried:
                return needed
            else:
                new = [int(needed)]


def tolerance_limit(errors: Sequence[float], share: float = SHARE) -> float:
    r"""Return an upper limit on the errors of a share of all seeds, with `CONFIDENCE`, from the
    errors of a few.

    The logarithms of the errors are taken as normal. With their mean m and standard deviation s
    over n seeds the limit is
    :math:`\exp(m + k s)`, where :math:`k = t_{n-1,\, z_p \sqrt n}^{-1}(\text{confidence}) / \sqrt
    n` is the quantile of a noncentral t distribution and :math:`z_p` the normal quantile of the
    share. It is infinite for one seed and where an error is not finite.

    References
    ----------
    Krishnamoorthy and Mathew, Statistical Tolerance Regions, Wiley 2009, section 2.2.
    """
    values = np.asarray(errors, float)
    n = len(values)
    if n < 2 or not np.isfinite(values).all():
        return inf
    # An error of exactly zero does not occur: scores are never below their reference's bound.
    logs = np.log(values)
    factor = stats.nct.ppf(CONFIDENCE, n - 1, stats.norm.ppf(share) * sqrt(n)) / sqrt(n)
    return float(np.exp(logs.mean() + factor * logs.std(ddof=1)))


def least_share(kept: int, tried: int, confidence: float = CONFIDENCE) -> float:
    """Return the share of all seeds that keep an error at least, with a confidence, if `kept` of
    `tried` seeds kept it.

    It is the one-sided limit of Clopper and Pearson, which assumes nothing about the errors.
    """
    return float(stats.beta.ppf(1 - confidence, kept, tried - kept + 1)) if kept else 0.0
