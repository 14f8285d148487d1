"""Reading results: the records of a store as one tidy table, and experiments."""

import json
import math
import re

import numpy as np
import pytest
from support.paths import ROOT
from support.records.stored_experiments import experiments
from support.records.synthetic import (
    COMMIT,
    CURVES,
    DEPTHS,
    SEEDS,
    case,
    edit,
    failure,
    interpretation,
    provenance,
    record,
    references,
    scores,
    training,
    write,
    write_costs,
    write_experiments,
)

from pudle.errors import MissingResults, UnreadableResult
from pudle.files import write_record
from pudle.measuring.results.score import ReferenceRow
from pudle.measuring.scoring import ERRORS
from pudle.reports.load import COLUMNS, TIMES, load

MISSING = "not measured yet: run `pudle run --profile quick`"


def test_the_table_has_its_documented_columns_and_a_row_for_every_number(four):
    frame = load(four, "quick").frame
    assert [(name, str(kind)) for name, kind in frame.dtypes.items()] == list(COLUMNS.items())
    assert len(frame) == 4 * len(SEEDS) * len(DEPTHS) * len(ERRORS)
    query = "estimator == 'backprop' and seed == 1 and depth == 50 and metric == 'relative_error'"
    (row,) = frame.query(query).to_dict("records")
    assert row["value"] == 0.1 * 50 * 0.955**100
    named = ("status", "commit", "machine", "profile", "target", "dataset", "loss")
    expected = ["ok", COMMIT, "here", "quick", "exact", "synthetic(n=10)", "lasso"]
    assert [row[name] for name in named] == expected
    documented = (ROOT / "docs" / "schema.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", documented, re.MULTILINE))
    assert {name: rows.get(name) for name in COLUMNS} == COLUMNS
    assert all(f"| `{name}` |" in documented for name in (*ERRORS, *TIMES, "memory_bytes"))


def test_only_what_the_run_lists_counts_whichever_is_newest(tmp_path):
    """A plug-in whose first version is back, or a clock that was set back: the newest record is not
    the one that holds.
    """
    later = provenance(date="2027-01-01T00:00:00")
    newer = record(case(), "backprop", scores=scores(CURVES["alternating"]), provenance=later)
    records = [newer, record(case(), "backprop"), record(case(), "other")]
    home = write(tmp_path, records, estimators=["backprop"])
    path = home / "quick" / "run.json"
    listed = json.loads(path.read_text())["records"]
    edit(path, records=[[case()["name"], "other", listed[0][2]], *listed, ["a", *listed[0][1:]]])
    results = load(home, "quick")
    errors = results.frame.query("metric == 'relative_error' and depth == 50 and seed == 0")
    assert errors["value"].tolist() == [0.1 * 50 * 0.95**100]
    assert not results.damaged and not results.notes


def test_records_references_and_machines_are_those_that_were_stored(tmp_path):
    there = provenance(date="2026-01-01T00:00:00", machine="there")
    # Certificates of one reference that two records describe differently are those of the first.
    again = references(iterations=7, kkt_residual=1e-15)
    records = [
        record(case(), "backprop"),
        record(case(), "alternating", references=again, provenance=there),
        failure(case(), "analytic", "error", "x"),
    ]
    names = ["backprop", "alternating", "analytic", "one_step"]
    results = load(write(tmp_path, records, estimators=names), "quick")
    assert [
        (record.estimator, record.status, record.reason, record.consistent_for)
        for record in results.records
    ] == [
        ("backprop", "ok", "", None),
        ("alternating", "ok", "", ["lasso"]),
        ("analytic", "error", "x", None),
        ("one_step", "missing", MISSING, None),
    ]
    assert results.references == {
        (case()["name"], row["seed"], "exact"): ReferenceRow(**row) for row in references()
    }
    machines = results.frame.groupby("estimator", sort=False)["machine"].unique()
    # What is not measured yet is put down to the newest.
    assert [*machines.explode()] == ["here", "there", "here", "here"]


