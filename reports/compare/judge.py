"""Judge a result by an earlier one: one verdict per cell, by the rules in ``docs/gate.md``.

The numbers of both sides stand beside each other, a pair for each cell and seed. What became of
them decides first, see `_Judge.by_status`, then how they differ, see `_Judge.by_growth`. `Limits`
say how much worse an estimator may become.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isnan, nan
from operator import attrgetter
from pathlib import Path
from typing import Annotated, NamedTuple, Self

import msgspec
import numpy as np
import pandas as pd
from scipy import stats

from pudle import paired
from pudle.errors import InvalidArgument
from pudle.measuring.case import Case
from pudle.measuring.commits.turns import Cell
from pudle.measuring.grouping import grouped
from pudle.measuring.naming import labels
from pudle.measuring.scoring import ERRORS
from pudle.measuring.stored_files import CommitRounds, Round
from pudle.reports.load import BROKEN, Results
from pudle.reports.summary import spread
from pudle.text import count

#: Verdicts from the best to the worst; the last is that of cells which a time limit left out.
VERDICTS = (
    "same",
    "unmeasured",
    "improved",
    "changed",
    "new",
    "undecided",
    "regression",
    "left out",
)
#: What is judged.
METRICS = (*ERRORS, "seconds", "memory_bytes")

#: Provenance that must agree for errors to be the same bit for bit ...
ARITHMETIC = "torch numpy blas threads device accelerator cpu".split()
#: ... and, with the minor version of Python, for time and memory to be comparable. The name of the
#: machine and the place of the interpreter differ on hosted runners from one job to the next.
ENVIRONMENT = ("device", "accelerator", "threads", "cpu")
#: Provenance that is shown where the two sides differ in it.
PROVENANCE = ("pudle", "python", *ARITHMETIC, "asv", "cores", "system")

#: What a case is, whatever its name.
DEFINITION = ("dataset", "algorithm", "loss", "dtype")

#: Relative change of an error that rounding can cause: sums in another order, in code that is
#: otherwise the same.
ROUNDING = 1e-6
#: Where every error is above this, an estimator that loses a part of the gradient may hide: the
#: truncation that all share is larger than what it loses.
COARSE = 0.1
#: How the reason ends of a time that is beyond its limit, and decides nothing.
SEPARATE = ", timed in separate runs"
Positive = Annotated[float, msgspec.Meta(gt=0)]


class _Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class ErrorLimit(_Limit, frozen=True):
    """How much an error may grow, where errors below `floor` count as equal to it.

    On one machine with one set of libraries errors are deterministic, and may grow by the factor
    `ratio`. Elsewhere sums are taken in another order, which can change a code's support, and they
    may grow by the factor `elsewhere`.
    """

    ratio: Positive = 1.01
    elsewhere: Positive = 1.25
    floor: Positive = 1e-14


class CosineLimit(ErrorLimit, frozen=True):
    """The same of an error of second order: the same loss of accuracy is its square, and so is the
    floor.
    """

    ratio: Positive = 1.02
    elsewhere: Positive = 1.6
    floor: Positive = 1e-28


class CodeLimit(ErrorLimit, frozen=True):
    """The same of the error of codes."""

    floor: Positive = 1e-12


class SupportLimit(ErrorLimit, frozen=True):
    """The same of a share of a few hundred samples: below a hundredth, one sample more or less
    would change it by a factor.
    """

    floor: Positive = 0.01


class MemoryLimit(_Limit, frozen=True):
    """How much memory above a process that estimates nothing may grow: by `ratio` or `mebibytes`,
    whichever allows more.
    """

    ratio: Positive = 1.3
    mebibytes: Positive = 4.0


class TimeLimit(_Limit, frozen=True):
    """How much slower an estimate may become: by `ratio`, at the false discovery rate
    `significance`.
    """

    ratio: Positive = 1.3
    significance: Positive = 0.01


class Limits(_Limit, frozen=True):
    """The thresholds of every metric."""

    relative_error: ErrorLimit = ErrorLimit()
    absolute_error: ErrorLimit = ErrorLimit()
    cosine_error: CosineLimit = CosineLimit()
    code_error: CodeLimit = CodeLimit()
    support_error: SupportLimit = SupportLimit()
    seconds: TimeLimit = TimeLimit()
    memory_bytes: MemoryLimit = MemoryLimit()
    # Errors up to this many times the reference's bound count as equal: an error of that size is
    # rounding in the estimate and the reference, and a mere reordering of sums changes it by a
    # factor.
    floor_multiple: Positive = 10.0

    def of_error(self, metric: str) -> ErrorLimit:
        """Return the threshold of an error; one that has none of its own has the usual one."""
        limit = getattr(self, metric, None)
        return limit if isinstance(limit, ErrorLimit) else ErrorLimit()

    @classmethod
    def of(cls, table: Mapping[str, object]) -> Self:
        """Return the defaults, changed by a table such as ``[tool.pudle.compare]`` in a
        ``pyproject.toml``; unknown names and unusable values raise InvalidArgument.
        """
        try:
            return msgspec.convert(table, cls)
        except msgspec.ValidationError as error:
            raise InvalidArgument(
                f"[tool.pudle.compare] cannot be used ({error}): it may have positive numbers for"
                f" {', '.join(cls.__struct_fields__)}"
            ) from None

    @classmethod
    def of_repository(cls, root: Path) -> Self:
        """Return the thresholds that the ``pyproject.toml`` of a repository states, see `of`; the
        defaults without the file or the table. InvalidArgument says that it cannot be read.
        """
        path = root / "pyproject.toml"
        try:
            content = tomllib.loads(path.read_text()) if path.exists() else {}
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"{path} cannot be read ({error}): correct it") from None
        return cls.of(content.get("tool", {}).get("pudle", {}).get("compare", {}))


# -- what is judged


class Place(NamedTuple):
    """What identifies a number."""

    case: str
    estimator: str
    target: str | None
    depth: int | None
    metric: str
    seed: int | None


class Side(NamedTuple):
    """A number and what became of it; without a status it was never measured."""

    value: float = nan
    status: str = ""
    reason: str = ""


#: Both, of a row of the tidy table.
_place, _side = attrgetter(*Place._fields), attrgetter(*Side._fields)
#: Each number with its two sides, base and head.
Pairs = dict[Place, list[Side]]


class TimeChange(NamedTuple):
    """A time over its rounds: the medians of both sides, how many times as long it takes, and the
    p-values that it takes longer, and that it takes less; or the reason why it is missing.
    """

    base: float
    head: float
    change: float
    p_slower: float
    p_faster: float
    reason: str


class Judged(NamedTuple):
    """The verdict on a cell, which is that of its worst seed; the columns of the CSV."""

    case: str
    estimator: str
    target: str | None
    depth: int | None
    metric: str
    seed: int | None
    base: float
    head: float
    change: float
    limit: float
    p_value: float
    verdict: str
    rule: str
    reason: str


@dataclass(frozen=True, eq=False)
class Comparison:
    """The verdicts of a comparison."""

    #: One for each cell.
    rows: Sequence[Judged]
    limits: Limits
    #: Parts of the environment that differ: name to those of base and of head.
    differences: Mapping[str, list[str]]
    #: Sentences that a reader needs to judge the verdicts.
    notes: Sequence[str]
    #: What each case is called, by name.
    labels: Mapping[str, str]

    def cells(self, verdict: str = "regression") -> list[Judged]:
        """Return the rows with a verdict, by default those that regressed."""
        return [row for row in self.rows if row.verdict == verdict]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The verdicts as a table."""
        types = {"depth": "Int64", "seed": "Int64"}
        return pd.DataFrame(self.rows, columns=[*Judged._fields]).astype(types)


