"""Judge a result by an earlier one: one verdict per cell, by the rules in ``docs/gate.md``.

Deterministic numbers get a tight threshold (a loose one on another machine), noisy ones a loose
one. A number that turned into NaN, a cell that vanished and a cell that was ok and no longer is are
regressions at any threshold; cells that only head has are ``new``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from pudle.measuring.commits.turns import TimeLimit, compare_rounds
from pudle.reports.compare.limits import ErrorLimit, Limits, MemoryLimit
from pudle.reports.load import parsed
from pudle.reports.results import BROKEN, Results

#: Verdicts from the best to the worst: the worst of a cell's seeds counts.
VERDICTS = ("same", "unmeasured", "improved", "changed", "new", "undecided", "regression")

#: Columns that identify a cell and a measured number, and columns of `Comparison.frame`.
CELL = ["case", "estimator", "target", "depth", "metric"]
KEY = [*CELL, "seed"]
COLUMNS = (*CELL, "base", "head", "change", "limit", "p_value", "verdict", "rule", "reason")

#: Provenance that must agree for errors to be the same bit for bit ...
ARITHMETIC = ("torch", "numpy", "blas", "threads", "device", "accelerator", "cpu")
#: ... and for time and memory to be comparable. The name of the machine and the place of the
#: interpreter are left out: on hosted runners they differ from one job to the next.
ENVIRONMENT = ("python", "device", "accelerator", "threads", "cpu")
#: Provenance that is shown where the two sides differ in it.
PROVENANCE = ("pudle", "python", *ARITHMETIC, "asv", "asv_runner", "cores", "system")

MEBIBYTE = 2.0**20
#: Relative change of an error that rounding can cause: sums in another order, in code that is
#: otherwise the same.
ROUNDING = 1e-6
Row = dict[str, Any]
#: The verdict on time and memory in unequal environments.
ELSEWHERE: Row = {
    "verdict": "undecided",
    "rule": "",
    "reason": "measured in different environments",
}


@dataclass(frozen=True, eq=False)
class Comparison:
    """The verdicts of a comparison.

    Attributes
    ----------
    frame : DataFrame
        One row per cell, see `CELL`, with the columns `COLUMNS`; the worst seed stands for all.
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

    def cells(self, verdict: str = "regression") -> pd.DataFrame:
        """Return the rows with a verdict."""
        return self.frame[self.frame["verdict"] == verdict]


