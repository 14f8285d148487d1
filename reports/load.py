"""The results of a run as reports read them: tables, and the errors and costs of each estimator.

`docs/schema.md` describes the columns and metrics of the tidy table, `Results.frame`.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import isnan, nan
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
from msgspec import convert

from pudle import names, paired, text
from pudle.answers import NO_CURVE, NO_LINE, NO_ROUNDS, Curve, Line, Measured, Rounds
from pudle.errors import SpecError
from pudle.measuring import contents
from pudle.measuring.case import Case, labels, problem_labels
from pudle.measuring.contents import CostRecord, ScoreRecord
from pudle.measuring.scoring import ERRORS
from pudle.reports.records import ExperimentRecord
from pudle.reports.stored import read_stored

#: Metrics that are costs: measured once, for no seed and no target.
TIMES = ("seconds", "seconds_torch")
COSTS = (*TIMES, "memory_bytes")
#: Metrics that a figure's vertical axis can show, with its title.
TITLES = {
    "relative_error": "relative error of the gradient",
    "cosine_error": "1 - cosine to the reference",
    "code_error": "error of the codes",
    "support_error": "share of samples with a wrong sign",
}
T = TypeVar("T")
K = TypeVar("K")
#: Statuses of a measurement that broke, as opposed to a finding about an estimator.
BROKEN = (*contents.BROKEN, "missing")
#: Where a number comes from.
Provenance = Mapping[str, str | int | float | bool | None]


class Number(NamedTuple):
    """A row of the tidy table, one for each case, target, estimator, depth, seed and metric."""

    case: str
    dataset: str
    algorithm: str
    loss: str
    target: str | None
    estimator: str
    depth: int | None = None
    seed: int | None = None
    metric: str = ERRORS[0]
    value: float = nan
    status: str = "ok"
    reason: str = ""
    commit: str = ""
    machine: str = ""
    profile: str = ""
    at_floor: bool = False


#: Columns of `Results.frame`, the fields of a `Number`, with their pandas types.
COLUMNS = dict.fromkeys(Number._fields, "str")
COLUMNS |= {"depth": "Int64", "seed": "Int64", "value": "float64", "at_floor": "bool"}


@dataclass(frozen=True)
class Certified:
    """The certificate of a reference; see `pudle.references.records.Certificate`."""

    case: str
    seed: int
    target: str
    status: str
    reason: str
    bound: float = nan
    gradient_norm: float = nan
    kkt_residual: float = nan
    smallest_eigenvalue: float = nan
    condition_number: float = nan
    dual_margin: float = nan
    smallest_amplitude: float = nan
    zero_codes: float = nan
    uncertified: float = nan
    samples: float = nan
    step: float = nan
    rho: float = nan


@dataclass(frozen=True, eq=False)
class Results:
    """Results of one profile."""

    profile: str
    #: The rows of the tidy table.
    rows: Sequence[Number]
    #: One for each case, seed and target.
    references: Sequence[Certified]
    #: One for each selected case and estimator; the status of one that is not measured yet is
    #: ``missing``.
    records: Sequence[ScoreRecord]
    #: The times that were measured, with those of each round.
    timings: Sequence[CostRecord]
    #: The selected cases by name, and the selected estimators, in their order.
    cases: Mapping[str, Case]
    estimators: tuple[str, ...]
    #: The provenances of the records, newest first.
    provenances: Sequence[Provenance] = ()
    #: What a reader has to know about the origin of these numbers.
    notes: Sequence[str] = ()
    #: The record of each experiment. Where there are some, there may be no cases.
    experiments: Sequence[ExperimentRecord] = ()
    #: A line for each file that is damaged and therefore left out: it names the file and the
    #: remedy.
    damaged: Sequence[str] = ()

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The tidy table; its columns are `COLUMNS`."""
        return pd.DataFrame(self.rows, columns=[*COLUMNS]).astype(COLUMNS)

    @cached_property
    def numbers(self) -> Sequence[Number]:
        """The rows of the tidy table that have a number."""
        return [row for row in self.rows if row.status == "ok" and row.value == row.value]

    @cached_property
    def labels(self) -> Mapping[str, text.Cell]:
        """What tables and titles call each case, by name."""
        shown = labels(self.described).items()
        return {name: text.Cell(label, case=name * (label != name)) for name, label in shown}

    @cached_property
    def described(self) -> Mapping[str, Mapping[str, object]]:
        """The fields of each case, and the problem that it shares with others."""
        # What leads elsewhere is a problem of its own.
        apart = {record.case.name for record in self.records if not record.proximal}
        return {
            name: vars(case) | {"problem": name if name in apart else case.problem}
            for name, case in self.cases.items()
        }

    @cached_property
    def solvers(self) -> set[str]:
        """The cases whose algorithm has no layers that could be differentiated."""
        return {record.case.name for record in self.records if not record.differentiable}

    def target(self, case: str) -> str:
        """Return the target that a case's summary is about: its first."""
        return self.cases[case].targets[0]

    def curve(
        self, case: str, estimator: str, metric: str = "relative_error", target: str = ""
    ) -> Curve:
        """Return the errors of an estimator on a case, by default for the case's first target."""
        return self._curves.get((metric, case, target or self.target(case), estimator), NO_CURVE)

    @cached_property
    def _curves(self) -> Mapping[tuple[str, str, str | None, str], Curve]:
        curves = {}
        # Costs have no target.
        scores = [row for row in self.numbers if row.target is not None]
        for key, every in grouped(scores, lambda row: (row.metric, row.case, row.target)).items():
            # A seed that was scored counts for each estimator, also for one that failed on it.
            seeds = np.unique([row.seed for row in every])
            for estimator, part in grouped(every, lambda row: row.estimator).items():
                depths, places = np.unique([row.depth for row in part], return_inverse=True)
                columns = np.searchsorted(seeds, np.array([row.seed for row in part]))
                values = np.full((len(depths), len(seeds)), nan)
                at_floor = np.zeros(values.shape, bool)
                values[places, columns] = [row.value for row in part]
                at_floor[places, columns] = [row.at_floor for row in part]
                curves[*key, estimator] = Curve(depths, seeds, values, at_floor)
        return curves

    @property
    def metrics(self) -> list[str]:
        """The metrics that were measured, of those that a figure can show."""
        measured = {metric for metric, *_ in self._curves}
        return [metric for metric in TITLES if metric in measured] or ["relative_error"]

    def line(self, case: str, estimator: str, cost: str) -> Line:
        """Return a cost against depth; a cost is a metric."""
        return self._lines.get((cost, case, estimator), NO_LINE)

    @cached_property
    def _lines(self) -> Mapping[tuple[str, str, str], Line]:
        costs = [row for row in self.numbers if row.metric in COSTS]
        return {
            key: Line({row.depth: row.value for row in part if row.depth is not None})
            for key, part in grouped(
                costs, lambda row: (row.metric, row.case, row.estimator)
            ).items()
        }

    def rounds(self, case: str, estimator: str, metric: str = "seconds") -> Rounds:
        """Return the times of an estimator by round."""
        return self._rounds.get((metric, case, estimator), NO_ROUNDS)

    @cached_property
    def _rounds(self) -> Mapping[tuple[str, str, str], Rounds]:
        # All that was timed in the same turns is compared with each other at each depth.
        alike = grouped(
            self.timings, lambda each: (each.metric, each.depth, each.turns, len(each.samples))
        )
        p_values = [np.empty(0)]
        for (*_, number), timings in alike.items():
            if number > 1:
                taken = np.array([each.samples for each in timings])
                one, other = np.triu_indices(len(taken), 1)
                p_values.append(paired.compare_many(taken[one], taken[other]).p_value)
        significance = paired.critical(np.concatenate(p_values))
        own = grouped(self.timings, lambda each: (each.metric, each.case, each.estimator))
        rounds = {}
        for key, timings in own.items():
            # Those at one depth may have been measured later than others.
            turns = timings[-1].turns
            by_depth = {each.depth: each.samples for each in timings if each.turns == turns}
            rounds[key] = Rounds(by_depth, turns, significance)
        return rounds

    @cached_property
    def measured(self) -> Mapping[str, tuple[Measured, ...]]:
        """What answers rest on: the estimators of each case."""

        return {
            case: tuple(
                Measured(
                    name,
                    self.curve(case, name),
                    self.line(case, name, "seconds"),
                    self.line(case, name, "memory_bytes"),
                    self.rounds(case, name),
                    facts.algorithm,
                    case,
                    case not in self.solvers,
                )
                for name in self.estimators
            )
            for case, facts in self.cases.items()
        }

    @cached_property
    def problems(self) -> Sequence[tuple[str, list[Measured]]]:
        """What each problem is called, and what was measured on it: the estimators of its cases,
        which differ in the algorithm alone.
        """
        every = [each for measured in self.measured.values() for each in measured]
        groups = grouped(every, lambda each: self.described[each.case]["problem"])
        called = problem_labels(self.described)
        return [(called[problem], measured) for problem, measured in groups.items()]

    def badge(self, case: str) -> str:
        """Return ``limit`` for a case whose reference is a limit and no certified minimizer, else
        an empty text.
        """
        return "limit" if case in self._limits else ""

    @cached_property
    def _limits(self) -> set[str]:
        return {each.case for each in self.references if each.status == "limit"}

    def bound(self, case: str) -> float:
        """Return the greatest bound over the seeds of a case's first target, zero if none of its
        references is certified or a limit.
        """
        bounds = [
            each.bound
            for each in self.references
            if (each.case, each.target) == (case, self.target(case))
            if each.status in ("certified", "limit") and each.bound > 0
        ]
        return max(bounds, default=0.0)


