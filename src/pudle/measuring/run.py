"""The one engine: the results that a selection asks for, the records that its store has of them,
and how workers, here or on a cluster, fill in those that are missing.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from .. import text
from ..answers import Measured
from ..errors import UnreadableResult
from ..files import write_record
from ..workers import InProcess, Pool
from .answer_inputs import measurements
from .check_results import check_status, key_of
from .experiment import ProgressCallback, silent
from .naming import labels
from .plan import Plan
from .results.cost import PRELOADED, EstimateCost
from .results.experiment import CarriedExperiment
from .results.reference import CaseReference
from .results.result import RecordedResult, Result
from .results.score import Scores
from .selection import Selection
from .shelf import Shelf
from .stages import Executor, Stage, Stages, Task
from .store import ResultPlace, Store
from .stored_files import BROKEN, MeasurementStatus, Record, RunList

R = TypeVar("R", bound=Record)


@dataclass(eq=False)
class Run:
    """All that a selection asks for, and what a store has of it.

    Attributes
    ----------
    selection : Selection
    store : Store
    rounds : int
        Number of rounds of times in this process, 0 for as many as tell them apart, in copies.
    """

    selection: Selection
    store: Store
    rounds: int = 0
    #: Whether the files of the folder say what is measured.
    is_begun: bool = field(init=False, default=False)
    #: What broke in this run and has no record that would say so: references, and the compilation
    #: of kernels.
    unrecorded: dict[Task, MeasurementStatus] = field(init=False, default_factory=dict)

    # -- what is asked for, and what there is

    @cached_property
    def shelf(self) -> Shelf:
        """The records, as the store had them at the first look, and as the run adds them."""
        return Shelf(self.store)

    @cached_property
    def plan(self) -> Plan:
        """The results that are asked for, whose records are read from the store; it is made anew
        when the scores are known.
        """
        plan = self._plan_from_records()
        # Keys are those of the moment at which the run begins.
        for result in plan.results:
            self.shelf.record(result)
        return plan

    def _plan_from_records(self) -> Plan:
        scores = Plan(self.selection).scores
        return Plan(self.selection, {score: self.shelf.record(score) for score in scores})

    @property
    def scores(self) -> list[Scores]:
        """The scores of every case with every estimator that is measured on it."""
        return self.plan.scores

    @property
    def costs(self) -> list[EstimateCost]:
        """Times and memories, as far as the scores are known."""
        return self.plan.costs

    @property
    def experiments(self) -> list[CarriedExperiment]:
        """The experiments."""
        return self.plan.experiments

    @property
    def results(self) -> list[RecordedResult[Record]]:
        """All that is asked for."""
        return self.plan.results

    @property
    def records(self) -> dict[RecordedResult[Record], Record | None]:
        """The record of each result, None where there is none that is whole and up to date."""
        _ = self.plan
        return self.shelf.records

    def place(self, result: Result[object]) -> ResultPlace:
        """Return the file of a result and its key, as they are when the run begins."""
        return self.shelf.place(result)

    def record(self, result: RecordedResult[R]) -> R | None:
        """Return the record of a result, None where there is none that is whole and up to date;
        each is read once.
        """
        return self.shelf.record(result)

    def is_missing(self, result: RecordedResult[Record]) -> bool:
        """Tell whether there is no record, or one of something that broke: it is tried again."""
        return self.shelf.is_missing(result)

    @cached_property
    def _case_labels(self) -> dict[str, str]:
        return labels({case.name: vars(case) for case in self.selection.cases})

    def label(self, result: Result[object]) -> str:
        """Return the label of a result in lines of progress."""
        return result.label(self._case_labels)

    # -- filling

    def missing(
        self, *, costs: bool = True, remeasure: bool = False, workers: int | None = 1
    ) -> Iterator[Stage]:
        """Yield the tasks that are left, stage by stage: references and kernels, scores, memories,
        times, experiments. Some may be empty.

        Each stage is planned when the iteration comes to it, after those before it are done. All
        costs are measured if `remeasure`, and none without `costs`. `workers` processes of this
        machine carry the experiments out; None stands for those of other machines. Once the scores
        are known the plan is made anew and, if the run has begun, its list is written again.
        """
        stages = Stages(self.plan, self.shelf, self.rounds)
        scores = stages.missing_scores()
        yield stages.references(scores)
        yield stages.scores(scores, self._failed_references())
        if scores:
            # They say at which depths there are times as well.
            self.plan = self._plan_from_records()
            stages = Stages(self.plan, self.shelf, self.rounds)
            if self.is_begun:
                self.begin()
        if costs:
            yield stages.memories(remeasure=remeasure)
            yield stages.times(remeasure=remeasure)
        yield stages.experiments(workers)

    def fill(
        self,
        executor: Executor,
        *,
        workers: int | None = None,
        costs: bool = True,
        remeasure: bool = False,
        progress: ProgressCallback = silent,
    ) -> list[Result[object]]:
        """Measure what is missing, write it to the store, and return what was measured now,
        references included.

        Scores and experiments run where the executor runs them. Costs run in fresh processes of
        this machine, `workers` of them for memories, by default one per core, unless the executor
        is this process. With `remeasure` all costs are measured, without `costs` none. A process
        that runs out of time or memory, or crashes, costs its own task only, and of that the depths
        that are left: the record says so. `progress` is called after each task with the counts
        and the name of its stage.
        """
        measured_now: list[Result[object]] = []
        processes = 1 if isinstance(executor, InProcess) else getattr(executor, "size", None)
        for stage in self.missing(costs=costs, remeasure=remeasure, workers=processes):
            with contextlib.ExitStack() as stack:
                stage_executor = executor
                if stage.n_fresh_processes and not isinstance(executor, InProcess):
                    number = min(stage.n_fresh_processes, workers or stage.n_fresh_processes)
                    stage_executor = stack.enter_context(
                        Pool(number, stage.start, module=PRELOADED)
                    )
                outcomes = stage_executor.run([task.job for task in stage.tasks])
                stack.enter_context(contextlib.closing(outcomes))
                for n_done, (task, outcome) in enumerate(outcomes, 1):
                    measured_now += task.results
                    if outcome.status in BROKEN and not _has_records(task):
                        status = MeasurementStatus(outcome.status, outcome.reason)
                        self.unrecorded[task] = status
                    for result, record in zip(task.results, task.conclude(outcome), strict=False):
                        # A reference has no record.
                        if isinstance(result, RecordedResult) and isinstance(record, Record):
                            self.records[result] = record
                    progress(n_done, len(stage.tasks), f"{stage.name}: {task.label}")
        return measured_now

    def _failed_references(self) -> dict[CaseReference, MeasurementStatus]:
        """Return the references that broke in this run, with status and reason."""
        return {
            result: status
            for task, status in self.unrecorded.items()
            for result in task.results
            if isinstance(result, CaseReference)
        }

    # -- the folder

    @property
    def folder(self) -> Path:
        """The profile's folder."""
        return self.store.folder.parent

    def begin(self) -> None:
        """Freeze the selection, in ``selection.json``, and write down which files hold its results,
        for the folder (``run.json``) and for the commit, if there is one (``runs/COMMIT.json``,
        with uncommitted changes ``runs/COMMIT-dirty.json``).

        It is written first, so that it holds for a run that is interrupted. What a run of
        experiments, or of cases alone, does not select stays listed, and a run without cases leaves
        a selection that is there as it is.
        """
        self.is_begun = True
        frozen, store = self.folder / "selection.json", self.store
        if self.selection.cases or not frozen.exists():
            write_record(frozen, self.selection)
        self._write_list(self.folder / "run.json")
        if store.commit:
            # A run with uncommitted changes must not pass for the commit it started from.
            name = f"{store.commit}-dirty.json" if store.dirty else f"{store.commit}.json"
            self._write_list(self.folder / "runs" / name)

    def _write_list(self, path: Path) -> None:
        """Write which files hold the results, and what `pudle check` last found of each plug-in,
        into the list at a path.

        Experiments are added to those that it names already; cases, if there are some, replace
        those that it has. A list that is damaged or of another version begins anew.
        """
        run = RunList(commit=self.store.commit)
        # One that is damaged or of an older version begins anew.
        with contextlib.suppress(UnreadableResult):
            run = RunList.read(path)
            run.commit = self.store.commit
        name = self.shelf.file
        if self.selection.cases:
            run.selection = self.selection
            run.plugins = {}
            for spec, plugin in self.plan.plugins.items():
                key = key_of(plugin)
                run.plugins[spec] = key, check_status(key)
            run.records = [(score.case.name, score.estimator, name(score)) for score in self.scores]
            run.costs = [
                (cost.metric, cost.case.name, cost.estimator, cost.depth, name(cost))
                for cost in self.costs
            ]
        for experiment in self.experiments:
            run.experiments[experiment.name] = name(experiment)
        run.write(path)

    # -- what came of it

    def counts(self, measured_now: Sequence[Result[object]], where: str = "") -> list[str]:
        """Return texts with the counts of the scores, costs and experiments that were measured now,
        and of their statuses; `where` says where costs were.
        """
        parts = self._count_statuses(self.scores, measured_now, "scores computed")
        if n_costs := len(set(self.costs).intersection(measured_now)):
            counted = text.count(n_costs, "time or memory", "times and memories")
            parts.append(f"{counted} measured now{where}")
        parts += self._count_statuses(self.experiments, measured_now, "experiments carried out")
        return parts

    def _count_statuses(
        self,
        results: Sequence[RecordedResult[Record]],
        measured_now: Sequence[Result[object]],
        noun: str,
    ) -> list[str]:
        """Return the count of new results among a total, then of these the count of each status, as
        in ``3 of 8 scores computed now``; nothing without results.
        """
        if not results:
            return []
        new = set(results).intersection(measured_now)
        records = [record for result in new if (record := self.record(result))]
        statuses = Counter(record.status for record in records)
        by_status = [f"{number} {status}" for status, number in sorted(statuses.items())]
        return [f"{len(new)} of {len(results)} {noun} now", *by_status]

    def measured(self) -> Mapping[str, tuple[Measured, ...]]:
        """Return the measurements that answers rest on, by the names of cases, of all records that
        there are; nothing is measured.
        """
        scores = filter(None, map(self.record, self.scores))
        return measurements(scores, [*filter(None, map(self.record, self.costs))])

    def failures(
        self, *, costs: bool = True
    ) -> list[tuple[RecordedResult[Record], MeasurementStatus]]:
        """Return the results whose record has a status other than ok, with status and reason:
        scores, with `costs` times and memories, then experiments. One that has no record is left
        out.
        """
        results: list[RecordedResult[Record]] = [*self.scores]
        if costs:
            results += self.costs
        results += self.experiments
        failed = []
        for result in results:
            record = self.record(result)
            if record and record.status != "ok":
                failed.append((result, MeasurementStatus(record.status, record.reason)))
        return failed


def _has_records(task: Task) -> bool:
    """Tell whether the results of a task are kept as records, which say what failed."""
    return any(isinstance(result, RecordedResult) for result in task.results)
