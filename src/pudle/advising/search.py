"""The choice: a short run on few seeds, deeper for what can still win, and the best of it on more
seeds.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, replace
from math import ceil, inf
from pathlib import Path
from typing import TypeVar

import numpy as np

from .. import names
from ..algorithms import Algorithm
from ..answers import NO_ROUNDS, Answer, Measured, Requirement, answer
from ..data import Dataset, GivenProblems
from ..errors import InvalidArgument, PudleError
from ..estimator import GradientEstimator
from ..measuring.case import Case
from ..measuring.checked import FAILED, key_of, verdict
from ..measuring.results.cost import MEMORY, TIME
from ..measuring.results.reference import CaseReference
from ..measuring.run import Run
from ..measuring.selection import Selection
from ..measuring.store import Store
from ..peers import Peer
from ..problems import Problem
from ..references.certified import default_target
from ..references.probe import probe, why_another
from ..references.records import SCORED, Reference
from ..validation import check_choice
from ..workers import Here
from .tolerance import tolerance_limit

#: Windows and terms that are tried.
NUMBERS = (2, 4, 8, 16, 32, 64, 128, 256, 512)
#: Depths that are measured, the next group only for what can still win there.
DEPTHS = ((1,), (2, 5, 10), (25, 50), (100,), (200,), (400,), (800,), (1600,))
#: Before this depth an error need not fall yet, and a refusal may be one of small depths.
EARLY = 50
#: Number of seeds of the short run, and on which the best candidates are refined.
FEW, MORE = 3, 12
#: Estimators that are refined, up to two of a name, and those advised: the choice and a runner-up.
REFINED, MEMBERS, ADVISED = 6, 2, 2
#: A candidate that takes so many times as long as the most accurate one goes no deeper, from
#: `EARLY` on; with few layers, where codes are dense, it may take longer in proportion.
SLOWEST = 10.0
#: An error is stuck where the next group of depths leaves more than this share of it.
STUCK = 0.9
#: Number of depths that are tried below one that suffices, down to this share of it.
FINER, COARSE = 16, 0.3
#: A time may take this share of what is allowed: it is measured once more at the end.
MARGIN = 0.9
#: Rounds of the times of all candidates, and of those that are refined.
FEW_ROUNDS, MORE_ROUNDS = 1, 10


@dataclass(frozen=True)
class Candidate:
    """An estimator with an algorithm."""

    estimator: GradientEstimator
    algorithm: Algorithm

    @property
    def name(self) -> str:
        """The spec of the estimator."""
        return names.text(self.estimator)

    @property
    def window(self) -> int:
        """Layers that it differentiates, 0 if these are all or none."""
        return getattr(self.estimator, "window", None) or 0


C = TypeVar("C", bound=Candidate)


def candidates(
    algorithms: Sequence[Algorithm], estimators: Sequence[str | GradientEstimator] = ()
) -> list[Candidate]:
    """Return the estimators that take part, with each of the algorithms.

    Without `estimators` these are all built-in ones and installed plug-ins whose claim is
    deterministic, but not other packages' twins of them. A name whose class needs one whole number,
    such as ``truncated``, stands for all `NUMBERS`.
    """
    classes = names.list_estimators()
    every = [name for name, cls in classes.items() if not issubclass(cls, Peer)]
    found: dict[str, GradientEstimator] = {}
    for each in estimators or every:
        stated = names.options(classes.get(str(each)))
        needed = [one for one in stated if one.default is one.default_factory is MISSING]
        members: list[str | GradientEstimator] = [each]
        if len(needed) == 1 and needed[0].type in (int, "int"):
            members = [f"{each}({needed[0].name}={number})" for number in NUMBERS]
        for member in members:
            # What nobody named is left out where it cannot be made.
            with suppress(*[] if estimators else [PudleError]):
                spec = names.canonical("estimators", member)
                if spec.made.computes in ("stochastic", "heuristic"):
                    raise InvalidArgument(
                        f"estimator {str(spec)!r} is {spec.made.computes}: no error can be stated"
                        " for it; leave it out"
                    )
                if names.is_plugin(type(spec.made)) and verdict(key_of(spec.made)) == FAILED:
                    raise InvalidArgument(
                        f"estimator {str(spec)!r} failed `pudle check`: mend what it names, or"
                        " leave the estimator out"
                    )
                found[spec] = spec.made
    return [Candidate(made, algorithm) for algorithm in algorithms for made in found.values()]


def suitable(problem: Problem) -> Iterator[Algorithm]:
    """Yield the registered algorithms that lead to the minimizer of a problem, its default one
    first; where that is made for such problems, others that are not would do the same.
    """
    made_for = bool(names.make_algorithm(problem.default_algorithm).needs)
    for name in dict.fromkeys((problem.default_algorithm, *names.entries("algorithms"))):
        # What needs arguments, or refuses the problem, does not suit it.
        with suppress(Exception):
            algorithm = names.make_algorithm(name)
            algorithm.run(problem, 1)
            if algorithm.thresholding.proximal and (algorithm.needs or not made_for):
                yield algorithm


class Search:
    """Runs on the problems of some seeds, which share a store, and the answers that follow.

    Parameters
    ----------
    problem : Dataset, str or Problem
        A dataset, or its spec, of which every seed draws a problem; or one problem.
    algorithm : Algorithm or str, optional
        By default all that are registered and lead to the problem's minimizer.
    loss : str, optional
        By default the first.
    device : {"cpu", "cuda"}
        Device of what a dataset draws.
    requirement : Requirement
    most_depth : int
        Largest depth that is tried.
    folder : Path
        Folder of the store.

    Attributes
    ----------
    algorithms : list of Algorithm
        Those that take part, the problem's default one first.
    case : Case
        One problem with the first algorithm; others are like it.
    single : bool
        Whether all seeds draw the same problem.
    problem : str
        The problem in words.
    seeds : list of int
        Seeds that the choice rests on.
    status : str
        Kind of the references.
    unscorable : int
        Number of seeds whose reference cannot be scored against, of those that were asked for.
    failures : dict
        Why an estimator has no error somewhere, by name.

    Raises
    ------
    InvalidArgument
        Where no seed has a reference to score against, or their bounds are above the required
        error.
    """

    def __init__(
        self,
        problem: Problem | Dataset | str,
        algorithm: Algorithm | str | None,
        loss: str | None,
        device: str,
        requirement: Requirement,
        most_depth: int,
        folder: Path,
    ) -> None:
        made = names.make_dataset(problem) if isinstance(problem, str) else problem
        given = GivenProblems.of(made, device)
        loss = check_choice("loss", loss or given.losses[0], given.losses)
        first = given.draw(0, loss)
        rules = [names.canonical("algorithms", algorithm).made] if algorithm else suitable(first)
        self.algorithms = [*rules]
        self.case = Case(
            "advice",
            names.Spec("datasets", given.called, given),
            names.canonical("algorithms", self.algorithms[0]),
            loss,
            seeds=(0,),
            depths=(0,),
            targets=(default_target(first, self.algorithms[0]),),
        )
        self.store = Store(folder, "advice", first.theta.device.type)
        self.single = not why_another(probe(first), given.draw(1, loss))
        if not isinstance(made, Problem):
            # Seeds without a reference are left aside, also where they draw the same.
            scored = [self.reference(seed).status in SCORED for seed in (0, 1)]
            self.single = self.single and all(scored)
        named = f", {self.case.algorithm}" if algorithm else ""
        alone = ", the same problem for every seed" if self.single else ""
        self.problem = f"{given.called}, {loss} loss{named}{alone}"
        self.most_depth, self.unscorable, self.failures = most_depth, 0, dict[str, str]()
        self.requirement = replace(requirement, seconds=MARGIN * requirement.seconds)
        self.costs = (TIME, *[MEMORY] * (requirement.memory < inf))

    def check_scorable(self) -> None:
        """Find the references of the first seeds; refuse a problem without any, and bounds above
        the required error.
        """
        references = self.references(range(MORE))
        self.seeds, self.status = [*references], next(iter(references.values())).status
        bound, error = max(each.bound for each in references.values()), self.requirement.error
        if error is not None and error < bound:
            raise InvalidArgument(
                f"error={error:g} is below the references' bound {bound:.1e}: allow more than that"
            )

    # -- measuring

    def reference(self, seed: int) -> Reference:
        """Return the reference of a seed."""
        return CaseReference(self.case, seed, *self.case.targets).measure(self.store)

    def references(self, seeds: Iterable[int]) -> dict[int, Reference]:
        """Return the references that can be scored against by seed; of one problem the first."""
        found = {seed: self.reference(seed) for seed in ([0] if self.single else seeds)}
        scored = {seed: each for seed, each in found.items() if each.status in SCORED}
        if not scored:
            first = next(iter(found.values()))
            raise InvalidArgument(
                f"no seed of {len(found)} has a reference to score against: {first.status}:"
                f" {first.reason}"
            )
        self.unscorable += len(found) - len(scored)
        return scored

    def measure(
        self,
        calls: Mapping[C, Sequence[int]],
        seeds: Sequence[int],
        costs: tuple[str, ...] = (),
        rounds: int = 0,
    ) -> dict[C, Measured]:
        """Measure candidates at some depths each: errors on some seeds, and costs on the first one,
        the times of all in so many rounds in turns.
        """
        cases = [
            replace(
                self.case,
                name=str(number),
                algorithm=names.canonical("algorithms", each.algorithm),
                seeds=tuple(seeds),
                depths=tuple(depths),
            )
            for number, (each, depths) in enumerate(calls.items())
        ]
        estimators = [names.canonical("estimators", each.estimator) for each in calls]
        selection = Selection(
            self.store.profile,
            tuple(cases),
            tuple(dict.fromkeys(estimators)),
            tracked_depths=(),
            timed_depths=tuple({depth for case in cases for depth in case.depths}),
            costs=costs,
            device=self.store.device,
            # Each case is that of one candidate.
            limited=tuple(
                (estimator, case.name, "another candidate's case")
                for estimator, case in zip(estimators, cases, strict=True)
            ),
        )
        run = Run(selection, self.store, rounds)
        run.fill(Here(), again=True)
        for score in run.scores:
            record = run.record(score)
            if record and record.status != "ok":
                self.failures.setdefault(score.made.name, f"{record.status}: {record.reason}")
        rows = [row for (row,) in run.measured().values()]
        return dict(zip(calls, rows, strict=True))

    # -- choosing

    def run(self, candidates: Iterable[Candidate]) -> dict[Measured, Candidate]:
        """Measure all candidates on few seeds, at depths as they are needed; return what was
        measured of those that can treat the problem, for each group of depths.
        """
        able: dict[Measured, Candidate] = {}
        errors: dict[Candidate, float] = {}
        waiting, required = [*candidates], self.requirement
        groups = [[depth for depth in group if depth < self.most_depth] for group in DEPTHS]
        for depths in [*filter(None, groups), [self.most_depth]]:
            # With a window of all layers it is another estimator.
            calls = {each: depths for each in waiting if each.window < depths[0]}
            rows = self.measure(calls, self.seeds[:FEW], self.costs, FEW_ROUNDS)
            able |= {row: each for each, row in rows.items() if row.seconds.measured}
            best, deepest = answer(able, required), depths[-1]
            # More layers never take less time.
            longer = 1.0 if best.reached else SLOWEST * max(1.0, EARLY / deepest)
            most = min(required.seconds, longer * best.seconds.value)
            for each, row in rows.items():
                seconds = row.seconds.measured.get(deepest, 0.0)
                error = row.points[-1].error if seconds else inf
                stuck = deepest >= EARLY and error >= STUCK * errors.get(each, inf)
                if stuck or seconds >= most or row.memory.inside(deepest) > required.memory:
                    waiting.remove(each)
                errors[each] = error
        return able

    def best(
        self, rows: Mapping[Measured, Candidate], most: int, members: int
    ) -> dict[Candidate, Answer]:
        """Return the best candidates that meet the requirement, so many `members` of a name."""
        ranked: dict[Candidate, Answer] = {}
        while len(ranked) < most:
            taken = [each.estimator.name for each in ranked]
            # Medians decide: what was measured in other rounds has no ratio.
            left = {
                replace(row, rounds=NO_ROUNDS): each
                for row, each in rows.items()
                if each not in ranked and taken.count(each.estimator.name) < members
            }
            found = answer(left, self.requirement)
            if not found.source or found.reached is (self.requirement.error is None):
                break
            ranked[left[found.source]] = found
        return ranked

    def refined(self, able: Mapping[Measured, Candidate]) -> dict[Candidate, Answer]:
        """Return the best candidates on more seeds, each at the depth that nearly all of these
        need.
        """
        error = self.requirement.error
        calls = {
            each: [depth]
            for each, found in self.best(able, REFINED, MEMBERS).items()
            if (depth := self.needed(each, error, int(found.depth)))
        }
        rows = self.measure(calls, self.seeds, self.costs, MORE_ROUNDS)
        return self.best({row: each for each, row in rows.items()}, ADVISED, 1)

    def needed(self, candidate: Candidate, error: float | None, depth: int) -> int:
        """Return the depth at which nearly all seeds have an error, measured on more seeds from a
        depth on; 0 if that is beyond the largest. Without an error it is the depth itself.
        """
        if error is None:
            return depth
        while (limit := self._limit(candidate, error, [depth])) == inf and depth < self.most_depth:
            depth = min(2 * depth, self.most_depth)
        if limit < inf:
            spaced = np.geomspace(max(COARSE * depth, candidate.window + 1), depth, FINER)
            limit = self._limit(candidate, error, spaced.round().astype(int).tolist())
        # The logarithm of a depth is rounded.
        return ceil(round(limit, 6)) if limit <= self.most_depth else 0

    def _limit(self, candidate: Candidate, error: float, depths: list[int]) -> float:
        """Return an upper limit on the depths that seeds need, infinite if one needs more than
        those that are measured.
        """
        reach = self.measure({candidate: depths}, self.seeds)[candidate].reach(error)
        needed = [reach.depths.get(seed, inf) for seed in self.seeds]
        # More than the greatest of a few is needed to hold for nearly all.
        return tolerance_limit(needed) if len(needed) > 1 else needed[0]