def compare(
    base: Results, head: Results, limits: Limits | None = None, together: CommitRounds | None = None
) -> Comparison:
    """Judge head by base: one verdict for each cell, that of its worst seed.

    Nothing is read, measured or written.

    Parameters
    ----------
    base, head : Results
    limits : Limits, optional
        Thresholds; the defaults if not given.
    together : CommitRounds, optional
        Times of both sides measured in turns, and what was left out. Without it the timings in
        `base` and `head` are compared, which the machine may have changed from one run to the next:
        a ratio beyond its limit is ``undecided``.
    """
    limits, sides = limits or Limits(), {"base": base, "head": head}
    differences = _differences(base, head)
    unequal = [name for name in ENVIRONMENT if name in differences]
    if len({version[:4] for version in differences.get("python", ())}) > 1:
        unequal.append("python")
    elsewhere = not differences.keys().isdisjoint(ARITHMETIC)
    pairs = _side_by_side((base, head), together)
    times = _times(together.rounds if together else _rounds_of_separate_runs(base, head))
    if together:
        pairs = {place: pair for place, pair in pairs.items() if place.metric != "seconds"}
        for (case, estimator, depth), change in times.items():
            old = Side(change.base, "error" if isnan(change.base) else "ok")
            new = Side(change.head, "error" if change.reason else "ok", change.reason)
            pairs[Place(case, estimator, None, depth, "seconds", None)] = [old, new]
    redefined = _redefined(base.cases, head.cases)
    judge = _Judge((base, head), limits, times, redefined, bool(unequal), elsewhere, not together)
    worst: dict[tuple[object, ...], Judged] = {}
    for place, (old, new) in pairs.items():
        # The worst seed stands for its cell.
        row = judge.judged(place, old, new)
        worst[place[:5]] = max(worst.get(place[:5], row), row, key=_badness)
    judged = [row for row in worst.values() if row.verdict != "left out"]
    left_out = len(worst) - len(judged)
    notes = [*_notes(sides, together, left_out, elsewhere, unequal)]
    case_labels = labels({name: vars(case) for name, case in {**head.cases, **base.cases}.items()})
    if times and not together and not unequal:
        notes.append(_separate_times(judged, limits.seconds.ratio, case_labels))
    notes += _coarse_errors(judged)
    return Comparison(judged, limits, differences, notes, case_labels)


