"""Judge a result by an earlier one: one verdict per cell, by the rules in ``docs/gate.md``.

The numbers of both sides stand beside each other, one `Compared` per cell and seed. What became of
them decides first, see `_by_status`, then what they are, see `_by_number`. `Limits` say how much
worse an estimator may become.
"""

import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, NamedTuple, Self

import msgspec
import pandas as pd
from scipy import stats

from pudle.errors import InvalidArgument
from pudle.measuring.case import labels
from pudle.measuring.commits.turns import compare_rounds
from pudle.measuring.contents import Rounds
from pudle.measuring.scoring import ERRORS
from pudle.reports.load import BROKEN, DescribedCase, Results
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
PROVENANCE = ("pudle", "python", *ARITHMETIC, "asv", "asv_runner", "cores", "system")

#: Relative change of an error that rounding can cause: sums in another order, in code that is
#: otherwise the same.
ROUNDING = 1e-6
Positive = Annotated[float, msgspec.Meta(gt=0)]


class _Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class ErrorLimit(_Limit):
    """How much an error may grow, where errors below `floor` count as equal to it.

    On one machine with one set of libraries errors are deterministic, and may grow by the factor
    `ratio`. Elsewhere sums are taken in another order, which can change a code's support, and they
    may grow by the factor `elsewhere`.
    """

    ratio: Positive = 1.01
    elsewhere: Positive = 1.25
    floor: Positive = 1e-14


class CosineLimit(ErrorLimit):
    """The same of an error of second order: the same loss of accuracy is its square, and so is the
    floor.
    """

    ratio: Positive = 1.02
    elsewhere: Positive = 1.6
    floor: Positive = 1e-28


class CodeLimit(ErrorLimit):
    """The same of the error of codes."""

    floor: Positive = 1e-12


class SupportLimit(ErrorLimit):
    """The same of a share of a few hundred samples: below a hundredth, one sample more or less
    would change it by a factor.
    """

    floor: Positive = 0.01


class MemoryLimit(_Limit):
    """How much memory above a process that estimates nothing may grow: by `ratio` or `mebibytes`,
    whichever allows more.
    """

    ratio: Positive = 1.3
    mebibytes: Positive = 4.0


class TimeLimit(_Limit):
    """How much slower an estimate may become: by `ratio`, at the false discovery rate
    `significance`.
    """

    ratio: Positive = 1.3
    significance: Positive = 0.01


class Limits(_Limit):
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
        own = getattr(self, metric, None)
        return own if isinstance(own, ErrorLimit) else ErrorLimit()

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
        file may be missing.
        """
        path = root / "pyproject.toml"
        try:
            content = tomllib.loads(path.read_text()) if path.exists() else {}
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"{path} cannot be read ({error}): correct it") from None
        return cls.of(content.get("tool", {}).get("pudle", {}).get("compare", {}))


# -- what is judged


class Place(NamedTuple):
    """What identifies a number; that of a cell has no seed."""

    case: str
    estimator: str
    target: str | None
    depth: int | None
    metric: str
    seed: int | None = None


class Side(NamedTuple):
    """A number and what became of it; without a status it was never measured."""

    value: float = math.nan
    status: str = ""
    reason: str = ""


class TimeChange(NamedTuple):
    """A time of both sides, see `pudle.measuring.commits.turns.compare_rounds`."""

    case: str
    estimator: str
    depth: int
    metric: str
    base: float
    head: float
    change: float
    p_slower: float
    p_faster: float
    status_base: str
    status_head: str
    reason_head: str


class Compared(NamedTuple):
    """A number on both sides."""

    place: Place
    base: Side
    head: Side
    #: Of the reference: its bound, and the norm of its gradient.
    bound: float = 0.0
    gradient_norm: float = 0.0
    #: How often head's time is base's, and the p-values that it is slower, and that it is faster.
    times: float = math.nan
    p_slower: float = math.nan
    p_faster: float = math.nan


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

    @property
    def cell(self) -> Place:
        """The cell."""
        return Place(*self[:5])


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
        """Return the rows with a verdict."""
        return [row for row in self.rows if row.verdict == verdict]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The verdicts as a table."""
        types = {"depth": "Int64", "seed": "Int64"}
        return pd.DataFrame(self.rows, columns=[*Judged._fields]).astype(types)


