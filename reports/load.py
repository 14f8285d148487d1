"""The results of a run as reports read them: tables, and the errors and costs of each estimator.

`docs/schema.md` describes the columns and metrics of the tidy table, `Results.frame`.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import isnan, nan
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

import pandas as pd
from msgspec import Struct, convert

from pudle import names, text
from pudle.answers import NO_CURVE, Curve, Line, Measured, Rounds
from pudle.errors import MissingResults, SpecError, UnreadableResult
from pudle.files import REMEDY, content_digest, lies_at, read_arrays
from pudle.learning.matching import Array
from pudle.measuring import stored_files
from pudle.measuring.answer_inputs import curve, lines, measurements, rounds, seeds_of
from pudle.measuring.case import Case
from pudle.measuring.check_results import FAILED
from pudle.measuring.grouping import grouped
from pudle.measuring.naming import labels, problem_labels
from pudle.measuring.provenance import Origin
from pudle.measuring.results import experiment
from pudle.measuring.results.cost import CostRecord
from pudle.measuring.results.score import ReferenceRow, ScoreRecord
from pudle.measuring.scoring import ERRORS
from pudle.measuring.selection import matching
from pudle.measuring.store import Pair, Stored, read_all, read_stored
from pudle.measuring.stored_files import MeasurementStatus, Record
from pudle.names.registry import entries_named

#: Metrics that are times: measured once, for no seed and no target.
TIMES = ("seconds", "seconds_torch")
#: Metrics that a figure's vertical axis can show, with its title.
TITLES = {
    "relative_error": "relative error of the gradient",
    "cosine_error": "1 - cosine to the reference",
    "code_error": "error of the codes",
    "support_error": "share of samples with a wrong sign",
}
#: The metric that means something where codes are sparse alone.
SIGNS = "support_error"
#: Statuses of a measurement that broke, as opposed to a finding about an estimator.
BROKEN = (*stored_files.BROKEN, "missing")


# -- experiments

#: By kind of experiment: the arrays that a report shows, with a letter for each axis; axes with the
#: same letter have the same length.
ARRAYS: dict[str, dict[str, str]] = {
    "denoising": dict.fromkeys(("clean", "noisy", "denoised", "denoised_shifted"), "ij")
    | {"filters": "pkl"},
    "interpretation": {"atoms": "pij", "samples": "pskl", "weights": "ps"},
}


class ReportedOptions(Struct):
    """The options of every training that a report calls by name."""

    dataset: str
    estimator: str
    algorithm: str
    depth: stored_files.Whole


class ShownExperiment(experiment.ExperimentRecord, kw_only=True, dict=True):
    """The stored result of one experiment."""

    def __post_init__(self) -> None:
        if self.kind == "learning":
            convert(self.options, ReportedOptions)

    @classmethod
    def read(cls, path: Path, identity: object = None) -> "ShownExperiment":
        """Read the record of an experiment, of that name if an identity is given, and the arrays
        beside it that a report shows; UnreadableResult says what is damaged or cannot be shown.
        """
        record: ShownExperiment = super().read(path, identity)
        axes = ARRAYS.get(record.kind, {})
        vars(record)["shown"] = _arrays(record, path, axes) if record.arrays else {}
        missing = ", ".join(sorted(ARRAYS["interpretation"].keys() - record.shown.keys()))
        if missing and (record.kind, record.status) == ("interpretation", "ok"):
            raise UnreadableResult(f"{path} lacks the arrays {missing}: {REMEDY}")
        return record

    @property
    def shown(self) -> dict[str, Array]:
        """The arrays that a report shows, by name, as far as the experiment has them."""
        arrays: dict[str, Array] = vars(self)["shown"]
        return arrays

    @property
    def estimator(self) -> str:
        """Spec of the estimator that the experiment trained with, empty if there is none."""
        return str(self.options.get("estimator") or "")

    @property
    def depth(self) -> int | None:
        """The number of layers of the training."""
        depth = self.options.get("depth")
        return depth if isinstance(depth, int) else None

    @property
    def method(self) -> str:
        """Name that the experiment gives its method."""
        return str(self.summary.get("method") or self.estimator or self.name)

    @property
    def dataset(self) -> str:
        """Spec of the dataset."""
        return str(self.options.get("dataset", "unknown dataset"))

    def number(self, name: str) -> float:
        """Return a number of the summary, NaN if it has none, if it is no number, or if the
        experiment failed.
        """
        value = self.summary.get(name) if self.status == "ok" else None
        # A whole number in a file may exceed all floats.
        return float(value) if isinstance(value, int | float) and abs(value) < 1e300 else nan

    def history(self, *names: str) -> pd.DataFrame:
        """Return columns of the history as numbers, NaN where nothing was measured."""
        return self._history.reindex(columns=names).astype(float)

    @cached_property
    def _history(self) -> pd.DataFrame:
        """The whole history, converted once for all tables and figures; its steps are numbers of
        rows where the experiment counts none.
        """
        rows = pd.DataFrame(self.rows)
        if not all("step" in row for row in self.rows):
            rows = rows.assign(step=range(len(rows)))
        return rows.apply(pd.to_numeric, errors="coerce")


def _arrays(record: ShownExperiment, path: Path, axes: dict[str, str]) -> dict[str, Array]:
    """Read the arrays beside a record that a report shows, by the letters of their axes.

    UnreadableResult says that the file is damaged or not the record's, or that an array has a type
    or a shape that cannot be shown.
    """
    stored, remedy = path.with_suffix(".npz"), f"delete {path} and run `pudle run` again"
    arrays = read_arrays(stored, [name for name in axes if name in record.arrays], owner=path)
    if content_digest(stored) != record.arrays_digest:
        raise UnreadableResult(f"{stored} cannot be read (it was changed or cut): {remedy}")
    lengths: dict[str, int] = {}
    for name, array in arrays.items():
        pairs = zip(axes[name], array.shape, strict=False)
        # A plug-in may have chosen types and shapes that cannot be shown.
        fits = array.size and array.ndim == len(axes[name]) and array.dtype.kind in "iuf"
        if not fits or any(lengths.setdefault(axis, size) != size for axis, size in pairs):
            raise UnreadableResult(
                f"{stored}: a report cannot show the array {name!r} of type {array.dtype}"
                f" and shape {array.shape}: {remedy}"
            )
    return arrays


# -- the tidy table


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


def tidy_frame(rows: Sequence[Number]) -> pd.DataFrame:
    """Return rows as a tidy table; its columns are `COLUMNS`."""
    return pd.DataFrame(rows, columns=[*COLUMNS]).astype(COLUMNS)


@dataclass(frozen=True, eq=False)
class Results:
    """Results of one profile."""

    profile: str
    #: The rows of the tidy table.
    rows: Sequence[Number]
    #: The certificates by case, seed and target.
    references: Mapping[tuple[str, int, str], ReferenceRow]
    #: One for each selected case and estimator; the status of one that is not measured yet is
    #: ``missing``.
    records: Sequence[ScoreRecord]
    #: The costs that were measured.
    costs: Sequence[CostRecord]
    #: The selected cases by name, and the selected estimators, in their order.
    cases: Mapping[str, Case]
    estimators: tuple[str, ...]
    #: The provenances of the records, newest first.
    provenances: Sequence[Origin] = ()
    #: What a reader has to know: which results are damaged or not measured, and in how many threads
    #: costs were.
    notes: Sequence[str] = ()
    #: The record of each experiment. Where there are some, there may be no cases.
    experiments: Sequence[ShownExperiment] = ()
    #: A line for each file that is damaged and therefore left out: it names the file and the
    #: remedy.
    damaged: Sequence[str] = ()
    #: What `pudle check` found of each plug-in.
    checks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    #: Whether options of the run left out some of what the profile measures.
    narrowed: bool = False

    def having_cases(self, patterns: Sequence[str]) -> Self:
        """Return the results of the cases whose names match a pattern, without experiments;
        InvalidArgument refuses a pattern that matches no name.
        """
        hint = f"case here: known are {', '.join(self.cases)}"
        cases = matching(patterns, dict(self.cases), "--case", hint)
        return dataclasses.replace(
            self,
            rows=[row for row in self.rows if row.case in cases],
            references={key: row for key, row in self.references.items() if key[0] in cases},
            records=[record for record in self.records if record.case.name in cases],
            costs=[cost for cost in self.costs if cost.case in cases],
            cases=cases,
            experiments=(),
        )

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The tidy table; its columns are `COLUMNS`."""
        return tidy_frame(self.rows)

    @cached_property
    def numbers(self) -> Sequence[Number]:
        """The rows of the tidy table that have a number."""
        return [row for row in self.rows if row.status == "ok" and row.value == row.value]

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """What tables and titles call each case, by name."""
        return labels(self.described)

    @cached_property
    def described(self) -> Mapping[str, Mapping[str, object]]:
        """The fields of each case, and the problem that it shares with others."""
        # What leads elsewhere is a problem of its own.
        not_proximal = {record.case.name for record in self.records if not record.proximal}
        return {
            name: vars(case) | {"problem": name if name in not_proximal else case.problem}
            for name, case in self.cases.items()
        }

    @cached_property
    def solvers(self) -> set[str]:
        """The cases whose algorithm has no layers that could be differentiated."""
        return {record.case.name for record in self.records if not record.differentiable}

    def target(self, case: str) -> str:
        """Return the target that a case's summary is about: its first."""
        return self.cases[case].targets[0]

    @cache  # noqa: B019  # a report asks again and again
    def curve(
        self, case: str, estimator: str, metric: str = "relative_error", target: str = ""
    ) -> Curve:
        """Return the errors of an estimator on a case, by default for the case's first target; an
        empty curve where it has no record.
        """
        target = target or self.target(case)
        if not (record := self._records.get((case, estimator))):
            return NO_CURVE
        return curve(record, self._seeds(case, metric, target), metric, target)

    @cached_property
    def _records(self) -> Mapping[tuple[str, str], ScoreRecord]:
        return {(record.case.name, record.estimator): record for record in self.records}

    @cached_property
    def _records_by_case(self) -> Mapping[str, list[ScoreRecord]]:
        """The records of each case, by its name."""
        records_by_case = defaultdict(list)
        for record in self.records:
            records_by_case[record.case.name].append(record)
        return records_by_case

    @cache  # noqa: B019
    def _seeds(self, case: str, metric: str, target: str) -> list[int]:
        return seeds_of(self._records_by_case[case], metric, target)

    @cached_property
    def metrics(self) -> list[str]:
        """The metrics that were measured, of those that a figure can show."""
        measured = {row.metric for row in self.numbers}
        if not any(map(self.has_signs, self.cases)):
            measured.discard(SIGNS)
        return [metric for metric in TITLES if metric in measured] or ["relative_error"]

    @cache  # noqa: B019
    def has_signs(self, case: str) -> bool:
        """Tell whether the signs of codes mean something on a case: whether its codes are sparse.

        So they are where a certificate says how far an atom is from entering or leaving them;
        where there is no certificate, the class of the dataset tells.
        """
        rows = [row for (name, *_), row in self.references.items() if name == case]
        if any((row.dual_margin, row.smallest_amplitude) != (None, None) for row in rows):
            return True
        return any(row.status == "limit" for row in rows) and has_dictionary(
            self.cases[case].dataset
        )

    @cached_property
    def has_codes(self) -> bool:
        """Whether the solution of some inner problem is called codes: it is sparse, or has a
        dictionary, as in every training. That of other problems has no such name.
        """
        return not self.cases or any(
            self.has_signs(name) or has_dictionary(case.dataset)
            for name, case in self.cases.items()
        )

    @cached_property
    def lines(self) -> Mapping[tuple[str, str, str], Line]:
        """The costs against depth, by metric, case and estimator."""
        return lines(self.costs)

    @cached_property
    def rounds(self) -> Mapping[tuple[str, str, str], Rounds]:
        """The times by round, by metric, case and estimator."""
        return rounds(self.costs)

    @cached_property
    def measured(self) -> Mapping[str, tuple[Measured, ...]]:
        """What answers rest on: the estimators of each case."""
        return measurements(self.records, self.costs)

    @cached_property
    def problems(self) -> Sequence[tuple[str, list[Measured]]]:
        """What each problem is called, and what was measured on it: the estimators of its cases,
        which differ in the algorithm alone. One that failed its check is no answer.
        """
        valid = [
            source
            for measured in self.measured.values()
            for source in measured
            if self.checks.get(source.estimator) != FAILED
        ]
        groups = grouped(valid, lambda source: self.described[source.case]["problem"])
        label_of = problem_labels(self.described)
        return [(label_of[problem], measured) for problem, measured in groups.items()]

    def badge(self, case: str) -> str:
        """Return ``limit`` for a case with a reference that is a limit and no certified minimizer,
        else an empty text.
        """
        return "limit" if case in self._limits else ""

    @cached_property
    def _limits(self) -> set[str]:
        return {case for (case, *_), row in self.references.items() if row.status == "limit"}

    def bound(self, case: str) -> float:
        """Return the greatest bound over the seeds of a case's first target, zero if none of its
        references is certified or a limit.
        """
        rows = [
            self.references.get((case, seed, self.target(case))) for seed in self.cases[case].seeds
        ]
        scored = [row for row in rows if row and row.status in ("certified", "limit")]
        return max((row.bound or 0.0 for row in scored), default=0.0)


