"""Judge a result by an earlier one: one verdict per cell, by the rules in ``docs/gate.md``.

The numbers of both sides stand in one table, one row per cell and seed, and the first rule that
holds for a row gives its verdict, see `_judged`. `Limits` say how much worse an estimator may
become.
"""

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import msgspec
import numpy as np
import pandas as pd
from scipy import stats

from pudle.errors import InvalidArgument
from pudle.measuring.case import labels
from pudle.measuring.commits.turns import CELL as PLACE
from pudle.measuring.commits.turns import compare_rounds
from pudle.measuring.contents import Rounds
from pudle.measuring.scoring import ERRORS
from pudle.reports.load import BROKEN, Results
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
#: What is judged, columns that identify a number, and columns of `Comparison.frame`.
METRICS = (*ERRORS, "seconds", "memory_bytes")
PAIR = ["case", "estimator"]
CELL = [*PAIR, "target", "depth", "metric"]
KEY = [*CELL, "seed"]
COLUMNS = [*KEY, "base", "head", "change", "limit", "p_value", "verdict", "rule", "reason"]
P_VALUES = ["p_slower", "p_faster"]

#: Provenance that must agree for errors to be the same bit for bit ...
ARITHMETIC = "torch numpy blas threads device accelerator cpu".split()
#: ... and, with the minor version of Python, for time and memory to be comparable. The name of the
#: machine and the place of the interpreter differ on hosted runners from one job to the next.
ENVIRONMENT = ("device", "accelerator", "threads", "cpu")
#: Provenance that is shown where the two sides differ in it.
PROVENANCE = ("pudle", "python", *ARITHMETIC, "asv", "asv_runner", "cores", "system")
#: What a case is, whatever its name.
DEFINITION = ("dataset", "algorithm", "loss", "dtype")

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

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Self:
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


@dataclass(frozen=True, eq=False)
class Comparison:
    """The verdicts of a comparison.

    Attributes
    ----------
    frame : DataFrame
        One row per cell, see `CELL`, with the columns `COLUMNS`; the worst seed stands for all.
    limits : Limits
    differences : mapping
        Parts of the environment that differ: name to those of base and of head.
    notes : list of str
        Sentences that a reader needs to judge the verdicts.
    labels : mapping
        What each case is called, by name.
    """

    frame: pd.DataFrame
    limits: Limits
    differences: Mapping[str, list[str]]
    notes: list[str]
    labels: Mapping[str, str]

    def cells(self, verdict: str = "regression") -> pd.DataFrame:
        """Return the rows with a verdict."""
        return self.frame[self.frame["verdict"] == verdict]


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
    cells = _joined(sides, partial=together is not None and together.partial)
    times = compare_rounds(together.rounds) if together else _repeats(base, head)
    # A longer list of cases brings no more false alarms.
    times[P_VALUES] = stats.false_discovery_control(times[P_VALUES].fillna(1.0), axis=0)
    if together:
        cells = pd.concat([cells[cells["metric"] != "seconds"], times], ignore_index=True)
    else:
        cells = cells.merge(times, "left", [*PLACE, "metric"])
    cells["redefined"] = cells["case"].map(_redefined(base.cases, head.cases))
    cells = _judged(cells, limits, bool(unequal), elsewhere)
    # The worst seed stands for its cell.
    cells["verdict"] = pd.Categorical(cells["verdict"], VERDICTS, ordered=True)
    cells = cells.sort_values(["verdict", "change"], ascending=False)
    cells = cells.drop_duplicates(CELL).sort_values(CELL, ignore_index=True)[COLUMNS]
    left_out = cells["verdict"] == "left out"
    notes = [*_notes(sides, together, sum(left_out), elsewhere, unequal, len(times) > 0)]
    called = labels({**head.cases, **base.cases})
    return Comparison(cells[~left_out], limits, differences, notes, called)


def _joined(sides: Mapping[str, Results], partial: bool) -> pd.DataFrame:
    """Return the numbers of both sides in one table, one row per cell and seed, with the scales of
    their references.

    What one side lacks has the status of its record, where that failed. What is missing counts as
    never measured, unless a time limit made that `partial`.
    """
    absent = [] if partial else ["missing"]
    base, head = (
        side.frame.loc[
            side.frame["metric"].isin(METRICS) & ~side.frame["status"].isin(absent),
            [*KEY, "value", "status", "reason"],
        ]
        for side in sides.values()
    )
    cells = base.merge(head, "outer", KEY, suffixes=("_base", "_head"))
    # Where one side's record failed as a whole, the other's cells say so one by one.
    cells = cells[cells["depth"].notna() | ~cells.duplicated([*PAIR, "metric"], keep=False)]
    for name, side in sides.items():
        records = pd.DataFrame(side.records, columns=[*PAIR, "status", "reason"])
        failed = records[~records["status"].isin(["ok", *absent])].set_index(PAIR)
        failed = cells[PAIR].join(failed, on=PAIR)
        for part in ("status", "reason"):
            cells[f"{part}_{name}"] = cells[f"{part}_{name}"].fillna(failed[part]).fillna("")
    references = pd.concat([side.references for side in sides.values()])
    references = references.replace(math.inf, math.nan).astype({"seed": "Int64"})
    scales = references.groupby(["case", "seed", "target"])[["bound", "gradient_norm"]].max()
    cells = cells.join(scales, on=scales.index.names).fillna(dict.fromkeys(scales, 0.0))
    return cells.rename(columns={"value_base": "base", "value_head": "head"})