def compare(
    base: Results, head: Results, limits: Limits | None = None, together: Rounds | None = None
) -> Comparison:
    """Judge head by base.

    Parameters
    ----------
    base, head : Results
    limits : Limits, optional
        Thresholds; the defaults if not given.
    together : Rounds, optional
        Times of both sides measured in turns, and what was left out. Without it the timings in
        `base` and `head` are compared.
    """
    limits, sides = limits or Limits(), {"base": base, "head": head}
    differences = _differences(base, head)
    unequal = [name for name in ENVIRONMENT if name in differences]
    if len({version[:4] for version in differences.get("python", ())}) > 1:
        unequal.append("python")
    elsewhere = not differences.keys().isdisjoint(ARITHMETIC)
    cells = _side_by_side(base, head, partial=together is not None and together.partial)
    times = _times(together.rounds if together else _repeats(base, head))
    cells = _with_times(cells, times, replace=together is not None)
    redefined = _redefined(base.cases, head.cases)
    judge = _Judge(limits, redefined, bool(unequal), elsewhere)
    worst: dict[Place, Judged] = {}
    for row in map(judge.judged, cells):
        # The worst seed stands for its cell.
        worst[row.cell] = max(row, worst.get(row.cell, row), key=_badness)
    rows = [worst[cell] for cell in sorted(worst, key=_order)]
    judged = [row for row in rows if row.verdict != "left out"]
    left_out = len(rows) - len(judged)
    notes = [*_notes(sides, together, left_out, elsewhere, unequal, len(times) > 0)]
    called = labels({name: vars(case) for name, case in {**head.cases, **base.cases}.items()})
    return Comparison(judged, limits, differences, notes, called)


def _badness(row: Judged) -> tuple[int, float]:
    change = -math.inf if math.isnan(row.change) else row.change
    return VERDICTS.index(row.verdict), change


def _order(cell: Place) -> tuple[str, str, str, float, str]:
    """Return what cells are sorted by; what has no target or no depth comes last."""
    depth = math.inf if cell.depth is None else cell.depth
    return cell.case, cell.estimator, cell.target or "\U0010ffff", depth, cell.metric


def _side_by_side(base: Results, head: Results, partial: bool) -> list[Compared]:
    """Return the numbers of both sides beside each other, with the scales of their references.

    What one side lacks has the status of its record, where that failed. What is missing counts as
    never measured, unless a time limit made that `partial`.
    """
    absent = () if partial else ("missing",)
    numbers = [
        {
            Place(row.case, row.estimator, row.target, row.depth, row.metric, row.seed): Side(
                row.value, row.status, row.reason
            )
            for row in side.rows
            if row.metric in METRICS and row.status not in absent
        }
        for side in (base, head)
    ]
    failed = [
        {
            (claim.case, claim.estimator): Side(math.nan, claim.status, claim.reason)
            for claim in side.claims
            if claim.status not in ("ok", *absent)
        }
        for side in (base, head)
    ]
    bounds: dict[tuple[str, int | None, str | None], tuple[float, float]] = {}
    for each in (*base.references, *head.references):
        key = each.case, each.seed, each.target
        known = (value if value < math.inf else 0.0 for value in (each.bound, each.gradient_norm))
        bound, norm = map(max, known, bounds.get(key, (0.0, 0.0)))
        bounds[key] = bound, norm
    places = numbers[0] | numbers[1]
    whole = {
        (place.case, place.estimator, place.metric) for place in places if place.depth is not None
    }
    cells = []
    for place in places:
        # Where one side's record failed as a whole, the other's cells say so one by one.
        if place.depth is not None or (place.case, place.estimator, place.metric) not in whole:
            pair = place.case, place.estimator
            old, new = (
                some.get(place) or others.get(pair, Side())
                for some, others in zip(numbers, failed, strict=True)
            )
            scales = bounds.get((place.case, place.seed, place.target), (0.0, 0.0))
            cells.append(Compared(place, old, new, *scales))
    return cells