def _badness(row: Judged) -> tuple[int, float]:
    return VERDICTS.index(row.verdict), -inf if isnan(row.change) else row.change


def _side_by_side(sides: Sequence[Results], together: CommitRounds | None) -> Pairs:
    """Return the numbers of both sides beside each other, base first.

    What one side lacks has the status of its score, or of its whole record, where that failed. What
    is missing counts as never measured, unless a time limit left it out of sides that were measured
    together, or options left it out of a run of one side. Rows without a depth are left out.
    """
    partial = together is not None and together.partial
    absent = () if partial else ("missing",)
    numbers = [
        {
            Place(*_place(row)): Side(*_side(row))
            for row in side.rows
            if row.metric in METRICS and row.status not in absent
        }
        for side in sides
    ]
    # Of these nothing but one row says that they are missing.
    unmeasured = [
        {
            (record.case.name, record.estimator)
            for record in side.records
            if record.status == "missing"
        }
        for side in sides
    ]
    failed = [_failed_scores(known) for known in numbers]

    def lost(number: int, place: Place) -> Side:
        """Return what became of a number that a side, by its number, lacks."""
        at_depth = (place.case, place.estimator, place.depth)
        if score := failed[number].get(at_depth) or failed[number].get((*place[:2], None)):
            return score
        # Sides that were measured together had the same options: what one lacks, its commit lacks.
        left_out = _left_out(sides[number], place) if together is None else False
        left_out |= partial and place[:2] in unmeasured[number]
        return Side(status="missing") if left_out else Side()

    return {
        place: [known.get(place) or lost(number, place) for number, known in enumerate(numbers)]
        for place in {**numbers[0], **numbers[1]}
        if place.depth is not None
    }


def _failed_scores(numbers: Mapping[Place, Side]) -> dict[tuple[str, str, int | None], Side]:
    """Return what became of scores that failed, by case, estimator and depth."""
    return {
        (place.case, place.estimator, place.depth): side
        for place, side in numbers.items()
        if place.metric == ERRORS[0] and side.status != "ok"
    }


