"""The one engine: what a selection asks for, what its store has of it, and how workers, here or on
a cluster, fill in what is missing.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from operator import itemgetter
from pathlib import Path
from typing import Protocol, TypeVar, cast

import torch

from .. import kernel_choice, names, text
from ..algorithms import kernels
from ..answers import Measured
from ..errors import UnreadableResult
from ..estimator import GradientEstimator
from ..files import files_in, is_large, write_record
from ..workers import ONE_THREAD, Here, Job, Outcome, Owners, Pool, Process
from . import sources
from .case import DTYPES, labels
from .checked import key_of, verdict
from .contents import BROKEN, Record, RunList, Verdict
from .experiment import ExperimentResult, ProgressCallback, silent
from .history import update_history
from .measured import grouped, measured
from .provenance import NoRepository, installed_commit, repository, results_home
from .results.cost import MEMORY, NO_KERNEL, TIME, TORCH_TIME, Cost, Turns, start_for_memories
from .results.experiment import CarriedExperiment
from .results.reference import CaseReference
from .results.result import RecordedResult, Result
from .results.score import Scores
from .selection import Selection
from .store import Place, Store, locked

#: Seconds that compiling the kernels may take, which is a dozen for each dtype on a quiet machine.
MOST_COMPILING = 900.0
#: Names that a line gives of the results that are without a number for one and the same reason.
MOST_NAMES = 3
R = TypeVar("R", bound=Record)
#: Work and how it ended.
Outcomes = Generator["tuple[Work, Outcome[object]]"]


class Executor(Protocol):
    """What runs jobs: the workers of this machine, of a cluster, or this process."""

    def run(self, jobs: Iterable[Job[Work, object]]) -> Outcomes:
        """Yield the key and the outcome of every job, in the order in which they end."""


@dataclass(frozen=True, eq=False)
class Work:
    """One call for a worker, and the results that it brings: one, the times of a problem, or none
    where kernels are compiled.
    """

    label: str
    results: Sequence[Result[object]]
    store: Store
    timeout: float
    #: What is called with the store.
    call: Callable[[Store], object]

    @property
    def job(self) -> Job[Work, object]:
        """The call with its limit."""
        return Job(self.call, (self.store,), self.timeout, self, self.owners)

    @property
    def owners(self) -> Owners:
        """The plug-ins and the users' files whose code the work runs."""
        return sources.owners(*itertools.chain(*(result.needed for result in self.results)))

    @property
    def input_files(self) -> list[tuple[Path, bool]]:
        """The files of the user that the work reads, each with whether it is small enough to travel
        to another machine.

        They are the files that specs name classes in, and those that options name, such as the data
        of a dataset.
        """
        files: dict[Path, bool] = {}
        for each in itertools.chain(*(result.needed for result in self.results)):
            for cls in sources.classes(each):
                files |= dict.fromkeys(names.files_of(cls.__module__), True)
            for name in names.path_options(each):
                if isinstance(value := getattr(each, name), str):
                    path = Path(value).expanduser()
                    large = is_large(path)
                    files |= dict.fromkeys([path] if large else files_in(path), not large)
        return [(path.absolute(), travels) for path, travels in files.items()]

    def concluded(self, outcome: Outcome[object]) -> list[object]:
        """Return what came of each result or, where nothing did, a record that says why."""
        if outcome.status == "ok":
            return outcome.result if isinstance(outcome.result, list) else [outcome.result]
        recorded = (each for each in self.results if isinstance(each, RecordedResult))
        return [each.failed(self.store, outcome) for each in recorded]


def _compile(dtypes: tuple[torch.dtype, ...], store: Store) -> None:
    kernels.prepare(dtypes)


@dataclass(frozen=True)
class Stage:
    """Work that can be carried out side by side, once the stage before it is done.

    Attributes
    ----------
    works : list of Work
    alone : int or None
        Number of fresh processes of this machine that must carry it out, because times and memories
        depend on the machine and on what else a process has done; None where any worker can.
    start : callable or None
        What starts such a process, if it is a special one.
    """

    works: list[Work]
    alone: int | None = None
    start: Callable[[], Process] | None = None


