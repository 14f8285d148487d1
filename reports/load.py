"""Read the records of a run into one tidy table, `Results.frame`.

`docs/schema.md` describes its columns and metrics.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pudle import names
from pudle.errors import MissingResults, SpecError, UnreadableResult
from pudle.files import lies_at, read_each
from pudle.measuring.contents import Artifact, CostRecord, RunList, ScoreRecord
from pudle.measuring.scoring import ERRORS
from pudle.reports.records import ExperimentRecord
from pudle.reports.results import BROKEN, CLAIMS, COLUMNS, COSTS, REFERENCES, TIMINGS, Results


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

    def read(kind: Any, place: str, identity: Any) -> Any:
        """Return the record at a place; None where there is none or a damaged one."""
        paths = [folder / place] if lies_at(folder / place) else []
        records = read_each(paths, lambda path: kind.read(path, identity), damaged)
        return records[0] if records else None

    # A run with uncommitted changes stands for its commit only in what no other run measured, cases
    # or experiments.
    places = [f"runs/{commit}-dirty.json", f"runs/{commit}.json"] if commit else ["run.json"]
    run = RunList(commit=commit, dirty=False)
    for listed in filter(None, [read(RunList, place, commit or None) for place in places]):
        for field in RunList.__struct_fields__:
            setattr(run, field, getattr(listed, field) or getattr(run, field))
    pairs = run.selection.pairs if run.selection else []
    selected = {(case.name, estimator) for case, estimator in pairs}
    experiments = [
        read(ExperimentRecord, f"store/{place}", name)
        for name, place in sorted(run.experiments.items())
    ]
    artifacts = [
        (key, read(Artifact, f"store/artifacts/{case}-{kind}.json", (case, kind)))
        for case, kind, key in run.artifacts
    ]
    scores = {
        (case, estimator): read(ScoreRecord, f"store/{place}", (case, estimator))
        for case, estimator, place in run.records
        if (case, estimator) in selected
    }
    costs = {
        tuple(cell): read(CostRecord, f"store/{place}", tuple(cell))
        for *cell, place in run.costs
        if tuple(cell[1:3]) in selected
    }
    experiments = [record for record in experiments if record]
    measured = [record for record in scores.values() if record]
    notes = [f"Damaged and left out: {line}." for line in damaged]
    if not measured and not experiments:
        if damaged:
            raise UnreadableResult("; ".join(damaged))
        instead = f"{remedy} first"
        if lies_at(Path(home) / "selection.json"):
            meant = f"did you mean --home {Path(home).parent}?"
            instead = f"{home} is a profile's own folder, {meant}"
        raise MissingResults(f"no results for profile {profile!r} under {folder}: {instead}")
    if any(artifact and artifact.key != key for key, artifact in artifacts):
        what = "Surfaces and curves that this run has not measured yet are left out"
        notes.append(f"{what}: {remedy}.")
    if pairs and not measured:
        notes.append(f"None of the selected cases is measured yet: {remedy}.")
        pairs, costs = [], {}
    if costs and not any(costs.values()):
        notes.append(f"Neither time nor memory is measured: {remedy} without --scores-only.")
        costs = {}

    for record in (*measured, *filter(None, costs.values())):
        # It holds at this commit, whichever commit first measured it.
        record.provenance |= {"commit": commit} if commit else {}
    provenances = [record.provenance for record in measured or experiments]
    provenances.sort(key=lambda origin: origin["date"], reverse=True)
    unmeasured = {"status": "missing", "reason": f"not measured yet: {remedy}"}
    records, rows = [], []
    for case, estimator in pairs:
        record = scores.get((case.name, estimator))
        origin = _origin(record.provenance if record else provenances[0])
        pair = {"case": case.name, "estimator": estimator, "leading": "relative_error"}
        claims = {name: getattr(record, name) for name in CLAIMS} if record else unmeasured
        records.append(dict.fromkeys(CLAIMS) | pair | claims)
        # A record without scores is one row with its reason.
        blank = [{"target": case.targets[0]} | claims]
        rows += [row | pair | origin for row in (record.scores if record else blank) or blank]
    for cell, cost in costs.items():
        row = dict(zip(("leading", "case", "estimator", "depth"), cell, strict=True))
        rows.append(row | _outcome(row, cost, scores.get(cell[1:3]), unmeasured))
    cases = {case.name: dataclasses.asdict(case) for case, _ in pairs}
    frame = _frame(rows, cases).assign(profile=profile).astype(COLUMNS)
    timed = frame["metric"].eq("seconds") & frame["status"].eq("ok")
    references = [
        {"case": record.case.name} | row for record in measured for row in record.references
    ]
    return Results(
        profile=profile,
        frame=frame[[*COLUMNS]],
        # All estimators of a case share its references.
        references=pd.DataFrame(references, columns=REFERENCES)
        .drop_duplicates(["case", "seed", "target"], ignore_index=True)
        .astype(dict.fromkeys(REFERENCES[5:], "float64")),
        records=tuple(records),
        timings=frame[timed].rename(columns={"value": "seconds"})[TIMINGS],
        cases=cases,
        estimators=run.selection.estimators if run.selection and cases else (),
        provenances=tuple(provenances),
        notes=tuple(notes),
        artifacts=tuple(
            artifact
            for key, artifact in artifacts
            if artifact and artifact.key == key and artifact.case in cases
        ),
        experiments=tuple(experiments),
        damaged=tuple(damaged),
    )


def _origin(provenance: Mapping[str, Any]) -> dict[str, str]:
    return {name: provenance.get(name) or "" for name in ("commit", "machine")}


def _outcome(
    row: Mapping[str, Any],
    cost: CostRecord | None,
    scores: ScoreRecord | None,
    unmeasured: Mapping[str, str],
) -> Mapping[str, Any]:
    """Return what became of a time or a memory; one without a record has the reason of the scores,
    if these have no number.
    """
    if cost:
        known = {"status": cost.status, "reason": cost.reason, "samples": tuple(cost.samples)}
        return known | _origin(cost.provenance) | {row["leading"]: cost.value}
    at = scores.at(row["depth"]) if scores else {"status": "ok"}
    if at["status"] == "ok":
        return unmeasured
    status = "error" if at["status"] in BROKEN else "skipped"
    return {"status": status, "reason": f"{at['status']}: {at['reason']}"}


def _frame(rows: list[dict[str, Any]], cases: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row per metric, from rows with a column for each.

    A metric that a problem does not have (signs of a smooth one) is absent. The leading one always
    has a row, because that row carries the reason of a failure.
    """
    keys = ["leading", "samples", *(name for name in COLUMNS if name not in ("metric", "value"))]
    wide = pd.DataFrame(rows, columns=[*keys, *ERRORS, *COSTS])
    for name in ("dataset", "algorithm", "loss"):
        wide[name] = wide["case"].map({key: case[name] for key, case in cases.items()})
    frame = wide.melt(keys, [*ERRORS, *COSTS], "metric", ignore_index=False)
    frame = frame.sort_index(kind="stable").astype({"value": float})
    leading = frame["metric"] == frame["leading"]
    frame["at_floor"] = frame["at_floor"].eq(True) & leading
    # A missing number must never count as a measured one.
    blank = leading & frame["status"].eq("ok") & frame["value"].isna()
    frame.loc[blank, ["status", "reason"]] = "error", "recorded as ok, without a value"
    return frame[leading | frame["value"].notna()].reset_index(drop=True)