def _left_out(side: Results, place: Place) -> bool:
    """Tell whether the options of a side's run left out a number."""
    case = side.cases.get(place.case)
    is_selected = case and place.depth in case.depths and place.estimator in side.estimators
    return side.narrowed and not is_selected


def _rounds_of_separate_runs(base: Results, head: Results) -> list[Round]:
    """Pair up the repeated times of two separate runs into rounds, as if both sides had been timed
    in turns.

    The i-th time of base goes with the i-th of head, in each cell (case, estimator and depth) that
    both sides have timed: as many rounds as the side with fewer times has.
    """
    before, after = (
        {
            (cost.case, cost.estimator, cost.depth): cost.samples
            for cost in side.costs
            if cost.metric == "seconds" and cost.status == "ok"
        }
        for side in (base, head)
    )
    return [
        Round(case=case, estimator=estimator, depth=depth, base=old, head=new)
        for (case, estimator, depth), samples in before.items()
        for old, new in zip(samples, after.get((case, estimator, depth), ()), strict=False)
    ]


def _times(rounds: Iterable[Round]) -> dict[Cell, TimeChange]:
    """Compare times over their rounds, by cell; the p-values hold for all cells together, so that a
    longer list of them brings no more false alarms.

    A cell with a round that failed has the reason, and NaN for its change.
    """
    changes = {}
    by_cell = grouped(rounds, lambda turn: (turn.case, turn.estimator, turn.depth))
    for cell, turns in by_cell.items():
        reason = next((turn.reason for turn in turns if turn.reason), "")
        base, head = [turn.base or nan for turn in turns], [turn.head or nan for turn in turns]
        ratio = paired.Ratio(nan, p_value=nan) if reason else paired.compare(head, base)
        slower = ratio.p_value / 2 if ratio.value > 1 else 1 - ratio.p_value / 2
        numbers = ratio.value, slower, 1 - slower
        changes[cell] = TimeChange(spread(base).value, spread(head).value, *numbers, reason)
    chances = np.reshape(
        [(change.p_slower, change.p_faster) for change in changes.values()], (-1, 2)
    )
    chances = stats.false_discovery_control(np.nan_to_num(chances, nan=1.0), axis=0)
    return {
        cell: change._replace(p_slower=slower, p_faster=faster)
        for (cell, change), (slower, faster) in zip(changes.items(), chances.tolist(), strict=True)
    }


# -- verdicts


class Judgment(NamedTuple):
    """A verdict, the name of the rule that it follows from, and the reason."""

    verdict: str
    rule: str = ""
    reason: str = ""


class Growth(NamedTuple):
    """How many times as much a number is, what is allowed, and the p-values that a time is longer,
    and that it is shorter; what is too `little` does not count.
    """

    rule: str
    change: float
    limit: float
    p_slower: float = nan
    p_faster: float = nan
    little: bool = False
    #: What errors below it were counted as, zero where none of the two is below it.
    floor: float = 0.0


