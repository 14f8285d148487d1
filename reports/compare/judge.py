"""Judge a result by an earlier one: one verdict per cell.

Deterministic numbers get a tight threshold, noisy ones a loose one:

========  ===============================================================================================================
accuracy  Decades by which an error has grown, ``log10(head / base)``, seed by seed. Both errors are first raised to a floor
          below which a difference is rounding: a small multiple of the reference's certified bound.
time      Median ratio over rounds in which base and head take turns, with a signed-rank test on the pairs; without rounds,
          the ratio of two runs, with a rank-sum test on their repeats. The p-values are corrected for the number of cells by
          the false discovery rate, so that a longer list of cases brings no more false alarms.
memory    Ratio and difference of the peaks above a process that estimates nothing: both must exceed their threshold.
statuses  A number that turned into NaN, a cell that vanished and a cell that was ok and no longer is are regressions at
          any threshold; cells that only head has are ``new``.
========  ===============================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
from scipy import stats

from pudle.measuring.commits.times import TimeLimit, compare_rounds
from pudle.reports.compare.limits import ErrorLimit, Limits, MemoryLimit
from pudle.reports.load import BROKEN, SCORES, Results

#: Verdicts from the best to the worst: the worst of a cell's seeds counts.
VERDICTS = ("same", "unmeasured", "improved", "new", "undecided", "regression")

#: Columns that identify a measured number, and columns of `Comparison.frame`.
KEY = ["case", "estimator", "target", "depth", "seed", "metric"]
COLUMNS = ("case", "estimator", "target", "depth", "metric", "base", "head", "change", "limit", "p_value", "verdict", "rule",
           "reason")  # fmt: skip

#: Provenance that must agree for time and memory to be comparable. The name of the machine and the place of the interpreter
#: are left out: on hosted runners they differ from one job to the next.
ENVIRONMENT = ("python", "device", "accelerator", "threads", "cpu")

#: Provenance that is shown where the two sides differ in it.
PROVENANCE = ("pudle", "python", "torch", "numpy", "blas", "asv", "asv_runner", "threads", "device", "accelerator", "cpu",
              "cores", "system")  # fmt: skip

MEBIBYTE = 2.0**20
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Comparison:
    """The verdicts of a comparison.

    Attributes
    ----------
    frame : DataFrame
        One row per (case, estimator, target, depth, metric) with the columns `COLUMNS`; the worst seed stands for all.
    limits : Limits
    differences : mapping
        Parts of the environment that differ: name to (base, head).
    notes : tuple of str
        Sentences that a reader needs to judge the verdicts.
    """

    frame: pd.DataFrame
    limits: Limits
    differences: Mapping[str, tuple[str, str]]
    notes: tuple[str, ...] = ()

    @property
    def regressions(self) -> pd.DataFrame:
        """Return the rows that fail the comparison."""
        return self.frame[self.frame["verdict"] == "regression"]

    def count(self, verdict: str) -> int:
        """Return how many cells have a verdict."""
        return int((self.frame["verdict"] == verdict).sum())


def compare(base: Results, head: Results, limits: Limits | None = None, rounds: pd.DataFrame | None = None) -> Comparison:
    """Judge head by base.

    Parameters
    ----------
    base, head : Results
    limits : Limits, optional
        Thresholds; the defaults if not given.
    rounds : DataFrame, optional
        Times of both sides measured in turns, see `pudle.measuring.commits.times.compare_rounds`. Without it the timings in
        `base` and `head` are compared.
    """
    limits = limits or Limits()
    differences = _differences(base, head)
    unequal = [name for name in ENVIRONMENT if name in differences and not _equal(name, *differences[name])]
    redefined = _redefined(base, head)
    sides = _Side(base, redefined), _Side(head, redefined)
    rows = [_row(*pair, None, None, "relative_error", verdict="regression", rule="redefined", reason=reason)
            for pair, reason in redefined.items()]  # fmt: skip
    rows += _worst_of_seeds(_errors(*sides, limits))
    rows += _times(*sides, limits.seconds, unequal) if rounds is None else _times_in_turns(rounds, limits.seconds)
    rows += _memory(*sides, limits.memory_bytes, unequal)
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"depth": "Int64"})
    frame = frame.sort_values(["case", "estimator", "metric", "depth"], kind="stable", ignore_index=True)
    separate = rounds is None and (frame["metric"] == "seconds").any()
    notes = _notes({"base": base, "head": head}, unequal, rounds is None, separate)
    return Comparison(frame, limits, differences, tuple(notes))


class _Number(NamedTuple):
    """One measured number, NaN where there is none, with its status."""

    value: float
    status: str
    reason: str


class _Side:
    """The numbers of one side by `KEY`, without those of some (case, estimator) pairs."""

    def __init__(self, results: Results, without: Collection[tuple[str, str]]) -> None:
        self.results = results
        self.numbers: dict[tuple, _Number] = {}
        frame = results.frame[[*KEY, "value", "status", "reason"]].astype(object)
        for *key, value, status, reason in frame.where(frame.notna(), None).itertuples(index=False, name=None):
            if (key[0], key[1]) not in without and status != "missing":
                self.numbers[tuple(key)] = _Number(math.nan if value is None else float(value), status, reason or "")
        self.pairs = {key[:2] for key in self.numbers}
        references = results.references.set_index(["case", "seed", "target"])
        bounds = references["bound"].astype(float)
        self.bounds = bounds[bounds.abs() < math.inf].to_dict()
        self.norms = references["gradient_norm"].to_dict()

    def number(self, key: tuple) -> _Number | None:
        """Return a cell's number or, where it has none, the failure of its depth and seed, or of the whole record."""
        case, estimator, target, depth, seed, _ = key
        if key not in self.numbers:
            for place in ((depth, seed), (None, None)):
                failure = self.numbers.get((case, estimator, target, *place, "relative_error"))
                if failure is not None and failure.status != "ok":
                    return failure
        return self.numbers.get(key)


