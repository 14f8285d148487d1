"""Read the store's records and asv's result files into one tidy table, `Results.frame`.

`docs/schema.md` describes its columns and metrics.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from msgspec import Struct

from pudle import specs
from pudle.errors import MissingResults, SpecError, UnreadableResult, first_line
from pudle.files import REMEDY, converted, read_each, read_json
from pudle.measuring import contents, statuses
from pudle.measuring.scoring import ERRORS
from pudle.reports.learning.records import ExperimentRecord, read_experiments

#: A cell of asv's benchmarks: its parameters, and its value, quartiles and repeats.
AsvCell = tuple[tuple[str | contents.Count, ...], tuple[float | None, float | None, float | None, list[float] | None]]


class AsvResult(Struct):
    """A result file of asv."""

    version: Literal[2]
    commit_hash: str
    params: dict[str, str]
    result_columns: list[str]
    results: dict[str, list[Any]]
    date: float | None = None


#: Possible entries of the column ``metric`` of `Results.frame`, with their units.
METRICS = dict.fromkeys(ERRORS, "") | {"support_error": "share of samples", "seconds": "s", "memory_bytes": "bytes"}

#: Columns of `Results.frame` with their pandas types. It has one row per (case, target, estimator, depth, seed, metric).
COLUMNS = {
    "case": "str", "dataset": "str", "algorithm": "str", "loss": "str", "target": "str", "estimator": "str",
    "depth": "Int64", "seed": "Int64", "metric": "str", "value": "float64", "status": "str", "reason": "str",
    "commit": "str", "machine": "str", "profile": "str", "at_floor": "bool",
}  # fmt: skip
#: Columns of `Results.records`, `Results.timings` and `Results.references`; of the last, numbers from ``bound`` on.
RECORDS = ["case", "estimator", "status", "reason", "computes", "consistent_for", "seconds"]
TIMINGS = ["case", "estimator", "depth", "seconds", "low", "high", "samples"]
REFERENCES = [
    "case", "seed", "target", "status", "reason", "bound", "gradient_norm", "kkt_residual", "smallest_eigenvalue",
    "condition_number", "dual_margin", "smallest_amplitude", "zero_codes", "uncertified", "samples", "step", "rho",
]  # fmt: skip
#: Statuses of a measurement that broke, as opposed to a finding about an estimator.
BROKEN = (*statuses.BROKEN, "missing")

TIME, PEAK = "timing.Time.time_estimate", "memory.Memory.peakmem_estimate"
PEAK_OF_PROBLEM = "memory.ProblemAlone.peakmem_problem"


@dataclass(frozen=True, eq=False)
class Results:
    """Results of one profile."""

    profile: str
    #: The tidy table; its columns are `COLUMNS`.
    frame: pd.DataFrame
    #: One row per (case, seed, target): status, reason, bound and the rest of the certificate.
    references: pd.DataFrame
    #: One row per selected (case, estimator): status, reason, computes, consistent_for (losses, or None for all).
    records: pd.DataFrame
    #: One row per timed (case, estimator, depth): seconds, their quartiles ``low`` and ``high``, and a tuple ``samples`` of
    #: the repeats, which is empty if asv did not keep them.
    timings: pd.DataFrame
    #: The selected cases by name and the selected estimators, in their order.
    cases: Mapping[str, Mapping[str, Any]]
    estimators: tuple[str, ...]
    #: The distinct provenances of the records, newest first.
    provenances: tuple[Mapping[str, Any], ...] = ()
    #: What a reader has to know about the origin of these numbers.
    notes: tuple[str, ...] = ()
    #: Surfaces and curves of single problems, see `contents.Artifact`; often none.
    artifacts: tuple[Mapping[str, Any], ...] = ()
    #: The newest record of each experiment, without its arrays. Where there are some, there may be no cases.
    experiments: tuple[ExperimentRecord, ...] = ()
    #: A line for each file that is damaged and therefore left out: it names the file and the remedy.
    damaged: tuple[str, ...] = ()

    def target(self, case: str) -> str:
        """Return the target that a case's summary is about: its first."""
        return self.cases[case]["targets"][0]

    def scores(self, case: str, metric: str, target: str | None = None) -> pd.DataFrame:
        """Return the rows of a metric that hold a measured value, against the case's first target by default."""
        rows = self.measured(case, metric)
        return rows[rows["target"] == (target or self.target(case))]

    def measured(self, case: str, metric: str) -> pd.DataFrame:
        """Return the rows of a metric that hold a measured value, whatever their target."""
        return self._measured.get((case, metric), self.frame.iloc[:0])

    @cached_property
    def _measured(self) -> dict[tuple[str, str], pd.DataFrame]:
        # Divided once: a search through all rows for every table and figure would take time quadratic in their number.
        found = self.frame[(self.frame["status"] == "ok") & self.frame["value"].notna()]
        return dict(iter(found.groupby(["case", "metric"], sort=False)))

    def times(self, case: str, estimator: str) -> pd.DataFrame:
        """Return the timings of an estimator on a case."""
        return self._times.get((case, estimator), self.timings.iloc[:0])

    @cached_property
    def _times(self) -> dict[tuple[str, str], pd.DataFrame]:
        return dict(iter(self.timings.groupby(["case", "estimator"], sort=False)))

    def only(self, case: str) -> Results:
        """Return the results of one case, without experiments."""
        tables = {name: getattr(self, name) for name in ("frame", "references", "records", "timings")}
        tables = {name: table[table["case"] == case] for name, table in tables.items()}
        artifacts = tuple(item for item in self.artifacts if item["case"] == case)
        return dataclasses.replace(self, cases={case: self.cases[case]}, artifacts=artifacts, experiments=(), **tables)

    def artifact_rows(self, kind: str, case: str) -> pd.DataFrame:
        """Return the rows of a case's artifacts of one kind as one table, with the column ``seed``."""
        found = [item for item in self.artifacts if item["kind"] == kind and item["case"] == case]
        rows = [{"seed": item["seed"], **row} for item in found for row in item["rows"]]
        return pd.DataFrame(rows, columns=["seed", *contents.ROWS[kind].__struct_fields__])


