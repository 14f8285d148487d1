"""The gate: two results become one verdict per cell.

What is deterministic is gated tightly, what is noisy loosely:

========  ===============================================================================================================
accuracy  Decades by which an error has grown, ``log10(head / base)``, seed by seed. Both are raised first to the floor
          beneath which a difference is rounding: the certified bound of the reference, times a small multiple.
time      Median ratio over rounds in which base and head took turns, with a signed-rank test on the pairs; without rounds,
          the ratio of two runs, with a rank-sum test on their repeats. The tests are corrected for the number of cells by
          the false discovery rate, so that a longer list of cases brings no more false alarms.
memory    Ratio of the peaks above the process that does nothing, and their difference: both must be exceeded.
the rest  A number that turned into NaN, a cell that vanished and a cell that was ok and no longer is are regressions
          whatever the thresholds; cells that only head has are ``new``.
========  ===============================================================================================================
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from pudle.errors import InvalidArgument
from pudle.reports.load import BROKEN, SCORES, Results

#: What can become of a cell, from the best to what decides if some seeds differ from others.
VERDICTS = ("same", "unmeasured", "improved", "new", "undecided", "regression")

#: Columns of `Comparison.frame`.
COLUMNS = ("case", "estimator", "target", "depth", "metric", "base", "head", "change", "limit", "p_value", "verdict", "rule",
           "reason")  # fmt: skip

#: What makes two runs the same environment as far as time and memory go; where the interpreter lies or what the machine is
#: called does not matter, and on hosted runners differs from one job to the next.
LOGICAL = ("python", "device", "accelerator", "threads", "cpu")

#: What is shown where it differs between the two sides.
SHOWN = ("pudle", "python", "torch", "numpy", "blas", "asv", "asv_runner", "threads", "device", "accelerator", "cpu",
         "cores", "system")  # fmt: skip

MEBIBYTE = 2.0**20


@dataclass(frozen=True)
class ErrorLimit:
    """How much an error may grow.

    Attributes
    ----------
    decades : float
        Largest growth, in powers of ten.
    floor : float
        Size beneath which errors are alike, whatever the reference's bound.
    """

    decades: float = 0.1
    floor: float = 1e-14


@dataclass(frozen=True)
class TimeLimit:
    """How much slower an estimate may become.

    Attributes
    ----------
    ratio : float
        Largest median ratio.
    significance : float
        Rate of false discoveries that is accepted among the cells called slower.
    """

    ratio: float = 1.3
    significance: float = 0.01


@dataclass(frozen=True)
class MemoryLimit:
    """How much more memory an estimate may take, above the process that does nothing.

    Attributes
    ----------
    ratio : float
        Largest ratio.
    mebibytes : float
        Differences up to this are left alone, whatever their ratio.
    """

    ratio: float = 1.3
    mebibytes: float = 4.0


@dataclass(frozen=True)
class Limits:
    """The thresholds of every metric.

    Attributes
    ----------
    floor_multiple : float
        Errors up to this many bounds of the reference count as the same: an error there is the rounding of estimate and
        reference, which a mere reordering of sums changes by a factor.
    """

    relative_error: ErrorLimit = ErrorLimit()
    absolute_error: ErrorLimit = ErrorLimit()
    # Of second order in the relative error: the same loss of accuracy is twice the decades, the floor its square.
    cosine_error: ErrorLimit = ErrorLimit(decades=0.2, floor=1e-28)
    code_error: ErrorLimit = ErrorLimit(floor=1e-12)
    # A share of a few hundred samples: below a hundredth, one sample more or less would be decades.
    support_error: ErrorLimit = ErrorLimit(floor=0.01)
    seconds: TimeLimit = TimeLimit()
    memory_bytes: MemoryLimit = MemoryLimit()
    floor_multiple: float = 10.0

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Limits:
        """Return the defaults, changed by a table such as ``[tool.pudle.compare]`` in a ``pyproject.toml``.

        Raises
        ------
        InvalidArgument
            If the table names an unknown metric or threshold, or gives what is not a positive number.
        """
        return _changed(cls(), table, "[tool.pudle.compare]")


def _changed(limits: Any, table: Mapping[str, Any], where: str) -> Any:
    changes: dict[str, Any] = {}
    known = {item.name: getattr(limits, item.name) for item in dataclasses.fields(limits)}
    for name, value in table.items():
        if name not in known:
            raise InvalidArgument(f"{where} has no entry {name!r}: known are {', '.join(known)}")
        if dataclasses.is_dataclass(known[name]):
            if not isinstance(value, Mapping):
                raise InvalidArgument(f"{where} {name}={value!r} is not a table of thresholds")
            changes[name] = _changed(known[name], value, f"{where} {name}")
        else:
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value <= 0:
                raise InvalidArgument(f"{where} {name}={value!r} is not a positive number")
            changes[name] = float(value)
    return dataclasses.replace(limits, **changes)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What came of comparing.

    Attributes
    ----------
    frame : DataFrame
        One row per (case, estimator, target, depth, metric), seeds summarized by the worst of them; columns `COLUMNS`.
    limits : Limits
    differences : mapping
        What differs between the environments of the two sides: name to (base, head).
    notes : tuple of str
        What a reader has to know to judge the verdicts.
    """

    frame: pd.DataFrame
    limits: Limits
    differences: Mapping[str, tuple[str, str]]
    notes: tuple[str, ...] = field(default=())

    @property
    def regressions(self) -> pd.DataFrame:
        """Return the rows that fail the gate."""
        return self.frame[self.frame["verdict"] == "regression"]

    def count(self, verdict: str) -> int:
        """Return how many cells have a verdict."""
        return int((self.frame["verdict"] == verdict).sum())