def compare(
    base: Results,
    head: Results,
    limits: Limits | None = None,
    rounds: pd.DataFrame | None = None,
    lacking: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> Comparison:
    """Judge head by base.

    Parameters
    ----------
    base, head : Results
    limits : Limits, optional
        Thresholds; the defaults if not given.
    rounds : DataFrame, optional
        Times of both sides measured in turns, see `pudle.measuring.commits.turns.compare_rounds`.
        Without it the timings in `base` and `head` are compared.
    lacking : mapping, optional
        Of ``base`` and ``head``, why each lacks something, by the name or the spec of what it
        lacks.
    """
    limits = limits or Limits()
    differences = _differences(base, head)
    unequal = [
        name
        for name in ENVIRONMENT
        if name in differences and not _same_version(name, *differences[name])
    ]
    elsewhere = any(name in differences for name in ARITHMETIC)
    redefined, scales = _redefined(base, head), _scales(base, head)
    repeats = [_repeats(side) for side in (base, head)]
    rows: list[Row] = [
        {"case": case, "estimator": estimator, "metric": "relative_error"}
        | _verdict("regression", "redefined", reason)
        for (case, estimator), reason in redefined.items()
    ]
    for row, verdict in _cells(base, head):
        pair, metric = (row["case"], row["estimator"]), row["metric"]
        if pair in redefined or (metric == "seconds" and rounds is not None):
            continue
        if verdict and verdict["rule"] == "vanished":
            why = _why_lacking(lacking.get("head", {}), row, base.cases[row["case"]])
            verdict["reason"] += f": {why}" if why else ""
        elif verdict:
            pass
        elif metric == "seconds":
            samples = [side.get((*pair, row["depth"]), ()) for side in repeats]
            verdict = _judge_repeats(row, *samples, limits.seconds, unequal)
        elif metric == "memory_bytes":
            verdict = _judge_memory(row, limits.memory_bytes, unequal)
        else:
            bound, norm = scales.get((row["case"], row["seed"], row["target"]), (0.0, 0.0))
            floor = _floor(metric, bound * limits.floor_multiple, norm)
            verdict = _judge_error(row, limits.of_error(metric), floor, elsewhere)
        rows.append(row | verdict)
    for row in [] if rounds is None else compare_rounds(rounds).to_dict("records"):
        unmeasured = "unmeasured" if math.isnan(row["base"]) else "regression"
        verdict = (
            _verdict(unmeasured, "status", row["reason"]) if row["reason"] else _verdict("same")
        )
        limited = {"change": row["ratio"], "limit": limits.seconds.ratio}
        rows.append(row | verdict | limited | {"metric": "seconds"})
    tested = [row for row in rows if not math.isnan(row.get("p_slower", math.nan))]
    _judge_times(tested, limits.seconds)
    separate = rounds is None and any(row["metric"] == "seconds" for row in rows)
    sides = {"base": base, "head": head}
    notes = [
        *_lacking_notes(lacking),
        *_notes(sides, unequal, rounds is None, separate, elsewhere),
    ]
    return Comparison(_worst_of_seeds(rows), limits, differences, tuple(notes))


def _verdict(verdict: str, rule: str = "", reason: str = "") -> Row:
    return {"verdict": verdict, "rule": rule, "reason": reason}


# -- the cells of both sides


class _Number(NamedTuple):
    """One measured number, NaN where there is none, with its status."""

    value: float
    status: str
    reason: str


def _cells(base: Results, head: Results) -> Iterator[tuple[Row, Row | None]]:
    """Yield every cell of either side with its numbers, and a verdict that needs no threshold."""
    sides = [_numbers(each) for each in (base, head)]
    on_both = {key[:2] for key in sides[0]} & {key[:2] for key in sides[1]}
    for key in dict.fromkeys((*sides[0], *sides[1])):
        row = dict(zip(KEY, key, strict=True))
        old, new = (_find(side, key) for side in sides)
        if row["depth"] is None and (old is None or new is None) and key[:2] in on_both:
            # One side's record failed as a whole, which the other's cells say one by one.
            continue
        row |= {"base": old.value if old else math.nan, "head": new.value if new else math.nan}
        yield row, _judge_statuses(old, new)


def _numbers(results: Results) -> dict[tuple, _Number]:
    """Return the numbers of one side by `KEY`."""
    frame = results.frame[results.frame["status"] != "missing"]
    frame = frame[[*KEY, "value", "status", "reason"]].astype(object)
    return {
        tuple(key): _Number(math.nan if value is None else value, status, reason or "")
        for *key, value, status, reason in frame.where(frame.notna(), None).itertuples(
            index=False, name=None
        )
    }


def _find(numbers: Mapping[tuple, _Number], key: tuple) -> _Number | None:
    """Return a cell's number or, where it has none, the failure of its depth and seed, or of the
    whole record.
    """
    if key in numbers:
        return numbers[key]
    case, estimator, target, depth, _, seed = key
    for place in ((depth, "relative_error", seed), (None, "relative_error", None)):
        failure = numbers.get((case, estimator, target, *place))
        if failure is not None and failure.status != "ok":
            return failure
    return None


def _judge_statuses(base: _Number | None, head: _Number | None) -> Row | None:
    """Return the verdict where no threshold is needed, and None where both sides have a number."""
    now = f"{head.status}: {head.reason}".removesuffix(": ") if head else ""
    if base is None:
        return _verdict("new", "new", "" if now == "ok" else now)
    was_number = base.status == "ok" and not math.isnan(base.value)
    if head is None and was_number:
        return _verdict("regression", "vanished", "was ok, is no longer measured")
    if head is None:
        return _verdict("unmeasured", "", f"{base.status} before, not measured now")
    if head.status == "ok" and math.isnan(head.value):
        return _verdict("regression" if was_number else "unmeasured", "nan", "the value is NaN")
    if head.status == "ok":
        was = f"was {base.status}, is ok"
        return None if was_number else _verdict("improved", "status", was)
    if was_number or (head.status in BROKEN and base.status not in BROKEN):
        return _verdict("regression", "status", f"was {base.status}, is {now}")
    return _verdict("unmeasured", "status", now)


def _why_lacking(lacking: Mapping[str, str], row: Row, case: Mapping[str, Any]) -> str:
    """Return the reason why a side lacks the estimator of a cell, or its dataset or algorithm;
    empty where none is known.
    """
    reasons = {parsed(spec)[0]: reason for spec, reason in lacking.items()}
    names = [parsed(spec)[0] for spec in (row["estimator"], case["dataset"], case["algorithm"])]
    # A file with one class can be named without it.
    places = [place for name in names for place in (name, name.partition(":")[0])]
    return next((reasons[place] for place in places if place in reasons), "")


def _redefined(base: Results, head: Results) -> dict[tuple[str, str], str]:
    """Return the (case, estimator) pairs whose case has one name and two meanings, each with what
    changed.
    """
    redefined = {}
    for name in base.cases.keys() & head.cases.keys():
        old, new = base.cases[name], head.cases[name]
        changes = [
            f"{part} {old.get(part)} became {new.get(part)}"
            for part in ("dataset", "algorithm", "loss", "dtype")
            if old.get(part) != new.get(part)
        ]
        for estimator in {*base.estimators, *head.estimators} if changes else ():
            redefined[name, estimator] = (
                f"the case has a new meaning under its old name ({', '.join(changes)}): rename it"
            )
    return redefined


def _worst_of_seeds(rows: Sequence[Row]) -> pd.DataFrame:
    """Return one row per cell, in the order of their names: of several seeds the first with the
    worst verdict and change.
    """
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"depth": "Int64"})
    ranks = frame["verdict"].map(VERDICTS.index)
    frame = frame.assign(rank=ranks, size=frame["change"].fillna(-math.inf))
    frame = frame.sort_values(["rank", "size"], ascending=False, kind="stable")
    order = ["case", "estimator", "metric", "depth", "target"]
    frame = frame.drop_duplicates(CELL).sort_values(order, ignore_index=True)
    return frame[list(COLUMNS)]