def _repeats(base: Results, head: Results) -> list[dict[str, object]]:
    """Return the times of two separate runs, as if they had been measured in turns."""
    later = {each[:4]: each.samples for each in head.timings if each.metric == "seconds"}
    return [
        {"case": each.case, "estimator": each.estimator, "depth": each.depth}
        | {"base": old, "head": new, "reason": ""}
        for each in base.timings
        for old, new in zip(each.samples, later.get(each[:4], ()), strict=False)
    ]


def _times(rounds: Sequence[Mapping[str, object]]) -> list[TimeChange]:
    """Compare times, with p-values such that a longer list of cases brings no more false alarms."""
    table = compare_rounds(rounds)
    chances = table[["p_slower", "p_faster"]].fillna(1.0)
    table[["p_slower", "p_faster"]] = stats.false_discovery_control(chances, axis=0)
    return [TimeChange(*row) for row in table.itertuples(index=False, name=None)]


def _with_times(
    cells: Sequence[Compared], times: Sequence[TimeChange], replace: bool
) -> list[Compared]:
    """Return the cells with the times of both sides, which may `replace` those of the sides."""
    if replace:
        cells = [cell for cell in cells if cell.place.metric != "seconds"] + [
            Compared(
                Place(each.case, each.estimator, None, each.depth, each.metric),
                Side(each.base, each.status_base),
                Side(each.head, each.status_head, each.reason_head),
            )
            for each in times
        ]
    found = {(each.case, each.estimator, each.depth, each.metric): each for each in times}
    timed = []
    for cell in cells:
        place = cell.place
        if each := found.get((place.case, place.estimator, place.depth, place.metric)):
            cell = cell._replace(times=each.change, p_slower=each.p_slower, p_faster=each.p_faster)
        timed.append(cell)
    return timed


# -- verdicts


class Verdict(NamedTuple):
    """A verdict, the name of the rule that it follows from, and the reason."""

    verdict: str
    rule: str = ""
    reason: str = ""


@dataclass(frozen=True)
class _Judge:
    limits: Limits
    #: Why a case's name has another meaning.
    redefined: Mapping[str, str]
    #: Whether the sides were measured in unequal environments, or where sums differ.
    unequal: bool
    elsewhere: bool

    def judged(self, cell: Compared) -> Judged:
        """Return a number with change, limit and verdict."""
        change, limit = self.change(cell), self.limit(cell.place.metric)
        verdict = self.by_status(cell) or self.by_number(cell, change, limit)
        numbers = cell.base.value, cell.head.value, change, limit, cell.p_slower
        return Judged(*cell.place, *numbers, *verdict)

    def limit(self, metric: str) -> float:
        """Return the factor by which a number may grow."""
        if metric == "seconds":
            return self.limits.seconds.ratio
        if metric == "memory_bytes":
            return self.limits.memory_bytes.ratio
        limit = self.limits.of_error(metric)
        return limit.elsewhere if self.elsewhere else limit.ratio

    def change(self, cell: Compared) -> float:
        """Return how many times as much a number is."""
        metric, bound = cell.place.metric, self.limits.floor_multiple * cell.bound
        if metric == "seconds":
            return cell.times
        # Errors below a floor are rounding. Without the memory of a process that estimates nothing,
        # a memory can be zero.
        floor = 1.0
        if metric != "memory_bytes":
            certified = {
                "relative_error": bound,
                "cosine_error": bound**2 / 2,
                "absolute_error": bound * cell.gradient_norm,
            }
            floor = max(certified.get(metric, 0.0), self.limits.of_error(metric).floor)
        base, head = (
            max(side.value, floor) if side.value == side.value else floor
            for side in (cell.base, cell.head)
        )
        return head / base

    def by_status(self, cell: Compared) -> Verdict | None:
        """Return the verdict on a number that one side lacks or that has another meaning."""
        old, new = cell.base.status, cell.head.status
        if "missing" in (old, new):
            return Verdict("left out")
        if why := self.redefined.get(cell.place.case):
            return Verdict("regression", "redefined", why)
        says = f"{new}: {cell.head.reason}".removesuffix(": ")
        if not old:
            return Verdict("new", "new", says if new != "ok" else "")
        if not new:
            if old == "ok":
                return Verdict("regression", "vanished", "was ok, is no longer measured")
            return Verdict("unmeasured", "", f"{old} before, not measured now")
        if new == "ok":
            return None if old == "ok" else Verdict("improved", "status", f"was {old}, is ok")
        if old == "ok" or (new in BROKEN and old not in BROKEN):
            return Verdict("regression", "status", f"was {old}, is {says}")
        return Verdict("unmeasured", "status", says)

    def by_number(self, cell: Compared, change: float, limit: float) -> Verdict:
        """Return the verdict on a number that both sides have."""
        rule = {"seconds": "time", "memory_bytes": "memory"}.get(cell.place.metric, "accuracy")
        if rule != "accuracy":
            if self.unequal:
                return Verdict("undecided", rule, "measured in different environments")
            more = abs(cell.head.value - cell.base.value) / 2**20
            little = rule == "memory" and more <= self.limits.memory_bytes.mebibytes
            if little or 1 / limit <= change <= limit:
                return Verdict("same")
            p_value = cell.p_slower if change > limit else cell.p_faster
            if p_value > self.limits.seconds.significance:
                noise = f"a ratio within the noise (p = {p_value:.2g})"
                return Verdict("undecided", rule, noise)
        times = f"{change:.4g} times as much"
        if change > limit:
            return Verdict("regression", rule, times)
        if change < 1 / limit:
            return Verdict("improved", rule, times)
        if abs(change - 1) > ROUNDING and not self.elsewhere:
            return Verdict("changed", rule, times)
        return Verdict("same")