@dataclass(eq=False)
class Run:
    """All that a selection asks for, and what a store has of it.

    Attributes
    ----------
    selection : Selection
    store : Store
    rounds : int
        Number of rounds of times in this process, 0 for as many as tell them apart, in copies.
    records : dict
        The record of each result, None where there is none that is whole and up to date.
    """

    selection: Selection
    store: Store
    rounds: int = 0
    records: dict[RecordedResult[Record], Record | None] = field(init=False, default_factory=dict)
    #: Whether the files of the folder say what is measured.
    begun: bool = field(init=False, default=False)
    _places: dict[Result[object], Place] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for each in self.results:
            self.record(each)

    # -- what is asked for

    @cached_property
    def scores(self) -> list[Scores]:
        """The scores of every case with every estimator that is measured on it."""
        return list(itertools.starmap(Scores, self.selection.pairs))

    @cached_property
    def costs(self) -> list[Cost]:
        """Times and memories at the timed depths, and times at those that answers name, as far as
        the scores are known.
        """
        chosen, cases = self.selection, {case.name: case for case in self.selection.cases}
        scored = measured(filter(None, map(self.record, self.scores)), [])
        named = {
            Cost(TIME, cases[each.case], each.estimator, int(depth))
            for each in itertools.chain(*scored.values())
            for depth in (each.reach(error).depth for error in chosen.timed_errors)
            if TIME in chosen.costs and depth < math.inf
        }
        timed = set(self._timed)
        return [*self._timed, *(each for each in sorted(named, key=repr) if each not in timed)]

    @cached_property
    def _plugins(self) -> dict[str, GradientEstimator]:
        made = {each: names.make_estimator(each) for each in self.selection.estimators}
        return {each: one for each, one in made.items() if names.is_plugin(type(one))}

    @cached_property
    def _timed(self) -> list[Cost]:
        chosen = self.selection
        # Without kernels, every time is one of the torch path.
        with_kernels = TIME in chosen.costs and kernel_choice.choice() != "torch"
        # A plug-in's layers may be torch's: then the torch path of the others is its measure.
        on_torch = chosen.torch_depths or (chosen.timed_depths if self._plugins else ())
        both = on_torch if with_kernels else ()
        return [
            Cost(metric, case, estimator, depth)
            for case, estimator in chosen.pairs
            for depth in chosen.timed_depths
            for metric in (*chosen.costs, *[TORCH_TIME] * (depth in both))
            # No answer lies at depths that are not scored.
            if depth in case.depths
        ]

    @cached_property
    def experiments(self) -> list[CarriedExperiment]:
        """The experiments."""
        return list(map(CarriedExperiment.registered, self.selection.experiments))

    @property
    def results(self) -> list[RecordedResult[Record]]:
        """All that is asked for."""
        return [*self.scores, *self.costs, *self.experiments]

    @cached_property
    def _called(self) -> dict[str, str]:
        return labels({case.name: vars(case) for case in self.selection.cases})

    def label(self, result: Result[object]) -> str:
        """Return what lines of progress call a result."""
        return result.label(self._called)

    def place(self, result: Result[object]) -> Place:
        """Return the file of a result and its key, as they are when the run begins: what changes
        meanwhile is refused.
        """
        if result not in self._places:
            self._places[result] = self.store.place(result)
        return self._places[result]

    def record(self, result: RecordedResult[R]) -> R | None:
        """Return the record of a result, if there is one."""
        if result not in self.records:
            self.records[result] = result.read_at(self.place(result))
        # What lies there is what the result read, or wrote.
        return cast(R | None, self.records[result])

    def is_missing(self, result: RecordedResult[Record]) -> bool:
        """Tell whether there is no record, or one of something that broke: it is tried again."""
        record = self.record(result)
        return record is None or record.status in BROKEN

    # -- what is missing

    def missing(self, *, costs: bool = True, again: bool = False) -> Iterator[Stage]:
        """Yield the work that is left, stage by stage: each is planned when those before it are
        done. All costs are measured if `again`, and none without `costs`.
        """
        scores = [each for each in self.scores if self.is_missing(each)]
        first = self._references(scores)
        if scores:
            # One process compiles the kernels while the others do what takes none.
            dtypes = {DTYPES[each.case.dtype] for each in scores}
            compiles = partial(_compile, tuple(dtypes))
            first.insert(0, Work("kernels", [], self.store, MOST_COMPILING, compiles))
        yield Stage(first)
        yield Stage(self._works(scores, self.selection.timeout))
        if self.begun and scores:
            # They say at which depths there are times as well.
            self.begin()
        if costs:
            able = [each for each in self.costs if self._is_measurable(each)]
            memories = [each for each in able if each.metric == MEMORY]
            # In new processes, because memory that scores have given back would hide what a
            # gradient takes.
            left = [each for each in memories if again or self.is_missing(each)]
            works = self._works(left, self.selection.timeout)
            yield Stage(works, alone=os.cpu_count(), start=start_for_memories)
            yield Stage(self._times(able, again), alone=1)
        experiments = [each for each in self.experiments if self.is_missing(each)]
        yield Stage(self._works(experiments, self.selection.experiment_timeout))

    def _works(self, results: Iterable[Result[object]], timeout: float) -> list[Work]:
        works = []
        for each in results:
            store = self._planned([each, *each.references])
            works.append(Work(self.label(each), [each], store, timeout, each.measure))
        return works

    def _planned(self, results: Iterable[Result[object]]) -> Store:
        """Return the store, which takes these results alone, under the keys of the plan."""
        return replace(self.store, planned=frozenset(self.place(each).key for each in results))

    def _references(self, scores: Iterable[Scores]) -> list[Work]:
        """Return the work of the references that scores lack.

        Every estimator of a case needs them: in the same stage, two workers would both compute
        them.
        """
        lacking: dict[Path, CaseReference] = {}
        for each in {score.case: score for score in scores}.values():
            for reference in each.references:
                if reference.read(self.store) is None:
                    lacking.setdefault(self.place(reference).path, reference)
        return self._works(lacking.values(), self.selection.timeout)

    def _is_measurable(self, cost: Cost) -> bool:
        """Tell whether the score at the depth of a cost is ok."""
        record = self.record(Scores(cost.case, cost.estimator))
        return record is not None and record.at(cost.depth).status == "ok"

    def _times(self, costs: Iterable[Cost], again: bool) -> list[Work]:
        """Return the work of times, which are measured together for all cases of a problem, also
        where one is missing: only those of the same rounds can be compared.
        """
        times = [each for each in costs if each.metric != MEMORY]
        works = []
        for members in grouped(times, lambda each: each.case.problem).values():
            kept = [self.record(each) for each in members]
            turns = {record.turns for record in kept if record and record.value}
            if again or len(turns) > 1 or any(map(self.is_missing, members)):
                cases = dict.fromkeys(self._called[each.case.name] for each in members)
                works.append(
                    Work(
                        f"times on {text.listing([*cases])}",
                        members,
                        self._planned(members),
                        math.inf,
                        Turns(members, self.selection.timeout, self.rounds).measure,
                    )
                )
        return works

    # -- filling

    def fill(
        self,
        executor: Executor,
        *,
        workers: int | None = None,
        costs: bool = True,
        again: bool = False,
        progress: ProgressCallback = silent,
    ) -> list[Result[object]]:
        """Measure what is missing, and return what was measured now.

        Scores and experiments run where the executor runs them. Costs run in fresh processes of
        this machine, `workers` of them for memories, unless the executor is this process. A process
        that runs out of time or memory, or crashes, costs its own work only, and of that the depths
        that are left: the record says so.
        """
        measured: list[Result[object]] = []
        for stage in self.missing(costs=costs, again=again):
            with contextlib.ExitStack() as stack:
                runs = executor
                if stage.alone and not isinstance(executor, Here):
                    number = min(stage.alone, workers or stage.alone)
                    runs = stack.enter_context(Pool(number, stage.start))
                outcomes = runs.run([work.job for work in stage.works])
                stack.enter_context(contextlib.closing(outcomes))
                for done, (work, outcome) in enumerate(outcomes, 1):
                    measured += work.results
                    for result, record in zip(work.results, work.concluded(outcome), strict=False):
                        # A reference has no record.
                        if isinstance(result, RecordedResult) and isinstance(record, Record):
                            self.records[result] = record
                    progress(done, len(stage.works), work.label)
            if stage.works:
                # The scores say at which depths there are times as well.
                vars(self).pop("costs", None)
        return measured

    # -- the folder

    @property
    def folder(self) -> Path:
        """The profile's folder."""
        return self.store.folder.parent

    def begin(self) -> None:
        """Freeze the selection and write down which files hold its results, for the folder and for
        the commit.

        It is written first, so that it holds for a run that is interrupted; what a run of
        experiments, or of cases alone, does not select stays listed.
        """
        self.begun = True
        frozen, store = self.folder / "selection.json", self.store
        if self.selection.cases or not frozen.exists():
            write_record(frozen, self.selection)
        # A run with uncommitted changes must not pass for the commit it started from.
        named = self.folder / "runs" / f"{store.commit}{'-dirty' * store.dirty}.json"
        for path in (self.folder / "run.json", *[named] * bool(store.commit)):
            run = RunList(commit=store.commit)
            # One that is damaged or of an older version begins anew.
            with contextlib.suppress(UnreadableResult):
                run = RunList.read(path)
                run.commit = store.commit
            if self.selection.cases:
                run.selection = self.selection
                keys = {each: key_of(plugin) for each, plugin in self._plugins.items()}
                run.plugins = {each: (key, verdict(key)) for each, key in keys.items()}
                run.records = [
                    (each.case.name, each.estimator, self._place(each)) for each in self.scores
                ]
                run.costs = [
                    (each.metric, each.case.name, each.estimator, each.depth, self._place(each))
                    for each in self.costs
                ]
            run.experiments |= {each.name: self._place(each) for each in self.experiments}
            run.write(path)

    def _place(self, result: Result[object]) -> str:
        return self.place(result).path.relative_to(self.store.folder).as_posix()

    # -- what became of it

    def counts(self, measured: Sequence[Result[object]], where: str = "") -> list[str]:
        """Return how much of what was asked for was measured now, and where costs were."""
        parts = self._counted(self.scores, measured, "scores computed")
        if costs := len(set(self.costs).intersection(measured)):
            counted = text.count(costs, "time or memory", "times and memories")
            parts.append(f"{counted} measured now{where}")
        return parts + self._counted(self.experiments, measured, "experiments carried out")

    def _counted(
        self,
        results: Sequence[RecordedResult[Record]],
        measured: Sequence[Result[object]],
        what: str,
    ) -> list[str]:
        """Return how many results of a total are new, and how many of these have which status."""
        new = set(results).intersection(measured)
        statuses = Counter(record.status for each in new if (record := self.record(each)))
        some = [f"{number} {status}" for status, number in sorted(statuses.items())]
        return [f"{len(new)} of {len(results)} {what} now", *some] if results else []

    def measured(self) -> Mapping[str, tuple[Measured, ...]]:
        """Return what answers rest on, by the names of cases."""
        scores = filter(None, map(self.record, self.scores))
        return measured(scores, [*filter(None, map(self.record, self.costs))])

    def failures(self, *, costs: bool = True) -> list[tuple[RecordedResult[Record], Verdict]]:
        """Return the results that have no number, and why."""
        some = [*self.scores, *(self.costs if costs else ()), *self.experiments]
        failed = []
        for each in some:
            record = self.record(each)
            if record and record.status != "ok":
                failed.append((each, Verdict(record.status, record.reason)))
        return failed