@functools.cache
def parsed(spec: str) -> tuple[str, Mapping[str, Any]]:
    """Return name and options of a spec; text that is not a spec counts as a name without options."""
    try:
        return specs.parse(spec)
    except SpecError:
        return spec, {}


def load(home: Path, profile: str) -> Results:
    """Read the results of a profile.

    Parameters
    ----------
    home : Path
        Folder that holds one folder per profile.
    profile : str

    Raises
    ------
    MissingResults
        If there are no results yet.
    UnreadableResult
        If nothing is left because files are damaged or of an unknown version; the text names the files and the remedy.
    """
    folder = Path(home) / profile
    store, selection, run = folder / "store", folder / "selection.json", f"run `pudle run --profile {profile}`"
    damaged: list[str] = []
    experiments = read_experiments(store / "experiments", damaged)
    artifacts = read_each(sorted((store / "artifacts").glob("*.json")), _read_artifact, damaged)
    cases: dict[str, Any] = {}
    estimators: tuple[str, ...] = ()
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for selected in read_each([selection] if selection.exists() else [], _read_selection, damaged):
        cases, estimators = {case["name"]: case for case in selected["cases"]}, tuple(selected["estimators"])
        paths = [path for path in sorted(store.glob("*/*.json")) if path.parent.name not in ("artifacts", "experiments")]
        # The newest of each: older records are of other sources or other definitions of the case.
        read = read_each(paths, lambda path: read_json(path, contents.ScoreRecord), damaged)
        for record in sorted(read, key=lambda record: record["provenance"]["date"]):
            newest[record["case"]["name"], record["estimator"]] = record
    records = {
        (case, spec): record for (case, spec), record in newest.items() if case in cases and spec in estimators
        # A case may have changed under an unchanged name.
        and all(record["case"][key] == cases[case][key] for key in record["case"].keys() & cases[case].keys())
    }  # fmt: skip
    notes = [f"Damaged and left out: {line}." for line in damaged]
    if not records:
        if not experiments:
            if damaged:
                raise UnreadableResult("; ".join(damaged))
            which = " that match its selection" if newest else ""
            raise MissingResults(f"no results for profile {profile!r} under {folder}{which}: {run} first")
        if cases:
            notes.append(f"None of the selected cases is measured yet: {run}.")
        cases, estimators = {}, ()
    # Pairs in the order of the selection; a pair without a record has a reason instead.
    for pair in itertools.product(cases, estimators):
        why = "only measured for an older definition of this case" if pair in newest else "not measured yet"
        records[pair] = records.pop(pair, {"status": "missing", "reason": f"{why}: {run}"})
    measured = [record["provenance"] for record in records.values() if "provenance" in record]
    provenances = sorted(measured or [dict(item.provenance) for item in experiments], key=itemgetter("date"), reverse=True)
    distinct: dict[str, dict[str, Any]] = {}
    for provenance in provenances:
        # Of those that differ in nothing but their date, the newest stands for all.
        distinct.setdefault(repr(sorted((provenance | {"date": ""}).items())), provenance)

    rows: list[dict[str, Any]] = []
    for (case, estimator), record in records.items():
        known = {"case": case, "estimator": estimator, **_origin(record.get("provenance", provenances[0]))}
        rows += [known | row for row in _score_rows(record, cases[case]["targets"][0])]
    claims = [{name: record.get(name) for name in RECORDS} | {"case": case, "estimator": estimator}
              for (case, estimator), record in records.items()]  # fmt: skip
    references = [{"case": case, **row} for (case, _), record in records.items() for row in record.get("references", ())]
    asv = _choose_asv(folder / "results", provenances[0], notes, damaged) if records else None
    cells = [_origin(asv) | cell for cell in _asv_cells(asv, records)] if asv else []
    timings = [cell | {"seconds": cell["value"]} for cell in cells if cell["metric"] == "seconds" and cell["status"] == "ok"]
    frame = pd.DataFrame(rows + cells, columns=list(COLUMNS)).assign(profile=profile)
    frame["at_floor"] = frame["at_floor"].eq(True)
    for name in ("dataset", "algorithm", "loss"):
        frame[name] = frame["case"].map({case: definition[name] for case, definition in cases.items()})
    return Results(
        profile=profile,
        frame=frame.astype(COLUMNS),
        # All estimators of a case share its references.
        references=pd.DataFrame(references)
        .reindex(columns=REFERENCES)
        .drop_duplicates(["case", "seed", "target"], ignore_index=True)
        .astype(dict.fromkeys(REFERENCES[5:], "float64")),
        # Plain objects: a text column would turn a missing claim into NaN, which is neither a claim nor None.
        records=pd.DataFrame(claims, columns=RECORDS, dtype=object),
        timings=pd.DataFrame(timings, columns=TIMINGS),
        cases=cases,
        estimators=estimators,
        provenances=tuple(distinct.values()),
        notes=tuple(notes),
        artifacts=tuple(artifact for artifact in artifacts if artifact["case"] in cases),
        experiments=experiments,
        damaged=tuple(damaged),
    )


