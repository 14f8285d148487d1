"""The tasks that a run has left, in stages: each is planned once the stage before it is done."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from .. import names, text
from ..algorithms import kernels
from ..files import files_in, is_large
from ..threads import number_of_cores
from ..workers import Job, Outcome, Owners, Process
from . import sources
from .case import DTYPES
from .grouping import grouped
from .naming import labels
from .plan import Plan
from .results.cost import MEMORY, EstimateCost, Turns, start_for_memories
from .results.experiment import measure_in_threads
from .results.reference import CaseReference
from .results.result import RecordedResult, Result
from .results.score import Scores
from .shelf import Shelf
from .store import Store
from .stored_files import MeasurementStatus

#: Seconds that compiling the kernels may take, which is a dozen for each dtype on a quiet machine.
MOST_COMPILING = 900.0
#: A task and how it ended.
Outcomes = Generator["tuple[Task, Outcome[object]]"]


class Executor(Protocol):
    """A runner of jobs: the workers of this machine, of a cluster, or this process."""

    def run(self, jobs: Iterable[Job[Task, object]]) -> Outcomes:
        """Yield the key and the outcome of every job, in the order in which they end."""


@dataclass(frozen=True, eq=False)
class Task:
    """One call for a worker, and the results that it brings: one, the times of a problem, or none
    where kernels are compiled.
    """

    label: str
    results: Sequence[Result[object]]
    store: Store
    timeout: float
    #: Called with the store.
    call: Callable[[Store], object]

    @property
    def job(self) -> Job[Task, object]:
        """The call with its limit."""
        return Job(self.call, (self.store,), self.timeout, self, self.owners)

    @property
    def owners(self) -> Owners:
        """The plug-ins and the users' files whose code the task runs, as names of classes."""
        return sources.owners(
            *itertools.chain(*(result.required_objects for result in self.results))
        )

    @property
    def input_files(self) -> list[tuple[Path, bool]]:
        """The files of the user that the task reads, as absolute paths, each with whether it is
        small enough to travel to another machine.

        They are the files that specs name classes in, which always travel, and those that options
        name, such as the data of a dataset: of a small folder all its files, and of large data the
        path alone, which stays.
        """
        files: dict[Path, bool] = {}
        for part in itertools.chain(*(result.required_objects for result in self.results)):
            for cls in sources.classes(part):
                files |= dict.fromkeys(names.files_of(cls.__module__), True)
            for name in names.path_options(part):
                value = getattr(part, name)
                if isinstance(value, str):
                    path = Path(value).expanduser()
                    large = is_large(path)
                    files |= dict.fromkeys([path] if large else files_in(path), not large)
        return [(path.absolute(), travels) for path, travels in files.items()]

    def conclude(self, outcome: Outcome[object]) -> list[object]:
        """Return the record of each result or, where the task failed, write records to the store
        that say why, and return these.

        A task that went well has written its records itself. References and kernels, which have no
        record, get none where they failed: the run remembers the failure, see `Run.unrecorded`.
        """
        if outcome.status == "ok":
            return outcome.result if isinstance(outcome.result, list) else [outcome.result]
        return [
            result.write_failure(self.store, outcome)
            for result in self.results
            if isinstance(result, RecordedResult)
        ]


@dataclass(frozen=True)
class Stage:
    """Tasks that can be carried out side by side, once the stage before them is done.

    Attributes
    ----------
    name : str
        What it measures, in lines of progress.
    tasks : list of Task
    n_fresh_processes : int or None
        Number of fresh processes of this machine that carry them out at most, because times and
        memories depend on the machine and on what else a process has done; None where any worker
        can. A run in this process alone starts none.
    start : callable or None
        Starts such a process, if it is a special one.
    """

    name: str
    tasks: list[Task]
    n_fresh_processes: int | None = None
    start: Callable[[], Process] | None = None


