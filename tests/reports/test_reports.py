"""Reports, on results whose truth is known because the tests make them."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from parsed_page import ParsedPage
from paths import ROOT
from synthetic import (
    BOUND,
    CLAIMS,
    COMMIT,
    CURVES,
    DEPTHS,
    RHO,
    SEEDS,
    case,
    failed_scores,
    failure,
    provenance,
    record,
    references,
    scores,
    write,
    write_asv,
)

from pudle.errors import MissingDependency, MissingResults, UnreadableResult
from pudle.reports import costs, figures, tables, text
from pudle.reports.answers import answers
from pudle.reports.command import report_command
from pudle.reports.load import COLUMNS, METRICS, load
from pudle.reports.page import Report
from pudle.reports.rates import Law, fit, law


@pytest.fixture
def four(tmp_path):
    """Results of four estimators on one lasso case, exactly as theory has it."""
    return write(tmp_path, [record(case(), estimator) for estimator in CURVES])


def run(home, *arguments):
    return CliRunner().invoke(report_command, ["--home", str(home), *arguments])


# -- reading


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


def test_what_was_asked_for_and_never_measured_is_missing(tmp_path):
    home = write(tmp_path, [record(case(), "backprop")], estimators=["backprop", "alternating"])
    results = load(home, "quick")
    row = results.frame[results.frame.estimator == "alternating"]
    assert row["status"].tolist() == ["missing"] and row["value"].isna().all()
    assert "pudle run --profile quick" in row["reason"].item()
    assert tables.broken(results) == ["alternating"]


def test_records_nobody_asked_for_and_older_ones_are_left_out(tmp_path):
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


@pytest.mark.parametrize("content", ['{"schema": 1, "key": "0', "", "[1]", '{"schema": 1}'])
def test_damaged_record_is_refused_with_file_and_remedy(four, content):
    path = next((four / "quick" / "store").glob("*/*.json"))
    path.write_text(content)
    with pytest.raises(UnreadableResult) as error:
        load(four, "quick")
    assert str(path) in str(error.value) and "delete it and run `pudle run` again" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_unknown_schema_is_refused(tmp_path):
    with pytest.raises(UnreadableResult, match="has schema 7 and this version reads 1"):
        load(write(tmp_path, [record(case(), "backprop", schema=7)]), "quick")


# -- asv's files


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


def test_memory_is_what_exceeds_the_baseline_and_never_below_zero(four):
    write_asv(four, ["backprop"], [1.0, 2.0], memory=[3 * 2.0**20, 0.5 * 2.0**20])
    assert load(four, "quick").frame.query("metric == 'memory_bytes'")["value"].tolist() == [2 * 2.0**20, 0.0]


def test_memory_without_its_baseline_is_an_error(four):
    write_asv(four, ["backprop"], [1.0, 2.0], memory=[3e6, 4e6], baseline=None)
    memory = load(four, "quick").frame.query("metric == 'memory_bytes'")
    assert set(memory["status"]) == {"error"} and memory["value"].isna().all()


def test_asv_file_of_the_scores_commit_wins_over_a_newer_one(four):
    write_asv(four, ["backprop"], [1.0, 2.0])
    write_asv(four, ["backprop"], [7.0, 8.0], commit_hash="d" * 40, date=99)
    results = load(four, "quick")
    assert results.frame.query("metric == 'seconds'")["value"].tolist() == [1.0, 2.0] and results.notes == ()


def test_asv_file_of_another_commit_is_used_and_said(four):
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
def test_damaged_asv_file_is_refused(four, damage):
    path = write_asv(four, ["backprop"], [7.0, 8.0])
    path.write_text(damage(path.read_text()))
    with pytest.raises(UnreadableResult, match=re.escape(path.name)):
        load(four, "quick")


# -- rates


def test_acceleration_is_two_where_the_curves_say_so(four):
    rates = fit(load(four, "quick")).set_index(["estimator", "seed"])
    for seed in SEEDS:
        assert rates.loc[("alternating", seed), "rate"] == pytest.approx(RHO[seed], abs=1e-12)
        assert rates.loc[("backprop", seed), "rate"] == pytest.approx(RHO[seed] ** 2, abs=1e-12)
        for estimator, factor in (("alternating", 1), ("truncated(window=10)", 1), ("backprop", 2), ("analytic", 2)):
            row = rates.loc[(estimator, seed)]
            assert row["acceleration"] == pytest.approx(factor, abs=1e-9)
            assert row["slope"] == pytest.approx(row["predicted_slope"], abs=1e-12)
            assert row["reason"] == ""


def test_window_starts_where_supports_stay_right_and_ends_above_the_bound(four):
    row = fit(load(four, "quick")).query("estimator == 'alternating' and seed == 0").iloc[0]
    last = max(depth for depth in DEPTHS if 0.1 * depth * 0.95 ** (2 * depth) > BOUND)
    assert (row["first_depth"], row["last_depth"]) == (50, last)


@pytest.mark.parametrize(("support", "reason"), [
    (lambda depth: 0.5, "window not reached: support wrong in 50% of samples at depth 300"),
    (lambda depth: 0.02 if depth == 200 else 0.0, "window too short"),
])  # fmt: skip
def test_window_not_reached_is_said_instead_of_a_rate(tmp_path, support, reason):
    home = write(tmp_path, [record(case(), name, scores=scores(curve, support)) for name, curve in CURVES.items()])
    rates = fit(load(home, "quick"))
    assert rates["rate"].isna().all() and rates["acceleration"].isna().all()
    assert rates["reason"].str.contains(reason, regex=False).all()


def test_curve_that_is_no_line_is_marked(tmp_path):
    records = [record(case(), name) for name in CURVES]
    records[2]["scores"] = scores(lambda depth, rho: 1e-3 if depth < 100 else 1e-9)
    rates = fit(load(write(tmp_path, records), "quick"))
    assert rates.query("estimator == 'analytic'")["reason"].str.contains("not geometric").all()


@pytest.mark.parametrize(("arguments", "expected"), [
    (("lasso", "ista(step=0.2)", "direct", ("lasso",)), Law(1)),
    (("lasso", "ista", "unrolled", None), Law(2, linear=True)),
    (("lasso", "ista", "implicit", None), Law(2)),
    (("lasso", "ista", "truncated", ("lasso",)), Law(1)),
    (("reconstruction", "ista", "unrolled", None), Law(1, linear=True)),
    (("reconstruction", "ista", "implicit", None), Law(1)),
    (("reconstruction", "ista", "direct", ("lasso",)), Law(0)),
    (("reconstruction", "fista", "truncated", ("lasso",)), Law(0)),
    (("lasso", "fista", "unrolled", None), None),
    (("lasso", "ista", "stochastic", None), None),
    (("ridge", "ista", "unrolled", None), None),
])  # fmt: skip
def test_law(arguments, expected):
    assert law(*arguments) == expected


def test_floor_is_named_and_not_fitted(tmp_path):
    the_case = case("synthetic-ista-reconstruction", loss="reconstruction")
    records = [record(the_case, "alternating", scores=scores(lambda depth, rho: 0.83 + rho**depth)),
               record(the_case, "backprop", scores=scores(lambda depth, rho: 0.1 * depth * rho**depth))]  # fmt: skip
    report = Report.of(load(write(tmp_path, records), "quick"))
    rates = report.rates.set_index(["estimator", "seed"])
    assert rates.loc[("backprop", 0), "rate"] == pytest.approx(0.95, abs=1e-9)
    assert rates.loc["alternating", "rate"].isna().all() and rates["acceleration"].isna().all()
    assert report.summary["predicted"].tolist() == ["floor", "T ρᵀ"]
    assert "`alternating` (0.83) keeps an error on this loss" in answers(report.results, report.summary)[0]["why"]


# -- tables


@pytest.mark.parametrize(("errors", "expected"), [
    ({1: 1.0, 11: 1e-6}, 6.0), ({1: 1e-3, 5: 1e-4}, 1.0), ({1: 1.0, 5: 1e-2}, math.inf),
    ({1: 1e-4, 5: 1e-2, 15: 1e-4}, 10.0), ({}, math.inf),
])  # fmt: skip
def test_depth_to_goal(errors, expected):
    assert tables.depth_to(pd.Series(errors, dtype=float)) == expected


@pytest.mark.parametrize(("depth", "expected", "outside"), [
    (100, 1.0, False), (150, 1.5, False), (400, 4.0, True), (50, 0.5, True), (801, math.nan, True),
    (math.inf, math.nan, False),
])  # fmt: skip
def test_time_is_linear_in_depth_and_not_carried_far(depth, expected, outside):
    timed = pd.DataFrame({"depth": [100, 200], "seconds": [1.0, 2.0]})
    value, flag = tables.seconds_at(timed, depth)
    assert flag == outside and (value == pytest.approx(expected) or (math.isnan(value) and math.isnan(expected)))
    assert math.isnan(tables.seconds_at(timed[:1], 150)[0])


def test_fewer_layers_never_save_more_than_their_share():
    timed = pd.DataFrame({"depth": [100, 200], "seconds": [1.0, 9.0]})
    assert tables.seconds_at(timed, 50) == (0.5, True)


def test_summary_counts_time_memory_and_spread(four):
    write_asv(four, list(CURVES), [1.0, 2.0, 3.0, 6.0, 2.0, 4.0, 1.0, 2.0], memory=[2.0**21] * 8)
    report = Report.of(load(four, "quick"))
    rows = report.summary.set_index("estimator")
    assert rows.loc["backprop", "relative_time"] == 3.0 and rows.loc["alternating", "relative_time"] == 1.0
    assert rows.loc["backprop", "memory"] == 2.0**20
    middle, low, high = rows.loc["alternating", ["error", "error_low", "error_high"]]
    assert (middle, low, high) == tuple(0.5 * rho**300 for rho in (0.955, 0.95, 0.96))
    assert rows.loc["analytic", "seeds_at_floor"] == 2


def test_advice_is_the_cheapest_unless_timings_cannot_tell(four):
    # At 1e-3: analytic after about 60 layers, backprop after 80, alternating after 135.
    write_asv(four, list(CURVES), [1.0, 2.0, 100.0, 200.0, 0.1, 0.2, 1.0, 2.0])
    report = Report.of(load(four, "quick"))
    answer = answers(report.results, report.summary)[0]
    assert answer["advice"] == "Use `analytic`" and "cannot be told" not in answer["why"]
    assert "extrapolated" in answer["why"]
    assert "`backprop` 2.00" in answer["why"]


def test_failed_estimator_is_never_shown_as_a_number(tmp_path):
    records = [record(case(), "alternating"), record(case(), "backprop", status="diverged", reason="3 of 9 entries are NaN",
                                                     scores=failed_scores("diverged", "3 of 9 entries are NaN")),
               failure(case(), "analytic", "timeout", "not finished after 1 s")]  # fmt: skip
    report = Report.of(load(write(tmp_path, records), "quick"))
    table = tables.summary_table(report.summary, "synthetic-ista-lasso", 300).set_index("estimator")
    for name, status in (("backprop", "diverged"), ("analytic", "timeout")):
        assert table.loc[name, "status"] == status
        assert table.loc[name, "error at depth 300"] == "–"
        assert not table.loc[name].drop("status").str.contains(r"\d", regex=True).any()
    problems = tables.problems_table(report.results).set_index("estimator")
    assert problems.loc["backprop", "reason"] == "3 of 9 entries are NaN"
    assert problems.loc["analytic", "depths"] == "all"
    assert "`alternating`" in answers(report.results, report.summary)[0]["advice"]
    for picture in figures.draw(report.results, report.rates):
        assert "backprop" not in picture.csv and "analytic" not in picture.csv


def test_uncertified_references_are_counted_and_nothing_is_scored_against_them(tmp_path):
    reason = "4 of 10 samples are not certified"
    bad = record(case(), "backprop", status="uncertified", reason=reason, scores=failed_scores("uncertified", reason),
                 references=references(status="uncertified", reason=reason, uncertified=4, bound=None))  # fmt: skip
    results = load(write(tmp_path, [bad]), "quick")
    assert results.scores("synthetic-ista-lasso", "relative_error").empty
    row = tables.references_table(results).iloc[0]
    assert row["status"] == "uncertified" and row["uncertified samples"] == "12 of 30" and row["all-zero codes"] == "12%"
    assert tables.broken(results) == []
    assert "Nothing was scored" in Report.of(results).markdown()


def test_further_targets_have_a_table_of_their_own(tmp_path):
    the_case = case(targets=["ghat", "gstar"])
    both = scores(CURVES["backprop"], targets=("ghat", "gstar"))
    for row in both:
        row["relative_error"] *= 2 if row["target"] == "gstar" else 1
    results = load(
        write(tmp_path, [record(the_case, "backprop", scores=both, references=references(target="ghat"))]), "quick"
    )
    assert results.target(the_case["name"]) == "ghat"
    assert tables.other_targets_table(results, the_case["name"]).columns.tolist() == [
        "estimator",
        "against ghat",
        "against gstar",
    ]
    assert tables.other_targets_table(
        load(write(tmp_path / "b", [record(case(), "backprop")]), "quick"), case()["name"]
    ).empty


# -- figures and page


def test_a_plug_in_never_changes_the_looks_of_the_suites_own_estimators():
    own = {name: claim for name, (claim, _) in CLAIMS.items()}
    before = figures.looks(own)
    names = [f"plugin{number}" for number in range(40)]
    after = figures.looks(dict.fromkeys(names, "direct") | own)
    assert {name: after[name] for name in own} == before
    # Nor does one that is in the report alone, or the order of the report.
    assert figures.looks({"backprop": "unrolled"})["backprop"] == before["backprop"]
    assert figures.looks(dict(reversed(own.items()))) == before
    assert len({(look.marker, look.line) for look in before.values()}) == len(before)
    assert len({look.color for look in before.values()}) == len(before)


def test_estimators_that_compute_the_same_differ_in_their_markers():
    windows = {f"truncated(window={window})": "truncated" for window in (1, 2, 5, 10, 20, 50, 100)}
    assert len({look.marker for look in figures.looks(windows).values()}) == len(windows)


@pytest.fixture
def page(four):
    write_asv(four, list(CURVES), [1.0, 2.0, 3.0, 6.0, 2.0, 4.0, 1.0, 2.0], memory=[2.0**21] * 8)
    return Report.of(load(four, "quick")).html()


def test_page_loads_nothing_and_speaks_to_everyone(page):
    parsed = ParsedPage(page)
    assert all(link.startswith(("#", "data:", "report_figures/")) for link in parsed.links)
    assert not any(link.startswith("report_figures/") for link in parsed.loaded)
    assert not re.search(r"https?:|@import|<script src", page)
    assert parsed.language == "en"
    # Error, direction, memory over depth; error over time and memory; rates.
    assert len(parsed.figures) == 6
    for figure in parsed.figures:
        assert figure["role"] == "img" and re.match("synthetic-ista-lasso|All cases", figure["aria-label"])
        assert "backprop" in figure["aria-label"]
    assert len(parsed.ids) == len(set(parsed.ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(parsed.ids)
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= set(parsed.ids)
    assert page.count("<caption>") == page.count("<table ") > 0 and '<th scope="col">' in page
    assert len(page) < 5e6
    assert "1.0e-12" in page and COMMIT[:12] in page and "Abacus" in page


def test_page_is_the_same_twice(tmp_path):
    home = write(tmp_path, [record(case(), "backprop")])
    first, second = (Report.of(load(home, "quick")).html() for _ in range(2))
    assert first == second


def test_text_from_outside_is_escaped(tmp_path):
    home = write(
        tmp_path, [record(case(), "backprop"), failure(case(), "analytic", "error", "<script>alert(1)</script> | `x`")]
    )
    report = Report.of(load(home, "quick"))
    assert "<script>alert" not in report.html()
    line = next(line for line in report.markdown().splitlines() if "alert" in line)
    assert line.replace("\\|", "").count("|") == 8


def test_latex_is_plain_text_with_whole_tables(four):
    text = Report.of(load(four, "quick")).latex()
    assert text.isascii() and r"\toprule" in text and r"$\rho^{2T}$" in text and "truncated(window=10)" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3


def test_figures_leave_nothing_open(four):
    import matplotlib.pyplot as plt

    before = plt.get_fignums(), plt.rcParams["svg.fonttype"]
    report = Report.of(load(four, "quick"))
    assert len(figures.draw(report.results, report.rates)) == 2
    assert (plt.get_fignums(), plt.rcParams["svg.fonttype"]) == before


# -- command


def test_command_writes_three_files_and_prints_the_page_last(four):
    done = run(four)
    assert done.exit_code == 0, done.output
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert [path.name for path in paths] == ["report_figures", "report.md", "report.csv", "report.html"]
    assert all(path.parent == four / "quick" / "report" and path.stat().st_size for path in paths)
    assert not list(paths[0].parent.glob("*.tmp"))


def test_command_writes_the_formats_asked_for(four, tmp_path):
    done = run(four, "--out", str(tmp_path / "out"), "--format", "latex")
    assert done.stdout.split() == [str(tmp_path / "out" / "report.tex")]


def test_command_reports_the_rest_and_exits_with_2_when_something_broke(tmp_path):
    home = write(tmp_path, [record(case(), "backprop"), failure(case(), "analytic", "error", "ValueError: no")])
    done = run(home)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1 and "analytic" in done.stderr and "backprop" not in done.stderr
    page = Path(done.stdout.splitlines()[-1])
    assert page.suffix == ".html" and "ValueError: no" in page.read_text()


def test_command_takes_findings_for_good(tmp_path):
    home = write(tmp_path, [record(case(), "backprop"), failure(case(), "analytic", "unsupported", "needs a dictionary")])
    assert run(home, "--format", "markdown").exit_code == 0


def test_command_writes_nothing_on_an_error(four, tmp_path):
    next((four / "quick" / "store").glob("*/*.json")).write_text("{")
    done = run(four)
    assert isinstance(done.exception, UnreadableResult) and not (four / "quick" / "report").exists()
    assert isinstance(run(tmp_path / "nowhere").exception, MissingResults)


def test_command_explains_itself():
    done = CliRunner().invoke(report_command, ["--help"])
    assert done.exit_code == 0 and "pudle report --profile default" in done.output


# -- budgets and fronts


@pytest.mark.parametrize(("cost", "error", "expected"), [
    ([1, 2, 3], [3, 2, 1], [True, True, True]),
    ([1, 2, 3], [1, 2, 3], [True, False, False]),
    ([3, 1, 2], [1, 2, 2], [True, True, False]),
    ([1, 1], [2, 1], [False, True]),
    # Twins stand or fall together.
    ([1, 1, 2], [1, 1, 1], [True, True, False]),
    ([], [], []),
])  # fmt: skip
def test_front_holds_what_nothing_beats(cost, error, expected):
    assert costs.front(pd.Series(cost, dtype=float), pd.Series(error, dtype=float)).tolist() == expected


def test_costs_are_linear_between_measured_depths_and_unknown_beyond(four):
    write_asv(four, ["alternating", "backprop"], [1.0, 2.0, 10.0, 30.0])
    found = costs.with_costs(load(four, "quick"), case()["name"], "seconds").set_index(["estimator", "depth"])
    assert found["cost"].to_dict() == {
        ("alternating", 100): 1.0, ("alternating", 150): 1.5, ("alternating", 200): 2.0,
        ("backprop", 100): 10.0, ("backprop", 150): 20.0, ("backprop", 200): 30.0,
    }  # fmt: skip
    assert found["measured"].tolist() == [True, False, True] * 2
    # Each of alternating's is cheaper than all of backprop's, whose last two are the most accurate.
    on_front = [key for key, kept in found["front"].items() if kept]
    assert on_front == [*(("alternating", depth) for depth in (100, 150, 200)), ("backprop", 150), ("backprop", 200)]


def test_budgets_name_the_cheapest_and_the_most_accurate_within(four):
    write_asv(four, ["alternating", "backprop"], [1.0, 2.0, 10.0, 30.0], memory=[2**21, 2**21, 2**24, 2**25])
    (row,) = costs.budgets(load(four, "quick"))
    cells = {cell["budget"]: (cell["estimator"], cell["value"]) for cell in row["cells"]}
    # Alternating gets to 1e-3 after 135 layers at 10 ms each, and to 1e-6 after 285: beyond the timed depths.
    assert cells["error 1e-3"] == ("alternating", "1.35 s") and cells["error 1e-6"] == ("alternating", "2.85 s*")
    within = {name: cell for name, cell in cells.items() if name.startswith("within")}
    assert len(within) == 4
    assert within.pop("within 2 s") == ("alternating", f"error {0.5 * 0.955**200:.1e}".replace("e-0", "e-"))
    assert {estimator for estimator, _ in within.values()} <= {"alternating", "backprop"}
    assert all(value.startswith("error") for _, value in within.values())


def test_the_goal_out_of_reach_is_no_budget(tmp_path):
    home = write(tmp_path, [record(case(), "alternating", scores=scores(lambda depth, rho: 0.5))])
    (row,) = costs.budgets(load(home, "quick"))
    assert [(cell["estimator"], cell["value"]) for cell in row["cells"]] == [("", "not reached")] * 3


@pytest.mark.parametrize(("value", "expected"), [
    ("103 ms*", 0.103), ("6.1 MiB", 6.1 * 2**20), ("1.1e-12 (1.1e-12 to 1.2e-12), at the bound", 1.1e-12), ("≤ 1e-3", 1e-3),
    ("not reached in 1 of 3 seeds", math.inf), ("–", None), ("ok", None), ("+1.48", 1.48), ("-3 KiB", -3 * 2**10),
    ("12%", 12.0), ("574", 574.0), ("", None),
])  # fmt: skip
def test_cells_sort_by_the_number_they_show(value, expected):
    assert text.key(value) == (pytest.approx(expected) if expected is not None else None)


# -- heat map and burn-in


def artifact(home, kind, rows, name="one", **changes):
    path = home / "quick" / "store" / "artifacts" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"kind": kind, "case": case()["name"], "seed": 0, "rows": rows} | changes))
    return path


def kinds(home):
    report = Report.of(load(home, "quick"))
    return {picture.kind: picture for picture in report.pictures}


def test_heat_map_needs_three_windows_and_tells_them(tmp_path):
    names = [f"truncated(window={window})" for window in (1, 5, 10)]
    two = write(tmp_path / "two", [record(case(), name) for name in names[:2]])
    assert "Error over depth and window" not in kinds(two)
    records = [record(case(), name, scores=scores(lambda depth, rho, k=place: 10.0**-k * rho**depth))
               for place, name in enumerate(names)]  # fmt: skip
    picture = kinds(write(tmp_path / "three", records))["Error over depth and window"]
    data = pd.read_csv(io.StringIO(picture.csv))
    assert len(data) == 3 * len(DEPTHS)
    row = data[(data["depth"] == 100) & (data["window"] == 10)]
    assert row["relative_error"].item() == pytest.approx(1e-2 * 0.955**100, rel=1e-5)
    assert "window 10 " in picture.alt


def test_stored_surface_is_drawn_where_it_has_more_windows(four):
    rows = [{"depth": depth, "window": window, "relative_error": 1 / (depth * window), "status": "ok"}
            for depth in (10, 20) for window in (1, 2, 4, 8)]  # fmt: skip
    rows.append({"depth": 30, "window": 1, "relative_error": None, "status": "diverged"})
    artifact(four, "window_surface", rows)
    data = pd.read_csv(io.StringIO(kinds(four)["Error over depth and window"].csv))
    assert sorted(data["window"].unique()) == [1, 2, 4, 8] and sorted(data["depth"].unique()) == [10, 20]


def test_burn_in_is_drawn_where_it_is_stored(four):
    assert "Burn-in" not in kinds(four)
    for seed in (0, 1):
        rows = [{"depth": depth, "relative_error": error * (1 + seed / 10), "worst_sample": 9.0}
                for depth, error in ((1, 0.9), (5, 4.0), (20, 1.5), (50, 0.5), (100, 0.01))]  # fmt: skip
        artifact(four, "jacobian_error", rows, name=str(seed), seed=seed)
    artifact(four, "of a later version", [{"anything": 1}], name="later")
    artifact(four, "jacobian_error", [], name="elsewhere", case="another")
    picture = kinds(four)["Burn-in"]
    assert "peak 4.2 at depth 5, below one from depth 50 on" in picture.alt


def test_damaged_artifact_is_refused(four):
    path = artifact(four, "jacobian_error", [{"depth": 1}])
    with pytest.raises(UnreadableResult, match=re.escape(str(path))):
        load(four, "quick")


# -- formats


def test_every_figure_comes_as_svg_pdf_and_csv(four, tmp_path):
    done = run(four, "--format", "figures", "--out", str(tmp_path / "out"))
    folder = tmp_path / "out" / "report_figures"
    assert done.stdout.split() == [str(folder)]
    names = {path.stem for path in folder.iterdir()}
    assert {"overview", "error-synthetic-ista-lasso", "rates"} <= names
    for name in names:
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        root = ElementTree.fromstring((folder / f"{name}.svg").read_text())
        assert root.tag.endswith("svg") and root[0].text and root[1].attrib["fill"] == "white"
        assert len(pd.read_csv(folder / f"{name}.csv"))
    assert (folder / "overview.png").read_bytes().startswith(b"\x89PNG")


def test_links_of_page_and_markdown_lead_to_files(four):
    done = run(four)
    folder = four / "quick" / "report"
    assert done.exit_code == 0
    links = re.findall(r'href="(report_figures/[^"]+)"', (folder / "report.html").read_text())
    images = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (folder / "report.md").read_text())
    assert len(links) == 2 * len(images) > 0
    assert all((folder / link).is_file() for link in [*links, *images])


def test_data_of_a_figure_is_in_the_page(page):
    (uri,) = re.findall(r'download="error-synthetic-ista-lasso.csv" href="data:text/csv;charset=utf-8,([^"]+)"', page)
    data = pd.read_csv(io.StringIO(unquote(uri)))
    assert list(data.columns) == ["estimator", "depth", "median", "least", "greatest"]
    row = data[(data["estimator"] == "alternating") & (data["depth"] == 100)].iloc[0]
    expected = [0.5 * rho**100 for rho in (0.955, 0.95, 0.96)]
    assert row[["median", "least", "greatest"]].tolist() == pytest.approx(expected, 1e-5)


def test_too_large_a_page_links_to_the_data_instead(four, monkeypatch):
    monkeypatch.setattr("pudle.reports.page.LARGEST", 1000)
    page = Report.of(load(four, "quick")).html()
    assert "data:text/csv" not in page and 'href="report_figures/error-synthetic-ista-lasso.csv"' in page


def test_parquet_keeps_the_types(four, tmp_path):
    pytest.importorskip("pyarrow")
    done = run(four, "--format", "parquet", "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    back = pd.read_parquet(tmp_path / "report.parquet")
    pd.testing.assert_frame_equal(back, load(four, "quick").frame)


def test_parquet_without_pyarrow_is_refused_with_the_remedy(four, monkeypatch):
    # pandas itself may have taken it up by now, so all but the last step is done with it.
    report = Report.of(load(four, "quick"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match=r"pip install 'pudle\[parquet\]'") as error:
        report.parquet()
    assert len(str(error.value).splitlines()) == 1


def test_schema_is_documented():
    documented = (ROOT / "docs" / "schema.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", documented, re.MULTILINE))
    assert {name: rows.get(name) for name in COLUMNS} == COLUMNS
    for name, unit in METRICS.items():
        assert re.search(rf"^\| `{name}` \| {unit}\s*\|", documented, re.MULTILINE), name


def test_latex_compiles(four, tmp_path):
    engine = shutil.which("pdflatex") or shutil.which("tectonic")
    if engine is None:
        pytest.skip("needs pdflatex or tectonic")
    write_asv(four, list(CURVES), [1.0, 2.0, 3.0, 6.0, 2.0, 4.0, 1.0, 2.0], memory=[2.0**21] * 8)
    tables_ = Report.of(load(four, "quick")).latex()
    document = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}" + tables_ + r"\end{document}"
    (tmp_path / "document.tex").write_text(document)
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in engine else []
    done = subprocess.run([engine, *options, "document.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull \\hbox" not in done.stdout + (tmp_path / "document.log").read_text()
    assert (tmp_path / "document.pdf").exists()
