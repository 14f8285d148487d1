"""Read the records of a run into one tidy table, `Results.frame`.

`docs/schema.md` describes its columns and metrics.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pudle.errors import MissingResults, SpecError, UnreadableResult
from pudle.files import REMEDY, converted, lies_at, read_each, read_json
from pudle.measuring import contents, statuses
from pudle.measuring.meter import LEAST_SAMPLES
from pudle.measuring.scoring import ERRORS
from pudle.measuring.selection import holds
from pudle.names import parse
from pudle.reports.records import read_experiments
from pudle.reports.results import (
    BROKEN,
    CELL,
    COLUMNS,
    RECORDS,
    REFERENCES,
    SCORES,
    TIMINGS,
    Results,
)


@functools.cache
def parsed(spec: str) -> tuple[str, Mapping[str, Any]]:
    """Return name and options of a spec; text that is not a spec counts as a name without options."""
    try:
        return parse(spec)
    except SpecError:
        return spec, {}


def load(home: Path, profile: str, commit: str = "") -> Results:
    """Read the results of the last run of a profile, or of the last run at a commit (full hash).

    A store keeps the records of all runs. What counts is those that the run's list names, not the
    newest.

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
    folder = Path(home) / profile
    store, run = folder / "store", f"run `pudle run --profile {profile}`"
    damaged: list[str] = []
    # A run with uncommitted changes stands for its commit only in what no other run measured, cases
    # or experiments.
    names = [f"runs/{commit}-dirty.json", f"runs/{commit}.json"] if commit else ["run.json"]
    lists = [folder / name for name in names if lies_at(folder / name)]
    listed: dict[str, Any] = {
        "records": [],
        "costs": [],
        "experiments": {},
        "selection": {"cases": [], "estimators": []},
    }
    for found in read_each(
        lists, lambda path: read_json(path, contents.RunList, commit or None), damaged
    ):
        listed |= {name: part for name, part in found.items() if part}
    experiments = read_experiments(
        {store / place: name for name, place in listed["experiments"].items()}, damaged
    )
    artifacts = read_each(sorted((store / "artifacts").glob("*.json")), _read_artifact, damaged)
    keys = listed.get("artifacts", {})
    current = [
        item
        for item in artifacts
        if item.get("key") == keys.get(f"{item['case']}-{item['kind']}", item.get("key"))
    ]
    cases = {case["name"]: case for case in listed["selection"]["cases"]}
    estimators = tuple(listed["selection"]["estimators"])
    limited = listed["selection"].get("limited", ())
    selected = dict.fromkeys(
        pair for pair in itertools.product(cases, estimators) if holds(limited, *pair)
    )
    records: dict[tuple[str, str], dict[str, Any]] = {}
    for case, estimator, place in listed["records"]:
        if (case, estimator) not in selected:
            continue
        for record in _read(store / place, contents.ScoreRecord, (case, estimator), damaged):
            # The record holds at this commit, whichever commit first measured it.
            record["provenance"] |= {"commit": commit} if commit else {}
            records[case, estimator] = record
    costs = []
    for *cell, place in listed["costs"]:
        kept = _read(store / place, contents.CostRecord, tuple(cell), damaged)
        costs.append((dict(zip(CELL, cell, strict=True)), kept[0] if kept else None))
    notes = [f"Damaged and left out: {line}." for line in damaged]
    if len(current) < len(artifacts):
        notes.append(f"Surfaces and curves that this run has not measured yet are left out: {run}.")
    if not records:
        if not experiments:
            if damaged:
                raise UnreadableResult("; ".join(damaged))
            remedy = f"{run} first"
            if lies_at(Path(home) / "selection.json"):
                remedy = (
                    f"{home} is a profile's own folder, did you mean --home {Path(home).parent}?"
                )
            raise MissingResults(f"no results for profile {profile!r} under {folder}: {remedy}")
        if cases:
            notes.append(f"None of the selected cases is measured yet: {run}.")
        cases, estimators = {}, ()
    # Pairs in the order of the selection; a pair without a record has a reason instead.
    for pair in selected if records else ():
        records[pair] = records.pop(
            pair, {"status": "missing", "reason": f"not measured yet: {run}"}
        )
    measured = [record["provenance"] for record in records.values() if "provenance" in record]
    provenances = sorted(
        measured or [dict(item.provenance) for item in experiments],
        key=itemgetter("date"),
        reverse=True,
    )
    distinct: dict[str, dict[str, Any]] = {}
    for provenance in provenances:
        # Of those that differ in nothing but their date, the newest stands for all.
        distinct.setdefault(repr(sorted((provenance | {"date": ""}).items())), provenance)

    rows: list[tuple[Any, ...]] = []
    for (case, estimator), record in records.items():
        origin = _origin(record.get("provenance", provenances[0]))
        rows += _score_rows(record, case, cases[case]["targets"][0], estimator, origin)
    claims = [
        {name: record.get(name) for name in RECORDS} | {"case": case, "estimator": estimator}
        for (case, estimator), record in records.items()
    ]
    references = [
        {"case": case, **row}
        for (case, _), record in records.items()
        for row in record.get("references", ())
    ]
    cells = [
        _cost_row(cell, kept, records[pair], commit, run)
        for cell, kept in costs
        if (pair := (cell["case"], cell["estimator"])) in records
    ]
    if cells and not any(kept for _, kept in costs):
        notes.append(f"Neither time nor memory is measured: {run} without --scores-only.")
        cells = []
    timings = [
        cell | {"seconds": cell["value"]}
        for cell in cells
        if cell["metric"] == "seconds" and cell["status"] == "ok"
    ]
    parts = [pd.DataFrame(rows, columns=SCORES), pd.DataFrame(cells, columns=SCORES)]
    frame = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    frame = frame.reindex(columns=list(COLUMNS)).assign(profile=profile)
    frame["at_floor"] = frame["at_floor"].eq(True)
    for name in ("dataset", "algorithm", "loss"):
        frame[name] = frame["case"].map(
            {case: definition[name] for case, definition in cases.items()}
        )
    return Results(
        profile=profile,
        frame=frame.astype(COLUMNS),
        # All estimators of a case share its references.
        references=pd.DataFrame(references)
        .reindex(columns=REFERENCES)
        .drop_duplicates(["case", "seed", "target"], ignore_index=True)
        .astype(dict.fromkeys(REFERENCES[5:], "float64")),
        # Plain objects: a text column would turn a missing claim into NaN, which is neither a claim
        # nor None.
        records=pd.DataFrame(claims, columns=RECORDS, dtype=object),
        timings=pd.DataFrame(timings, columns=TIMINGS),
        cases=cases,
        estimators=estimators,
        provenances=tuple(distinct.values()),
        notes=tuple(notes),
        artifacts=tuple(artifact for artifact in current if artifact["case"] in cases),
        experiments=experiments,
        damaged=tuple(damaged),
    )


