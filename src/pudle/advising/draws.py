"""The problems that advice is for, and what is measured on them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from .. import names
from ..algorithms import Algorithm
from ..answers import Measured
from ..data import Dataset, GivenProblems
from ..measuring.case import Case
from ..measuring.results.reference import CaseReference
from ..measuring.run import Run
from ..measuring.selection import Selection, alike
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
    case : Case
        One problem with the first algorithm; others are like it.
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
        self.single = alike(first, given.draw(1, loss))
        self.unscorable, self.failures = set[int](), dict[Candidate, str]()
        words = [given.called, f"{loss} loss", *[self.case.algorithm] * bool(algorithm)]
        self.text = ", ".join([*words, *["the same problem for every seed"] * self.single])

    def reference(self, seed: int) -> Reference:
        """Return the reference of a seed."""
        return CaseReference(self.case, seed, *self.case.targets).measure(self.store)

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
        for each, score in zip(calls, run.scores, strict=True):
            record = run.record(score)
            if record and record.status != "ok":
                self.failures.setdefault(each, f"{record.status}: {record.reason}")
        rows = [row for (row,) in run.measured().values()]
        return dict(zip(calls, rows, strict=True))