def test_a_score_without_a_number_has_its_reason(tmp_path):
    """One that diverged, one that lacks a metric, one at the bound, and a record without any."""
    rows = scores(CURVES["backprop"])[: len(DEPTHS)]
    rows[0] |= {"status": "diverged", "reason": "not finite", "relative_error": None}
    del rows[1]["support_error"]
    rows[2] |= {"at_floor": True}
    silent = record(case(), "analytic", scores=[], references=[])
    home = write(tmp_path, [record(case(), "backprop", scores=rows), silent])
    frame = load(home, "quick").frame.set_index(["estimator", "depth", "metric"])
    mine = frame.loc["backprop"]
    first = mine.loc[(DEPTHS[0], "relative_error")]
    assert (first["status"], first["reason"]) == ("diverged", "not finite")
    assert math.isnan(first["value"]) and len(mine.loc[DEPTHS[0]]) == len(ERRORS)
    assert set(ERRORS) - set(mine.loc[DEPTHS[1]].index) == {"support_error"}
    floors = mine.loc[DEPTHS[2], "at_floor"]
    assert floors.to_dict() == {metric: metric == "relative_error" for metric in ERRORS}
    (row,) = frame.loc["analytic"].to_dict("records")
    assert (row["status"], row["reason"]) == ("error", "recorded as ok, without a value")
    assert row["target"] == "exact" and not row["at_floor"]


def test_no_results_says_what_to_run(tmp_path):
    for _ in range(2):
        with pytest.raises(
            MissingResults, match="'quick' under .*: run `pudle run --profile quick"
        ):
            load(tmp_path, "quick")
        write(tmp_path, [], cases=[case()], estimators=["backprop"])


# -- costs


def test_a_time_has_its_samples_and_their_quartiles_where_they_are_enough(four):
    path = write_costs(four, ["backprop"], [1.0, 2.0])
    results = load(four, "quick")
    assert results.costs[0].samples == [0.8, 0.9, 1.0, 1.1, 1.2]
    cell = "seconds", case()["name"], "backprop"
    assert results.rounds[cell].quartiles(100) == pytest.approx((0.9, 1.1))
    for samples in ([], [1.0, 1.0]):
        edit(path, samples=samples)
        rounds = load(four, "quick").rounds[cell]
        assert math.isnan(rounds.quartiles(100)[0]) and rounds.quartiles(200)[0] == 1.8