def _repeats(base: Results, head: Results) -> pd.DataFrame:
    """Compare the times of two separate runs, as if they had been measured in turns."""
    sides = (side.timings[side.timings["metric"] == "seconds"] for side in (base, head))
    cells = pd.merge(*sides, on=PLACE, suffixes=("_base", "_head"))
    rows = [
        {name: getattr(cell, name) for name in PLACE} | {"base": old, "head": new, "reason": ""}
        for cell in cells.itertuples()
        for old, new in zip(cell.samples_base, cell.samples_head, strict=False)
    ]
    return compare_rounds(rows)[[*PLACE, "metric", "change", *P_VALUES]]


def _judged(cells: pd.DataFrame, limits: Limits, unequal: bool, elsewhere: bool) -> pd.DataFrame:
    """Return the rows with change, limit and verdict."""
    metric, base, head = cells["metric"], cells["base"], cells["head"]
    time, memory, error = metric == "seconds", metric == "memory_bytes", metric.isin(ERRORS)
    # An error that has no threshold of its own has the usual one.
    chosen = msgspec.to_builtins({name: getattr(limits, name, ErrorLimit()) for name in METRICS})
    limited = pd.DataFrame(chosen).T
    limited = limited.reindex(metric).set_index(cells.index)
    limit = limited["elsewhere"].where(error & elsewhere, limited["ratio"])
    # Errors below a floor are rounding. Without the memory of a process that estimates nothing, a
    # memory can be zero.
    bound = limits.floor_multiple * cells["bound"]
    certified = {
        "relative_error": bound,
        "cosine_error": bound**2 / 2,
        "absolute_error": bound * cells["gradient_norm"],
        "memory_bytes": 1.0,
    }
    floor = np.select([metric == name for name in certified], [*certified.values()])
    floor = np.fmax(floor, limited["floor"])
    change = (np.fmax(head, floor) / np.fmax(base, floor)).where(~time, cells["change"])
    more = (head - base).abs() / 2**20
    p_value = cells["p_slower"].where(change > limit, cells["p_faster"])
    noise = p_value.map("a ratio within the noise (p = {:.2g})".format)

    old, new = cells["status_base"], cells["status_head"]
    was, now = old.eq("ok"), new.eq("ok")
    says = (new + ": " + cells["reason_head"]).str.removesuffix(": ")
    broke = new.isin(BROKEN) & ~old.isin(BROKEN)
    rule = np.select([time, memory], ["time", "memory"], "accuracy")
    times = change.map("{:.4g} times as much".format)
    rules = [
        ((old == "missing") | (new == "missing"), "left out", "", ""),
        (cells["redefined"].notna(), "regression", "redefined", cells["redefined"]),
        (old == "", "new", "new", says.where(new != "ok", "")),
        (was & (new == ""), "regression", "vanished", "was ok, is no longer measured"),
        (new == "", "unmeasured", "", old + " before, not measured now"),
        (now & ~was, "improved", "status", "was " + old + ", is ok"),
        (~now & (was | broke), "regression", "status", "was " + old + ", is " + says),
        (~now, "unmeasured", "status", says),
        (~error & unequal, "undecided", rule, "measured in different environments"),
        (memory & (more <= limits.memory_bytes.mebibytes), "same", "", ""),
        (change.between(1 / limit, limit) & ~error, "same", "", ""),
        (time & (p_value > limits.seconds.significance), "undecided", rule, noise),
        (change > limit, "regression", rule, times),
        (change < 1 / limit, "improved", rule, times),
        (((change - 1).abs() > ROUNDING) & (not elsewhere), "changed", rule, times),
    ]
    where, verdicts, names, reasons = zip(*rules, strict=True)
    return cells.assign(
        change=change,
        limit=limit,
        p_value=cells["p_slower"],
        verdict=np.select(where, verdicts, "same"),
        rule=np.select(where, names, ""),
        reason=np.select(where, reasons, ""),
    )


def _redefined(base: Mapping[str, Any], head: Mapping[str, Any]) -> dict[str, str]:
    """Return what changed in each case that has one name and two meanings."""
    redefined = {}
    for name in base.keys() & head.keys():
        parts = [(base[name][part], head[name][part]) for part in DEFINITION]
        if changes := ", ".join(f"{old} became {new}" for old, new in parts if old != new):
            redefined[name] = f"the case has a new meaning ({changes}) and its old name: rename it"
    return redefined


def _differences(base: Results, head: Results) -> dict[str, list[str]]:
    """Return the provenance that differs between the sides, empty where one side has none."""
    sides = (base.provenances, head.provenances)
    parts = {
        name: [
            ", ".join(dict.fromkeys(str(getattr(each, name) or "unknown") for each in side))
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
        if any(item.dirty for item in side.provenances):
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
