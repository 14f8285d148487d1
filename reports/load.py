"""Everything that reads: the store's records and asv's result files become one tidy table.

Schema of `Results.frame`, one row per (case, target, estimator, depth, seed, metric):

=========== ======= =====================================================================================
column      type    meaning
=========== ======= =====================================================================================
case        text    name of the case
dataset     text    spec of the dataset, without its seed
algorithm   text    spec of the inner algorithm
loss        text    outer loss
target      text    reference that was scored against; missing for time and memory
estimator   text    spec of the estimator
depth       integer layers; missing where a whole record failed
seed        integer seed of the draw; missing for time and memory, and where a whole record failed
metric      text    one of `METRICS`
value       number  lower is better; NaN unless something was measured
status      text    ``ok``, or what went wrong; a value counts only where this is ``ok``
reason      text    why it is not ``ok``
commit      text    commit that was measured, may be empty
machine     text    machine that measured
profile     text    profile of the run
at_floor    boolean the value is the reference's own bound, the true error being smaller
=========== ======= =====================================================================================
"""

from __future__ import annotations

import ast
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from pudle.errors import MissingResults, UnreadableResult
from pudle.files import read_json
from pudle.reports.learning.records import ExperimentRecord, read_experiments

#: Schema number of the store's records that this version reads.
SCHEMA = 1
#: Version of asv's result files that this version reads.
ASV_VERSION = 2

#: What `Results.frame` can hold in its column ``metric``, with its unit.
METRICS = {
    "relative_error": "",
    "absolute_error": "",
    "cosine_error": "",
    "code_error": "",
    "support_error": "share of samples",
    "seconds": "s",
    "memory_bytes": "bytes",
}
SCORES = ("relative_error", "absolute_error", "cosine_error", "code_error", "support_error")

#: Columns of `Results.frame` with their pandas types.
COLUMNS = {
    "case": "str", "dataset": "str", "algorithm": "str", "loss": "str", "target": "str", "estimator": "str",
    "depth": "Int64", "seed": "Int64", "metric": "str", "value": "float64", "status": "str", "reason": "str",
    "commit": "str", "machine": "str", "profile": "str", "at_floor": "bool",
}  # fmt: skip

#: Kinds of `Results.artifacts` with what each of their rows holds, as `pudle.measuring.surfaces` returns it.
ARTIFACTS = {
    "window_surface": ("depth", "window", "relative_error", "status"),
    "jacobian_error": ("depth", "relative_error"),
}

#: Columns of `Results.records`.
RECORDS = ["case", "estimator", "status", "reason", "computes", "consistent_for", "seconds"]
#: Statuses that say something broke, as opposed to a finding about an estimator.
BROKEN = ("error", "timeout", "out-of-memory", "missing")

TIME, PEAK, BASELINE = "timing.Time.time_estimate", "memory.Memory.peakmem_estimate", "memory.ProblemAlone.peakmem_problem"
AGAIN = "delete it and run `pudle run` again"