# -- verdicts on numbers


def _scales(base: Results, head: Results) -> dict[tuple, list[float]]:
    """Return the larger certified bound and gradient norm of the two references, by (case, seed,
    target).
    """
    references = pd.concat([base.references, head.references]).replace(math.inf, math.nan)
    largest = references.groupby(["case", "seed", "target"])[["bound", "gradient_norm"]].max()
    return largest.fillna(0.0).T.to_dict("list")


def _floor(metric: str, bound: float, norm: float) -> float:
    """Return the error of a metric below which differences are rounding, for relative errors below
    `bound`.
    """
    floors = {"relative_error": bound, "cosine_error": bound**2 / 2, "absolute_error": bound * norm}
    return floors.get(metric, 0.0)


def _by_ratio(ratio: float, limit: float, rule: str, reason: str) -> Row:
    """Return the verdict on a number that grew by a factor of which `limit` is allowed."""
    if ratio > limit:
        return _verdict("regression", rule, reason)
    return _verdict("improved", rule) if ratio < 1 / limit else _verdict("same")


def _judge_error(row: Row, limit: ErrorLimit, floor: float, elsewhere: bool) -> Row:
    """Judge an error by the factor that it grew by; those below the floor are equal."""
    allowed, floor = limit.elsewhere if elsewhere else limit.ratio, max(limit.floor, floor)
    ratio = max(row["head"], floor) / max(row["base"], floor)
    times = f"seed {row['seed']}: {ratio:.4g} times the error"
    verdict = _by_ratio(ratio, allowed, "accuracy", times)
    if verdict["verdict"] == "same" and abs(ratio - 1) > ROUNDING and not elsewhere:
        verdict = _verdict("changed", "accuracy", times)
    return verdict | {"change": ratio, "limit": allowed}


def _judge_memory(row: Row, limit: MemoryLimit, unequal: Sequence[str]) -> Row:
    """Judge a memory by its ratio and its difference, both of which must be beyond the limit."""
    old, new = row["base"], row["head"]
    # The peak of a process that estimates nothing is subtracted, so zero is possible.
    ratio = new / old if old else math.inf if new else 1.0
    more = (new - old) / MEBIBYTE
    verdict = _by_ratio(ratio, limit.ratio, "memory", f"{more:.3g} MiB more")
    if unequal:
        verdict = ELSEWHERE
    elif abs(more) <= limit.mebibytes:
        verdict = _verdict("same")
    return verdict | {"change": ratio, "limit": limit.ratio}