# -- the store


def _read_artifact(path: Path) -> dict[str, Any]:
    content = read_json(path, contents.Artifact)
    # Artifacts of a kind that only a later version knows are not checked.
    if rows := contents.ROWS.get(content["kind"]):
        for row in content["rows"]:
            converted(path, row, rows)
    what = f"{content['case']}-{content['kind']}"
    if not path.name.startswith(what):
        raise UnreadableResult(f"{path} holds {what!r}: {REMEDY}")
    return content


def _read(
    path: Path, kind: Any, identity: tuple[Any, ...], damaged: list[str]
) -> list[dict[str, Any]]:
    """Return the record at a path, if there is one; one that is damaged adds a line to `damaged`."""
    return read_each(
        [path] if lies_at(path) else [], lambda path: read_json(path, kind, identity), damaged
    )


def _origin(provenance: Mapping[str, Any]) -> dict[str, str]:
    return {name: provenance.get(name) or "" for name in ("commit", "machine")}


def _score_rows(
    record: Mapping[str, Any], case: str, target: str, estimator: str, origin: Mapping[str, str]
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of one record, see `SCORES`; a record without scores is one row with the
    reason.
    """
    where = (origin["commit"], origin["machine"])
    if not record.get("scores"):
        status = "error" if record["status"] == "ok" else record["status"]
        reason = record["reason"] or "the record holds no scores and no reason"
        yield (
            case,
            target,
            estimator,
            None,
            None,
            "relative_error",
            math.nan,
            status,
            reason,
            False,
            *where,
        )
    for score in record.get("scores", ()):
        status, reason = score["status"], score.get("reason") or ""
        if status == "ok" and math.isnan(_number(score["relative_error"])):
            # A missing number must never count as a measured one.
            status, reason = "error", "recorded as ok, without a value"
        place = (case, score["target"], estimator, score["depth"], score["seed"])
        for metric in ERRORS:
            value, leading = _number(score.get(metric)), metric == "relative_error"
            # A metric that a problem does not have (signs of a smooth one) is absent. The relative
            # error always has a row, because that row carries the reason of a failure.
            if leading or not math.isnan(value):
                yield (
                    *place,
                    metric,
                    value,
                    status,
                    reason,
                    leading and bool(score.get("at_floor")),
                    *where,
                )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else math.nan


# -- costs


def _cost_row(
    cell: dict[str, Any],
    kept: Mapping[str, Any] | None,
    scored: Mapping[str, Any],
    commit: str,
    run: str,
) -> dict[str, Any]:
    """Return the row of one time or memory, with the reason where there is none: that of the scores
    if they have none.
    """
    if kept is None:
        if scored["status"] == "missing":
            return cell | scored
        at = statuses.at_depth(scored, cell["depth"])
        if at["status"] == "ok":
            return cell | {"status": "missing", "reason": f"not measured yet: {run}"}
        status = "error" if at["status"] in BROKEN else "skipped"
        return cell | {"status": status, "reason": f"{at['status']}: {at['reason']}"}
    row = cell | _origin(kept["provenance"]) | {name: kept[name] for name in ("status", "reason")}
    row |= {"commit": commit} if commit else {}
    if row["status"] != "ok":
        return row
    if kept["value"] is None:
        return row | {"status": "error", "reason": "recorded as ok, without a value"}
    samples = tuple(kept.get("samples") or ())
    # Fewer samples say nothing about their spread.
    low, high = (
        map(float, np.quantile(samples, (0.25, 0.75)))
        if len(samples) >= LEAST_SAMPLES
        else (math.nan,) * 2
    )
    # The process's own peak is not the estimator's; noise can make the difference negative.
    return row | {
        "value": max(_number(kept["value"]), 0.0),
        "low": low,
        "high": high,
        "samples": samples,
    }