def grouped(rows: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Return rows by a key, in the order of their first appearance."""
    groups: dict[K, list[T]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


@cache
def parsed(spec: str) -> tuple[str, Mapping[str, object]]:
    """Return name and options of a spec; other text counts as a name without options."""
    try:
        return names.parse(spec)
    except SpecError:
        return spec, {}


# -- from records


def load(home: Path, profile: str, commit: str = "") -> Results:
    """Read the results of the last run of a profile, or of the last run at a commit (full hash).

    A store keeps the records of all runs. What counts is those that the run's list names, not the
    newest.

    Parameters
    ----------
    home : Path
        Folder that holds one folder per profile.
    profile : str
    commit : str, optional

    Raises
    ------
    MissingResults
        If there are no results yet.
    UnreadableResult
        If nothing is left because files are damaged or of an unknown version; the text names the
        files and the remedy.
    """
    stored, remedy = read_stored(home, profile, commit), f"run `pudle run --profile {profile}`"
    notes = [f"Damaged and left out: {line}." for line in stored.damaged]
    if stored.cases and not stored.scores:
        notes.append(f"None of the selected cases is measured yet: {remedy}.")
        stored = dataclasses.replace(stored, cases={}, costs={}, estimators=())
    if stored.costs and not any(stored.costs.values()):
        notes.append(f"Neither time nor memory is measured: {remedy} without --scores-only.")
        stored = dataclasses.replace(stored, costs={})
    for record in (*stored.scores.values(), *filter(None, stored.costs.values())):
        # It holds at this commit, whichever commit first measured it.
        record.provenance |= {"commit": commit} if commit else {}
    provenances = sorted(
        (record.provenance for record in (stored.scores or stored.experiments).values()),
        key=lambda origin: str(origin["date"]),
        reverse=True,
    )
    unmeasured, newest = f"not measured yet: {remedy}", provenances[0]
    records = {
        (name, estimator): stored.scores.get((name, estimator))
        or _missing(case, estimator, unmeasured, newest)
        for (name, estimator), case in stored.cases.items()
    }
    rows = [row for record in records.values() for row in _scores(record)]
    rows += [
        _cost(records[cell[1:3]], *cell[::3], cost, unmeasured)
        for cell, cost in stored.costs.items()
    ]
    return Results(
        profile=profile,
        rows=[_certain(row)._replace(profile=profile) for row in rows],
        references=_references(stored.scores.values()),
        records=[*records.values()],
        timings=[
            cost
            for cost in filter(None, stored.costs.values())
            if cost.metric in TIMES and cost.status == "ok" and cost.value is not None
        ],
        cases={case.name: case for case in stored.cases.values()},
        estimators=stored.estimators,
        provenances=provenances,
        notes=notes,
        experiments=[*stored.experiments.values()],
        damaged=stored.damaged,
    )


def _missing(case: Case, estimator: str, reason: str, newest: Provenance) -> ScoreRecord:
    """Return what stands for a record that is still to be measured."""
    return ScoreRecord(
        key="",
        status="missing",
        reason=reason,
        provenance={**newest},
        case=case,
        estimator=estimator,
        computes="",
        consistent_for=None,
        scores=[],
        references=[],
        seconds=None,
    )


def _references(records: Iterable[ScoreRecord]) -> list[Certified]:
    # All estimators of a case share its references: those of the first count.
    references: dict[tuple[str, int, str], Certified] = {}
    for record in records:
        for row in record.references:
            known = {name: value for name, value in row.items() if value is not None}
            each = convert(known | {"case": record.case.name}, Certified)
            references.setdefault((each.case, each.seed, each.target), each)
    return [*references.values()]


def _row(record: ScoreRecord, origin: Provenance) -> Number:
    """Return a row without a number."""
    case = record.case
    place = case.name, case.dataset, case.algorithm, case.loss, None, record.estimator
    commit, machine = (str(origin.get(name) or "") for name in ("commit", "machine"))
    return Number(*place, commit=commit, machine=machine)


def _scores(record: ScoreRecord) -> Iterator[Number]:
    """Yield the scores of a record; one without any has one row, with its reason."""
    blank = _row(record, record.provenance)
    if not record.scores:
        target = record.case.targets[0]
        yield blank._replace(target=target, status=record.status, reason=record.reason)
    for score in record.scores:
        names = "target", "depth", "seed", "status", "reason"
        row = blank._replace(**{name: score[name] for name in names})
        for metric in ERRORS:
            # A metric that a problem does not have, such as signs of a smooth one, is left out; the
            # first carries the reason of a failure.
            leads, value = metric == ERRORS[0], score.get(metric)
            if value is not None:
                floor = leads and score.get("at_floor") is True
                yield row._replace(metric=metric, value=float(value), at_floor=floor)
            elif leads:
                yield row


def _cost(
    record: ScoreRecord, metric: str, depth: int, cost: CostRecord | None, unmeasured: str
) -> Number:
    """Return the row of a cost, which may have no record."""
    row = _row(record, cost.provenance if cost else {})._replace(metric=metric, depth=depth)
    if cost:
        value = nan if cost.value is None else cost.value
        return row._replace(value=value, status=cost.status, reason=cost.reason)
    at = {"status": "ok"} if record.status == "missing" else record.at(depth)
    if at["status"] == "ok":
        return row._replace(status="missing", reason=unmeasured)
    # A time has no number for the same reason as the scores.
    status = "error" if at["status"] in BROKEN else "skipped"
    return row._replace(status=status, reason=f"{at['status']}: {at['reason']}")


def _certain(row: Number) -> Number:
    """Return a row: a missing number must never count as a measured one."""
    if row.status == "ok" and isnan(row.value):
        return row._replace(status="error", reason="recorded as ok, without a value")
    return row