@dataclass(frozen=True, eq=False)
class Stages:
    """The stages of a plan's results that a shelf lacks.

    Attributes
    ----------
    plan : Plan
    shelf : Shelf
    rounds : int
        Number of rounds of times in this process, 0 for as many as tell them apart, in copies.
    """

    plan: Plan
    shelf: Shelf
    rounds: int = 0

    @property
    def case_labels(self) -> Mapping[str, str]:
        """The labels of the cases by name."""
        return labels({case.name: vars(case) for case in self.plan.selection.cases})

    def missing_scores(self) -> list[Scores]:
        """Return the scores that have no record, or one of something that broke.

        Records are read through the shelf, each once.
        """
        return [score for score in self.plan.scores if self.shelf.is_missing(score)]

    def references(self, scores: Sequence[Scores]) -> Stage:
        """Return the stage of the references that scores lack, while one process compiles kernels;
        without scores an empty stage.

        Every estimator of a case needs them: in the stage of the scores, two workers would both
        compute them. Cases that share a reference have it once; what is stored and whole is left
        out.
        """
        if not scores:
            return Stage("references", [])
        missing: dict[Path, CaseReference] = {}
        first_of_case = {score.case: score for score in scores}
        for score in first_of_case.values():
            for reference in score.references:
                if reference.read(self.shelf.store) is None:
                    missing.setdefault(self.shelf.place(reference).path, reference)
        dtypes = {DTYPES[score.case.dtype] for score in scores}
        compiles = partial(_compile, tuple(dtypes))
        kernels_task = Task("kernels", [], self.shelf.store, MOST_COMPILING, compiles)
        timeout = self.plan.selection.timeout
        tasks = self._tasks(missing.values(), timeout)
        return Stage("references", [kernels_task, *tasks])

    def scores(
        self,
        scores: Sequence[Scores],
        failed_references: Mapping[CaseReference, MeasurementStatus],
    ) -> Stage:
        """Return the stage of some scores; references that have failed are not tried again by each
        of them.
        """
        tasks = []
        for score, task in zip(
            scores, self._tasks(scores, self.plan.selection.timeout), strict=True
        ):
            failed = {
                reference: failed_references[reference]
                for reference in score.references
                if reference in failed_references
            }
            call = partial(score.measure, failed_references=failed) if failed else task.call
            tasks.append(replace(task, call=call))
        return Stage("scores", tasks)

    def memories(self, *, remeasure: bool = False) -> Stage:
        """Return the stage of the memories that are missing, or of all of them with `remeasure`,
        where the score at the depth is ok.

        They are measured in new processes of this machine, one for each core, because memory that
        scores have given back would hide what a gradient takes.
        """
        missing = [
            cost
            for cost in self._measurable_costs()
            if cost.metric == MEMORY and (remeasure or self.shelf.is_missing(cost))
        ]
        tasks = self._tasks(missing, self.plan.selection.timeout)
        return Stage("memories", tasks, n_fresh_processes=os.cpu_count(), start=start_for_memories)

    def times(self, *, remeasure: bool = False) -> Stage:
        """Return the stage of the times where the score at the depth is ok, with one task for all
        cases of a problem: only times of the same rounds can be compared.

        A problem is measured again as a whole if one of its times is missing, if they are of
        different rounds, or with `remeasure`. The tasks have no time limit, each of their times
        has, and one process carries them out after each other.
        """
        times = [cost for cost in self._measurable_costs() if cost.metric != MEMORY]
        case_labels = self.case_labels
        tasks = []
        for members in grouped(times, lambda cost: cost.case.problem).values():
            if not (remeasure or self._lacks_common_turns(members)):
                continue
            cases = dict.fromkeys(case_labels[cost.case.name] for cost in members)
            label = f"times on {text.listing([*cases])}"
            turns = Turns(members, self.plan.selection.timeout, self.rounds)
            store = self.shelf.store_for(members)
            tasks.append(Task(label, members, store, math.inf, turns.measure))
        return Stage("times", tasks, n_fresh_processes=1)

    def experiments(self, workers: int | None) -> Stage:
        """Return the stage of the experiments that are missing, with the number of threads that
        each may take.

        That is the number of this machine's cores divided by that of the experiments that run at
        once, at most `workers`. None stands for workers of other machines: then each has one
        thread.
        """
        missing = [
            experiment for experiment in self.plan.experiments if self.shelf.is_missing(experiment)
        ]
        busy = number_of_cores() if workers is None else min(workers, len(missing))
        threads = number_of_cores() // max(busy, 1)
        tasks = self._tasks(missing, self.plan.selection.experiment_timeout)
        return Stage(
            "experiments",
            [
                replace(task, call=partial(measure_in_threads, experiment, threads))
                for task, experiment in zip(tasks, missing, strict=True)
            ],
        )

    def _measurable_costs(self) -> Iterator[EstimateCost]:
        """Yield the costs of the plan whose score at their depth is ok."""
        return filter(self.shelf.is_measurable, self.plan.costs)

    def _lacks_common_turns(self, costs: Sequence[EstimateCost]) -> bool:
        """Tell whether a time is missing or failed for a reason that is tried again, or some were
        not measured in turns with the others.
        """
        records = [self.shelf.record(cost) for cost in costs]
        turns = {record.turns for record in records if record and record.value}
        return len(turns) > 1 or any(map(self.shelf.is_missing, costs))

    def _tasks(self, results: Iterable[Result[object]], timeout: float) -> list[Task]:
        """Return a task for each result, whose store takes the result and its references alone."""
        case_labels = self.case_labels
        tasks = []
        for result in results:
            store = self.shelf.store_for([result, *result.references])
            label = result.label(case_labels)
            tasks.append(Task(label, [result], store, timeout, result.measure))
        return tasks


def _compile(dtypes: tuple[torch.dtype, ...], store: Store) -> None:
    kernels.prepare(dtypes)
