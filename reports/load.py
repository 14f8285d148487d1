"""The results of a run as reports read them: tables, and the errors and costs of each estimator.

`docs/schema.md` describes the columns and metrics of the tidy table, `Results.frame`.
"""

import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from pudle import names, paired, text
from pudle.answers import NO_CURVE, NO_LINE, NO_ROUNDS, Curve, Line, Measured, Rounds
from pudle.errors import SpecError
from pudle.measuring import contents
from pudle.measuring.case import labels, problem_labels
from pudle.measuring.scoring import ERRORS
from pudle.reports.records import ExperimentRecord
from pudle.reports.stored import Pair, Stored, read_stored

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
    depth: int | None
    seed: int | None
    metric: str
    value: float
    status: str
    reason: str
    commit: str
    machine: str
    profile: str
    at_floor: bool = False


#: Columns of `Results.frame`, the fields of a `Number`, with their pandas types.
COLUMNS = dict.fromkeys(Number._fields, "str")
COLUMNS |= {"depth": "Int64", "seed": "Int64", "value": "float64", "at_floor": "bool"}


@dataclass(frozen=True)
class DescribedCase:
    """A selected case, see `pudle.measuring.case.Case`."""

    name: str
    dataset: str
    algorithm: str
    loss: str
    seeds: Sequence[int]
    depths: Sequence[int]
    targets: Sequence[str]
    dtype: str
    #: What it shares with cases that have the same minimizer.
    problem: Hashable
    #: Whether the algorithm's iterations can be differentiated.
    differentiable: bool


@dataclass(frozen=True)
class Claim:
    """What an estimator claims on a selected case, and what became of it; `consistent_for` has
    losses, or is None for all.
    """

    case: str
    estimator: str
    status: str
    reason: str
    computes: str | None
    consistent_for: Collection[str] | None


class Timing(NamedTuple):
    """A time, and those of the rounds that it is the median of; see `CostRecord`."""

    metric: str
    case: str
    estimator: str
    depth: int
    samples: Sequence[float]
    turns: str


class Certified(NamedTuple):
    """The certificate of a reference; see `pudle.references.records.Certificate`."""

    case: str
    seed: int
    target: str
    status: str
    reason: str
    bound: float
    gradient_norm: float
    kkt_residual: float
    smallest_eigenvalue: float
    condition_number: float
    dual_margin: float
    smallest_amplitude: float
    zero_codes: float
    uncertified: float
    samples: float
    step: float
    rho: float