def _row(case: str, estimator: str, target: str | None, depth: int | None, metric: str, **known: Any) -> Row:
    numbers = dict.fromkeys(("base", "head", "change", "limit", "p_value"), math.nan)
    return {"case": case, "estimator": estimator, "target": target, "depth": depth, "metric": metric, **numbers,
            "verdict": "same", "rule": "", "reason": ""} | known  # fmt: skip


def _redefined(base: Results, head: Results) -> dict[tuple[str, str], str]:
    """Return the (case, estimator) pairs whose case has one name and two meanings, each with what changed."""
    redefined = {}
    for name in base.cases.keys() & head.cases.keys():
        old, new = base.cases[name], head.cases[name]
        changes = [f"{part} {old.get(part)} became {new.get(part)}" for part in ("dataset", "algorithm", "loss", "dtype")
                   if old.get(part) != new.get(part)]  # fmt: skip
        for estimator in dict.fromkeys((*base.estimators, *head.estimators)) if changes else ():
            redefined[name, estimator] = f"the case has a new meaning under its old name ({', '.join(changes)}): rename it"
    return redefined


def _cells(base: _Side, head: _Side, metrics: Collection[str]) -> Iterator[tuple[tuple, Row, bool]]:
    """Yield (key, row, comparable) for every cell of some metrics; a cell that is not comparable has its verdict."""
    for key in dict.fromkeys((*base.numbers, *head.numbers)):
        case, estimator, target, depth, _, metric = key
        if metric not in metrics:
            continue
        old, new = base.number(key), head.number(key)
        if depth is None and (old is None or new is None) and key[:2] in base.pairs & head.pairs:
            continue  # One side's record failed as a whole, which the verdicts on the other's cells say one by one.
        row = _row(case, estimator, target, depth, metric)
        row |= {name: number.value for name, number in (("base", old), ("head", new)) if number is not None}
        verdict = _judge_statuses(old, new)
        yield key, row | dict(zip(("verdict", "rule", "reason"), verdict or (), strict=False)), verdict is None


