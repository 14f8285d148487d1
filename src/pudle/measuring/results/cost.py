"""A time or a memory of one estimate, measured in copies of a process."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import secrets
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ... import kernel_choice, names, paired
from ...algorithms import kernels
from ...errors import InvalidArgument, MissingDependency, PudleError, UnsupportedProblem
from ...estimator import Estimate
from ...problems import Problem
from ...threads import block_threads, torch_threads
from ...workers import (
    ONE_THREAD,
    Copy,
    InProcess,
    Outcome,
    Process,
    failure,
    return_freed_memory,
    run_in_copy,
    work,
)
from ..case import DTYPES, Case
from ..grouping import grouped
from ..meters import (
    Timing,
    clock,
    peak_memory,
    problem_and_algorithm,
    seconds_of_other_processes,
    time_calls,
    touch,
)
from ..naming import slug
from ..provenance import machine
from ..scored_path import Returned, at_unseen_theta, require_scored
from ..stored_files import Amount, Record, Whole
from .reference import GRADIENTS
from .result import EstimatorResult

if TYPE_CHECKING:
    from ..store import Store

#: The module that workers have loaded when they begin.
PRELOADED = "pudle.measuring.preloaded"
#: Why a time on the torch path is skipped where that path is the only one.
NO_KERNEL = "no kernel applies here: the time is that of the torch path"
#: Rounds of the times of a problem at least. A depth gets more, up to so many, and until all have
#: taken some seconds, while the ends of an estimator's interval are further apart than this ratio.
ROUNDS, MOST_ROUNDS, SECONDS, WIDE = 10, 40, 6.0, 1.25
#: After so many rounds no more of a time that is so many times that of the fastest estimator at the
#: deepest depth: no noise explains that, and no answer needs to tell the two apart.
FEWEST_ROUNDS, SLOWER = 3, 3.0
#: An estimate on the CPU may use so many times its share of processors, and must use this many:
#: what it does in other threads and processes counts as its own.
MOST_PROCESSORS, LEAST_PROCESSORS = 1.2, 0.5
#: Why there is no memory of an estimate that other processes compute.
OTHER_PROCESSES = (
    "an estimate starts processes, whose memory is not measured: compute in the calling process"
)
#: The name of the copy of a process that compares results of built-in estimators: no spec.
SCORER = "scorer of built-in estimators"
#: The metric of a memory, that of a time, and that of a time without kernels.
MEMORY, TIME, TORCH_TIME = "memory_bytes", "seconds", "seconds_torch"


class CostRecord(Record, kw_only=True):
    """A time or memory of one estimator on one case at one depth."""

    identity = property(attrgetter("metric", "case", "estimator", "depth"))
    metric: str
    case: str
    estimator: str
    depth: Whole
    value: Amount | None = None
    #: A time in each round, and a text that is the same for all that was measured in these rounds:
    #: only then the k-th time of one can be compared with that of another.
    samples: list[Amount] = []
    turns: str = ""
    #: Elapsed seconds in each round, and the processors in use on average.
    elapsed: list[Amount] = []
    processors: Amount | None = None
    #: The memory of the process without the estimate.
    baseline: Amount | None = None


@dataclass(frozen=True)
class EstimateCost(EstimatorResult[CostRecord]):
    """A metric of one estimate of an estimator (a spec) at a depth: ``memory_bytes``, ``seconds``,
    or ``seconds_torch``, the time without kernels; in so many threads.

    It depends on the machine, and on the case as far as one estimate does: its first seed is what
    is measured.
    """

    metric: str
    case: Case
    estimator: str
    depth: int
    threads: int = 1

    rooms = (*GRADIENTS, "measuring/results/cost", "measuring/meters", "measuring/scored_path")
    record = CostRecord

    def label(self, case_labels: Mapping[str, str]) -> str:
        """Return, such as ``time of backprop on digits at depth 10``, its label; both kinds of
        times have the same.
        """
        quantity = "memory" if self.metric == MEMORY else "time"
        return (
            f"{quantity} of {self.estimator} on {case_labels[self.case.name]} at depth {self.depth}"
        )

    @property
    def identity(self) -> Mapping[str, object]:
        facts = {"metric": self.metric, "estimator": self.estimator}
        return facts | {"depth": self.depth, "case": self.case.name}

    def context(self, store: Store) -> object:
        """Return all that the cost depends on besides sources: device, kernels, machine and
        versions, its identity, and the problem of the case's first seed; the number of threads
        where there are several.
        """
        path = "torch" if self.metric == TORCH_TIME else kernel_choice.description()
        case = self.case
        problem = case.dataset, case.loss, case.dtype, case.algorithm, case.seeds[0]
        context = store.device, path, machine(), self.identity, problem
        return context if self.threads == 1 else (*context, {"threads": self.threads})

    def file(self, key: str) -> str:
        stem = f"{self.metric}-{slug(self.estimator)}-{self.depth}"
        return f"{self.case.name}/costs/{stem}-{key}.json"

    @property
    def is_built_in(self) -> bool:
        """Whether the estimator is one of this package, which is told by its name."""
        return names.is_built_in("estimators", self.estimator)

    def measure(self, store: Store) -> CostRecord:
        """Measure a memory in a copy of this process, or a time by itself, and write and return its
        record; a run takes the times of a problem together, see `Turns`. A failure is a status of
        the record, also where the copy was ended by force.

        The problem is drawn, and kernels are compiled, in this process. It measures a memory
        without a copy where it has used a GPU already.
        """
        if self.metric != MEMORY:
            (record,) = Turns([self], math.inf).measure(store)
            return record
        prepare([self], store)
        measure = functools.partial(self._measure_memory, store.device)
        in_process = has_used_gpu(store.device)
        measured = InProcess().call(math.inf, measure) if in_process else run_in_copy(measure)
        return self.write_outcome(store, measured)

    def _measure_memory(self, device: str) -> dict[str, int]:
        """Return the peak of an estimate, and the memory that this process had before, as fields of
        a record, once the estimate has been compared with the scored path.
        """
        seed = secrets.randbits(63)
        # In the copy alone: it would make every later time of this process longer.
        return_freed_memory(at_once=device == "cpu")
        with warnings.catch_warnings(), measuring_threads(self.threads):
            warnings.simplefilter("ignore", UserWarning)
            problem, algorithm = problem_and_algorithm(self.case, device)
            estimator, unseen = self.estimator_object, at_unseen_theta(problem, seed)
            before = seconds_of_other_processes()
            touch(estimator, problem, algorithm, self.depth)
            call = functools.partial(estimator.estimate, unseen, algorithm, self.depth)
            value, baseline, estimate = peak_memory(call, device)
            if seconds_of_other_processes() > before:
                raise UnsupportedProblem(OTHER_PROCESSES)
        # The peak is known: what is computed from here on does not count.
        self.require_scored(seed, Returned.of(estimate), device)
        return {"value": value, "baseline": baseline}

    def require_scored(self, seed: int, returned: Returned, device: str) -> None:
        """Raise OtherGradient unless `sweep` returns the same as `estimate` has returned at the
        unseen theta of a seed.

        It sweeps over this depth and a smaller one of the case, if there is one, which is drawn.
        """
        problem, algorithm = problem_and_algorithm(self.case, device)
        smaller = [depth for depth in self.case.depths if depth < self.depth]
        depths = [*([secrets.choice(smaller)] if smaller else ()), self.depth]
        with (
            computing_on(self.path),
            warnings.catch_warnings(),
            measuring_threads(self.threads),
        ):
            warnings.simplefilter("ignore", UserWarning)
            estimator = self.estimator_object

            def sweep(at: Problem) -> Estimate:
                *_, last = estimator.sweep(at, algorithm, depths)
                return last

            unseen = at_unseen_theta(problem, seed)
            require_scored(estimator, unseen, algorithm, self.depth, returned, sweep)

    @property
    def path(self) -> str:
        """The path that the metric asks for: ``torch``, or what PUDLE_KERNELS chooses."""
        return "torch" if self.metric == TORCH_TIME else kernel_choice.chosen_path()

    def write_failure(self, store: Store, outcome: Outcome[Any]) -> CostRecord:
        return self.write_outcome(store, outcome)

    def write_outcome(self, store: Store, outcome: Outcome[Any]) -> CostRecord:
        """Write, and return, the record of an outcome: of what was measured, or why nothing was.

        For a GPU a copy of this process writes it, if it can.
        """
        said = {"status": outcome.status, "reason": outcome.reason}

        def write() -> CostRecord:
            # The record says how many threads there were.
            with measuring_threads(self.threads):
                return self.write(store, **outcome.result or said)

        # In a copy as well: the name of a GPU is part of the record, and who asks for it can no
        # longer be copied. What ends that copy is not the estimate: here its error is told.
        if store.device == "cpu" or run_in_copy(write).status != "ok":
            return write()
        record = self.read(store)
        assert record, "what a copy has written lies in the store"
        return record


@contextlib.contextmanager
def measuring_threads(number: int) -> Iterator[None]:
    """Let all that is measured take so many threads, torch's operations as well as blocks of
    samples; the former numbers are back afterwards.

    Torch starts its own ones at the first operation that takes several: it must be in a copy of a
    process, because no copy of a process that has them could use them.
    """
    with torch_threads(number), block_threads(number):
        yield


@contextlib.contextmanager
def computing_on(path: str) -> Iterator[None]:
    """Let this process compute by kernels (``numba``) or on the torch path, as PUDLE_KERNELS says
    meanwhile; the former choice is back afterwards.
    """
    former = os.environ.get(kernel_choice.VARIABLE)
    os.environ[kernel_choice.VARIABLE] = path
    try:
        yield
    finally:
        del os.environ[kernel_choice.VARIABLE]
        if former is not None:
            os.environ[kernel_choice.VARIABLE] = former


def start_for_memories() -> Process:
    """Start a worker process that measures memories alone, in one thread, and gives memory back as
    soon as it is free: blocks that stay in the heap would serve later estimates.
    """
    return Process(_measure_memories, env=os.environ | ONE_THREAD, module=PRELOADED)


def _measure_memories() -> None:
    return_freed_memory(at_once=True)
    work()


def check_in_fresh_process(
    cost: EstimateCost, seed: int, returned: Returned, device: str, timeout: float
) -> Outcome[None]:
    """Return the outcome of `EstimateCost.require_scored` in a new copy of this process, in which a
    plug-in finds nothing that it has kept; with a GPU, which copies cannot use, in this process.
    """
    if has_used_gpu(device):
        return InProcess().call(timeout, cost.require_scored, seed, returned, device)
    with Copy(lambda: cost.require_scored(seed, returned, device)) as copy:
        return copy.ask(timeout=timeout)


#: Compares a result at the unseen theta of a seed with the scored path.
Scorer = Copy[Outcome[None]]


def start_scorer(device: str) -> Scorer:
    """Start a copy of this process, before it runs any plug-in, for `check_in_fresh_process` later
    on.
    """
    return Copy(
        lambda cost, seed, returned: check_in_fresh_process(cost, seed, returned, device, math.inf)
    )


def has_used_gpu(device: str) -> bool:
    """Tell whether the device is a GPU and this process uses it already, which a copy of this
    process then could not.
    """
    # torch declares no types here.
    initialized: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return device.startswith("cuda") and initialized


def prepare(costs: Sequence[EstimateCost], store: Store) -> None:
    """Load and compute in this process all that costs of one problem have in common, so that copies
    have it: kernels, sources for the keys and, on the CPU, the problem.

    A plug-in that is measured beside others is not made here. Memory that was freed is given back.
    """
    kernels.prepare((DTYPES[costs[0].case.dtype],))
    shared = len(costs) > 1
    for cost in costs:
        # A plug-in that others stand beside is made in its own copy alone.
        if not shared or cost.is_built_in:
            store.place(cost)
        # A copy of a process that uses CUDA could not use it.
        if store.device == "cpu":
            problem_and_algorithm(cost.case, store.device)
    # Last, because an estimate would use again, and seem not to need, whatever this process has
    # freed before.
    return_freed_memory()


class MeasuredTime(NamedTuple):
    """A time of one estimate, with what one of its calls, chosen at random, has returned at the
    unseen theta of a seed.
    """

    timing: Timing
    seed: int
    returned: Returned | None


class Timer:
    """A clock of costs, in a process that measures nothing else."""

    def __init__(self, device: str, scorer: Scorer | None = None) -> None:
        self.device, self.scorer = device, scorer
        self.chosen = kernel_choice.chosen_path()
        self._warm = functools.lru_cache(maxsize=64)(self._warmed_up)
        self._processors: dict[EstimateCost, list[float]] = {}

    def _warmed_up(self, cost: EstimateCost) -> Callable[[Problem], Estimate]:
        """Return the call that is timed, after a first one, which fills caches and may compile.

        MissingDependency says that no kernel applies, where a time without kernels would be the
        same.
        """
        problem, algorithm = problem_and_algorithm(cost.case, self.device)
        if cost.path != self.chosen and not kernels.is_plain(problem):
            raise MissingDependency(NO_KERNEL)
        estimator, depth = cost.estimator_object, cost.depth
        # The first call fills caches, and may compile for this depth.
        estimator.estimate(problem, algorithm, depth)
        return lambda unseen: estimator.estimate(unseen, algorithm, depth)

    def time(self, cost: EstimateCost, *, keep: bool) -> MeasuredTime:
        """Time an estimate, on the kernels or the torch path as its metric says. Every call gets a
        theta that the estimator has not seen. If `keep`, one of the results is returned, too.

        The last 64 warmed-up estimates are kept. Whatever the estimator raises is raised.
        """
        with computing_on(cost.path), warnings.catch_warnings(), measuring_threads(cost.threads):
            # What an estimator advises its caller is no line of a run's log.
            warnings.simplefilter("ignore", UserWarning)
            estimate = self._warm(cost)
            problem, _ = problem_and_algorithm(cost.case, self.device)

            def draw() -> tuple[int, Problem]:
                seed = secrets.randbits(63)
                return seed, at_unseen_theta(problem, seed)

            timing, (seed, _), returned = time_calls(
                draw,
                lambda drawn: estimate(drawn[1]),
                lambda estimate: Returned.of(estimate) if keep else None,
                clock(self.device),
            )
        # A copy that waits for its turn holds little.
        return_freed_memory()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
        return MeasuredTime(timing, seed, returned)

    def seconds(self, cost: EstimateCost) -> float:
        """Return the seconds of one estimate, in a process that is asked for the same several
        times.

        The first call for a cost also compares a result with the scored path: by the scorer, or
        without one in this process. From the third call on, an estimate that uses more processors
        than its share is refused.
        """
        processors = self._processors.setdefault(cost, [])
        timing, seed, returned = self.time(cost, keep=not processors)
        processors.append(timing.processors)
        if returned and self.scorer:
            asked = self.scorer.ask(cost, seed, returned)
            outcome = asked.result if asked.status == "ok" else asked
            if outcome.status != "ok":
                raise PudleError(outcome.reason)
        elif returned:
            cost.require_scored(seed, returned, self.device)
        if len(processors) >= FEWEST_ROUNDS:
            require_share(processors, cost.threads, self.device)
        return timing.seconds


def require_share(processors: Sequence[float], threads: int, device: str) -> None:
    """Raise InvalidArgument if an estimate on the CPU used more processors than its share, or
    hardly any, in the median over the rounds.
    """
    used = float(np.median(processors))
    if device != "cpu":
        return
    if used > MOST_PROCESSORS * threads:
        raise InvalidArgument(
            f"an estimate uses {used:.3g} processors, and its share is {threads}: compute in the"
            " calling thread and before `estimate` returns, or let everybody use more (--threads)"
        )
    if used < LEAST_PROCESSORS:
        raise InvalidArgument(
            f"an estimate uses {used:.2g} processors and waits the rest of the time, for work that"
            " is not measured: compute in the calling process"
        )


class Turns:
    """Times of one problem, measured in turns.

    Each estimator has a copy of this process, which is asked for one time at each depth in every
    round. Those at one depth follow each other, so that the k-th times of two estimators are of the
    same moment. A copy that dies, or takes longer than the `timeout`, costs its estimator that
    depth alone. With `rounds` there are exactly so many, in this process, which is quicker;
    without, as many as tell the times apart.
    """

    def __init__(self, costs: Sequence[EstimateCost], timeout: float, rounds: int = 0) -> None:
        self.costs, self.timeout, self.rounds = costs, timeout, rounds
        by_depth = grouped(sorted(costs, key=attrgetter("depth")), attrgetter("depth"))
        #: The costs that are still measured, by depth.
        self.groups: list[list[EstimateCost]] = [*by_depth.values()]
        self.samples: dict[EstimateCost, list[Timing]] = {cost: [] for cost in costs}
        self.failures: dict[EstimateCost, Outcome[Any]] = {}
        #: The copies of this process that were started: by estimator, and `SCORER`.
        self._copies: dict[str, Copy[Any]] = {}
        #: The round whose result is compared with the scored path.
        n_certain = min(rounds or FEWEST_ROUNDS, FEWEST_ROUNDS)
        self._checked_turn = {cost: secrets.randbelow(n_certain) for cost in costs}

    def measure(self, store: Store) -> list[CostRecord]:
        """Measure the times, write their records, one for each cost, and return these in order.

        Called once: the times are kept in this object. What failed has a record that says why.
        """
        prepare(self.costs, store)
        start, timer = time.monotonic(), Timer(store.device)
        with contextlib.ExitStack() as stack:
            for turn in range(self.rounds or MOST_ROUNDS):
                self._time_each_once(turn, timer, stack)
                if self.rounds:
                    continue
                if turn + 1 == FEWEST_ROUNDS:
                    self._leave_out_slow()
                if turn + 1 >= ROUNDS:
                    late = time.monotonic() > start + SECONDS
                    self.groups = [
                        group
                        for group in self.groups
                        if group and not late and self._is_undecided(group)
                    ]
                if not any(self.groups):
                    break
        turns = uuid.uuid4().hex
        return [
            cost.write_outcome(store, self._outcome(cost, turns, store.device))
            for cost in self.costs
        ]

    def _time_each_once(self, turn: int, timer: Timer, stack: contextlib.ExitStack) -> None:
        """Take one time of each cost that is still measured, into `samples`; one that fails is
        noted in `failures` and measured no more.

        The order within a depth is another in each `turn`.
        """
        for group in self.groups:
            for cost in [group[number] for number in paired.order(turn, len(group))]:
                checks = turn == self._checked_turn[cost]
                outcome = self._time_once(cost, timer, stack, keep=checks)
                if outcome.status == "ok":
                    timing, seed, returned = outcome.result
                    self.samples[cost].append(timing)
                    if returned:
                        outcome = self._check(cost, seed, returned, timer, stack)
                if outcome.status != "ok":
                    self.failures[cost] = outcome
                    group.remove(cost)

    def _time_once(
        self, cost: EstimateCost, timer: Timer, stack: contextlib.ExitStack, *, keep: bool
    ) -> Outcome[Any]:
        """Return the outcome of one time, in the copy of its estimator, which is started if there
        is none or it has ended, and ends with the `stack`.

        With a fixed number of rounds, or once this process has used a GPU, it is measured here.
        """
        if self.rounds or has_used_gpu(timer.device):
            return InProcess().call(self.timeout, lambda: timer.time(cost, keep=keep))
        copy = self._copy(
            cost.estimator,
            lambda number, keep: timer.time(self.costs[number], keep=keep),
            stack,
        )
        # By its number: what a cost is of may have been made here alone.
        return copy.ask(self.costs.index(cost), keep, timeout=self.timeout)

    def _copy(
        self, name: str, function: Callable[..., Any], stack: contextlib.ExitStack
    ) -> Copy[Any]:
        """Return the copy of this process with a name, which calls a function; it is started if
        there is none or it has ended, and ends with the `stack`.
        """
        copy = self._copies.get(name)
        if copy is None or not copy.process_id:
            copy = self._copies[name] = stack.enter_context(Copy(function))
        return copy

    def _check(
        self,
        cost: EstimateCost,
        seed: int,
        returned: Returned,
        timer: Timer,
        stack: contextlib.ExitStack,
    ) -> Outcome[Any]:
        """Return the outcome of the comparison of a timed result with the scored path: for a
        plug-in in a copy of this process that has run none, and for built-in estimators in one copy
        for all, which ends with the `stack`.
        """
        if self.rounds:
            require = cost.require_scored
            return InProcess().call(self.timeout, require, seed, returned, timer.device)
        if not cost.is_built_in or has_used_gpu(timer.device):
            return check_in_fresh_process(cost, seed, returned, timer.device, self.timeout)
        scorer = self._copy(
            SCORER, lambda number, *call: self.costs[number].require_scored(*call), stack
        )
        arguments = self.costs.index(cost), seed, returned, timer.device
        return scorer.ask(*arguments, timeout=self.timeout)

    def _seconds(self, cost: EstimateCost) -> list[float]:
        return [timing.seconds for timing in self.samples[cost]]

    def _leave_out_slow(self) -> None:
        """End the rounds, in `groups`, of what takes more than three times as long as the fastest
        at the deepest depth, and of times of the torch path: no answer rests on these where there
        are kernels.
        """
        medians = {cost: np.median(self._seconds(cost)) for group in self.groups for cost in group}
        slow = SLOWER * min((medians[cost] for cost in self.groups[-1]), default=np.inf)
        self.groups = [
            [cost for cost in group if medians[cost] <= slow and cost.metric != TORCH_TIME]
            for group in self.groups
        ]

    def _is_undecided(self, group: Sequence[EstimateCost]) -> bool:
        """Tell whether noise hides which times of a depth are longer: the interval of one of them,
        relative to the median of all, is wider than a factor of 1.25.
        """
        samples = np.array([self._seconds(cost) for cost in group])
        ratios = paired.compare_many(samples, np.median(samples, axis=0))
        return bool((ratios.high > WIDE * ratios.low).any())

    def _outcome(self, cost: EstimateCost, turns: str, device: str) -> Outcome[Any]:
        """Return the failure of a cost or, as fields of its record, its times and their median."""
        if failed := self.failures.get(cost):
            return failed
        samples, processors = self._seconds(cost), [t.processors for t in self.samples[cost]]
        try:
            require_share(processors, cost.threads, device)
        except InvalidArgument as error:
            return Outcome(None, *failure(error))
        return Outcome(
            {
                "value": float(np.median(samples)),
                "samples": samples,
                "elapsed": [timing.elapsed for timing in self.samples[cost]],
                "processors": float(np.median(processors)),
                "turns": turns,
            }
        )