def test_every_cost_without_a_number_says_why(tmp_path):
    """Of estimators whose scores are well, broke, were refused, and diverged at one depth; and of a
    time that itself failed.
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
    home = write(tmp_path, records)
    names = [item["estimator"] for item in records]
    write_costs(home, names, [0.0, 1.0, 2.0, 3.0, 4.0, None, 6.0, 7.0])
    folder = home / "quick" / "store" / case()["name"] / "costs"
    for number in (1, 2, 4, 7):
        (folder / f"seconds-{number}.json").unlink()
    # The first is said to be well and has no value.
    edit(folder / "seconds-0.json", value=None)
    results = load(home, "quick")
    times = results.frame[results.frame.metric == "seconds"]
    columns = times[["depth", "status", "reason"]]
    assert [*columns.itertuples(index=False, name=None)] == [
        (100, "error", "recorded as ok, without a value"),
        (200, "missing", MISSING),
        (100, "error", "timeout: slow"),
        (200, "ok", ""),
        (100, "skipped", "unsupported: no"),
        (200, "error", "because of this"),
        (100, "ok", ""),
        (200, "skipped", "diverged: not finite"),
    ]
    assert times["value"].dropna().tolist() == [3.0, 6.0] and not results.damaged


# -- at a commit

HEAD = "d" * 40


def write_at_commit(home, dirty=False, **parts):
    """Lay out what a run listed at HEAD."""
    path = home / "quick" / "runs" / f"{HEAD}{'-dirty' * dirty}.json"
    write_record(path, {"commit": HEAD} | parts)


def test_a_record_that_holds_at_a_commit_bears_its_name_whichever_measured_it(four):
    write_costs(four, ["backprop"], [1.0, None])
    run = json.loads((four / "quick" / "run.json").read_text())
    write_at_commit(four, **{name: run[name] for name in ("records", "costs", "selection")})
    here = load(four, "quick", HEAD)
    assert set(here.frame["metric"]) >= {"relative_error", "seconds"}
    assert set(here.frame["commit"]) == {HEAD} == {each.commit for each in here.provenances}
    assert set(load(four, "quick").frame["commit"]) == {COMMIT}
    with pytest.raises(MissingResults, match="no results for profile 'quick'"):
        load(four, "quick", "e" * 40)


def test_uncommitted_changes_stand_for_their_commit_only_in_what_no_other_run_measured(four):
    """Cases of one run at the commit itself, and experiments of another that had changes, as well
    as other cases.
    """
    write_experiments(four, [training("one")])
    run = json.loads((four / "quick" / "run.json").read_text())
    cases = {name: run[name] for name in ("selection", "records")}
    write_at_commit(four, dirty=True, experiments=run["experiments"], **cases)
    assert len(load(four, "quick", HEAD).records) == 4
    cases["selection"] |= {"estimators": ["backprop"]}
    write_at_commit(four, **cases)
    results = load(four, "quick", HEAD)
    assert results.estimators == ("backprop",) and len(results.records) == 1
    assert [item.name for item in results.experiments] == ["one"]


def test_a_result_belongs_to_the_commit_at_which_a_clean_run_lists_it(four):
    """Measured with changes that became a commit, it is that commit's after a run there."""
    for path in (four / "quick" / "store").rglob("*.json"):
        content = json.loads(path.read_text())
        edit(path, provenance=content["provenance"] | {"dirty": True})
    run = json.loads((four / "quick" / "run.json").read_text())
    cases = {name: run[name] for name in ("selection", "records")}
    write_at_commit(four, dirty=True, **cases)
    for results in (load(four, "quick", HEAD), load(four, "quick")):
        assert all(origin.dirty for origin in results.provenances)
    write_at_commit(four, **cases)
    write_record(four / "quick" / "run.json", run | {"commit": HEAD})
    for results in (load(four, "quick", HEAD), load(four, "quick")):
        assert {(origin.commit, origin.dirty) for origin in results.provenances} == {(HEAD, False)}


def test_a_result_that_only_changed_files_list_at_a_commit_does_not_belong_to_it(four):
    run = json.loads((four / "quick" / "run.json").read_text())
    cases = {name: run[name] for name in ("selection", "records")}
    write_at_commit(four, dirty=True, **cases)
    assert all(origin.dirty for origin in load(four, "quick", HEAD).provenances)


def test_null_and_missing_values_are_nan(tmp_path):
    (item,) = experiments(
        tmp_path, training("one", summary={"steps": None, "seconds": 3.0})
    ).experiments
    history = item.history("loss", "relative_error", "nobody measured this")
    assert math.isnan(history["loss"][0]) and history["loss"][1] == 2 * history["relative_error"][1]
    assert history["nobody measured this"].isna().all() and len(history) == 51
    assert math.isnan(item.number("steps")) and item.number("seconds") == 3.0


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"samples": np.zeros((2, 4, 8, 8)), "weights": np.zeros((2, 4))}, "array 'samples'"),
        ({"weights": np.zeros((3, 5))}, "array 'weights'"),
        ({"weights": np.full((3, 4), "x")}, "array 'weights'"),
        ({"atoms": np.zeros((3, 0, 0)), "samples": np.zeros((3, 4, 0, 0))}, "array 'atoms'"),
        ({}, "lacks the arrays weights"),
        ({"more": np.zeros(1 << 26, bool)}, "bytes of memory"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(tmp_path, change, reason):
    record, arrays = interpretation(atoms=3, samples=4)
    del arrays["weights"]
    arrays |= change
    (path,) = write_experiments(tmp_path, [(record | {"arrays": sorted(arrays)}, arrays)])
    with pytest.raises(UnreadableResult, match=f"{path.stem}.*{reason}.*run `pudle run` again"):
        load(tmp_path, "quick")