def _repeats(side: Results) -> dict[tuple, Sequence[float]]:
    rows = side.timings.itertuples(index=False)
    return {(row.case, row.estimator, row.depth): row.samples for row in rows}


def _judge_repeats(
    row: Row, old: Sequence[float], new: Sequence[float], limit: TimeLimit, unequal: Sequence[str]
) -> Row:
    """Compare the times of two separate runs: return the p-values of slower and faster, or the
    verdict.
    """
    ratio = row["head"] / row["base"] if row["base"] else math.nan
    verdict = _verdict("same")
    if unequal:
        verdict = ELSEWHERE
    elif min(len(old), len(new)) >= 2:
        for name, alternative in (("p_slower", "greater"), ("p_faster", "less")):
            verdict[name] = float(stats.mannwhitneyu(new, old, alternative=alternative).pvalue)
    elif _by_ratio(ratio, limit.ratio, "", "") != verdict:
        # One number per side cannot tell a slower estimator from a busy machine.
        verdict = _verdict("undecided", reason="no repeats to test")
    return verdict | {"change": ratio, "limit": limit.ratio}


def _judge_times(rows: Sequence[Row], limit: TimeLimit) -> None:
    """Judge times by their ratio and their p-values.

    The p-values are corrected for the number of cells by the false discovery rate, so that a longer
    list of cases brings no more false alarms.
    """
    p_values = np.array([(row["p_slower"], row["p_faster"]) for row in rows]).reshape(-1, 2)
    corrected = stats.false_discovery_control(p_values, axis=0)
    for row, (slower, faster) in zip(rows, corrected, strict=True):
        ratio, row["p_value"] = row["change"], float(slower)
        verdict = _by_ratio(ratio, limit.ratio, "time", f"{ratio:.2f} times the time")
        p_value = slower if ratio > limit.ratio else faster
        if verdict["verdict"] != "same" and p_value > limit.significance:
            verdict = _verdict("undecided", "", f"a ratio within the noise (p = {p_value:.2g})")
        row |= verdict


# -- where the numbers come from


def _differences(base: Results, head: Results) -> dict[str, tuple[str, str]]:
    """Return the provenance that differs between the sides, empty where one side has none."""
    differences = {}
    sides = (base.provenances, head.provenances)
    for name in PROVENANCE if all(sides) else ():
        values = [[str(item[name]) for item in side if item.get(name)] for side in sides]
        old, new = (", ".join(dict.fromkeys(each)) for each in values)
        if old != new:
            differences[name] = (old or "unknown", new or "unknown")
    return differences


def _same_version(name: str, base: str, head: str) -> bool:
    """Say whether times compare; for Python the first two numbers of the version count."""
    return name == "python" and base.split(".")[:2] == head.split(".")[:2]


def _lacking_notes(lacking: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    reasons = [reason for those in lacking.values() for reason in those.values()]
    for reason in dict.fromkeys(reasons):
        names = [name for name, those in lacking.items() if reason in those.values()]
        yield f"Left out on {' and '.join(names)}: {reason}"


def _notes(
    sides: Mapping[str, Results],
    unequal: Sequence[str],
    loaded: bool,
    separate: bool,
    elsewhere: bool,
) -> Iterator[str]:
    for name, side in sides.items():
        if any(item.get("dirty") for item in side.provenances):
            yield f"{name} was measured with uncommitted changes: its numbers belong to no commit."
        yield from (f"{name}: {note}" for note in side.notes if loaded)
    if elsewhere:
        yield (
            "The two sides differ in processor, libraries or threads: errors are judged by the"
            " thresholds for elsewhere."
        )
    if unequal:
        yield f"Time and memory are not judged: the two sides differ in {' and '.join(unequal)}."
    elif separate:
        yield (
            "The two sides were timed in separate runs, so the machine may have caused a ratio; "
            "`pudle compare --run` measures them in turns."
        )