@cache
def parsed(spec: str) -> tuple[str, Mapping[str, object]]:
    """Return name and options of a spec; other text counts as a name without options. Nothing is
    imported.
    """
    try:
        return names.parse(spec)
    except SpecError:
        return spec, {}


def has_dictionary(dataset: str) -> bool:
    """Tell whether a dataset, by its spec, is of a registered class that makes problems with a
    dictionary; no user's file is opened.
    """
    # Imported late: it brings torch.
    from pudle.data.dataset import ConvolutionalDataset, SparseCodingDataset

    name = parsed(dataset)[0]
    kind = entries_named("datasets", name).get(name)
    return isinstance(kind, type) and issubclass(kind, (ConvolutionalDataset, SparseCodingDataset))


# -- from records


def load(home: Path, profile: str, commit: str = "") -> Results:
    """Read the results of the last run of a profile, or of the last run at a commit (full hash).

    A store keeps the records of all runs. What counts is those that the run's list names, not the
    newest. A damaged file is left out and named in the result; what is not measured yet has the
    status ``missing``. Nothing is measured or imported.

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
    stored = read_stored(home, profile, commit)
    experiments = read_all(ShownExperiment, stored.experiments, stored.damaged)
    if not stored.scores and not experiments:
        _refuse(home, profile, stored.damaged)
    remedy = f"run `pudle run --profile {profile}`"
    shown = _without_what_nobody_measured(stored)
    costs = [cost for cost in shown.costs.values() if cost]
    provenances = _newest_first(shown.scores or experiments)
    blank = Unmeasured(f"not measured yet: {remedy}", provenances[0])
    records = {
        (case.name, estimator): shown.scores.get((case.name, estimator))
        or blank.record(case, estimator)
        for case, estimator in shown.selection.pairs
    }
    return Results(
        profile=profile,
        rows=[*_score_rows(records, profile), *_cost_rows(shown, records, profile, blank.reason)],
        references=_references(shown.scores.values()),
        records=[*records.values()],
        costs=costs,
        cases={case.name: case for case, _ in shown.selection.pairs},
        estimators=shown.selection.estimators,
        provenances=provenances,
        notes=[*_notes(stored, costs, remedy)],
        experiments=[*experiments.values()],
        damaged=stored.damaged,
        checks=stored.checks,
        narrowed=stored.selection.narrowed,
    )


def _without_what_nobody_measured(stored: Stored) -> Stored:
    """Return the results of a run without the cases where no estimator has a score, and without the
    costs where none is measured: `_notes` says it once.
    """
    if stored.selection.pairs and not stored.scores:
        nothing = dataclasses.replace(stored.selection, estimators=())
        return dataclasses.replace(stored, selection=nothing, costs={})
    if not any(stored.costs.values()):
        return dataclasses.replace(stored, costs={})
    return stored


def _notes(stored: Stored, costs: Iterable[CostRecord], remedy: str) -> Iterator[str]:
    """Yield sentences on what is missing or unusual in the results of a run: files that are
    damaged, nothing or no cost measured, and times in several threads.

    `remedy` says what to do where none of the cases is measured.
    """
    for line in stored.damaged:
        yield f"Damaged and left out: {line}."
    if stored.selection.pairs and not stored.scores:
        yield f"None of the selected cases is measured yet: {remedy}."
    elif stored.costs and not any(stored.costs.values()):
        advice = "run the command again without --scores-only"
        yield f"Neither time nor memory is measured: {advice}."
    threads = {record.provenance.threads or 1 for record in costs}
    if threads - {1}:
        yield f"Times and memories are those in {text.numbers(sorted(threads))} threads."


def _newest_first(records: Mapping[Any, Record]) -> list[Origin]:
    """Return the provenances of records, the newest first."""
    origins = (record.provenance for record in records.values())
    return sorted(origins, key=lambda origin: origin.date, reverse=True)


def _refuse(home: Path, profile: str, damaged: Sequence[str]) -> NoReturn:
    """Say why there is nothing to report: raise UnreadableResult if files are damaged, else
    MissingResults with what to do.
    """
    if damaged:
        raise UnreadableResult("; ".join(damaged))
    instead = f"run `pudle run --profile {profile}` first"
    if lies_at(home / "selection.json"):
        instead = f"{home} is a profile's own folder, did you mean --home {home.parent}?"
    raise MissingResults(f"no results for profile {profile!r} under {home / profile}: {instead}")


class Unmeasured(NamedTuple):
    """What stands for scores that are still to be measured: why there are none, and the newest
    provenance of others.
    """

    reason: str
    newest: Origin

    def record(self, case: Case, estimator: str) -> ScoreRecord:
        """Make a record that stands for one still to be measured: its status is ``missing``, with
        the reason, and it has neither scores nor references.
        """
        return ScoreRecord(
            key="",
            status="missing",
            reason=self.reason,
            provenance=self.newest,
            case=case,
            estimator=estimator,
            computes="",
            consistent_for=None,
            scores=[],
            references=[],
        )


def _references(records: Iterable[ScoreRecord]) -> dict[tuple[str, int, str], ReferenceRow]:
    """Return the certificates of some records by case, seed and target."""
    # All estimators of a case share its references: those of the first count.
    references: dict[tuple[str, int, str], ReferenceRow] = {}
    for record in records:
        for row in record.references:
            references.setdefault((record.case.name, row.seed, row.target), row)
    return references


def _score_rows(records: Mapping[Pair, ScoreRecord], profile: str) -> Iterator[Number]:
    """Yield the scores of records; a record without any has one row, with its reason."""
    for record in records.values():
        if record.scores:
            yield from _scored_rows(record, profile)
        else:
            row = _blank(record, record.provenance, profile)
            target, status, reason = record.case.targets[0], record.status, record.reason
            yield _certain(row._replace(target=target, status=status, reason=reason))


def _scored_rows(record: ScoreRecord, profile: str) -> Iterator[Number]:
    """Yield a row for each number of a record's scores.

    A metric that a problem does not have, such as signs of a smooth one, is left out; the first
    carries the reason of a failure.
    """
    case, origin = record.case, record.provenance
    problem = case.name, case.dataset, case.algorithm, case.loss
    origin_fields = origin.commit or "", origin.machine or "", profile
    # In the order of the fields: `_replace` would take most of the time of `load`.
    for score in record.scores:
        place = *problem, score.target, record.estimator, score.depth, score.seed
        outcome = score.status, score.reason, *origin_fields
        for metric in ERRORS:
            leads, value = metric == ERRORS[0], getattr(score, metric)
            if value is not None:
                yield Number(*place, metric, value, *outcome, leads and score.at_floor)
            elif leads:
                yield _certain(Number(*place, metric, nan, *outcome))


def _cost_rows(
    stored: Stored, records: Mapping[Pair, ScoreRecord], profile: str, unmeasured: str
) -> Iterator[Number]:
    """Yield a row for each cost that a run lists; `unmeasured` is the reason of one that is still
    to be measured.
    """
    selection = stored.selection
    for (metric, case, estimator, depth), cost in stored.costs.items():
        # Those of answers alone differ from run to run, and are compared with nothing.
        if not selection.timed_errors or depth in selection.timed_depths:
            record = records[case, estimator]
            row = _blank(record, cost.provenance if cost else Origin(), profile)
            row = row._replace(metric=metric, depth=depth)
            yield _measured_cost(row, cost) if cost else _lacking_cost(row, record, unmeasured)


def _blank(record: ScoreRecord, origin: Origin, profile: str) -> Number:
    """Return a row of a record's case and estimator, without a number, depth and seed, of an
    origin.
    """
    case = record.case
    place = case.name, case.dataset, case.algorithm, case.loss, None, record.estimator
    return Number(*place, commit=origin.commit or "", machine=origin.machine or "", profile=profile)


def _measured_cost(row: Number, cost: CostRecord) -> Number:
    """Return the row of a cost that has a record."""
    value = nan if cost.value is None else cost.value
    return _certain(row._replace(value=value, status=cost.status, reason=cost.reason))


def _lacking_cost(row: Number, record: ScoreRecord, unmeasured: str) -> Number:
    """Return the row of a cost that has no record: its status is ``missing`` where it is still to
    be measured, and ``skipped`` or ``error`` where the score at its depth has no number.
    """
    at = MeasurementStatus()
    if record.status != "missing":
        at = record.at(row.depth or 0)
    if at.status == "ok":
        return row._replace(status="missing", reason=unmeasured)
    status = "error" if at.status in BROKEN else "skipped"
    return row._replace(status=status, reason=f"{at.status}: {at.reason}")


def _certain(row: Number) -> Number:
    """Return a row; one that claims to be ok without a value becomes an ``error``, because a
    missing number must never count as a measured one.
    """
    if row.status == "ok" and isnan(row.value):
        return row._replace(status="error", reason="recorded as ok, without a value")
    return row
