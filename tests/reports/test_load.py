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
    failure,
    provenance,
    record,
    scores,
    write,
    write_artifact,
    write_asv,
)

from pudle.errors import MissingResults, UnreadableResult
from pudle.measuring.store import SCHEMA
from pudle.reports import tables
from pudle.reports.load import COLUMNS, METRICS, load


def test_frame_has_its_documented_columns_and_every_row(four):
    frame = load(four, "quick").frame
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == COLUMNS
    assert len(frame) == 4 * len(SEEDS) * len(DEPTHS) * 5
    row = frame[
        (frame.estimator == "backprop") & (frame.seed == 1) & (frame.depth == 50) & (frame.metric == "relative_error")
    ]
    assert row["value"].item() == 0.1 * 50 * 0.955**100
    assert row[["status", "commit", "machine", "profile", "target"]].iloc[0].tolist() == [
        "ok",
        COMMIT,
        "here",
        "quick",
        "exact",
    ]


def test_a_selected_pair_without_a_record_is_missing(tmp_path):
    home = write(tmp_path, [record(case(), "backprop")], estimators=["backprop", "alternating"])
    results = load(home, "quick")
    row = results.frame[results.frame.estimator == "alternating"]
    assert row["status"].tolist() == ["missing"] and row["value"].isna().all()
    assert "pudle run --profile quick" in row["reason"].item()
    assert tables.broken(results) == ["alternating"]


def test_records_not_selected_and_older_ones_are_left_out(tmp_path):
    old = record(case(), "backprop", scores=scores(CURVES["alternating"]), provenance=provenance(date="2025-01-01T00:00:00"))
    home = write(tmp_path, [record(case(), "backprop"), old, record(case(), "other")], estimators=["backprop"])
    frame = load(home, "quick").frame
    assert set(frame.estimator) == {"backprop"}
    errors = frame[(frame.metric == "relative_error") & (frame.depth == 50) & (frame.seed == 0)]
    assert errors["value"].tolist() == [0.1 * 50 * 0.95**100]


def test_record_of_an_older_definition_of_its_case_does_not_count(tmp_path):
    home = write(tmp_path, [record(case(), "backprop"), record(case(dataset="synthetic(n=9)"), "alternating")],
                 cases=[case()], estimators=["backprop", "alternating"])  # fmt: skip
    row = load(home, "quick").frame.query("estimator == 'alternating'")
    assert row["status"].tolist() == ["missing"] and "older definition" in row["reason"].item()


@pytest.mark.parametrize("status", ["unsupported", "timeout", "out-of-memory", "error"])
def test_failed_record_is_one_row_with_its_reason_and_no_value(tmp_path, status):
    home = write(tmp_path, [record(case(), "backprop"), failure(case(), "analytic", status, "because of this")])
    rows = load(home, "quick").frame.query("estimator == 'analytic'")
    assert rows[["status", "reason", "metric"]].values.tolist() == [[status, "because of this", "relative_error"]]
    assert rows["value"].isna().all() and rows["depth"].isna().all() and rows["seed"].isna().all()


def test_ok_without_a_value_is_an_error(tmp_path):
    rows = scores(CURVES["backprop"])
    rows[0] |= {"relative_error": None}
    frame = load(write(tmp_path, [record(case(), "backprop", scores=rows)]), "quick").frame
    bad = frame[(frame.metric == "relative_error") & (frame.status != "ok")]
    assert bad["status"].tolist() == ["error"] and "without a value" in bad["reason"].item()


def test_no_results_says_what_to_run(tmp_path):
    with pytest.raises(
        MissingResults, match="no results for profile 'quick' under .*: run `pudle run --profile quick` first"
    ):
        load(tmp_path, "quick")
    write(tmp_path, [], cases=[case()], estimators=["backprop"])
    with pytest.raises(MissingResults, match="pudle run"):
        load(tmp_path, "quick")


@pytest.mark.parametrize("content", ['{"schema": 1, "key": "0', "", "[1]", "{}", f'{{"schema": {SCHEMA}}}'])
def test_damaged_record_is_named_and_hides_no_other(four, content):
    path = next((four / "quick" / "store").glob("*/*.json"))
    path.write_text(content)
    results = load(four, "quick")
    (line,) = results.damaged
    assert str(path) in line and "delete it and run `pudle run` again" in line and len(line.splitlines()) == 1
    assert any(str(path) in note for note in results.notes)
    assert (results.records["status"] == "ok").sum() == 3 and (results.records["status"] == "missing").sum() == 1