@dataclass(frozen=True, eq=False)
class Results:
    """Results of one profile."""

    profile: str
    #: The rows of the tidy table.
    rows: Sequence[Number]
    #: One for each case, seed and target.
    references: Sequence[Certified]
    #: One for each selected case and estimator.
    claims: Sequence[Claim]
    #: One for each time that was measured.
    timings: Sequence[Timing]
    #: The selected cases by name, and the selected estimators, in their order.
    cases: Mapping[str, DescribedCase]
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
        shown = labels({name: vars(case) for name, case in self.cases.items()}).items()
        return {name: text.Cell(label, case=name * (label != name)) for name, label in shown}

    def target(self, case: str) -> str:
        """Return the target that a case's summary is about: its first."""
        return self.cases[case].targets[0]

    def curve(
        self, case: str, estimator: str, metric: str = "relative_error", target: str = ""
    ) -> Curve:
        """Return the errors of an estimator on a case, by default for the case's first target."""
        return self._curves.get((metric, case, target or self.target(case), estimator), NO_CURVE)

    @cached_property
    def _curves(self) -> Mapping[tuple[str, str, str, str], Curve]:
        groups: dict[tuple[str, str, str], dict[str, list[Number]]] = {}
        for row in self.numbers:
            # Costs have no target.
            if row.target is not None:
                group = groups.setdefault((row.metric, row.case, row.target), {})
                group.setdefault(row.estimator, []).append(row)
        curves = {}
        for key, group in groups.items():
            # A seed that was scored counts for each estimator, also for one that failed on it.
            seeds = np.unique([row.seed for part in group.values() for row in part])
            for estimator, part in group.items():
                depths, places = np.unique([row.depth for row in part], return_inverse=True)
                columns = np.searchsorted(seeds, [row.seed for row in part])
                values = np.full((len(depths), len(seeds)), np.nan)
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
        costs: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
        for row in self.numbers:
            if row.metric in COSTS and row.depth is not None:
                costs[row.metric, row.case, row.estimator][row.depth] = row.value
        return {key: Line(by_depth) for key, by_depth in costs.items()}

    def rounds(self, case: str, estimator: str, metric: str = "seconds") -> Rounds:
        """Return the times of an estimator by round."""
        return self._rounds.get((metric, case, estimator), NO_ROUNDS)

    @cached_property
    def _rounds(self) -> Mapping[tuple[str, str, str], Rounds]:
        # All that was timed in the same turns is compared with each other at each depth.
        alike, own = defaultdict(list), defaultdict(list)
        for each in self.timings:
            own[each.metric, each.case, each.estimator].append(each)
            if len(each.samples) > 1:
                alike[each.metric, each.depth, each.turns, len(each.samples)].append(each.samples)
        p_values = [np.empty(0)]
        for samples in alike.values():
            taken = np.array(samples)
            one, other = np.triu_indices(len(taken), 1)
            p_values.append(paired.compare_many(taken[one], taken[other]).p_value)
        significance = paired.critical(np.concatenate(p_values))
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
                    facts.differentiable,
                )
                for name in self.estimators
            )
            for case, facts in self.cases.items()
        }

    @cached_property
    def problems(self) -> Sequence[tuple[str, tuple[Measured, ...]]]:
        """What each problem is called, and what was measured on it: the estimators of its cases,
        which differ in the algorithm alone.
        """
        groups = defaultdict(list)
        called = problem_labels({name: vars(case) for name, case in self.cases.items()})
        for name, case in self.cases.items():
            groups[case.problem] += self.measured[name]
        return [(called[problem], tuple(measured)) for problem, measured in groups.items()]

    @property
    def solved(self) -> bool:
        """True if there is an algorithm that cannot be differentiated."""
        return not all(case.differentiable for case in self.cases.values())

    def badge(self, case: str) -> str:
        """Return ``limit`` for a case whose reference is a limit and no certified minimizer, else
        an empty text.
        """
        return "limit" if case in self._limits else ""

    @cached_property
    def _limits(self) -> set[str]:
        return {each.case for each in self.references if each.status == "limit"}

    @cached_property
    def bounds(self) -> Mapping[tuple[str, str], float]:
        """The greatest bound over the seeds of each (case, target) whose references are certified
        or a limit.
        """
        bounds: dict[tuple[str, str], float] = {}
        for each in self.references:
            if each.status in ("certified", "limit") and each.bound > 0:
                key = each.case, each.target
                bounds[key] = max(each.bound, bounds.get(key, 0.0))
        return bounds


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
    tables = _Tables(profile, stored, _described(stored), f"not measured yet: {remedy}")
    return Results(
        profile=profile,
        rows=[*tables.scores(provenances[0]), *tables.costs(provenances[0])],
        references=_references(stored),
        claims=[tables.claim(pair) for pair in stored.cases],
        timings=[
            Timing(*cell, record.samples, record.turns)
            for cell, record in stored.costs.items()
            if record and record.status == "ok" and record.value is not None and cell[0] in TIMES
        ],
        cases=tables.cases,
        estimators=stored.estimators,
        provenances=provenances,
        notes=notes,
        experiments=[*stored.experiments.values()],
        damaged=stored.damaged,
    )


def _described(stored: Stored) -> dict[str, DescribedCase]:
    records = defaultdict(list)
    for (name, _), record in stored.scores.items():
        records[name].append(record)
    return {
        name: DescribedCase(
            **dataclasses.asdict(case),
            # What leads elsewhere is a problem of its own.
            problem=case.problem if all(each.proximal for each in records[name]) else name,
            differentiable=all(each.differentiable for each in records[name]),
        )
        for (name, _), case in stored.cases.items()
    }