def compare(base: Results, head: Results, limits: Limits | None = None, rounds: pd.DataFrame | None = None) -> Comparison:
    """Judge head by base.

    Parameters
    ----------
    base, head : Results
        What the two sides measured.
    limits : Limits, optional
        Thresholds; the defaults if not given.
    rounds : DataFrame, optional
        Seconds of both sides taken in turns: one row per (case, estimator, depth, round) with columns ``base``, ``head``
        and ``reason``, the last telling why a number is missing. Without it the timings in `base` and `head` are compared.

    Returns
    -------
    Comparison
    """
    limits = limits or Limits()
    differences = _differences(base, head)
    unlike = [name for name in LOGICAL if name in differences and not _alike(name, *differences[name])]
    redefined = _redefined(base, head)
    before, after = _Side(base, redefined), _Side(head, redefined)

    rows = [_row(case, estimator, None, None, "relative_error", verdict="regression", rule="redefined", reason=reason)
            for (case, estimator), reason in redefined.items()]  # fmt: skip
    rows += _worst_of_seeds(_errors(before, after, limits))
    gated = not unlike
    if rounds is None:
        rows += _times(before, after, limits.seconds, gated)
    else:
        rows += judge_times(rounds, limits.seconds)
    rows += _memory(before, after, limits.memory_bytes, gated)
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"depth": "Int64"})
    frame = frame.sort_values(["case", "estimator", "metric", "depth"], kind="stable", ignore_index=True)
    return Comparison(frame, limits, differences, tuple(_notes(base, head, unlike, rounds, frame)))


def rounds_needed(cells: int, significance: float) -> int:
    """Return how many rounds let one slower cell among so many be told at a significance.

    The signed-rank test on ``n`` pairs gives no less than ``2**-n``, and the correction multiplies the smallest p-value by
    the number of cells. Three rounds are added so that a round or two that the machine disturbed do not hide a slow-down.
    """
    return math.ceil(math.log2(max(cells, 1) / significance)) + 3


class _Side:
    """One side's rows, by what identifies a cell."""

    def __init__(self, results: Results, without: Mapping[tuple[str, str], str]) -> None:
        self.results = results
        self.rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.pairs: set[tuple[str, str]] = set()
        columns = ["case", "estimator", "target", "depth", "seed", "metric", "value", "status", "reason"]
        for row in results.frame[columns].astype(object).itertuples(index=False):
            case, estimator, target, depth, seed, metric, value, status, reason = (_plain(item) for item in row)
            if (case, estimator) in without or status == "missing":
                continue
            self.pairs.add((case, estimator))
            content = {"value": math.nan if value is None else float(value), "status": status, "reason": reason or ""}
            self.rows[case, estimator, target, depth, seed, metric] = content
        references = results.references
        self.bounds = {
            (row.case, row.seed, row.target): float(row.bound)
            for row in references[["case", "seed", "target", "bound"]].itertuples(index=False)
            if row.bound is not None and math.isfinite(row.bound)
        }
        norms = references[["case", "seed", "target", "gradient_norm"]].itertuples(index=False)
        self.norms = {(row.case, row.seed, row.target): float(row.gradient_norm) for row in norms}

    def failure(self, key: tuple[Any, ...]) -> dict[str, Any] | None:
        """Return the row that tells why a cell has no number: of its depth and seed, or of the whole record."""
        case, estimator, target, depth, seed, _ = key
        for place in ((target, depth, seed), (target, None, None)):
            row = self.rows.get((case, estimator, *place, "relative_error"))
            if row is not None and row["status"] != "ok":
                return row
        return None