def _redefined(
    base: Mapping[str, DescribedCase], head: Mapping[str, DescribedCase]
) -> dict[str, str]:
    """Return what changed in each case that has one name and two meanings."""
    redefined = {}
    for name in base.keys() & head.keys():
        parts = zip(_definition(base[name]), _definition(head[name]), strict=True)
        if changes := ", ".join(f"{old} became {new}" for old, new in parts if old != new):
            redefined[name] = f"the case has a new meaning ({changes}) and its old name: rename it"
    return redefined


def _definition(case: DescribedCase) -> Sequence[str]:
    """Return what a case is, whatever its name."""
    return case.dataset, case.algorithm, case.loss, case.dtype


def _differences(base: Results, head: Results) -> dict[str, list[str]]:
    """Return the provenance that differs between the sides, empty where one side has none."""
    sides = (base.provenances, head.provenances)
    parts = {
        name: [
            ", ".join(dict.fromkeys(str(each.get(name) or "unknown") for each in side))
            for side in sides
        ]
        for name in PROVENANCE
    }
    return {name: values for name, values in parts.items() if all(sides) and values[0] != values[1]}


def _notes(
    sides: Mapping[str, Results],
    together: Rounds | None,
    left_out: int,
    elsewhere: bool,
    unequal: list[str],
    timed: bool,
) -> Iterator[str]:
    """Yield what a reader has to know about the numbers."""
    if together and together.partial:
        yield (
            f"Partial: the time limit left out times, and {count(left_out, 'other cell')}: what is"
            " judged is the rest."
        )
    for name, side in sides.items():
        lacking = together.lacking.get(name, {}) if together else {}
        yield from (f"Left out on {name}: {reason}" for reason in dict.fromkeys(lacking.values()))
        if any(item.get("dirty") for item in side.provenances):
            yield f"{name} was measured with uncommitted changes: its numbers belong to no commit."
        yield from (f"{name}: {note}" for note in side.notes if not together)
    if elsewhere:
        yield (
            "The two sides differ in processor, libraries or threads: errors are judged by the"
            " thresholds for elsewhere."
        )
    if unequal:
        yield f"Time and memory are not judged: the two sides differ in {' and '.join(unequal)}."
    elif timed and not together:
        yield (
            "The two sides were timed in separate runs, so the machine may have caused a ratio;"
            " `pudle compare --run` measures them in turns."
        )