@dataclass(frozen=True, eq=False)
class Results:
    """What one profile's folder holds.

    Attributes
    ----------
    profile : str
    frame : DataFrame
        The tidy table; its columns are `COLUMNS`.
    references : DataFrame
        One row per (case, seed, target): status, reason, bound and the rest of the certificate.
    records : DataFrame
        One row per (case, estimator) asked for: status, reason, computes, consistent_for (a tuple, or None for all).
    timings : DataFrame
        One row per timed (case, estimator, depth): seconds, their quartiles ``low`` and ``high``, and the tuple ``samples``
        of the repeats, empty where asv was not told to keep them.
    cases : mapping
        The cases asked for, by name, in their order.
    estimators : tuple of str
        The estimators asked for, in their order.
    provenances : tuple of mapping
        The distinct provenances of the records, newest first.
    notes : tuple of str
        What a reader has to know about how these numbers were put together.
    artifacts : tuple of mapping
        Surfaces and curves of single problems that were stored beside the scores: ``kind`` (one of `ARTIFACTS`), ``case``,
        ``seed`` and ``rows``. Often there are none.
    experiments : tuple of ExperimentRecord
        The newest of each name, their arrays not read yet. Where there are some, there may be no cases.
    """

    profile: str
    frame: pd.DataFrame
    references: pd.DataFrame
    records: pd.DataFrame
    timings: pd.DataFrame
    cases: Mapping[str, Mapping[str, Any]]
    estimators: tuple[str, ...]
    provenances: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = field(default=())
    artifacts: tuple[Mapping[str, Any], ...] = ()
    experiments: tuple[ExperimentRecord, ...] = ()

    def target(self, case: str) -> str:
        """Return the reference that a case's summary is about: the first of its targets."""
        return self.cases[case]["targets"][0]

    @property
    def trained(self) -> tuple[str, ...]:
        """The estimators that experiments used, in order."""
        return tuple(dict.fromkeys(item.estimator for item in self.experiments if item.estimator))

    def scores(self, case: str, metric: str, target: str | None = None) -> pd.DataFrame:
        """Return the rows of a metric that hold a measured value, against the case's first target by default."""
        target = self.target(case) if target is None else target
        frame = self.frame
        rows = (frame["case"] == case) & (frame["metric"] == metric) & (frame["target"] == target)
        return frame[rows & (frame["status"] == "ok") & frame["value"].notna()]

    def measured(self, case: str, metric: str) -> pd.DataFrame:
        """Return the rows of ``seconds`` or ``memory_bytes`` that hold a measured value."""
        frame = self.frame
        return frame[
            (frame["case"] == case) & (frame["metric"] == metric) & (frame["status"] == "ok") & frame["value"].notna()
        ]


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
        If there is nothing to report yet.
    UnreadableResult
        If a file is damaged or of an unknown version; the text names the file and the remedy.
    """
    folder = Path(home) / profile
    selection_path = folder / "selection.json"
    others = ("artifacts", "experiments")
    paths = sorted(path for path in (folder / "store").glob("*/*.json") if path.parent.name not in others)
    experiments = read_experiments(folder / "store" / "experiments")
    if not experiments and (not selection_path.exists() or not paths):
        raise MissingResults(f"no results for profile {profile!r} under {folder}: run `pudle run --profile {profile}` first")
    cases, estimators = _read_selection(selection_path) if selection_path.exists() else ({}, [])
    records = _newest([_read_record(path) for path in paths])
    pairs = list(itertools.product(cases, estimators))
    wanted = {pair: records[pair] for pair in pairs if pair in records and _same_case(records[pair]["case"], cases[pair[0]])}
    if not wanted and not experiments:
        raise MissingResults(
            f"no results for profile {profile!r} under {folder} that match its selection: "
            f"run `pudle run --profile {profile}` first"
        )
    notes: list[str] = []
    if not wanted:
        if cases:
            notes.append(f"None of the selected cases is measured yet: run `pudle run --profile {profile}`.")
        cases, estimators, pairs = {}, [], []
    measured = [record["provenance"] for record in wanted.values()] or [dict(item.provenance) for item in experiments]
    found = sorted(measured, key=_date, reverse=True)
    newest = found[0]

    rows: list[dict[str, Any]] = []
    summaries: list[dict[str, Any]] = []
    for pair in pairs:
        record = wanted.get(pair)
        if record is None:
            stale = pair in records
            reason = "only measured for an older definition of this case" if stale else "not measured yet"
            record = {"status": "missing", "reason": f"{reason}: run `pudle run --profile {profile}`", "provenance": newest}
        known = _identity(cases[pair[0]], pair[1], record["provenance"], profile)
        rows += _score_rows(record, known)
        claim = record.get("consistent_for")
        summaries.append({
            "case": pair[0], "estimator": pair[1], "status": record["status"], "reason": record["reason"],
            "computes": record.get("computes"), "consistent_for": None if claim is None else tuple(claim),
            "seconds": record.get("seconds"),
        })  # fmt: skip

    timings: list[dict[str, Any]] = []
    results = _read_asv(folder / "results", newest, notes) if wanted else None
    if results is not None:
        broken = {(row["case"], row["estimator"]): row for row in summaries if row["status"] != "ok"}
        provenance = {**newest, "commit": results["commit_hash"], "machine": results["machine"]}
        for cell in _asv_cells(results, cases, set(pairs), broken):
            known = _identity(cases[cell["case"]], cell["estimator"], provenance, profile)
            rows.append(known | {"target": None, "seed": None} | {key: cell[key] for key in (
                "estimator", "depth", "metric", "value", "status", "reason")})  # fmt: skip
            if cell["metric"] == "seconds" and cell["status"] == "ok":
                timings.append({"case": cell["case"], "estimator": cell["estimator"], "depth": cell["depth"],
                                "seconds": cell["value"], "low": cell["low"], "high": cell["high"],
                                "samples": cell["samples"]})  # fmt: skip

    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return Results(
        profile=profile,
        frame=frame,
        references=_references(wanted),
        # Plain objects: text columns would turn a missing claim into NaN, which is neither a claim nor None.
        records=pd.DataFrame(summaries, columns=RECORDS, dtype=object),
        timings=pd.DataFrame(timings, columns=["case", "estimator", "depth", "seconds", "low", "high", "samples"]),
        cases=cases,
        estimators=tuple(estimators),
        provenances=_distinct(found),
        notes=tuple(notes),
        artifacts=tuple(
            artifact for path in sorted((folder / "store" / "artifacts").glob("*.json"))
            if (artifact := _read_artifact(path))["case"] in cases
        ),
        experiments=experiments,
    )  # fmt: skip


def _read_selection(path: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    content = read_json(path)
    try:
        cases = {case["name"]: dict(case) for case in content["cases"]}
        for case in cases.values():
            _need(case, ("dataset", "algorithm", "loss", "targets", "seeds", "depths"))
        return cases, [str(spec) for spec in content["estimators"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise UnreadableResult(f"{path} is not a selection ({_what(error)}): {AGAIN}") from None


def _read_record(path: Path) -> dict[str, Any]:
    record = read_json(path)
    if record.get("schema") != SCHEMA:
        raise UnreadableResult(
            f"{path} has schema {record.get('schema')!r} and this version reads {SCHEMA}: "
            f"install the version of pudle that wrote it, or {AGAIN}"
        )
    try:
        _need(record, ("case", "estimator", "status", "reason", "scores", "references", "provenance"))
        _need(record["case"], ("name",))
        for row in record["scores"]:
            _need(row, ("seed", "depth", "target", "relative_error", "status"))
        for row in record["references"]:
            _need(row, ("seed", "target", "status", "bound"))
        _date(record["provenance"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UnreadableResult(f"{path} is not a record of scores ({_what(error)}): {AGAIN}") from None
    return record


def _read_artifact(path: Path) -> dict[str, Any]:
    artifact = read_json(path)
    try:
        _need(artifact, ("kind", "case", "seed", "rows"))
        for row in artifact["rows"]:
            # A kind of a later version is none of this one's business.
            _need(row, ARTIFACTS.get(artifact["kind"], ()))
    except (KeyError, TypeError) as error:
        raise UnreadableResult(f"{path} is not an artifact ({_what(error)}): {AGAIN}") from None
    return artifact


def _need(mapping: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        mapping[name]


def _what(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error).splitlines()[0]


def _date(provenance: Mapping[str, Any]) -> str:
    return str(provenance["date"])


def _newest(records: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the newest record of each (case, estimator): older ones are of other sources or other definitions."""
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for record in records:
        pair = (record["case"]["name"], record["estimator"])
        if pair not in newest or _date(record["provenance"]) >= _date(newest[pair]["provenance"]):
            newest[pair] = record
    return newest