def _plain(value: Any) -> Any:
    return None if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)) else value


def _row(case: str, estimator: str, target: str | None, depth: int | None, metric: str, **known: Any) -> dict[str, Any]:
    blank = {"base": math.nan, "head": math.nan, "change": math.nan, "limit": math.nan, "p_value": math.nan,
             "verdict": "same", "rule": "", "reason": ""}  # fmt: skip
    return {"case": case, "estimator": estimator, "target": target, "depth": depth, "metric": metric} | blank | known


def _redefined(base: Results, head: Results) -> dict[tuple[str, str], str]:
    """Return the pairs whose case means something else on the two sides, although its name is the same."""
    found = {}
    for name in base.cases.keys() & head.cases.keys():
        changed = [part for part in ("dataset", "algorithm", "loss", "dtype")
                   if base.cases[name].get(part) != head.cases[name].get(part)]  # fmt: skip
        if changed:
            told = ", ".join(f"{part} {base.cases[name].get(part)} became {head.cases[name].get(part)}" for part in changed)
            for estimator in dict.fromkeys((*base.estimators, *head.estimators)):
                found[name, estimator] = f"the case means something else under its old name ({told}): give it a new one"
    return found


def _outcome(base: dict[str, Any] | None, head: dict[str, Any] | None) -> dict[str, Any] | None:
    """Judge what needs no threshold; None where both sides have a number."""
    known = {side: row["value"] for side, row in (("base", base), ("head", head)) if row is not None}
    if base is None:
        if head is None:
            return known | {"verdict": "unmeasured"}
        told = "" if head["status"] == "ok" else f"{head['status']}: {head['reason']}"
        return known | {"verdict": "new", "rule": "new", "reason": told}
    was = base["status"] == "ok" and not math.isnan(base["value"])
    if head is None:
        if not was:
            return known | {"verdict": "unmeasured", "reason": f"{base['status']} before, not measured now"}
        return known | {"verdict": "regression", "rule": "vanished", "reason": "was ok, is no longer measured"}
    told = f"{head['status']}: {head['reason']}".removesuffix(": ")
    if head["status"] == "ok" and math.isnan(head["value"]):
        return known | {"verdict": "regression" if was else "unmeasured", "rule": "nan", "reason": "the value is NaN"}
    if head["status"] == "ok":
        return None if was else known | {"verdict": "improved", "rule": "status", "reason": f"was {base['status']}, is ok"}
    if was:
        return known | {"verdict": "regression", "rule": "status", "reason": f"was ok, is {told}"}
    if head["status"] in BROKEN and base["status"] not in BROKEN:
        return known | {"verdict": "regression", "rule": "status", "reason": f"was {base['status']}, is {told}"}
    return known | {"verdict": "unmeasured", "rule": "status", "reason": told}


def _errors(base: _Side, head: _Side, limits: Limits) -> Iterator[dict[str, Any]]:
    """Yield a verdict for every error of every seed."""
    for key in dict.fromkeys((*base.rows, *head.rows)):
        case, estimator, target, depth, seed, metric = key
        if metric not in SCORES:
            continue
        mine, theirs = base.rows.get(key), head.rows.get(key)
        # A cell without a number of its own is judged by what is told about its depth and seed, or its whole record.
        theirs = head.failure(key) if theirs is None else theirs
        mine = base.failure(key) if mine is None else mine
        if depth is None and (mine is None or theirs is None) and (case, estimator) in base.pairs & head.pairs:
            continue  # One side's record failed as a whole: the other's cells tell it one by one.
        place = (case, estimator, target, depth, metric)
        known = _outcome(mine, theirs)
        if known is not None:
            yield _row(*place, **known)
            continue
        limit: ErrorLimit = getattr(limits, metric)
        floor = max(limit.floor, _floor(metric, (case, seed, target), (base, head), limits.floor_multiple))
        assert mine is not None and theirs is not None  # or there would have been an outcome
        low, high = mine["value"], theirs["value"]
        decades = math.log10(max(high, floor) / max(low, floor))
        verdict = "regression" if decades > limit.decades else "improved" if decades < -limit.decades else "same"
        rule = "accuracy" if verdict != "same" else ""
        reason = f"seed {seed}: {10**decades:.3g} times the error" if verdict == "regression" else ""
        numbers = {"base": low, "head": high, "change": decades, "limit": limit.decades}
        yield _row(*place, **numbers, verdict=verdict, rule=rule, reason=reason)


