"""Reading results: the store's records and asv's files as one tidy table."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from paths import ROOT
from synthetic import (
    COMMIT,
    CURVES,
    DEPTHS,
    SEEDS,
    case,
    edit,
    failure,
    provenance,
    record,
    references,
    scores,
    training,
    write,
    write_artifact,
    write_costs,
    write_experiments,
)

from pudle.errors import MissingResults, UnreadableResult
from pudle.files import write_record
from pudle.reports import scope
from pudle.reports.load import load
from pudle.reports.results import COLUMNS, ERRORS, METRICS, RECORDS, REFERENCES, TIMINGS


def test_frame_has_its_documented_columns_and_every_row(four):
    frame = load(four, "quick").frame
    assert [(name, str(kind)) for name, kind in frame.dtypes.items()] == list(COLUMNS.items())
    assert len(frame) == 4 * len(SEEDS) * len(DEPTHS) * 5
    row = frame[
        (frame.estimator == "backprop")
        & (frame.seed == 1)
        & (frame.depth == 50)
        & (frame.metric == "relative_error")
    ]
    assert row["value"].item() == 0.1 * 50 * 0.955**100
    assert row[["status", "commit", "machine", "profile", "target"]].iloc[0].tolist() == [
        "ok",
        COMMIT,
        "here",
        "quick",
        "exact",
    ]


def test_only_what_the_run_lists_counts_whichever_is_newest(tmp_path):
    """A plug-in whose first version is back, or a clock that was set back: the newest record is not
    the one that holds.
    """
    newer = record(
        case(),
        "backprop",
        scores=scores(CURVES["alternating"]),
        provenance=provenance(date="2027-01-01T00:00:00"),
    )
    home = write(
        tmp_path,
        [newer, record(case(), "backprop"), record(case(), "other")],
        estimators=["backprop"],
    )
    frame = load(home, "quick").frame
    assert set(frame.estimator) == {"backprop"}
    errors = frame[(frame.metric == "relative_error") & (frame.depth == 50) & (frame.seed == 0)]
    assert errors["value"].tolist() == [0.1 * 50 * 0.95**100]


def test_rows_bear_the_machine_that_measured_them_and_provenances_are_told_apart_but_for_their_date(
    tmp_path,
):
    dates = [f"2026-01-0{day}T00:00:00+00:00" for day in (1, 2, 3, 4)]
    names = list(CURVES)[:3]
    here, again, there = (
        provenance(date=dates[0]),
        provenance(date=dates[2]),
        provenance(date=dates[1], machine="there"),
    )
    records = [
        record(case(), name, provenance=each)
        for name, each in zip(names, (here, again, there), strict=True)
    ]
    results = load(write(tmp_path, records, estimators=[*names, "one_step"]), "quick")
    assert results.provenances == (again, there)
    machines = results.frame.groupby("estimator", sort=False)["machine"].unique()
    # What is not measured yet is put down to the newest.
    assert {name: list(found) for name, found in machines.items()} == dict(
        zip([*names, "one_step"], [["here"], ["here"], ["there"], ["here"]], strict=True)
    )


def test_records_and_references_are_tables_of_what_was_stored(tmp_path):
    records = [
        record(case(), "backprop", seconds=2.5),
        record(case(), "alternating"),
        failure(case(), "analytic", "error", "x"),
    ]
    results = load(
        write(tmp_path, records, estimators=["backprop", "alternating", "analytic", "one_step"]),
        "quick",
    )
    assert results.records.to_dict("records") == [
        {
            "case": case()["name"],
            "estimator": name,
            "status": status,
            "reason": reason,
            "computes": computes,
            "consistent_for": losses,
            "seconds": seconds,
        }
        for name, status, reason, computes, losses, seconds in [
            ("backprop", "ok", "", "unrolled", None, 2.5),
            ("alternating", "ok", "", "direct", ["lasso"], 1.0),
            ("analytic", "error", "x", "implicit", None, None),
            (
                "one_step",
                "missing",
                "not measured yet: run `pudle run --profile quick`",
                None,
                None,
                None,
            ),
        ]
    ]
    # One reference of each seed, though two estimators were scored against it.
    assert list(results.references.columns) == REFERENCES
    stored = [
        {name: ({"case": case()["name"]} | row)[name] for name in REFERENCES}
        for row in references()
    ]
    assert results.references.to_dict("records") == stored
    assert set(results.references.dtypes[5:].astype(str)) == {"float64"}
    assert set(results.records.dtypes.astype(str)) == {"object"}


def test_rows_are_numbered_and_say_which_case_they_are_of(tmp_path):
    cases = [
        case(),
        case(
            "other",
            dataset="mine",
            algorithm="fista",
            loss="reconstruction",
            targets=["gstar", "exact"],
        ),
    ]
    against = {
        "references": references(target="gstar"),
        "scores": scores(CURVES["backprop"], targets=["gstar"]),
    }
    second = record(cases[1], "backprop", **against)
    # Certificates of one reference that two records describe differently are those of the first.
    again = record(cases[0], "alternating", references=references(iterations=7, kkt_residual=1e-15))
    failed = failure(cases[1], "alternating", "error", "because")
    home = write(tmp_path, [record(cases[0], "backprop"), again, second, failed])
    write_costs(home, ["backprop"], [1.0, 2.0])
    results = load(home, "quick")
    for table in (results.frame, results.references, results.records, results.timings):
        assert table.index.tolist() == list(range(len(table)))
    assert results.profile == "quick" and results.frame["profile"].eq("quick").all()
    found = (
        results.frame[["case", "dataset", "algorithm", "loss", "target"]]
        .drop_duplicates()
        .fillna("")
        .values.tolist()
    )
    first = [case()["name"], "synthetic(n=10)", "ista(step=0.2)", "lasso"]
    other = ["other", "mine", "fista", "reconstruction", "gstar"]
    assert found == [[*first, "exact"], other, [*first, ""]]
    assert results.references[["case", "seed", "target", "kkt_residual"]].values.tolist() == [
        [name, seed, target, 1e-16]
        for name, target in ((case()["name"], "exact"), ("other", "gstar"))
        for seed in SEEDS
    ]


def test_what_a_list_names_beside_the_selection_is_passed_over(four):
    path = four / "quick" / "run.json"
    records = json.loads(path.read_text())["records"]
    more = [
        [case()["name"], "not selected", records[0][2]],
        ["a-case-not-selected", *records[1][1:]],
    ]
    edit(path, records=more[:1] + records + more[1:])
    write_artifact(four, "window_curve", [])
    write_artifact(four, "window_curve", [], case="a-case-not-selected")
    results = load(four, "quick")
    assert (
        results.records["estimator"].tolist() == list(CURVES)
        and results.records["status"].eq("ok").all()
    )
    assert [artifact.case for artifact in results.artifacts] == [case()["name"]]
    assert results.damaged == () and results.notes == ()


def test_experiments_alone_have_a_note_that_no_case_is_measured(tmp_path):
    home = write(tmp_path, [], cases=[case()], estimators=["backprop"])
    write_experiments(home, [training("one")])
    results = load(home, "quick")
    assert results.notes == (
        "None of the selected cases is measured yet: run `pudle run --profile quick`.",
    )
    assert results.frame.empty and results.cases == {} and results.estimators == ()
    assert list(results.records.columns) == RECORDS and list(results.timings.columns) == TIMINGS
    assert [(name, str(kind)) for name, kind in results.frame.dtypes.items()] == list(
        COLUMNS.items()
    )
    assert [each["machine"] for each in results.provenances] == ["here"]
    edit(home / "quick" / "run.json", selection=None)
    assert load(home, "quick").notes == ()


def test_rows_have_the_reasons_of_their_scores_and_the_relative_error_alone_a_floor(tmp_path):
    rows = scores(CURVES["backprop"])
    rows[0] |= {"status": "diverged", "reason": "not finite", "relative_error": None}
    del rows[1]["reason"], rows[1]["support_error"]
    rows[2] |= {"at_floor": True}
    silent = record(case(), "analytic", scores=[], references=[], status="ok")
    frame = load(write(tmp_path, [record(case(), "backprop", scores=rows), silent]), "quick").frame
    mine = frame[(frame.estimator == "backprop") & (frame.seed == SEEDS[0])].set_index(
        ["depth", "metric"]
    )
    assert mine.loc[(DEPTHS[0], "relative_error"), ["status", "reason"]].tolist() == [
        "diverged",
        "not finite",
    ]
    assert (
        math.isnan(mine.loc[(DEPTHS[0], "relative_error"), "value"])
        and mine.loc[DEPTHS[0]].index.size == 5
    )
    assert (
        mine.loc[(DEPTHS[1], "code_error"), "reason"] == ""
        and "support_error" not in mine.loc[DEPTHS[1]].index
    )
    assert mine.loc[DEPTHS[2]]["at_floor"].to_dict() == {
        metric: metric == "relative_error" for metric in ERRORS
    }
    (row,) = frame[frame.estimator == "analytic"].to_dict("records")
    assert (row["status"], row["reason"]) == ("error", "the record holds no scores and no reason")
    assert row["target"] == "exact" and row["metric"] == "relative_error" and not row["at_floor"]


def test_ok_without_a_value_is_an_error(tmp_path):
    rows = scores(CURVES["backprop"])
    rows[0] |= {"relative_error": None}
    frame = load(write(tmp_path, [record(case(), "backprop", scores=rows)]), "quick").frame
    bad = frame[(frame.metric == "relative_error") & (frame.status != "ok")]
    assert (
        bad["status"].tolist() == ["error"]
        and bad["reason"].item() == "recorded as ok, without a value"
    )


def test_no_results_says_what_to_run(tmp_path):
    with pytest.raises(
        MissingResults,
        match="no results for profile 'quick' under .*: run `pudle run --profile quick` first",
    ):
        load(tmp_path, "quick")
    write(tmp_path, [], cases=[case()], estimators=["backprop"])
    with pytest.raises(MissingResults, match="pudle run"):
        load(tmp_path, "quick")


def test_nothing_but_damaged_files_is_an_error(four):
    paths = list((four / "quick" / "store").glob("*/*.json"))
    for path in paths:
        path.write_text("{")
    with pytest.raises(UnreadableResult) as error:
        load(four, "quick")
    assert (
        all(str(path) in str(error.value) for path in paths)
        and len(str(error.value).splitlines()) == 1
    )
    lines = str(error.value).split("; ")
    assert len(lines) == len(paths) and all(
        line.startswith(str(four)) and line.endswith("again") for line in lines
    )


def test_schema_is_documented():
    documented = (ROOT / "docs" / "schema.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", documented, re.MULTILINE))
    assert {name: rows.get(name) for name in COLUMNS} == COLUMNS
    for name, unit in METRICS.items():
        assert re.search(rf"^\| `{name}` \| {unit}\s*\|", documented, re.MULTILINE), name


# -- costs


def test_a_cost_that_failed_or_was_skipped_has_its_reason_and_no_value(four):
    write_costs(four, list(CURVES), [1.0, 2.0, None, math.nan, 3.0, 4.0, 5.0, 6.0])
    times = load(four, "quick").frame.query("metric == 'seconds'")
    assert times["seed"].isna().all() and times["target"].isna().all()
    assert times["status"].tolist() == ["ok", "ok", "error", "skipped", "ok", "ok", "ok", "ok"]
    assert times["reason"].tolist()[2:4] == ["because of this"] * 2
    np.testing.assert_array_equal(
        times["value"], [1.0, 2.0, math.nan, math.nan, 3.0, 4.0, 5.0, 6.0]
    )


def test_a_time_has_its_samples_and_their_quartiles(four):
    write_costs(four, ["backprop"], [1.0, 2.0])
    first, _ = load(four, "quick").timings.to_dict("records")
    assert (first["seconds"], first["low"], first["high"]) == (1.0, 0.9, 1.1)
    assert first["samples"] == (0.8, 0.9, 1.0, 1.1, 1.2)


def test_every_cost_without_a_number_says_why(tmp_path):
    """Of estimators whose scores are well, broke, were refused, diverged at one depth, and are not
    there.
    """
    diverged = scores(CURVES["truncated(window=10)"])
    for row in diverged:
        row |= {"status": "diverged", "reason": "not finite"} if row["depth"] == 200 else {}
    records = [
        record(case(), "backprop"),
        failure(case(), "alternating", "timeout", "slow"),
        failure(case(), "analytic", "unsupported", "no"),
        record(case(), "truncated(window=10)", scores=diverged),
    ]
    names = ["backprop", "alternating", "analytic", "truncated(window=10)", "one_step"]
    home = write(tmp_path, records, estimators=names)
    write_costs(home, names, [float(number) for number in range(10)])
    folder = home / "quick" / "store" / case()["name"] / "costs"
    for number in (1, 2, 4, 6, 7, 8):
        (folder / f"seconds-{number}.json").unlink()
    # The first is said to be well and has no value.
    edit(folder / "seconds-0.json", value=None)
    results, missing = load(home, "quick"), "not measured yet: run `pudle run --profile quick`"
    times = results.frame[results.frame.metric == "seconds"].set_index(["estimator", "depth"])
    assert times[["status", "reason"]].apply(tuple, axis=1).to_dict() == {
        ("backprop", 100): ("error", "recorded as ok, without a value"),
        ("backprop", 200): ("missing", missing),
        ("alternating", 100): ("error", "timeout: slow"),
        ("alternating", 200): ("ok", ""),
        ("analytic", 100): ("skipped", "unsupported: no"),
        ("analytic", 200): ("ok", ""),
        ("truncated(window=10)", 100): ("missing", missing),
        ("truncated(window=10)", 200): ("skipped", "diverged: not finite"),
        ("one_step", 100): ("missing", missing),
        ("one_step", 200): ("ok", ""),
    }
    assert times["value"].dropna().tolist() == [3.0, 5.0, 9.0] and times["seed"].isna().all()
    assert results.damaged == () and results.timings["depth"].tolist() == [200, 200, 200]


@pytest.mark.parametrize("samples", [[], [1.0, 1.0]])
def test_a_time_of_few_samples_has_no_quartiles(four, samples):
    path = write_costs(four, ["backprop"], [1.0, 2.0])
    edit(path, samples=samples)
    first, second = load(four, "quick").timings.to_dict("records")
    assert (first["seconds"], first["samples"]) == (1.0, tuple(samples))
    assert math.isnan(first["low"]) and math.isnan(first["high"])
    assert [second[name] for name in ("seconds", "low", "high")] == [2.0, 1.8, 2.2]


def test_scores_alone_are_noted(four):
    path = write_costs(four, ["backprop"], [1.0, 2.0])
    for cost in path.parent.iterdir():
        cost.unlink()
    results = load(four, "quick")
    assert not results.frame["metric"].isin(["seconds", "memory_bytes"]).any()
    assert any("Neither time nor memory is measured" in note for note in results.notes)


def test_times_are_said_to_be_those_of_their_machine(four, timed_home):
    assert scope.where_timed(load(four, "quick")) == ""
    found = scope.where_timed(load(timed_home, "quick"))
    assert (
        found
        == "Times and memory are those of `here` and hold for it alone; errors carry over to other"
        " machines."
    )


# -- at a commit

HEAD = "d" * 40


def write_at_commit(home, dirty=False, **parts):
    """Lay out what a run listed at HEAD: these parts of the list of the last run."""
    run = json.loads((home / "quick" / "run.json").read_text())
    path = home / "quick" / "runs" / f"{HEAD}{'-dirty' * dirty}.json"
    write_record(
        path, {"commit": HEAD, "dirty": dirty} | {name: run[name] for name in parts} | parts
    )


def test_a_record_that_holds_at_a_commit_bears_its_name_whichever_measured_it(four):
    write_costs(four, ["backprop"], [1.0, None])
    run = json.loads((four / "quick" / "run.json").read_text())
    write_at_commit(four, **{name: run[name] for name in ("records", "costs", "selection")})
    here = load(four, "quick", HEAD)
    assert set(here.frame["metric"]) >= {"relative_error", "seconds"} and set(
        here.frame["commit"]
    ) == {HEAD}
    assert {provenance["commit"] for provenance in here.provenances} == {HEAD}
    assert set(load(four, "quick").frame["commit"]) == {COMMIT}
    with pytest.raises(MissingResults, match="no results for profile 'quick'"):
        load(four, "quick", "e" * 40)


def test_uncommitted_changes_stand_for_their_commit_only_in_what_no_other_run_measured(
    four, tmp_path
):
    """Cases of one run at the commit itself, and experiments of another that had changes, as well
    as other cases.
    """
    (one,) = write_experiments(four, [training("one")])
    run = json.loads((four / "quick" / "run.json").read_text())
    selection, records = run["selection"], run["records"]
    changed = {"experiments": run["experiments"], "selection": selection, "records": records}
    write_at_commit(four, dirty=True, **changed)
    assert len(load(four, "quick", HEAD).records) == 4
    write_at_commit(four, selection=selection | {"estimators": ["backprop"]}, records=records)
    results = load(four, "quick", HEAD)
    assert results.estimators == ("backprop",) and len(results.records) == 1
    assert [item.name for item in results.experiments] == ["one"]