def _same_case(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether a record measured the case that was asked for; a case may have changed under an unchanged name."""
    return all(recorded[key] == asked[key] for key in recorded.keys() & asked.keys())


def _distinct(provenances: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Drop provenances that differ in their date only, keeping the newest."""
    kept: dict[str, dict[str, Any]] = {}
    for provenance in provenances:
        kept.setdefault(repr(sorted((key, repr(value)) for key, value in provenance.items() if key != "date")), provenance)
    return tuple(kept.values())


def _identity(case: Mapping[str, Any], estimator: str, provenance: Mapping[str, Any], profile: str) -> dict[str, Any]:
    return {
        "case": case["name"], "dataset": case["dataset"], "algorithm": case["algorithm"], "loss": case["loss"],
        "target": case["targets"][0], "estimator": estimator, "depth": None, "seed": None, "metric": "relative_error",
        "value": math.nan, "status": "ok", "reason": "", "commit": provenance.get("commit") or "",
        "machine": provenance.get("machine") or "", "profile": profile, "at_floor": False,
    }  # fmt: skip


def _score_rows(record: Mapping[str, Any], known: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of one record; a record without scores is one row that says why."""
    if not record.get("scores"):
        status = "error" if record["status"] == "ok" else record["status"]
        reason = record["reason"] or "the record holds no scores and no reason"
        return [known | {"status": status, "reason": reason}]
    rows = []
    for score in record["scores"]:
        place = {name: score[name] for name in ("seed", "depth", "target")}
        status, reason = score["status"], score.get("reason") or ""
        if status == "ok" and math.isnan(_number(score["relative_error"])):
            # A missing number must never pass for a measured one.
            status, reason = "error", "recorded as ok, without a value"
        for metric in SCORES:
            value = _number(score.get(metric))
            # A metric that a problem does not have (signs, on a smooth one) is absent; the relative error never is, since
            # its row is where a failure is told.
            if math.isnan(value) and metric != "relative_error":
                continue
            rows.append(known | place | {
                "metric": metric, "value": value, "status": status, "reason": reason,
                "at_floor": bool(score.get("at_floor")) and metric == "relative_error",
            })  # fmt: skip
    return rows


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else math.nan


def _references(records: Mapping[tuple[str, str], dict[str, Any]]) -> pd.DataFrame:
    """Return one row per (case, seed, target); all estimators of a case share its references."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for (case, _), record in records.items():
        for row in record["references"]:
            found.setdefault((case, row["seed"], row["target"]), {"case": case, **row})
    columns = ["case", "seed", "target", "status", "reason", "bound", "gradient_norm", "kkt_residual", "smallest_eigenvalue",
               "condition_number", "dual_margin", "smallest_amplitude", "zero_codes", "uncertified", "samples", "step",
               "rho"]  # fmt: skip
    frame = pd.DataFrame(list(found.values()))
    numbers = columns[5:]
    return frame.reindex(columns=columns).astype(dict.fromkeys(numbers, "float64"))


def _read_asv(folder: Path, provenance: Mapping[str, Any], notes: list[str]) -> dict[str, Any] | None:
    """Return the result file that belongs to the scores, its rows zipped with their column names."""
    found = [_read_asv_file(path) for path in sorted(folder.glob("*/*.json"))
             if path.name not in ("machine.json", "benchmarks.json")]  # fmt: skip
    if not found:
        notes.append("asv has kept no results for this profile: there is no time and no memory to report.")
        return None
    # Several machines may share a folder, and one commit may have been run in several environments.
    same_machine = [content for content in found if content["machine"] == provenance.get("machine")] or found
    commit = provenance.get("commit") or ""
    same_commit = [content for content in same_machine if commit and content["commit_hash"] == commit]
    chosen = max(same_commit or same_machine, key=lambda content: content["when"])
    if commit and not same_commit:
        notes.append(
            f"Time and memory were measured at commit {chosen['commit_hash'][:8]}, the scores at {commit[:8]}: "
            f"run `pudle run` again to have both from one commit."
        )
    if chosen["machine"] != provenance.get("machine"):
        notes.append(
            f"Time and memory were measured on {chosen['machine']}, the scores on {provenance.get('machine') or 'another'}."
        )
    if len(same_commit) > 1:
        notes.append(f"asv holds {len(same_commit)} result files for this commit; time and memory are from the newest.")
    return chosen


def _read_asv_file(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if content.get("version") != ASV_VERSION:
        raise UnreadableResult(
            f"{path} is of asv's format {content.get('version')!r} and this version reads {ASV_VERSION}: "
            f"install asv 0.6, or {AGAIN}"
        )
    try:
        columns = content["result_columns"]
        # asv drops the nulls at the end of a row, so a row may be shorter than the list of columns.
        benchmarks = {name: dict(zip(columns, row, strict=False)) for name, row in content["results"].items()}
        started = [row.get("started_at") or 0 for row in benchmarks.values()]
        return {
            "path": path,
            "commit_hash": str(content["commit_hash"]),
            "machine": str(content["params"].get("machine", path.parent.name)),
            "when": (max(started, default=0), content.get("date") or 0, path.stat().st_mtime),
            "benchmarks": benchmarks,
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise UnreadableResult(f"{path} is not a result file of asv ({_what(error)}): {AGAIN}") from None


def _cells(results: Mapping[str, Any], benchmark: str) -> Iterator[tuple[tuple[Any, ...], Any, Any, Any, Any]]:
    """Yield (parameters, value, lower quartile, upper quartile, repeats) of every cell of a benchmark."""
    row = results["benchmarks"].get(benchmark)
    if row is None:
        return
    try:
        values = [[ast.literal_eval(text) for text in texts] for texts in row.get("params") or []]
        cells = list(itertools.product(*values))
        # All failed collapses to one null; so do quartiles and repeats that no cell has.
        columns = [row.get(name) or [None] * len(cells) for name in ("result", "stats_q_25", "stats_q_75", "samples")]
        yield from zip(cells, *columns, strict=True)
    except (ValueError, SyntaxError, TypeError) as error:
        raise UnreadableResult(f"{results['path']}: {benchmark} cannot be read ({_what(error)}): {AGAIN}") from None


def _asv_cells(
    results: Mapping[str, Any],
    cases: Mapping[str, Any],
    pairs: set[tuple[str, str]],
    broken: Mapping[tuple[str, str], Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
    """Yield time and memory of every (case, estimator, depth) asked for, each with its status."""
    baselines = {parameters[0]: value for parameters, value, *_ in _cells(results, BASELINE)}
    for benchmark, metric in ((TIME, "seconds"), (PEAK, "memory_bytes")):
        for parameters, value, low, high, samples in _cells(results, benchmark):
            case, estimator, depth = parameters
            if (case, estimator) not in pairs:
                continue
            status, reason = _asv_status(value)
            if status != "ok" and (case, estimator) in broken:
                known = broken[case, estimator]
                # asv keeps no reason; the record of the same estimator has one.
                reason = f"{known['status']}: {known['reason']}"
            if status == "ok" and metric == "memory_bytes":
                status, reason = _asv_status(baselines.get(case))
                if status == "ok":
                    # The process's own peak is not the estimator's; noise can put the difference below zero.
                    value = max(value - baselines[case], 0.0)
                else:
                    reason = "the baseline of this case was not measured, so that its memory is unknown"
            yield {
                "case": case, "estimator": estimator, "depth": int(depth), "metric": metric,
                "value": float(value) if status == "ok" else math.nan, "status": status, "reason": reason,
                "low": float(value if low is None else low) if status == "ok" else math.nan,
                "high": float(value if high is None else high) if status == "ok" else math.nan,
                "samples": tuple(samples or ()) if status == "ok" else (),
            }  # fmt: skip


def _asv_status(value: Any) -> tuple[str, str]:
    """Tell asv's failures (null) from what it did not run (NaN)."""
    if value is None:
        return "error", "failed or timed out under asv, which keeps no reason"
    if not math.isfinite(value):
        return "skipped", "skipped, or not selected, under asv"
    return "ok", ""
