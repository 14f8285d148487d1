"""Read the records of a run into one tidy table, `Results.frame`.

`docs/schema.md` describes its columns and metrics.
"""

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
from pudle.reports.results import BROKEN, CLAIMS, COLUMNS, COSTS, REFERENCES, TIMES, Results, Row


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
    folder, remedy = home / profile, f"run `pudle run --profile {profile}`"
    damaged: list[str] = []

    def read(kind: Any, places: Mapping[Any, str]) -> dict[Any, Any]:
        """Return records by their identities, without the missing and the damaged ones."""
        return {
            identity: record
            for identity, place in places.items()
            for record in read_each(
                filter(lies_at, [folder / place]),
                functools.partial(kind.read, identity=identity),
                damaged,
            )
        }

    # A run with uncommitted changes stands for its commit only in what no other run measured, cases
    # or experiments.
    lists = [f"runs/{commit}-dirty.json", f"runs/{commit}.json"] if commit else ["run.json"]
    run = RunList(commit=commit, dirty=False)
    for place in lists:
        for listed in read(RunList, {commit or None: place}).values():
            for field in RunList.__struct_fields__:
                setattr(run, field, getattr(listed, field) or getattr(run, field))
    cases = {
        (case.name, name): case for case, name in (run.selection.pairs if run.selection else ())
    }
    experiments = read(
        ExperimentRecord,
        {name: f"store/{place}" for name, place in sorted(run.experiments.items())},
    )
    keys = {(case, kind): key for case, kind, key in run.artifacts}
    artifacts = read(
        Artifact, {(case, kind): f"store/artifacts/{case}-{kind}.json" for case, kind in keys}
    )
    scores = read(
        ScoreRecord,
        {
            (case, name): f"store/{place}"
            for case, name, place in run.records
            if (case, name) in cases
        },
    )
    cells = {
        tuple(cell): f"store/{place}" for *cell, place in run.costs if tuple(cell[1:3]) in cases
    }
    costs = read(CostRecord, cells)
    notes = [f"Damaged and left out: {line}." for line in damaged]
    if not scores and not experiments:
        if damaged:
            raise UnreadableResult("; ".join(damaged))
        instead = f"{remedy} first"
        if lies_at(home / "selection.json"):
            instead = f"{home} is a profile's own folder, did you mean --home {home.parent}?"
        raise MissingResults(f"no results for profile {profile!r} under {folder}: {instead}")
    current = [artifact for name, artifact in artifacts.items() if artifact.key == keys[name]]
    if len(current) < len(artifacts):
        notes.append(
            f"Surfaces and curves that this run has not measured yet are left out: {remedy}."
        )
    notes += [
        f"The {each.kind} of {each.case} is missing: {each.status}: {each.reason}."
        for each in current
        if each.status in BROKEN
    ]
    if cases and not scores:
        notes.append(f"None of the selected cases is measured yet: {remedy}.")
        cases, cells = {}, {}
    if cells and not costs:
        notes.append(f"Neither time nor memory is measured: {remedy} without --scores-only.")
        cells = {}

    for record in (*scores.values(), *costs.values()):
        # It holds at this commit, whichever commit first measured it.
        record.provenance |= {"commit": commit} if commit else {}
    provenances = sorted(
        (record.provenance for record in (scores or experiments).values()),
        key=lambda origin: str(origin.get("date")),
        reverse=True,
    )
    unmeasured = {"status": "missing", "reason": f"not measured yet: {remedy}"}
    records, rows = [], []
    described: dict[str, Row] = {}
    for (name, estimator), case in cases.items():
        record = scores.get((name, estimator))
        facts = {"problem": case.problem, "differentiable": True}
        described.setdefault(name, dataclasses.asdict(case) | facts)
        pair = {"case": name, "estimator": estimator, "leading": "relative_error"}
        claims, origin = dict.fromkeys(CLAIMS) | unmeasured, provenances[0]
        if record:
            claims, origin = {key: getattr(record, key) for key in CLAIMS}, record.provenance
            described[name]["differentiable"] = record.differentiable
            if not record.proximal:
                # What leads elsewhere is a problem of its own.
                described[name]["problem"] = name
        records.append(claims | pair)
        # A record without scores is one row with its reason.
        scored = (record and record.scores) or [{"target": case.targets[0]} | claims]
        rows += [row | pair | _origin(origin) for row in scored]
    for cell in cells:
        row = dict(zip(("leading", "case", "estimator", "depth"), cell, strict=True))
        record = scores.get(cell[1:3])
        at = record.at(cell[3]) if record else {"status": "ok"}
        if cost := costs.get(cell):
            row |= {cell[0]: cost.value, "samples": tuple(cost.samples), "turns": cost.turns}
            row |= {"status": cost.status, "reason": cost.reason} | _origin(cost.provenance)
        elif at["status"] == "ok":
            row |= unmeasured
        else:
            # A time has no number for the same reason as the scores.
            row["status"] = "error" if at["status"] in BROKEN else "skipped"
            row["reason"] = f"{at['status']}: {at['reason']}"
        rows.append(row)
    frame = _frame(rows, described).assign(profile=profile).astype(COLUMNS)
    references = pd.DataFrame(
        [{"case": name} | row for (name, _), record in scores.items() for row in record.references],
        columns=REFERENCES,
    )
    return Results(
        profile=profile,
        frame=frame[[*COLUMNS]],
        # All estimators of a case share its references.
        references=references.drop_duplicates(["case", "seed", "target"], ignore_index=True).astype(
            dict.fromkeys(REFERENCES[5:], "float64")
        ),
        records=records,
        timings=frame[frame["metric"].isin(TIMES) & frame["status"].eq("ok")].rename(
            columns={"value": "seconds"}
        ),
        cases=described,
        estimators=run.selection.estimators if run.selection and cases else (),
        provenances=provenances,
        notes=notes,
        artifacts=[artifact for artifact in current if artifact.case in described],
        experiments=[*experiments.values()],
        damaged=damaged,
    )


def _origin(provenance: Row) -> Row:
    return {name: provenance.get(name) or "" for name in ("commit", "machine")}


def _frame(rows: list[Row], cases: Mapping[str, Row]) -> pd.DataFrame:
    """Return one row per metric, from rows with a column for each.

    A metric that a problem does not have (signs of a smooth one) is absent. The leading one always
    has a row, because that row carries the reason of a failure.
    """
    keys = [
        "leading",
        "samples",
        "turns",
        *(name for name in COLUMNS if name not in ("metric", "value")),
    ]
    wide = pd.DataFrame(rows, columns=[*keys, *ERRORS, *COSTS])
    for name in ("dataset", "algorithm", "loss"):
        wide[name] = [cases[case][name] for case in wide["case"]]
    frame = wide.melt(keys, [*ERRORS, *COSTS], "metric", ignore_index=False)
    frame = frame.sort_index(kind="stable").astype({"value": float})
    leading = frame["metric"] == frame["leading"]
    frame["at_floor"] = frame["at_floor"].eq(True) & leading
    # A missing number must never count as a measured one.
    blank = leading & frame["status"].eq("ok") & frame["value"].isna()
    frame.loc[blank, ["status", "reason"]] = "error", "recorded as ok, without a value"
    return frame[leading | frame["value"].notna()].reset_index(drop=True)