def _judge_statuses(base: _Number | None, head: _Number | None) -> tuple[str, str, str] | None:
    """Return (verdict, rule, reason) where no threshold is needed, and None where both sides have a number."""
    now = "" if head is None else f"{head.status}: {head.reason}".removesuffix(": ")
    if base is None:
        new = head is not None
        return "new" if new else "unmeasured", "new" if new else "", "" if now == "ok" else now
    was_number = base.status == "ok" and not math.isnan(base.value)
    if head is None:
        if was_number:
            return "regression", "vanished", "was ok, is no longer measured"
        return "unmeasured", "", f"{base.status} before, not measured now"
    if head.status == "ok" and math.isnan(head.value):
        return "regression" if was_number else "unmeasured", "nan", "the value is NaN"
    if head.status == "ok":
        return None if was_number else ("improved", "status", f"was {base.status}, is ok")
    if was_number or (head.status in BROKEN and base.status not in BROKEN):
        return "regression", "status", f"was {base.status}, is {now}"
    return "unmeasured", "status", now


def _errors(base: _Side, head: _Side, limits: Limits) -> Iterator[Row]:
    """Yield a verdict for every error of every seed."""
    for (case, _, target, _, seed, metric), row, comparable in _cells(base, head, SCORES):
        if comparable:
            limit: ErrorLimit = getattr(limits, metric)
            place = (case, seed, target)
            bound = max(side.bounds.get(place, 0.0) for side in (base, head)) * limits.floor_multiple
            norm = max(side.norms.get(place, 0.0) for side in (base, head))
            floors = {"relative_error": bound, "cosine_error": bound**2 / 2, "absolute_error": bound * norm}
            floor = max(limit.floor, floors.get(metric, 0.0))
            decades = math.log10(max(row["head"], floor) / max(row["base"], floor))
            row |= {"change": decades, "limit": limit.decades}
            if decades > limit.decades:
                row |= {"verdict": "regression", "rule": "accuracy",
                        "reason": f"seed {seed}: {10**decades:.3g} times the error"}  # fmt: skip
            elif decades < -limit.decades:
                row |= {"verdict": "improved", "rule": "accuracy"}
        yield row


def _worst_of_seeds(rows: Iterator[Row]) -> list[Row]:
    worst: dict[tuple, Row] = {}

    def badness(row: Row) -> tuple[int, float]:
        return VERDICTS.index(row["verdict"]), -math.inf if math.isnan(row["change"]) else row["change"]

    for row in rows:
        key = tuple(row[name] for name in COLUMNS[:5])
        if key not in worst or badness(row) > badness(worst[key]):
            worst[key] = row
    return list(worst.values())


def _times_in_turns(rounds: pd.DataFrame, limit: TimeLimit) -> list[Row]:
    """Judge times measured in turns: each round is its own control for the other load of the machine."""
    rows, tested = [], []
    for cell in compare_rounds(rounds).itertuples(index=False):
        row = _row(cell.case, cell.estimator, None, cell.depth, "seconds", base=cell.base, head=cell.head)
        rows.append(row)
        if cell.reason:
            verdict = "unmeasured" if math.isnan(cell.base) else "regression"
            row |= {"verdict": verdict, "rule": "status", "reason": cell.reason}
        else:
            row |= {"change": cell.ratio, "limit": limit.ratio}
            tested.append((row, cell.p_slower, cell.p_faster))
    _decide_times(tested, limit)
    return rows


def _times(base: _Side, head: _Side, limit: TimeLimit, unequal: Sequence[str]) -> list[Row]:
    """Judge times of two separate runs by their repeats."""
    repeats = [{(row.case, row.estimator, row.depth): row.samples for row in side.results.timings.itertuples(index=False)}
               for side in (base, head)]  # fmt: skip
    rows, tested = [], []
    for (case, estimator, _, depth, _, _), row, comparable in _cells(base, head, ["seconds"]):
        rows.append(row)
        if not comparable:
            continue
        ratio = row["head"] / row["base"] if row["base"] else math.nan
        row |= {"change": ratio, "limit": limit.ratio}
        old, new = (samples.get((case, estimator, depth), ()) for samples in repeats)
        if unequal:
            row |= {"verdict": "undecided", "reason": "measured in different environments"}
        elif min(len(old), len(new)) >= 2:
            tested.append((row, _rank_sum(new, old), _rank_sum(old, new)))
        elif ratio > limit.ratio or ratio < 1 / limit.ratio:
            # One number per side cannot tell a slower estimator from a busy machine.
            row |= {"verdict": "undecided", "reason": "no repeats to test"}
    _decide_times(tested, limit)
    return rows


