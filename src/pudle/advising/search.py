"""The search for an estimator: a short run on few seeds, deeper for what can still win, and the
best of it on more seeds.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil, inf
from pathlib import Path
from typing import TypeVar

import numpy as np

from .. import names
from ..algorithms import Algorithm
from ..answers import NO_ROUNDS, Answer, Measured, Requirement, answer
from ..data import Dataset, GivenProblems
from ..errors import InvalidArgument
from ..measuring.case import Case
from ..measuring.results.cost import MEMORY, TIME
from ..measuring.results.reference import CaseReference
from ..measuring.run import Run
from ..measuring.selection import Selection
from ..measuring.store import Store
from ..problems import Problem
from ..references.certified import default_target
from ..references.probe import probe, why_another
from ..references.records import SCORED, Reference
from ..validation import check_choice
from ..workers import InProcess
from .candidates import Candidate, suitable_algorithms
from .tolerance import tolerance_limit

#: Depths that are measured, the next group only for what can still win there.
DEPTHS = ((1,), (2, 5, 10), (25, 50), (100,), (200,), (400,), (800,), (1600,))
#: Before this depth an error need not fall yet, and a refusal may be one of small depths.
EARLY = 50
#: Number of seeds of the short run, and on which the best candidates are refined.
SEEDS_OF_RUN, SEEDS_OF_REFINEMENT = 3, 12
#: Estimators that are refined, up to two of a name, and those advised: the choice and a runner-up.
REFINED, REFINED_OF_A_NAME, ADVISED = 6, 2, 2
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
ROUNDS_OF_RUN, ROUNDS_OF_REFINEMENT = 1, 10

AnyCandidate = TypeVar("AnyCandidate", bound=Candidate)


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
    why_unscorable : str
        Why one of these has none.
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
        source = names.make_dataset(problem) if isinstance(problem, str) else problem
        problems = GivenProblems.of(source, device)
        loss = check_choice("loss", loss or problems.losses[0], problems.losses)
        first = problems.draw(0, loss)
        if algorithm:
            self.algorithms = [names.canonical("algorithms", algorithm).made]
        else:
            self.algorithms = [*suitable_algorithms(first)]
        self.case = Case(
            "advice",
            names.Spec("datasets", problems.label, problems),
            names.canonical("algorithms", self.algorithms[0]),
            loss,
            seeds=(0,),
            depths=(0,),
            targets=(default_target(first, self.algorithms[0]),),
        )
        self.store = Store(folder, "advice", first.theta.device.type)
        self.single = not why_another(probe(first), problems.draw(1, loss))
        if not isinstance(source, Problem):
            # Seeds without a reference are left aside, also where they draw the same.
            scorable = [self.reference(seed).status in SCORED for seed in (0, 1)]
            self.single = self.single and all(scorable)
        self.problem = f"{problems.label}, {loss} loss"
        if algorithm:
            self.problem += f", {self.case.algorithm}"
        if self.single:
            self.problem += ", the same problem for every seed"
        self.most_depth, self.unscorable, self.failures = most_depth, 0, dict[str, str]()
        self.why_unscorable = ""
        self.requirement = replace(requirement, seconds=MARGIN * requirement.seconds)
        self.costs = (TIME, MEMORY) if requirement.memory < inf else (TIME,)

    def check_scorable(self) -> None:
        """Find the references of the first seeds; refuse a problem without any, and bounds above
        the required error.

        Sets `seeds` and `status`, and counts in `unscorable`. The error is InvalidArgument.
        """
        references = self.references(range(SEEDS_OF_REFINEMENT))
        self.seeds, self.status = [*references], next(iter(references.values())).status
        bound = max(reference.bound for reference in references.values())
        error = self.requirement.error
        if error is not None and error < bound:
            raise InvalidArgument(
                f"error={error:g} is below the references' bound {bound:.1e}: allow more than that"
            )

    # -- measuring

    def reference(self, seed: int) -> Reference:
        """Return the reference of a seed."""
        return CaseReference(self.case, seed, *self.case.targets).measure(self.store)

    def references(self, seeds: Iterable[int]) -> dict[int, Reference]:
        """Return the references that can be scored against by seed; of a problem that is the same
        for all seeds that of seed 0 alone.

        Those that cannot are added to `unscorable`, and `why_unscorable` is the reason of one.

        Raises
        ------
        InvalidArgument
            If no seed has one.
        """
        tried = {seed: self.reference(seed) for seed in ([0] if self.single else seeds)}
        scorable = {seed: ref for seed, ref in tried.items() if ref.status in SCORED}
        if not scorable:
            first = next(iter(tried.values()))
            raise InvalidArgument(
                f"no seed of {len(tried)} has a reference to score against: {first.status}:"
                f" {first.reason}"
            )
        self.unscorable += len(tried) - len(scorable)
        for reference in tried.values():
            if reference.status not in SCORED:
                self.why_unscorable = f"{reference.status}: {reference.reason}"
        return scorable

    def measure(
        self,
        depths: Mapping[AnyCandidate, Sequence[int]],
        seeds: Sequence[int],
        costs: tuple[str, ...] = (),
        rounds: int = 0,
    ) -> dict[AnyCandidate, Measured]:
        """Measure candidates at some depths each: errors on some seeds, and costs on the first one,
        the times of all in so many rounds in turns.

        It runs in this process, writes to the search's store, and adds to `failures` why a
        candidate has no error. Return what was measured by candidate, in their order.
        """
        selection = self._select(depths, tuple(seeds), costs)
        run = Run(selection, self.store, rounds)
        run.fill(InProcess(), remeasure=True)
        for result in (*run.scores, *run.costs):
            record = run.record(result)
            if record and record.status != "ok":
                name = result.estimator_object.name
                self.failures.setdefault(name, f"{record.status}: {record.reason}")
        rows = [row for (row,) in run.measured().values()]
        return dict(zip(depths, rows, strict=True))

    def _select(
        self,
        depths: Mapping[AnyCandidate, Sequence[int]],
        seeds: tuple[int, ...],
        costs: tuple[str, ...],
    ) -> Selection:
        """Select a case for each candidate, in which no other candidate is measured.

        Times and costs are selected at all depths of the cases.
        """
        cases = [
            replace(
                self.case,
                name=str(number),
                algorithm=names.canonical("algorithms", candidate.algorithm),
                seeds=seeds,
                depths=tuple(candidate_depths),
            )
            for number, (candidate, candidate_depths) in enumerate(depths.items())
        ]
        estimators = [names.canonical("estimators", candidate.estimator) for candidate in depths]
        return Selection(
            self.store.profile,
            tuple(cases),
            tuple(dict.fromkeys(estimators)),
            tracked_depths=(),
            timed_depths=tuple({depth for case in cases for depth in case.depths}),
            costs=costs,
            device=self.store.device,
            limited=tuple(
                (estimator, case.name, "another candidate's case")
                for estimator, case in zip(estimators, cases, strict=True)
            ),
        )

    # -- choosing

    def _depths_in_turn(self) -> Iterator[list[int]]:
        """Yield the groups of depths that are tried in turn: those of `DEPTHS` below the largest
        depth, which is the last group alone.
        """
        for group in DEPTHS:
            if depths := [depth for depth in group if depth < self.most_depth]:
                yield depths
        yield [self.most_depth]

    def run(self, candidates: Iterable[Candidate]) -> dict[Measured, Candidate]:
        """Measure all candidates on few seeds, at depths as they are needed; return what was
        measured of those that can treat the problem, for each group of depths.

        A candidate goes no deeper once its error is stuck, or its time or memory rules it out.
        """
        measured: dict[Measured, Candidate] = {}
        last_errors: dict[Candidate, float] = {}
        in_race = [*candidates]
        for depths in self._depths_in_turn():
            # With a window of all layers it is another estimator.
            calls = {rival: depths for rival in in_race if rival.window < depths[0]}
            rows = self.measure(calls, self.seeds[:SEEDS_OF_RUN], self.costs, ROUNDS_OF_RUN)
            measured |= {row: rival for rival, row in rows.items() if row.seconds.measured}
            deepest = depths[-1]
            most_seconds = self._most_seconds(measured, deepest)
            for rival, row in rows.items():
                seconds = row.seconds.measured.get(deepest, 0.0)
                error = row.points[-1].error if seconds else inf
                stuck = deepest >= EARLY and error >= STUCK * last_errors.get(rival, inf)
                too_large = row.memory.inside(deepest) > self.requirement.memory
                if stuck or seconds >= most_seconds or too_large:
                    in_race.remove(rival)
                last_errors[rival] = error
        return measured

    def _most_seconds(self, measured: Mapping[Measured, Candidate], deepest: int) -> float:
        """Return the time from which on a candidate cannot win any more: more layers never take
        less time.

        It is that of the best candidate which reaches the error, `SLOWEST` times that of the
        closest where none does, and no more than what is allowed.
        """
        best = answer(measured, self.requirement)
        longer = 1.0 if best.reached else SLOWEST * max(1.0, EARLY / deepest)
        return min(self.requirement.seconds, longer * best.seconds.value)

    def best(
        self, measured: Mapping[Measured, Candidate], most: int, most_of_a_name: int
    ) -> dict[Candidate, Answer]:
        """Return up to `most` candidates that meet the requirement, the best first, each with its
        answer, and at most `most_of_a_name` of one estimator.

        They are ranked by median times, without a test.
        """
        ranked: dict[Candidate, Answer] = {}
        while len(ranked) < most:
            ranked_names = [candidate.estimator.name for candidate in ranked]
            # Medians decide: what was measured in other rounds has no ratio.
            unranked = {
                replace(row, rounds=NO_ROUNDS): candidate
                for row, candidate in measured.items()
                if candidate not in ranked
                and ranked_names.count(candidate.estimator.name) < most_of_a_name
            }
            best = answer(unranked, self.requirement)
            if not best.source or best.reached is (self.requirement.error is None):
                break
            ranked[unranked[best.source]] = best
        return ranked

    def refine(self, measured: Mapping[Measured, Candidate]) -> dict[Candidate, Answer]:
        """Measure the best candidates on more seeds, each at the depth that nearly all of these
        need; return the best of them with their answers, at most `ADVISED`, and none if nothing
        meets the requirement.
        """
        error = self.requirement.error
        depths = {
            candidate: [depth]
            for candidate, at in self.best(measured, REFINED, REFINED_OF_A_NAME).items()
            if (depth := self.sufficient_depth(candidate, error, int(at.depth)))
        }
        rows = self.measure(depths, self.seeds, self.costs, ROUNDS_OF_REFINEMENT)
        return self.best({row: candidate for candidate, row in rows.items()}, ADVISED, 1)

    def sufficient_depth(self, candidate: Candidate, error: float | None, depth: int) -> int:
        """Measure a candidate on more seeds from a depth on, and return the depth at which nearly
        all seeds have an error; 0 if that is beyond the largest. Without an error it is the depth
        itself.
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
        """Measure a candidate at some depths on all seeds of the choice, and return an upper limit
        on the depths that nearly all seeds need, infinite if one needs more than those that are
        measured.
        """
        reach = self.measure({candidate: depths}, self.seeds)[candidate].reach(error)
        needed = [reach.depths.get(seed, inf) for seed in self.seeds]
        # More than the greatest of a few is needed to hold for nearly all.
        return tolerance_limit(needed) if len(needed) > 1 else needed[0]
