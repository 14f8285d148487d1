"""Read the records of a run into one tidy table, `Results.frame`.

`docs/schema.md` describes its columns and metrics.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from pudle import names
from pudle.errors import MissingResults, SpecError, UnreadableResult
from pudle.files import lies_at, read_each
from pudle.measuring.contents import Artifact, CostRecord, RunList, ScoreRecord
from pudle.measuring.meter import LEAST_SAMPLES
from pudle.measuring.scoring import ERRORS
from pudle.reports.records import ExperimentRecord
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

R = TypeVar("R")


@functools.cache
def parsed(spec: str) -> tuple[str, Mapping[str, Any]]:
    """Return name and options of a spec; other text counts as a name without options."""
    try:
        return names.parse(spec)
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
    folder, remedy = Path(home) / profile, f"run `pudle run --profile {profile}`"
    damaged: list[str] = []
    run = _list_of_run(folder, commit, damaged)

    def read(place: str, identity: Any, read_file: Callable[..., R]) -> R | None:
        """Return the record at a place of the store; None where there is none or a damaged one."""
        path = folder / "store" / place
        paths = [path] if lies_at(path) else []
        return next(iter(read_each(paths, lambda each: read_file(each, identity), damaged)), None)

    by_place = sorted(run.experiments.items(), key=lambda item: item[1])
    experiments = tuple(
        filter(None, (read(place, name, ExperimentRecord.read) for name, place in by_place))
    )
    artifacts = [
        (key, artifact)
        for case, kind, key in run.artifacts
        if (artifact := read(f"artifacts/{case}-{kind}.json", (case, kind), Artifact.read))
    ]
    current = tuple(artifact for key, artifact in artifacts if artifact.key == key)
    pairs = run.selection.pairs if run.selection else []
    records: dict[tuple[str, str], ScoreRecord | None] = {
        (case.name, estimator): None for case, estimator in pairs
    }
    for *pair, place in run.records:
        if tuple(pair) in records:
            records[pair[0], pair[1]] = read(place, tuple(pair), ScoreRecord.read)
    costs = [(tuple(cell), read(place, tuple(cell), CostRecord.read)) for *cell, place in run.costs]
    notes = [f"Damaged and left out: {line}." for line in damaged]
    if len(current) < len(artifacts):
        notes.append(
            f"Surfaces and curves that this run has not measured yet are left out: {remedy}."
        )
    measured = [record for record in records.values() if record]
    if not measured:
        if not experiments:
            if damaged:
                raise UnreadableResult("; ".join(damaged))
            if lies_at(Path(home) / "selection.json"):
                meant = f"did you mean --home {Path(home).parent}?"
                remedy = f"{home} is a profile's own folder, {meant}"
            else:
                remedy = f"{remedy} first"
            raise MissingResults(f"no results for profile {profile!r} under {folder}: {remedy}")
        if records:
            notes.append(f"None of the selected cases is measured yet: {remedy}.")
        records = {}
    for record in (*measured, *(cost for _, cost in costs if cost)):
        # The record holds at this commit, whichever commit first measured it.
        record.provenance |= {"commit": commit} if commit else {}
    origins = [record.provenance for record in measured or experiments]
    provenances: dict[str, dict[str, Any]] = {}
    for origin in sorted(origins, key=lambda each: each["date"], reverse=True):
        # Of those that differ in nothing but their date, the newest stands for all.
        provenances.setdefault(repr(sorted((origin | {"date": ""}).items())), dict(origin))
    newest = next(iter(provenances.values()))
    cases = {case.name: dataclasses.asdict(case) for case, _ in pairs if records}

    rows: list[tuple[Any, ...]] = []
    claims: list[dict[str, Any]] = []
    unmeasured = {"status": "missing", "reason": f"not measured yet: {remedy}"}
    for (case, estimator), record in records.items():
        target = cases[case]["targets"][0]
        rows += _score_rows(record, unmeasured, (case, target, estimator), newest)
        known = {name: getattr(record, name) for name in RECORDS[2:]} if record else unmeasured
        claims.append({"case": case, "estimator": estimator} | known)
    references = [
        {"case": record.case.name, **row} for record in measured for row in record.references
    ]
    cells = [
        _cost_row(cell, cost, records[cell[1:3]], unmeasured)
        for cell, cost in costs
        if cell[1:3] in records
    ]
    if cells and not any(cost for _, cost in costs):
        notes.append(f"Neither time nor memory is measured: {remedy} without --scores-only.")
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
        frame[name] = frame["case"].map({key: case[name] for key, case in cases.items()})
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
        records=pd.DataFrame(claims, columns=RECORDS, dtype=object).replace({np.nan: None}),
        timings=pd.DataFrame(timings, columns=TIMINGS),
        cases=cases,
        estimators=run.selection.estimators if run.selection and records else (),
        provenances=tuple(provenances.values()),
        notes=tuple(notes),
        artifacts=tuple(artifact for artifact in current if artifact.case in cases),
        experiments=experiments,
        damaged=tuple(damaged),
    )


def _list_of_run(folder: Path, commit: str, damaged: list[str]) -> RunList:
    """Return the list of the last run or, at a commit, of those with and without uncommitted
    changes.
    """
    # A run with uncommitted changes stands for its commit only in what no other run measured, cases
    # or experiments.
    places = [f"runs/{commit}-dirty.json", f"runs/{commit}.json"] if commit else ["run.json"]
    paths = [folder / place for place in places if lies_at(folder / place)]
    whole = RunList(commit=commit, dirty=False)
    for run in read_each(paths, lambda path: RunList.read(path, commit or None), damaged):
        for name in RunList.__struct_fields__:
            setattr(whole, name, getattr(run, name) or getattr(whole, name))
    return whole


def _origin(provenance: Mapping[str, Any]) -> dict[str, str]:
    return {name: provenance.get(name) or "" for name in ("commit", "machine")}


def _score_rows(
    record: ScoreRecord | None,
    unmeasured: Mapping[str, str],
    name: tuple[str, str, str],
    newest: Mapping[str, Any],
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of one record, see `SCORES`; a record without scores is one row with the
    reason.
    """
    case, target, estimator = name
    where = tuple(_origin(record.provenance if record else newest).values())
    if not record or not record.scores:
        status, reason = unmeasured["status"], unmeasured["reason"]
        if record:
            status = "error" if record.status == "ok" else record.status
            reason = record.reason or "the record holds no scores and no reason"
        failed = (None, None, "relative_error", math.nan, status, reason, False)
        yield (case, target, estimator, *failed, *where)
    for score in record.scores if record else ():
        status, reason = score["status"], score.get("reason") or ""
        if status == "ok" and score.get("relative_error") is None:
            # A missing number must never count as a measured one.
            status, reason = "error", "recorded as ok, without a value"
        place = (case, score["target"], estimator, score["depth"], score["seed"])
        for metric in ERRORS:
            value, leading = score.get(metric), metric == "relative_error"
            # A metric that a problem does not have (signs of a smooth one) is absent. The relative
            # error always has a row, because that row carries the reason of a failure.
            if leading or value is not None:
                number = math.nan if value is None else float(value)
                yield (
                    *place,
                    metric,
                    number,
                    status,
                    reason,
                    leading and bool(score.get("at_floor")),
                    *where,
                )


def _cost_row(
    cell: tuple[Any, ...],
    cost: CostRecord | None,
    scores: ScoreRecord | None,
    unmeasured: Mapping[str, str],
) -> dict[str, Any]:
    """Return the row of one time or memory, with the reason where there is none: that of the scores
    if they have none.
    """
    row = dict(zip(CELL, cell, strict=True)) | unmeasured
    if cost is None:
        at = scores.at(row["depth"]) if scores else {"status": "ok"}
        if at["status"] == "ok":
            return row
        status = "error" if at["status"] in BROKEN else "skipped"
        return row | {"status": status, "reason": f"{at['status']}: {at['reason']}"}
    row |= _origin(cost.provenance) | {"status": cost.status, "reason": cost.reason}
    if cost.status != "ok":
        return row
    if cost.value is None:
        return row | {"status": "error", "reason": "recorded as ok, without a value"}
    # Fewer samples say nothing about their spread.
    spread = len(cost.samples) >= LEAST_SAMPLES
    low, high = np.quantile(cost.samples, (0.25, 0.75)) if spread else (math.nan, math.nan)
    quartiles = {"low": float(low), "high": float(high)}
    return row | quartiles | {"value": float(cost.value), "samples": tuple(cost.samples)}