def test_nothing_but_damaged_files_is_an_error(four):
    paths = list((four / "quick" / "store").glob("*/*.json"))
    for path in paths:
        path.write_text("{")
    with pytest.raises(UnreadableResult) as error:
        load(four, "quick")
    assert all(str(path) in str(error.value) for path in paths) and len(str(error.value).splitlines()) == 1


def test_unknown_schema_is_refused(tmp_path):
    with pytest.raises(
        UnreadableResult, match=r"Invalid enum value 7 - at `\$.schema`\): install the version that wrote it"
    ):
        load(write(tmp_path, [record(case(), "backprop", schema=7)]), "quick")


def test_damaged_artifact_is_named(four):
    path = write_artifact(four, "jacobian_error", [{"depth": 1}])
    results = load(four, "quick")
    assert str(path) in results.damaged[0] and len(results.estimators) == 4


def test_schema_is_documented():
    documented = (ROOT / "docs" / "schema.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", documented, re.MULTILINE))
    assert {name: rows.get(name) for name in COLUMNS} == COLUMNS
    for name, unit in METRICS.items():
        assert re.search(rf"^\| `{name}` \| {unit}\s*\|", documented, re.MULTILINE), name


# -- asv


def test_asv_null_is_a_failure_and_nan_a_skip(four):
    write_asv(four, list(CURVES), [1.0, 2.0, None, math.nan, 3.0, 4.0, 5.0, 6.0])
    times = load(four, "quick").frame.query("metric == 'seconds'")
    assert times["seed"].isna().all() and times["target"].isna().all()
    assert times["status"].tolist() == ["ok", "ok", "error", "skipped", "ok", "ok", "ok", "ok"]
    np.testing.assert_array_equal(times["value"], [1.0, 2.0, math.nan, math.nan, 3.0, 4.0, 5.0, 6.0])


def test_asv_benchmark_that_failed_everywhere_is_one_null(four):
    path = write_asv(four, list(CURVES), None)
    # The row is as asv leaves it: the nulls at its end are gone.
    assert len(json.loads(path.read_text())["results"]["timing.Time.time_estimate"]) == 5
    times = load(four, "quick").frame.query("metric == 'seconds'")
    assert len(times) == 8 and set(times["status"]) == {"error"} and times["value"].isna().all()


def test_memory_is_the_peak_above_that_of_the_problem_and_never_below_zero(four):
    write_asv(four, ["backprop"], [1.0, 2.0], memory=[3 * 2.0**20, 0.5 * 2.0**20])
    assert load(four, "quick").frame.query("metric == 'memory_bytes'")["value"].tolist() == [2 * 2.0**20, 0.0]


def test_memory_without_the_peak_of_the_problem_is_an_error(four):
    write_asv(four, ["backprop"], [1.0, 2.0], memory=[3e6, 4e6], alone=None)
    memory = load(four, "quick").frame.query("metric == 'memory_bytes'")
    assert set(memory["status"]) == {"error"} and memory["value"].isna().all()


def test_asv_file_of_the_scores_commit_wins_over_a_newer_one(four):
    write_asv(four, ["backprop"], [1.0, 2.0])
    write_asv(four, ["backprop"], [7.0, 8.0], commit_hash="d" * 40, date=99)
    results = load(four, "quick")
    assert results.frame.query("metric == 'seconds'")["value"].tolist() == [1.0, 2.0] and results.notes == ()


def test_asv_file_of_another_commit_is_used_with_a_note(four):
    write_asv(four, ["backprop"], [7.0, 8.0], commit_hash="d" * 40)
    results = load(four, "quick")
    assert set(results.frame.query("metric == 'seconds'")["commit"]) == {"d" * 40}
    assert "dddddddd" in results.notes[0] and "cccccccc" in results.notes[0]


DAMAGES = {
    "half written": lambda text: text[: len(text) // 2],
    "other version": lambda text: text.replace('"version": 2', '"version": 9'),
    "a value short": lambda text: text.replace("[7.0, 8.0]", "[7.0]", 1),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_asv_file_is_named(four, damage):
    path = write_asv(four, ["backprop"], [7.0, 8.0])
    path.write_text(damage(path.read_text()))
    results = load(four, "quick")
    assert str(path) in results.damaged[0] and results.timings.empty and not results.frame.empty
