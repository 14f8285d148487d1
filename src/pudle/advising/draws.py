"""The problems that advice is for, and what is measured on them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from .. import names
from ..algorithms import Algorithm
from ..answers import Measured
from ..data import Dataset, GivenProblems
from ..measuring.case import Case
from ..measuring.results.reference import CaseReference
from ..measuring.run import Run
from ..measuring.selection import Selection
from ..measuring.store import Store
from ..problems import Problem
from ..references.certified import default_target
from ..references.records import SCORED, Reference
from ..validation import check_choice
from ..workers import Here
from .candidates import Candidate, suitable

C = TypeVar("C", bound=Candidate)


class Draws:
    """The problem of each seed, and runs on them that share a store.

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
    folder : Path
        Folder of the store.

    Attributes
    ----------
    algorithms : list of Algorithm
        Those that take part, the problem's default one first.
    single : bool
        Whether all seeds draw the same problem.
    text : str
        The problem in words.
    unscorable : set of int
        Seeds whose reference cannot be scored against, of those that were asked for.
    failures : dict
        Why a candidate has no error somewhere.
    """

    def __init__(
        self,
        problem: Problem | Dataset | str,
        algorithm: Algorithm | str | None,
        loss: str | None,
        device: str,
        folder: Path,
    ) -> None:
        made = names.make_dataset(problem) if isinstance(problem, str) else problem
        given = GivenProblems.of(made, device)
        rule = names.make_algorithm(algorithm) if isinstance(algorithm, str) else algorithm
        self.problems = names.Spec("datasets", given.called, given)
        self.loss: str = check_choice("loss", loss or given.losses[0], given.losses)
        first = self.problem(0)
        self.algorithms = [rule] if rule else [*suitable(first)]
        self.target = default_target(first, self.algorithms[0])
        self.store = Store(folder, "advice", first.theta.device.type)
        self.unscorable, self.failures = set[int](), dict[Candidate, str]()
        self.single = isinstance(made, Problem)
        scored = [self.reference(seed).gradient for seed in self.scorable((0, 1))]
        self.single |= len(scored) == 2 and torch.equal(*scored)
        words = [given.called, f"{self.loss} loss", *[names.text(rule)] * bool(rule)]
        self.text = ", ".join([*words, *["the same problem for every seed"] * self.single])

    def problem(self, seed: int) -> Problem:
        """Return the problem of a seed."""
        return self.problems.made.draw(seed, self.loss)

    def reference(self, seed: int) -> Reference:
        """Return the reference of a seed."""
        case = self._case("reference", self.algorithms[0], [seed], [0])
        return CaseReference(case, seed, self.target).measure(self.store)

    def scorable(self, seeds: Iterable[int]) -> list[int]:
        """Return the seeds whose reference can be scored against; of one problem the first."""
        asked = {0} if self.single else {*seeds}
        bad = {seed for seed in asked if self.reference(seed).status not in SCORED}
        self.unscorable |= bad
        return sorted(asked - bad)

    def run(
        self,
        calls: Mapping[C, Sequence[int]],
        seeds: Sequence[int],
        costs: tuple[str, ...] = (),
        rounds: int = 0,
    ) -> dict[C, Measured]:
        """Measure candidates at some depths each: errors on some seeds, and costs on the first one,
        the times of all in so many rounds in turns.
        """
        cases = {
            each: self._case(str(number), each.algorithm, seeds, depths)
            for number, (each, depths) in enumerate(calls.items())
        }
        estimators = {each: names.Spec("estimators", each.name, each.estimator) for each in calls}
        selection = Selection(
            self.store.profile,
            tuple(cases.values()),
            tuple(dict.fromkeys(estimators.values())),
            tracked_depths=(),
            timed_depths=tuple({depth for case in cases.values() for depth in case.depths}),
            costs=costs,
            device=self.store.device,
            limited=tuple((estimators[each], cases[each].name, "another's") for each in calls),
        )
        run = Run(selection, self.store, rounds)
        run.fill(Here(), again=True)
        for each, score in zip(calls, run.scores, strict=True):
            if (record := run.record(score)) and record.status != "ok":
                self.failures.setdefault(each, f"{record.status}: {record.reason}")
        measured = run.measured()
        return {each: measured[case.name][0] for each, case in cases.items()}

    def _case(
        self, name: str, algorithm: Algorithm, seeds: Iterable[int], depths: Iterable[int]
    ) -> Case:
        rule, target = names.Spec("algorithms", names.text(algorithm), algorithm), (self.target,)
        return Case(name, self.problems, rule, self.loss, tuple(seeds), tuple(depths), target)