def _rank_sum(larger: Sequence[float], smaller: Sequence[float]) -> float:
    return float(stats.mannwhitneyu(larger, smaller, alternative="greater").pvalue)


def _decide_times(tested: Sequence[tuple[Row, float, float]], limit: TimeLimit) -> None:
    """Give each (row, p-value of slower, p-value of faster) its verdict; p-values are corrected for their number."""
    if not tested:
        return
    rows, *p_values = zip(*tested, strict=True)
    for row, slower, faster in zip(rows, *map(stats.false_discovery_control, p_values), strict=True):
        ratio, row["p_value"] = row["change"], float(slower)
        beyond = ratio > limit.ratio or ratio < 1 / limit.ratio
        p_value = slower if ratio > limit.ratio else faster
        if beyond and p_value > limit.significance:
            row |= {"verdict": "undecided", "reason": f"a ratio within the noise (p = {p_value:.2g})"}
        elif ratio > limit.ratio:
            row |= {"verdict": "regression", "rule": "time", "reason": f"{ratio:.2f} times the time"}
        elif beyond:
            row |= {"verdict": "improved", "rule": "time"}


def _memory(base: _Side, head: _Side, limit: MemoryLimit, unequal: Sequence[str]) -> Iterator[Row]:
    for _, row, comparable in _cells(base, head, ["memory_bytes"]):
        if comparable:
            old, new = row["base"], row["head"]
            # The peak of a process that estimates nothing is subtracted, so zero is possible.
            row |= {"change": new / old if old else math.inf if new else 1.0, "limit": limit.ratio}
            beyond = abs(new - old) > limit.mebibytes * MEBIBYTE
            if unequal:
                row |= {"verdict": "undecided", "reason": "measured in different environments"}
            elif beyond and new > limit.ratio * old:
                row |= {"verdict": "regression", "rule": "memory", "reason": f"{(new - old) / MEBIBYTE:.3g} MiB more"}
            elif beyond and old > limit.ratio * new:
                row |= {"verdict": "improved", "rule": "memory"}
        yield row


def _differences(base: Results, head: Results) -> dict[str, tuple[str, str]]:
    """Return the provenance that differs between the sides, empty where one side has none."""
    if not (base.provenances and head.provenances):
        return {}
    differences = {}
    for name in PROVENANCE:
        values = [
            [str(item[name]) for item in side.provenances if item.get(name) not in (None, "")] for side in (base, head)
        ]
        old, new = (", ".join(dict.fromkeys(each)) for each in values)
        if old != new:
            differences[name] = (old or "unknown", new or "unknown")
    return differences


def _equal(name: str, base: str, head: str) -> bool:
    """Return whether two values of the provenance count as equal; for Python the first two numbers of the version do."""
    return base.split(".")[:2] == head.split(".")[:2] if name == "python" else base == head


def _notes(sides: Mapping[str, Results], unequal: Sequence[str], loaded: bool, separate: bool) -> Iterator[str]:
    for name, side in sides.items():
        if any(item.get("dirty") for item in side.provenances):
            yield f"{name} was measured with uncommitted changes: its numbers belong to no commit."
        yield from (f"{name}: {note}" for note in side.notes if loaded)
    if unequal:
        yield f"Time and memory are not judged: the two sides differ in {' and '.join(unequal)}."
    elif separate:
        yield ("The two sides were timed in separate runs, so the machine may have caused a ratio; "
               "`pudle compare --run` measures them in turns.")  # fmt: skip