@dataclass(frozen=True)
class _Judge:
    sides: Sequence[Results]
    limits: Limits
    times: Mapping[Cell, TimeChange]
    #: Why a case's name has another meaning.
    redefined: Mapping[str, str]
    #: Whether the sides were measured in unequal environments, or where sums differ.
    unequal: bool
    elsewhere: bool
    #: Whether the sides were timed in two separate runs.
    separate: bool

    def judged(self, place: Place, old: Side, new: Side) -> Judged:
        """Return a number with its verdict."""
        grown = self.growth(place, old.value, new.value)
        verdict = self.by_status(place.case, old, new) or self.by_growth(grown)
        numbers = old.value, new.value, grown.change, grown.limit, grown.p_slower
        return Judged(*place, *numbers, *verdict)

    def growth(self, place: Place, old: float, new: float) -> Growth:
        """Return how much a number has grown, with the limit of its metric; errors below their
        floor count as equal to it.
        """
        if place.metric == "seconds":
            limit = self.limits.seconds.ratio
            time_change = self.times.get((place.case, place.estimator, place.depth or 0))
            if time_change is None:
                return Growth("time", nan, limit)
            return Growth(
                "time", time_change.change, limit, time_change.p_slower, time_change.p_faster
            )
        if place.metric == "memory_bytes":
            allowed = self.limits.memory_bytes
            little = abs(new - old) / 2**20 <= allowed.mebibytes
            # Without the memory of a process that estimates nothing, a memory can be zero.
            return Growth("memory", _ratio(old, new, 1.0), allowed.ratio, little=little)
        error_limit = self.limits.of_error(place.metric)
        limit = error_limit.elsewhere if self.elsewhere else error_limit.ratio
        floor = max(self.rounding(place), error_limit.floor)
        raised = floor if min(old, new) < floor else 0.0
        return Growth("accuracy", _ratio(old, new, floor), limit, floor=raised)

    def rounding(self, place: Place) -> float:
        """Return the error up to which the reference's own bound makes errors equal; zero for
        errors of codes and supports.
        """
        key = place.case, place.seed or 0, place.target or ""
        known = [side.references[key] for side in self.sides if key in side.references]
        bound = max((row.bound or 0.0 for row in known), default=0.0) * self.limits.floor_multiple
        norm = max((row.gradient_norm or 0.0 for row in known), default=0.0)
        floors = {
            "relative_error": bound,
            "cosine_error": bound**2 / 2,
            "absolute_error": bound * norm,
        }
        return floors.get(place.metric, 0.0)

    def by_status(self, case: str, before: Side, after: Side) -> Judgment | None:
        """Return the verdict on a number that one side lacks or that has another meaning; None
        where both sides have one, so that growth decides.
        """
        old, new = before.status, after.status
        if "missing" in (old, new):
            return Judgment("left out")
        if why := self.redefined.get(case):
            return Judgment("regression", "redefined", why)
        says = f"{new}: {after.reason}".removesuffix(": ")
        if not old:
            return Judgment("new", "new", says if new != "ok" else "")
        if not new:
            if old == "ok":
                return Judgment("regression", "vanished", "was ok, is no longer measured")
            return Judgment("unmeasured", "", f"{old} before, not measured now")
        if new == "ok":
            return None if old == "ok" else Judgment("improved", "status", f"was {old}, is ok")
        if old == "ok" or (new in BROKEN and old not in BROKEN):
            return Judgment("regression", "status", f"was {old}, is {says}")
        return Judgment("unmeasured", "status", says)

    def by_growth(self, grown: Growth) -> Judgment:
        """Return the verdict on a number that both sides have: costs of unequal environments, and
        times within the noise or of separate runs, are undecided.
        """
        rule, change, limit, slower, faster, little, floor = grown
        cost = rule != "accuracy"
        if cost and self.unequal:
            return Judgment("undecided", rule, "measured in different environments")
        if little or (cost and 1 / limit <= change <= limit):
            return Judgment("same")
        p_value = slower if change > limit else faster
        if p_value > self.limits.seconds.significance:
            noise = f"a ratio within the noise (p = {p_value:.2g})"
            return Judgment("undecided", rule, noise)
        times = f"{change:.4g} times as much"
        if floor:
            times += f", where any error below {floor:.2g} counts as {floor:.2g}"
        if rule == "time" and self.separate:
            return Judgment("undecided", rule, times + SEPARATE)
        if change > limit:
            return Judgment("regression", rule, times)
        if change < 1 / limit:
            return Judgment("improved", rule, times)
        if abs(change - 1) > ROUNDING and not self.elsewhere:
            return Judgment("changed", rule, times)
        return Judgment("same")


def _ratio(old: float, new: float, floor: float) -> float:
    """Return how many times as much a number is, where those below a floor are equal to it."""
    # A number that is missing counts as the floor.
    return float(np.fmax(new, floor) / np.fmax(old, floor))