def _references(stored: Stored) -> list[Certified]:
    # All estimators of a case share its references: those of the first count.
    references: dict[tuple[str, int, str], Certified] = {}
    for (case, _), record in stored.scores.items():
        for row in record.references:
            texts = case, row["seed"], row["target"], row["status"], row["reason"]
            numbers = (row.get(name) for name in Certified._fields[len(texts) :])
            known = (math.nan if number is None else float(number) for number in numbers)
            references.setdefault(texts[:3], Certified(*texts, *known))
    return [*references.values()]


@dataclass(frozen=True)
class _Tables:
    """What makes the rows of tables from records."""

    profile: str
    stored: Stored
    cases: Mapping[str, DescribedCase]
    #: Why something that was selected has no record.
    unmeasured: str

    def claim(self, pair: Pair) -> Claim:
        """Return what a record says of an estimator as a whole."""
        record = self.stored.scores.get(pair)
        if record is None:
            return Claim(*pair, "missing", self.unmeasured, None, None)
        claims = record.computes, record.consistent_for
        return Claim(*pair, record.status, record.reason, *claims)

    def scores(self, newest: Provenance) -> Iterator[Number]:
        """Yield the scores; a record without any has one row, with its reason."""
        for pair, case in self.stored.cases.items():
            record = self.stored.scores.get(pair)
            make = partial(self.number, pair, origin=record.provenance if record else newest)
            if record is None or not record.scores:
                claim = self.claim(pair)
                failed = make(ERRORS[0], math.nan, claim.status, claim.reason)
                yield failed._replace(target=case.targets[0])
            for row, metric in itertools.product(record.scores if record else (), ERRORS):
                leads, value = metric == ERRORS[0], row.get(metric)
                # A metric that a problem does not have, such as signs of a smooth one, is left out;
                # the first carries the reason of a failure.
                if leads or value is not None:
                    yield make(
                        metric,
                        math.nan if value is None else float(value),
                        row["status"],
                        row["reason"],
                        target=row["target"],
                        depth=row["depth"],
                        seed=row["seed"],
                        at_floor=leads and row.get("at_floor") is True,
                    )

    def costs(self, newest: Provenance) -> Iterator[Number]:
        """Yield the costs, also of what has no record."""
        for (metric, case, estimator, depth), cost in self.stored.costs.items():
            pair, value, origin = (case, estimator), math.nan, newest
            record = self.stored.scores.get(pair)
            at = record.at(depth) if record else {"status": "ok"}
            if cost:
                origin = cost.provenance
                status, reason = cost.status, cost.reason
                value = math.nan if cost.value is None else cost.value
            elif at["status"] == "ok":
                status, reason = "missing", self.unmeasured
            else:
                # A time has no number for the same reason as the scores.
                status = "error" if at["status"] in BROKEN else "skipped"
                reason = f"{at['status']}: {at['reason']}"
            yield self.number(pair, metric, value, status, reason, origin, depth=depth)

    def number(
        self,
        pair: Pair,
        metric: str,
        value: float,
        status: str,
        reason: str,
        origin: Provenance,
        *,
        target: str | None = None,
        depth: int | None = None,
        seed: int | None = None,
        at_floor: bool = False,
    ) -> Number:
        """Return a row of the tidy table."""
        name, estimator = pair
        case = self.cases[name]
        specs = case.dataset, case.algorithm, case.loss
        if status == "ok" and math.isnan(value):
            # A missing number must never count as a measured one.
            status, reason = "error", "recorded as ok, without a value"
        place = str(origin.get("commit") or ""), str(origin.get("machine") or "")
        cell = target, estimator, depth, seed, metric
        outcome = value, status, reason, *place, self.profile
        return Number(name, *specs, *cell, *outcome, at_floor)