def _floor(metric: str, reference: tuple[Any, ...], sides: Sequence[_Side], multiple: float) -> float:
    bound = max((side.bounds.get(reference, 0.0) for side in sides), default=0.0) * multiple
    if metric == "relative_error":
        return bound
    if metric == "cosine_error":
        return bound**2 / 2
    if metric == "absolute_error":
        return bound * max(side.norms.get(reference, 0.0) for side in sides)
    return 0.0


def _worst_of_seeds(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    worst: dict[tuple[Any, ...], dict[str, Any]] = {}

    def badness(row: dict[str, Any]) -> tuple[int, float]:
        return VERDICTS.index(row["verdict"]), -math.inf if math.isnan(row["change"]) else row["change"]

    for row in rows:
        key = tuple(row[name] for name in ("case", "estimator", "target", "depth", "metric"))
        if key not in worst or badness(row) > badness(worst[key]):
            worst[key] = row
    return list(worst.values())


def _cells(base: _Side, head: _Side, metric: str) -> Iterator[tuple[tuple[Any, ...], dict[str, Any] | None]]:
    """Yield (cell, verdict) for every cell of time or memory; the verdict is None where thresholds decide."""
    for key in dict.fromkeys((*base.rows, *head.rows)):
        if key[-1] == metric:
            yield key, _outcome(base.rows.get(key), head.rows.get(key))


def judge_times(rounds: pd.DataFrame, limit: TimeLimit) -> list[dict[str, Any]]:
    """Judge times that both sides took in turns; each round is its own control for what else the machine did.

    Parameters
    ----------
    rounds : DataFrame
        As in `compare`.
    limit : TimeLimit

    Returns
    -------
    list of dict
        One row per cell, its keys `COLUMNS`.
    """
    rows, slower, faster = [], [], []
    for place, cell in rounds.groupby(["case", "estimator", "depth"], sort=False):
        at = (place[0], place[1], None, int(place[2]), "seconds")
        reasons = [reason for reason in cell["reason"] if reason]
        pairs = cell[["base", "head"]].dropna()
        if reasons or pairs.empty:
            base_too = cell["base"].isna().all()
            rows.append(_row(*at, base=cell["base"].median(), head=cell["head"].median(), rule="status",
                             verdict="unmeasured" if base_too else "regression",
                             reason=(reasons or ["not measured"])[0]))  # fmt: skip
            continue
        logs = np.log(pairs["head"].to_numpy() / pairs["base"].to_numpy())
        rows.append(_row(*at, base=pairs["base"].median(), head=pairs["head"].median(),
                         change=float(np.exp(np.median(logs))), limit=limit.ratio))  # fmt: skip
        slower.append((rows[-1], _signed_rank(logs, "greater")))
        faster.append((rows[-1], _signed_rank(logs, "less")))
    _decide_times(slower, faster, limit)
    return rows


def _signed_rank(logs: np.ndarray, alternative: str) -> float:
    # The test drops ties with zero, and of nothing but zeros it makes no p-value.
    return float(stats.wilcoxon(logs, alternative=alternative).pvalue) if np.any(logs) else 1.0


def _times(base: _Side, head: _Side, limit: TimeLimit, gated: bool) -> list[dict[str, Any]]:
    """Judge times of two separate runs by their repeats."""
    repeats = [_repeats(side.results) for side in (base, head)]
    rows, slower, faster = [], [], []
    for (case, estimator, _, depth, _, _), known in _cells(base, head, "seconds"):
        row = _row(case, estimator, None, depth, "seconds", **(known or {}))
        rows.append(row)
        if known is not None:
            continue
        mine, theirs = (values.get((case, estimator, depth), ()) for values in repeats)
        low, high = ((side.rows[case, estimator, None, depth, None, "seconds"]["value"]) for side in (base, head))
        row |= {"base": low, "head": high, "change": high / low if low else math.nan, "limit": limit.ratio}
        if not gated:
            row |= {"verdict": "undecided", "reason": "measured in different environments"}
            continue
        if min(len(mine), len(theirs)) < 2:
            # One number a side: nothing tells a slow-down from a busy machine.
            beyond = low and not 1 / limit.ratio <= high / low <= limit.ratio
            row |= {"verdict": "undecided", "reason": "no repeats to test"} if beyond else {}
            continue
        slower.append((row, _rank_sum(theirs, mine)))
        faster.append((row, _rank_sum(mine, theirs)))
    _decide_times(slower, faster, limit)
    return rows


def _repeats(results: Results) -> dict[tuple[str, str, int], Sequence[float]]:
    timings = results.timings
    if "samples" not in timings:
        return {}
    return {(row.case, row.estimator, int(row.depth)): row.samples for row in timings.itertuples(index=False)}


def _rank_sum(larger: Sequence[float], smaller: Sequence[float]) -> float:
    return float(stats.mannwhitneyu(larger, smaller, alternative="greater").pvalue)


def _decide_times(
    slower: list[tuple[dict[str, Any], float]], faster: list[tuple[dict[str, Any], float]], limit: TimeLimit
) -> None:
    """Give every tested cell its verdict; the p-values are corrected for the number of them."""
    for tests, verdict in ((faster, "improved"), (slower, "regression")):
        corrected = stats.false_discovery_control([p for _, p in tests]) if tests else []
        for (row, _), p_value in zip(tests, corrected, strict=True):
            beyond = row["change"] > limit.ratio if verdict == "regression" else row["change"] < 1 / limit.ratio
            if verdict == "regression":
                row["p_value"] = float(p_value)
            if not beyond:
                continue
            row["p_value"] = float(p_value)
            if p_value <= limit.significance:
                row |= {"verdict": verdict, "rule": "time",
                        "reason": f"{row['change']:.2f} times the time" if verdict == "regression" else ""}  # fmt: skip
            else:
                row |= {"verdict": "undecided", "reason": f"a ratio within the noise (p = {p_value:.2g})"}


def _memory(base: _Side, head: _Side, limit: MemoryLimit, gated: bool) -> list[dict[str, Any]]:
    rows = []
    for (case, estimator, _, depth, _, _), known in _cells(base, head, "memory_bytes"):
        row = _row(case, estimator, None, depth, "memory_bytes", **(known or {}))
        rows.append(row)
        if known is not None:
            continue
        place = (case, estimator, None, depth, None, "memory_bytes")
        low, high = base.rows[place]["value"], head.rows[place]["value"]
        # Above the baseline there may be nothing at all.
        row |= {"base": low, "head": high, "change": high / low if low else math.inf if high else 1.0, "limit": limit.ratio}
        more = high > limit.ratio * low and high - low > limit.mebibytes * MEBIBYTE
        less = low > limit.ratio * high and low - high > limit.mebibytes * MEBIBYTE
        if not gated:
            row |= {"verdict": "undecided", "reason": "measured in different environments"}
        elif more:
            row |= {"verdict": "regression", "rule": "memory", "reason": f"{(high - low) / MEBIBYTE:.3g} MiB more"}
        elif less:
            row |= {"verdict": "improved", "rule": "memory"}
    return rows


def _differences(base: Results, head: Results) -> dict[str, tuple[str, str]]:
    found = {}
    for name in SHOWN:
        sides = [", ".join(dict.fromkeys(str(item[name]) for item in side.provenances if item.get(name) not in (None, "")))
                 for side in (base, head)]  # fmt: skip
        if sides[0] != sides[1] and base.provenances and head.provenances:
            found[name] = (sides[0] or "unknown", sides[1] or "unknown")
    return found


def _alike(name: str, base: str, head: str) -> bool:
    """Whether two values of a part of the environment count as the same; of Python's version, the first two numbers do."""
    if name == "python":
        return base.split(".")[:2] == head.split(".")[:2]
    return base == head


def _notes(
    base: Results, head: Results, unlike: list[str], rounds: pd.DataFrame | None, frame: pd.DataFrame
) -> Iterator[str]:
    for name, side in (("base", base), ("head", head)):
        if any(item.get("dirty") for item in side.provenances):
            yield f"{name} was measured with uncommitted changes: its numbers belong to no commit."
        yield from (f"{name}: {note}" for note in side.notes if rounds is None)
    if unlike:
        yield f"Time and memory are not gated: the two sides differ in {' and '.join(unlike)}."
    elif rounds is None and (frame["metric"] == "seconds").any():
        yield ("The two sides were timed in separate runs, so that a ratio can be the machine's doing; "
               "`pudle compare --run` takes turns.")  # fmt: skip