# -- the store


def _read_selection(path: Path) -> dict[str, Any]:
    return read_json(path, contents.StoredSelection)


def _read_artifact(path: Path) -> dict[str, Any]:
    content = read_json(path, contents.Artifact)
    # Artifacts of a kind that only a later version knows are not checked.
    if rows := contents.ROWS.get(content["kind"]):
        for row in content["rows"]:
            converted(path, row, rows)
    return content


def _origin(provenance: Mapping[str, Any]) -> dict[str, str]:
    return {name: provenance.get(name) or "" for name in ("commit", "machine")}


def _score_rows(record: Mapping[str, Any], target: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of one record; a record without scores is one row with the reason."""
    if not record.get("scores"):
        status = "error" if record["status"] == "ok" else record["status"]
        reason = record["reason"] or "the record holds no scores and no reason"
        yield {"target": target, "metric": "relative_error", "status": status, "reason": reason}
    for score in record.get("scores", ()):
        place = {name: score[name] for name in ("seed", "depth", "target", "status")} | {"reason": score.get("reason") or ""}
        if score["status"] == "ok" and math.isnan(_number(score["relative_error"])):
            # A missing number must never count as a measured one.
            place |= {"status": "error", "reason": "recorded as ok, without a value"}
        for metric in ERRORS:
            value, leading = _number(score.get(metric)), metric == "relative_error"
            # A metric that a problem does not have (signs of a smooth one) is absent. The relative error always has a
            # row, because that row carries the reason of a failure.
            if leading or not math.isnan(value):
                floor = leading and bool(score.get("at_floor"))
                yield place | {"metric": metric, "value": value, "at_floor": floor}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else math.nan


# -- asv


def _choose_asv(folder: Path, provenance: Mapping[str, Any], notes: list[str], damaged: list[str]) -> dict[str, Any] | None:
    """Return the result file that belongs to the scores; add a note where none belongs to them exactly."""
    paths = [path for path in sorted(folder.glob("*/*.json")) if path.name not in ("machine.json", "benchmarks.json")]
    found = read_each(paths, _read_asv, damaged)
    if not found:
        notes.append("asv has no results for this profile: there is no time and no memory to report.")
        return None
    machine, commit = provenance.get("machine"), provenance.get("commit") or ""
    # Several machines may share a folder, and one commit may have been measured in several environments.
    ranked = [(content["machine"] == machine, content["commit"] == commit, content["when"]) for content in found]
    chosen = found[ranked.index(max(ranked))]
    if commit and chosen["commit"] != commit:
        notes.append(
            f"Time and memory were measured at commit {chosen['commit'][:8]}, the scores at {commit[:8]}: "
            f"run `pudle run` again to have both from one commit."
        )
    if chosen["machine"] != machine:
        notes.append(f"Time and memory were measured on {chosen['machine']}, the scores on {machine or 'another'}.")
    if chosen["commit"] == commit and (count := sum(max(ranked)[:2] == rank[:2] for rank in ranked)) > 1:
        notes.append(f"asv holds {count} result files for this commit; time and memory are from the newest.")
    return chosen


@contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    """Turn a field that is missing or malformed into an error that names the file and the remedy."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else first_line(error)
        raise UnreadableResult(f"{path} is not {kind} ({reason}): {REMEDY}") from None


def _read_asv(path: Path) -> dict[str, Any]:
    content = read_json(path, AsvResult)
    with _reading(path, "a result file of asv"):
        # asv drops the nulls at the end of a row, so a row may be shorter than the list of columns.
        benchmarks = {name: dict(zip(content["result_columns"], row, strict=False))
                      for name, row in content["results"].items()}  # fmt: skip
        started = max((row.get("started_at") or 0 for row in benchmarks.values()), default=0)
        read = {
            "path": path, "commit": content["commit_hash"], "benchmarks": benchmarks,
            "machine": content["params"].get("machine", path.parent.name),
            "when": (float(started), float(content.get("date") or 0), path.stat().st_mtime),
        }  # fmt: skip
        for name in (TIME, PEAK, PEAK_OF_PROBLEM):
            converted(path, list(_benchmark(read, name).items()), list[AsvCell])
    return read


def _benchmark(results: Mapping[str, Any], name: str) -> dict[tuple[Any, ...], tuple[Any, Any, Any, Any]]:
    """Return (value, lower quartile, upper quartile, repeats) of every cell of a benchmark, by its parameters."""
    row = results["benchmarks"].get(name, {})
    cells = list(itertools.product(*([ast.literal_eval(text) for text in texts] for texts in row.get("params") or [])))
    # One null stands for a column without any value.
    columns = [row.get(key) or [None] * len(cells) for key in ("result", "stats_q_25", "stats_q_75", "samples")]
    return dict(zip(cells, zip(*columns, strict=True), strict=True)) if row else {}


def _asv_cells(results: Mapping[str, Any], records: Mapping[tuple[str, str], Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield time and memory of every selected (case, estimator, depth), each with its status."""
    alone = {case: value for (case, *_), (value, *_) in _benchmark(results, PEAK_OF_PROBLEM).items()}
    for benchmark, metric in ((TIME, "seconds"), (PEAK, "memory_bytes")):
        for (case, estimator, depth), (value, low, high, samples) in _benchmark(results, benchmark).items():
            if (record := records.get((case, estimator))) is None:
                continue
            status, reason = _asv_status(value)
            if status != "ok" and record["status"] != "ok":
                # asv keeps no reason; the record of the same estimator has one.
                reason = f"{record['status']}: {record['reason']}"
            elif status == "ok" and metric == "memory_bytes":
                if (status := _asv_status(alone.get(case))[0]) == "ok":
                    # The process's own peak is not the estimator's; noise can make the difference negative.
                    value = max(value - alone[case], 0.0)
                else:
                    reason = "the peak of the problem alone was not measured, so its memory is unknown"
            cell = {"case": case, "estimator": estimator, "depth": int(depth), "metric": metric, "status": status}
            if status == "ok":
                low, high = (value if end is None else end for end in (low, high))
                cell |= {"value": float(value), "low": float(low), "high": float(high), "samples": tuple(samples or ())}
            yield cell | {"reason": reason}


def _asv_status(value: float | None) -> tuple[str, str]:
    """Return status and reason of a value of asv: null is a failure, NaN was not run."""
    if value is None:
        return "error", "failed or timed out under asv, which keeps no reason"
    return ("ok", "") if math.isfinite(value) else ("skipped", "skipped, or not selected, under asv")