def _redefined(base: Mapping[str, Case], head: Mapping[str, Case]) -> dict[str, str]:
    """Describe, by name, the changes of each case that has one name and two meanings: another
    dataset, algorithm, loss or dtype.
    """
    redefined = {}
    for name in base.keys() & head.keys():
        parts = [(getattr(base[name], part), getattr(head[name], part)) for part in DEFINITION]
        if changes := ", ".join(f"{old} became {new}" for old, new in parts if old != new):
            redefined[name] = f"the case has a new meaning ({changes}) and its old name: rename it"
    return redefined


def _separate_times(rows: Sequence[Judged], limit: float, case_labels: Mapping[str, str]) -> str:
    """Return the note on times of separate runs: how many are longer by more than the limit and
    beyond the noise, which of them most, and what would decide.
    """
    note = (
        "Times decide nothing here, because the two sides were timed in separate runs, between"
        " which the machine may have changed"
    )
    longer = [row for row in rows if row.reason.endswith(SEPARATE) and row.change > limit]
    if longer:
        worst = max(longer, key=_badness)
        are = "is" if len(longer) == 1 else "are"
        note += (
            f"; {count(len(longer), 'time')} {are} more than {limit:g} times as long, most of all"
            f" that of {worst.estimator} on {case_labels[worst.case]} at depth {worst.depth}"
            f" ({worst.change:.4g} times)"
        )
    return f"{note}. `pudle compare --run` measures both in turns, and judges the times."


def _coarse_errors(rows: Sequence[Judged]) -> Iterator[str]:
    """Yield one warning if all relative errors of base are above `COARSE`, so that none is small
    enough to show a gradient that lost a part.
    """
    errors = [row.base for row in rows if row.metric == "relative_error" and not isnan(row.base)]
    if errors and min(errors) > COARSE:
        yield (
            f"Warning: all errors of base are above {COARSE:g}; the smallest is {min(errors):.2g}."
            " A gradient that lost a part can pass there: judge where errors are small, such as"
            " with --depth 100 or more."
        )


def _differences(base: Results, head: Results) -> dict[str, list[str]]:
    """Return the provenance that differs between the sides, base's first; empty where one side has
    none.
    """
    sides = (base.provenances, head.provenances)
    parts = {
        name: [
            ", ".join(
                dict.fromkeys(str(getattr(provenance, name) or "unknown") for provenance in side)
            )
            for side in sides
        ]
        for name in PROVENANCE
    }
    return {name: values for name, values in parts.items() if all(sides) and values[0] != values[1]}


def _notes(
    sides: Mapping[str, Results],
    together: CommitRounds | None,
    left_out: int,
    elsewhere: bool,
    unequal: list[str],
) -> Iterator[str]:
    """Yield the notes that a reader needs with the numbers: what was left out, uncommitted changes,
    and how unequal environments were judged; a side's own notes only if the sides were not measured
    together.
    """
    if together and together.partial:
        yield (
            f"Partial: the time limit left out times, and {count(left_out, 'other cell')}: what is"
            " judged is the rest."
        )
    elif left_out:
        narrowed = " and ".join(name for name, side in sides.items() if side.narrowed)
        yield (
            f"{count(left_out, 'cell')} not judged: options of the run of {narrowed} left"
            f" {'it' if left_out == 1 else 'them'} out."
        )
    for name, side in sides.items():
        lacking = together.lacking.get(name, {}) if together else {}
        yield from (f"Left out on {name}: {reason}" for reason in dict.fromkeys(lacking.values()))
        if any(provenance.dirty for provenance in side.provenances):
            yield (
                f"{name} was measured with uncommitted changes: its numbers belong to no commit."
                " Run `pudle run` once more in a checkout of it without changes: what is the same"
                " there is not measured again."
            )
        yield from (f"{name}: {note}" for note in side.notes if not together)
    if elsewhere:
        yield (
            "The two sides differ in processor, libraries or threads: errors are judged by the"
            " thresholds for elsewhere."
        )
    if unequal:
        yield f"Time and memory are not judged: the two sides differ in {' and '.join(unequal)}."