def store_of(selection: Selection, home: Path | None) -> tuple[Store, Path | None]:
    """Return the store of a selection in a home, by default the repository's, and the root of the
    repository around the working folder, if there is one.

    Outside any repository results have no commit; the version and the digest of the sources label
    them everywhere. PudleError says that the installed package is not the checkout's.
    """
    root, commit, dirty = None, "", False
    with contextlib.suppress(NoRepository):
        root = repository(Path.cwd())
        commit, dirty = installed_commit(root)
    folder = (home or results_home()).resolve() / selection.profile
    return Store(folder / "store", selection.profile, selection.device, commit, dirty), root


@dataclass(frozen=True)
class RunSummary:
    """What came of a run: the profile's folder; how much was measured now; a line for each reason
    that lies in the problem why results have no number; and the name and the reason of each result
    where something broke.
    """

    folder: Path
    counts: list[str]
    findings: list[str]
    broken: list[tuple[str, str]]


def execute(
    selection: Selection,
    *,
    home: Path | None,
    workers: int | None = None,
    scores_only: bool = False,
    again: bool = False,
    progress: ProgressCallback = silent,
    cluster: contextlib.AbstractContextManager[Executor] | None = None,
) -> RunSummary:
    """Carry out a run, in `workers` processes of this machine, at most and by default one per core;
    with a `cluster`, see `pudle.measuring.cluster.dask_cluster`, scores and experiments run there.

    A run is refused, before anything is written, if the installed package is not the checkout's, or
    another run holds the profile's folder. Outside any repository no history is written.
    """
    cores = os.cpu_count() or 1
    workers = min(workers or cores, cores)
    store, root = store_of(selection, home)
    with locked(store.folder.parent, "run"):
        run = Run(selection, store)
        run.begin()
        os.environ.update(ONE_THREAD)
        with cluster or Pool(workers) as executor:
            measured = run.fill(
                executor, workers=workers, costs=not scores_only, again=again, progress=progress
            )
        told: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
        for each, why in run.failures(costs=not scores_only):
            # A case without kernels has no time on the torch path beside its own: that is nothing
            # to tell.
            if why != ("skipped", NO_KERNEL):
                told[why.status in BROKEN].append((run.label(each), f"{why.status}: {why.reason}"))
        broken = told[True]
        # Numbers of uncommitted code have no place in a history of commits.
        if root and selection.cases and not scores_only and not store.dirty:
            broken += update_history(run.folder, root, store.commit)
    here = " on this machine, not on the cluster" if cluster else ""
    return RunSummary(run.folder, run.counts(measured, here), by_reason(told[False]), broken)


def by_reason(results: Iterable[tuple[str, str]]) -> list[str]:
    """Return a text for each reason that results have, after the names of the first of these and
    how many more there are.
    """
    texts = []
    for reason, those in grouped(results, itemgetter(1)).items():
        more = len(those) - MOST_NAMES
        first = ", ".join(label for label, _ in those[:MOST_NAMES]) + (
            f" and {more} more" if more > 0 else ""
        )
        texts.append(f"{first}: {reason}")
    return texts


def write_apart(
    folder: Path, carried_out: Iterable[tuple[CarriedExperiment, ExperimentResult]], device: str
) -> None:
    """Write results of experiments, which need not be registered, into a folder of their own, which
    `pudle report` reads like that of a run.
    """
    store = Store(folder / "store", folder.name, device)
    listed = RunList(commit="")
    for carried, result in carried_out:
        carried.conclude(store, result)
        listed.experiments[carried.name] = carried.file(carried.key(store))
    listed.write(folder / "run.json")
