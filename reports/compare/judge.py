"""Judge a result by an earlier one: one verdict per cell, by the rules in ``docs/gate.md``.

Deterministic numbers get a tight threshold (a loose one on another machine), noisy ones a loose
one. A number that turned into NaN, a cell that vanished and a cell that was ok and no longer is are
regressions at any threshold; cells that only head has are ``new``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd

from pudle.measuring.commits.turns import compare_rounds
from pudle.reports.compare.limits import Limits
from pudle.reports.compare.rules import Row, judge_error, judge_memory, judge_repeats, judge_times
from pudle.reports.load import parsed
from pudle.reports.results import BROKEN, Results

#: Verdicts from the best to the worst: the worst of a cell's seeds counts.
VERDICTS = ("same", "unmeasured", "improved", "changed", "new", "undecided", "regression")

#: Columns that identify a cell and a measured number, and columns of `Comparison.frame`.
CELL = ["case", "estimator", "target", "depth", "metric"]
KEY = [*CELL, "seed"]
COLUMNS = (*CELL, "base", "head", "change", "limit", "p_value", "verdict", "rule", "reason")

#: Provenance that must agree for time and memory to be comparable. The name of the machine and the
#: place of the interpreter are left out: on hosted runners they differ from one job to the next.
ENVIRONMENT = ("python", "device", "accelerator", "threads", "cpu")

#: Provenance that must agree for errors to be the same bit for bit.
ARITHMETIC = ("torch", "numpy", "blas", "threads", "device", "accelerator", "cpu")

#: Provenance that is shown where the two sides differ in it.
PROVENANCE = (
    "pudle",
    "python",
    "torch",
    "numpy",
    "blas",
    "asv",
    "asv_runner",
    "threads",
    "device",
    "accelerator",
    "cpu",
    "cores",
    "system",
)

#: A row without findings.
BLANK: Row = dict.fromkeys(
    ("base", "head", "change", "limit", "p_value", "p_slower", "p_faster"), math.nan
)
BLANK |= {"target": None, "depth": None, "verdict": "same", "rule": "", "reason": ""}


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
        name for name in ENVIRONMENT if name in differences and not _equal(name, *differences[name])
    ]
    redefined = _redefined(base, head)
    rows = [
        BLANK
        | {
            "case": case,
            "estimator": estimator,
            "metric": "relative_error",
            "verdict": "regression",
            "rule": "redefined",
            "reason": reason,
        }
        for (case, estimator), reason in redefined.items()
    ]
    scales, elsewhere = _scales(base, head), any(name in differences for name in ARITHMETIC)
    repeats = [
        {
            (row.case, row.estimator, row.depth): row.samples
            for row in side.timings.itertuples(index=False)
        }
        for side in (base, head)
    ]
    for row, comparable in _cells(_numbers(base, redefined), _numbers(head, redefined)):
        metric = row["metric"]
        if metric == "seconds" and rounds is not None:
            continue
        rows.append(row)
        if row["rule"] == "vanished" and (
            why := _why_lacking(lacking.get("head", {}), row, base.cases[row["case"]])
        ):
            row["reason"] += f": {why}"
        if comparable and metric == "seconds":
            old, new = (
                samples.get((row["case"], row["estimator"], row["depth"]), ())
                for samples in repeats
            )
            judge_repeats(row, old, new, limits.seconds, unequal)
        elif comparable and metric == "memory_bytes":
            judge_memory(row, limits.memory_bytes, unequal)
        elif comparable:
            limit = limits.of_error(metric)
            allowed = limit.elsewhere if elsewhere else limit.ratio
            bound, norm = scales.get((row["case"], row["seed"], row["target"]), (0.0, 0.0))
            judge_error(
                row,
                allowed,
                max(limit.floor, _floor(metric, bound * limits.floor_multiple, norm)),
                elsewhere,
            )
    for row in [] if rounds is None else compare_rounds(rounds).to_dict("records"):
        if row["reason"]:
            row |= {
                "verdict": "unmeasured" if math.isnan(row["base"]) else "regression",
                "rule": "status",
            }
        else:
            row |= {"change": row["ratio"], "limit": limits.seconds.ratio}
        rows.append(BLANK | {"metric": "seconds"} | row)
    judge_times([row for row in rows if not math.isnan(row["p_slower"])], limits.seconds)
    frame = _worst_of_seeds(pd.DataFrame(rows, columns=list(COLUMNS)).astype({"depth": "Int64"}))
    separate = rounds is None and (frame["metric"] == "seconds").any()
    notes = _notes({"base": base, "head": head}, unequal, rounds is None, separate, elsewhere)
    return Comparison(frame, limits, differences, (*_lacking_notes(lacking), *notes))


# -- the cells of both sides


class _Number(NamedTuple):
    """One measured number, NaN where there is none, with its status."""

    value: float
    status: str
    reason: str


def _numbers(results: Results, without: Collection[tuple[str, str]]) -> dict[tuple, _Number]:
    """Return the numbers of one side by `KEY`, without those of some (case, estimator) pairs."""
    frame = results.frame.loc[
        results.frame["status"] != "missing", [*KEY, "value", "status", "reason"]
    ].astype(object)
    return {
        tuple(key): _Number(math.nan if value is None else value, status, reason or "")
        for *key, value, status, reason in frame.where(frame.notna(), None).itertuples(
            index=False, name=None
        )
        if (key[0], key[1]) not in without
    }


def _find(numbers: Mapping[tuple, _Number], key: tuple) -> _Number | None:
    """Return a cell's number or, where it has none, the failure of its depth and seed, or of the
    whole record.
    """
    case, estimator, target, depth, _, seed = key
    if key not in numbers:
        for place in ((depth, "relative_error", seed), (None, "relative_error", None)):
            failure = numbers.get((case, estimator, target, *place))
            if failure is not None and failure.status != "ok":
                return failure
    return numbers.get(key)


def _cells(
    base: Mapping[tuple, _Number], head: Mapping[tuple, _Number]
) -> Iterator[tuple[Row, bool]]:
    """Yield (row, comparable) for every cell of either side; a cell that is not comparable has its
    verdict.
    """
    on_both = {key[:2] for key in base} & {key[:2] for key in head}
    for key in dict.fromkeys((*base, *head)):
        row = BLANK | dict(zip(KEY, key, strict=True))
        old, new = _find(base, key), _find(head, key)
        if row["depth"] is None and (old is None or new is None) and key[:2] in on_both:
            continue  # One side's record failed as a whole, which the verdicts on the other's cells say one by one.
        row |= {
            name: number.value
            for name, number in (("base", old), ("head", new))
            if number is not None
        }
        verdict = _judge_statuses(old, new)
        yield (
            row | dict(zip(("verdict", "rule", "reason"), verdict or (), strict=False)),
            verdict is None,
        )


def _judge_statuses(base: _Number | None, head: _Number | None) -> tuple[str, str, str] | None:
    """Return (verdict, rule, reason) where no threshold is needed, and None where both sides have a
    number.
    """
    now = "" if head is None else f"{head.status}: {head.reason}".removesuffix(": ")
    if base is None:
        new = "" if head is None else "new"
        return new or "unmeasured", new, "" if now == "ok" else now
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


def _why_lacking(lacking: Mapping[str, str], row: Row, case: Mapping[str, Any]) -> str:
    """Return the reason why a side lacks the estimator of a cell, or its dataset or algorithm;
    empty where none is known.
    """
    reasons = {parsed(spec)[0]: reason for spec, reason in lacking.items()}
    names = [parsed(spec)[0] for spec in (row["estimator"], case["dataset"], case["algorithm"])]
    # A file with one class can be named without it.
    known = (
        reasons[each]
        for name in names
        for each in (name, name.partition(":")[0])
        if each in reasons
    )
    return next(known, "")


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
        for estimator in dict.fromkeys((*base.estimators, *head.estimators)) if changes else ():
            redefined[name, estimator] = (
                f"the case has a new meaning under its old name ({', '.join(changes)}): rename it"
            )
    return redefined


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
    return {
        "relative_error": bound,
        "cosine_error": bound**2 / 2,
        "absolute_error": bound * norm,
    }.get(metric, 0.0)


def _worst_of_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per cell, in the order of their names: of several seeds the first with the
    worst verdict and change.
    """
    ranked = frame.assign(
        rank=frame["verdict"].map(VERDICTS.index), size=frame["change"].fillna(-math.inf)
    )
    ranked = ranked.sort_values(["rank", "size"], ascending=False, kind="stable").drop_duplicates(
        CELL
    )
    return ranked.sort_values(
        ["case", "estimator", "metric", "depth", "target"], ignore_index=True
    )[list(COLUMNS)]


# -- where the numbers come from


def _differences(base: Results, head: Results) -> dict[str, tuple[str, str]]:
    """Return the provenance that differs between the sides, empty where one side has none."""
    differences = {}
    for name in PROVENANCE if base.provenances and head.provenances else ():
        values = ([item.get(name) for item in side.provenances] for side in (base, head))
        old, new = (
            ", ".join(dict.fromkeys(str(value) for value in each if value not in (None, "")))
            for each in values
        )
        if old != new:
            differences[name] = (old or "unknown", new or "unknown")
    return differences


def _equal(name: str, base: str, head: str) -> bool:
    """Return whether two values of the provenance count as equal; for Python the first two numbers
    of the version do.
    """
    return base.split(".")[:2] == head.split(".")[:2] if name == "python" else base == head


def _lacking_notes(lacking: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for reason in dict.fromkeys(
        reason for reasons in lacking.values() for reason in reasons.values()
    ):
        names = [name for name, reasons in lacking.items() if reason in reasons.values()]
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
