"""Reports, on results whose truth is known because the tests make them."""

from __future__ import annotations

import io
import itertools
import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from synthetic import (
    BOUND,
    CLAIMS,
    COMMIT,
    CURVES,
    DEPTHS,
    RHO,
    SEEDS,
    baseline,
    case,
    crops,
    denoising,
    experiment,
    failed_scores,
    failure,
    interpretation,
    provenance,
    record,
    references,
    scores,
    training,
    write,
    write_asv,
    write_experiments,
)

from pudle.errors import InvalidArgument, MissingDependency, MissingResults, UnreadableResult
from pudle.reports import costs, figures, learning, optimising, pictures, sections, tables, text
from pudle.reports.answers import answers
from pudle.reports.commands import report_command
from pudle.reports.load import COLUMNS, METRICS, load
from pudle.reports.page import Report
from pudle.reports.pair import Pair
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
    with pytest.raises(UnreadableResult) as problem:
        load(four, "quick")
    assert str(path) in str(problem.value) and "delete it and run `pudle run` again" in str(problem.value)
    assert len(str(problem.value).splitlines()) == 1


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
    assert len({look.colour for look in before.values()}) == len(before)


def test_estimators_that_compute_the_same_differ_in_their_markers():
    windows = {f"truncated(window={window})": "truncated" for window in (1, 2, 5, 10, 20, 50, 100)}
    assert len({look.marker for look in figures.looks(windows).values()}) == len(windows)


class _Page(HTMLParser):
    """What a browser would fetch, and what a screen reader would miss."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.ids, self.figures, self.language = [], [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.links += [
            value for name, value in attributes.items() if name in ("src", "href", "xlink:href", "data", "action")
        ]
        self.ids += [value for name, value in attributes.items() if name == "id"]
        if tag == "svg" and "aria-hidden" not in attributes:
            self.figures.append(attributes)
        if tag != "a":
            self.loaded += [value for name, value in attributes.items() if name in ("src", "href")]
        if tag == "html":
            self.language = attributes.get("lang")


@pytest.fixture
def page(four):
    write_asv(four, list(CURVES), [1.0, 2.0, 3.0, 6.0, 2.0, 4.0, 1.0, 2.0], memory=[2.0**21] * 8)
    return Report.of(load(four, "quick")).html()


def test_page_loads_nothing_and_speaks_to_everyone(page):
    parsed = _Page(page)
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
    with pytest.raises(MissingDependency, match=r"pip install 'pudle\[parquet\]'") as problem:
        report.parquet()
    assert len(str(problem.value).splitlines()) == 1


def test_schema_is_documented():
    documented = (Path(__file__).parent.parent / "docs" / "schema.md").read_text()
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


# -- experiments: reading


def experiments(tmp_path, *records):
    """Results of experiments alone."""
    write_experiments(tmp_path, records)
    return load(tmp_path, "quick")


def headings(page):
    return re.findall(r'<h2 id="(\w+)"', page)


def test_of_an_experiment_the_newest_counts(tmp_path):
    dates = {"2026-01-02T00:00:00+00:00": 0.2, "2026-03-01T00:00:00+00:00": 0.3, "2026-02-01T00:00:00+00:00": 0.4}
    results = experiments(tmp_path, *(training("one", rate=rate, provenance=provenance(date=date))
                                      for date, rate in dates.items()), training("other"))  # fmt: skip
    assert [item.name for item in results.experiments] == ["one", "other"]
    assert results.experiments[0].rows["relative_error"].tolist()[1] == 0.5 * math.exp(-0.3)
    assert results.provenances[0]["date"].startswith("2026-03")


def test_null_of_an_experiment_is_no_number(tmp_path):
    (item,) = experiments(tmp_path, training("one", summary={"steps": None, "seconds": 3.0})).experiments
    assert math.isnan(item.column("loss")[0]) and item.column("loss")[1] == 2 * item.column("relative_error")[1]
    assert item.column("nobody measured this").isna().all() and len(item.column("nobody measured this")) == 51
    assert math.isnan(item.number("steps")) and item.number("seconds") == 3.0


def test_numbers_of_what_failed_do_not_count(tmp_path):
    (item,) = experiments(tmp_path, training("one", status="diverged", reason="the loss is not finite")).experiments
    assert item.summary["relative_error"] > 0 and math.isnan(item.number("relative_error"))


@pytest.mark.parametrize(("content", "told"), [
    ('{"schema": 1, "kind": "lear', "cannot be read"), ("[1]", "not a result"), ('{"schema": 1}', "kind is missing"),
    (json.dumps(experiment("x", schema=7)), "has schema 7 and this version reads 1"),
    (json.dumps(experiment("x", rows=[1])), "rows is missing or wrong"),
    (json.dumps(experiment("x", rows={})), "rows is missing or wrong"),
    (json.dumps(experiment("x", summary=None)), "summary is missing or wrong"),
    (json.dumps(experiment("x", provenance={})), "date"),
])  # fmt: skip
def test_damaged_experiment_is_refused_with_file_and_remedy(four, content, told):
    (path,) = write_experiments(four, [training("one")])
    path.write_text(content)
    with pytest.raises(UnreadableResult) as problem:
        load(four, "quick")
    assert str(path) in str(problem.value) and told in str(problem.value)
    assert len(str(problem.value).splitlines()) == 1


@pytest.mark.parametrize("damage", ["missing", "half", "empty", "shape", "text"])
def test_damaged_arrays_are_refused_with_file(tmp_path, damage):
    record_, arrays = denoising("one", "BM3D")
    if damage == "shape":
        arrays["denoised"] = arrays["denoised"][:10]
    if damage == "text":
        arrays["denoised"] = np.full((64, 64), "x")
    (path,) = write_experiments(tmp_path, [(record_, arrays)])
    stored = path.with_suffix(".npz")
    if damage == "missing":
        stored.unlink()
    if damage in ("half", "empty"):
        stored.write_bytes(stored.read_bytes()[: len(stored.read_bytes()) // 2] if damage == "half" else b"")
    report = Report.of(load(tmp_path, "quick"))
    with pytest.raises(UnreadableResult, match=re.escape(str(stored))) as problem:
        report.html()
    assert len(str(problem.value).splitlines()) == 1


def test_experiments_alone_make_a_page_without_empty_shells(tmp_path):
    report = Report.of(experiments(tmp_path, training("one"), training("two", "alternating")))
    page = report.html()
    assert headings(page) == ["recovery", "problems", "provenance"]
    assert 'id="answers"' not in page and "2 experiments" in page and COMMIT[:12] in page
    parsed = _Page(page)
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids)) and page.count("<caption>") == page.count("<table ")
    done = run(tmp_path, "--format", "html", "--format", "markdown", "--format", "csv", "--format", "latex")
    assert done.exit_code == 0, done.output
    text_ = (tmp_path / "quick" / "report" / "report.md").read_text()
    assert re.findall("^## (.*)", text_, re.MULTILINE) == [
        "Dictionaries recovered", "Skipped, refused or failed", "Provenance"]  # fmt: skip


def test_cases_not_measured_yet_are_said_beside_experiments(tmp_path):
    write(tmp_path, [], cases=[case()], estimators=["backprop"])
    results = experiments(tmp_path, training("one"))
    assert not results.cases and "None of the selected cases is measured yet" in results.notes[0]
    assert "None of the selected cases" in Report.of(results).html()


def test_without_experiments_no_section_is_about_them(four):
    page = Report.of(load(four, "quick")).html()
    assert not {"recovery", "optimisers", "denoising", "interpretation", "others"} & set(headings(page))
    write_experiments(four, [training("one", study="optimisers")])
    page = Report.of(load(four, "quick")).html()
    assert {"answers", "summary"} <= set(re.findall(r'id="(\w+)"', page)) and "optimisers" in headings(page)
    assert not {"recovery", "denoising", "interpretation", "others"} & set(headings(page))


def test_kinds_of_plug_ins_are_listed_with_what_they_say(tmp_path):
    record_ = experiment("odd", "spectral", "strangers", summary={"gap": 0.25, "note": "<b>", "list": [1, 2], "none": None})
    page = Report.of(experiments(tmp_path, record_)).html()
    assert headings(page) == ["others", "problems", "provenance"]
    assert "gap: 0.25; note: &lt;b&gt;; list: 1, 2; none: –" in page


def test_failed_experiments_are_told_with_their_reasons(tmp_path):
    lacking = experiment(
        "bm3d", "denoising", "denoising", status="skipped", reason="install bm3d", setting={"baseline": "BM3D"}
    )
    results = experiments(tmp_path, lacking, training("died", status="timeout", reason="not finished after 9 s", rows=[]))
    done = run(tmp_path)
    page = (tmp_path / "quick" / "report" / "report.html").read_text()
    assert done.exit_code == 2 and "died" in done.stderr and "bm3d" not in done.stderr
    problems = page[page.index('<h2 id="problems"') :]
    assert "install bm3d" in problems and "not finished after 9 s" in problems
    # In the table of its group it has a row without any number.
    (row,) = learning.recovery_table(learning.recovered(results)[0]).to_dict("records")
    assert row["status"] == "timeout" and {row[name] for name in ("error at end", "relative error", "steps")} == {"–"}
    assert "denoising" not in headings(page)


# -- experiments: dictionaries


def test_the_best_of_a_table_are_those_of_the_data(tmp_path):
    rates = {("alternating", 25): 0.02, ("backprop", 25): 0.05, ("alternating", 50): 0.03, ("backprop", 50): 0.09}
    records = [training(f"{name}-{depth}", name, rate, setting={"depth": depth}) for (name, depth), rate in rates.items()]
    results = experiments(tmp_path, *records, training("dead", "analytic", 9.0, status="diverged", reason="no"))
    (group,) = learning.recovered(results)
    table = learning.recovery_table(group)
    for column in ("error at end", "relative error", "support recovered"):
        marked = [(str(row["method"]), row["layers"]) for row in table.to_dict("records") if row[column].best]
        assert marked == [("backprop", "50")], column
    assert table["error at end"].tolist()[:2] == [
        text.number(5 * math.exp(-0.02 * 50)),
        text.number(5 * math.exp(-0.05 * 50)),
    ]
    report = Report.of(results)
    shown = text.number(5 * math.exp(-0.09 * 50))
    assert f"<strong>{shown}</strong>" in report.html() and f"**{shown}**" in report.markdown()
    assert f"\\textbf{{{shown}}}" in report.latex()
    answer = learning.recovery_answer(group)
    assert f"At 25 layers `backprop` recovers best: its error falls from 5 to {text.number(5 * math.exp(-2.5))}" in answer
    # exp(0.03 * 50) and exp(0.06 * 50).
    assert "4.5 times as much" in answer and "20 times as much" in answer and "one seed each" in answer


def test_seeds_of_a_setting_are_one_method(tmp_path):
    rates = {0: 0.02, 1: 0.05, 2: 0.03}
    slow = [training(f"a-{seed}", "alternating", rate / 10, setting={"seed": seed}) for seed, rate in rates.items()]
    records = [training(f"b-{seed}", rate=rate, setting={"seed": seed}) for seed, rate in rates.items()]
    (group,) = learning.recovered(experiments(tmp_path, *slow, *records))
    assert [(method.label, len(method.runs)) for method in group.methods] == [("alternating", 3), ("backprop", 3)]
    ends = [5 * math.exp(-rate * 50) for rate in (0.03, 0.05, 0.02)]
    assert group.methods[1].spread("dictionary_error") == pytest.approx(tuple(ends), abs=1e-12)
    curve = group.methods[1].curve("dictionary_error").set_index("step")
    assert curve.loc[10, ["median", "least", "greatest"]].tolist() == pytest.approx(
        [5 * math.exp(-10 * rate) for rate in (0.03, 0.05, 0.02)], abs=1e-12
    )
    answer = learning.recovery_answer(group)
    assert "one seed" not in answer and "overlap" not in answer
    assert learning.recovery_table(group)["seeds"].tolist() == ["3", "3"]


def test_overlapping_seeds_are_said(tmp_path):
    records = [training(f"{name}-{seed}", name, rate + seed / 100, setting={"seed": seed})
               for name, rate in (("backprop", 0.05), ("alternating", 0.045)) for seed in range(3)]  # fmt: skip
    (group,) = learning.recovered(experiments(tmp_path, *records))
    assert "may be chance" in learning.recovery_answer(group) and "overlap" in learning.recovery_answer(group)


def test_what_ends_farther_away_has_recovered_nothing(tmp_path):
    (group,) = learning.recovered(experiments(tmp_path, training("one", rate=-0.01)))
    assert "no gradient recovers anything" in learning.recovery_answer(group)


def test_methods_are_named_by_what_tells_them_apart(tmp_path):
    rules = ["ista(step=0.2, thresholding='soft')", "ista(step=0.2, thresholding='hard(level=0.1)')"]
    records = [training(f"r{number}", setting={"algorithm": rule, "loss": loss})
               for number, (rule, loss) in enumerate(itertools.product(rules, ("lasso", "ridge")))]  # fmt: skip
    results = experiments(tmp_path, *records, baseline("sk", "scikit-learn"))
    (group,) = learning.recovered(results)
    assert [method.label for method in group.methods] == [
        "backprop, lasso loss, thresholding=soft", "backprop, ridge loss, thresholding=soft",
        "backprop, lasso loss, thresholding=hard(level=0.1)", "backprop, ridge loss, thresholding=hard(level=0.1)",
        "scikit-learn",
    ]  # fmt: skip
    assert [method.variant for method in group.methods] == [0, 1, 2, 3, 0]
    # Words in a figure are as they were written; only its coordinates are rounded.
    picture = learning.recovery_pictures(results)[0][0]
    assert "thresholding=hard(level=0.1)" in picture.svg and 'data-estimator="backprop"' in picture.svg
    assert "Of other packages scikit-learn is nearer still, 1.5e-6." in learning.recovery_answer(group)
    (group,) = learning.recovered(experiments(tmp_path / "slow", *records, baseline("sk", "scikit-learn", rate=0.05)))
    assert "Of other packages scikit-learn comes nearest, 0.41." in learning.recovery_answer(group)


@pytest.mark.parametrize(("specs", "expected"), [
    (["adam(learning_rate=0.1)", "adam(learning_rate=0.2)"], ["learning_rate=0.1", "learning_rate=0.2"]),
    (["adam(learning_rate=0.1)", "sgd(learning_rate=0.1)"], ["adam", "sgd"]),
    (["adam(a=1, b=2)", "adam(a=1, b=3)", "sgd"], ["adam(b=2)", "adam(b=3)", "sgd"]),
    (["adam", "adam(b=3)"], ["adam", "b=3"]),
    (["not a spec", "sgd"], ["not a spec", "sgd"]),
])  # fmt: skip
def test_specs_are_shortened_to_what_differs(specs, expected):
    assert list(learning.shortened(specs).values()) == expected


def test_curves_hold_the_history(tmp_path):
    records = [training(f"T{depth}-{name}", name, depth / 1000, setting={"depth": depth}, steps=400)
               for depth in (25, 50) for name in ("alternating", "backprop")]  # fmt: skip
    ((first, second, *others),) = learning.recovery_pictures(experiments(tmp_path, *records))
    assert len(others) == 2 and first.title == "25 layers, against epochs" and "seconds" in second.title
    data = pd.read_csv(io.StringIO(first.csv))
    assert len(data) == 2 * learning.POINTS and data["step"].max() == 400 and data["step"].min() == 0
    assert data["dictionary_error"].to_numpy() == pytest.approx(5 * np.exp(-0.025 * data["step"].to_numpy()), rel=1e-5)
    assert "Last values: alternating" in first.alt
    # The depths share their scale.
    limits = {picture.figure.axes[0].get_ylim() for picture in (first, second, *others)}
    assert len(limits) == 1


def test_numbers_in_words_of_a_figure_stay(tmp_path):
    (picture, _) = learning.recovery_pictures(experiments(tmp_path, training("x", "truncated(window=10)"),
        training("y", "alternating", setting={"optimiser": "adam(learning_rate=0.00123)"})))[0]  # fmt: skip
    assert "learning_rate=0.00123" in picture.svg
    content = dict(picture.files(("svg",)))
    assert "learning_rate=0.00123" in next(iter(content.values())).decode()


# -- experiments: optimisers


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("goal", [0.3, 0.1, 0.01])
def test_steps_to_a_goal_are_those_of_an_exponential(rate, goal):
    # log error is linear in the step, so that the interpolation is exact however far the rows are apart.
    steps = [0, 3, 10, 50, 400]
    errors = [0.5 * math.exp(-rate * step) for step in steps]
    assert optimising.reached(steps, errors, goal) == pytest.approx(math.log(0.5 / goal) / rate, rel=1e-9)


@pytest.mark.parametrize(("errors", "expected"), [
    ([0.5, 0.4, 0.3], math.inf), ([0.05, 0.04], 0.0), ([0.5, math.nan, 0.005], None), ([], math.inf),
    ([math.nan, math.nan], math.inf), ([0.5, 0.1, 0.5], 1.0), ([1.0, 0.0], None),
])  # fmt: skip
def test_goal_out_of_reach_is_infinite_and_the_first_crossing_counts(errors, expected):
    found = optimising.reached(range(len(errors)), errors, 0.1)
    if expected is None:
        # Over the gap, along the line through what is known.
        after = max(errors[-1], 1e-300)
        assert found == pytest.approx((len(errors) - 1) * math.log(errors[0] / 0.1) / math.log(errors[0] / after), rel=1e-9)
    else:
        assert found == expected


@pytest.fixture
def optimised(tmp_path):
    """Plain and accelerated descent with two gradients; the rates say how fast."""
    rates = {
        ("sgd(learning_rate=0.1)", "alternating"): 0.02, ("sgd(learning_rate=0.2)", "alternating"): 0.03,
        ("momentum(learning_rate=0.1)", "alternating"): 0.12, ("sgd(learning_rate=0.1)", "backprop"): 0.08,
        ("momentum(learning_rate=0.1)", "backprop"): 0.06, ("adam", "backprop"): 0.0001,
    }  # fmt: skip
    return experiments(tmp_path, *(
        training(f"o{number}", estimator, rate, steps=200, pace=0.5, study="optimisers", setting={"optimiser": optimiser})
        for number, ((optimiser, estimator), rate) in enumerate(rates.items())
    ))  # fmt: skip


def test_matrix_has_the_best_learning_rate_and_says_what_is_not_reached(optimised):
    (matrix,) = optimising.matrices(optimised)
    assert matrix.goals()[-1] == 0.001 and len(matrix.goals()) == optimising.MOST_GOALS
    table = optimising.goal_table(matrix, 0.01).set_index("optimiser")
    steps = {rate: math.log(50) / rate for rate in (0.03, 0.12, 0.08, 0.06)}
    assert table.loc["sgd", "alternating"] == f"{math.ceil(steps[0.03])} steps, {steps[0.03] / 2:.3g} s, learning rate 0.2"
    assert table.loc["momentum", "alternating"] == f"{math.ceil(steps[0.12])} steps, {steps[0.12] / 2:.3g} s"
    assert table.loc["adam", "backprop"] == "not reached" and table.loc["adam", "alternating"] == text.DASH
    best = {(row, column) for column in table for row in table.index if table.loc[row, column].best}
    assert best == {("momentum", "alternating"), ("sgd", "backprop")}
    page = Report.of(optimised).html()
    assert headings(page)[0] == "optimisers" and "recovery" not in headings(page)
    assert '<td data-key="Infinity">not' in page


def test_answer_says_whom_acceleration_helps(optimised):
    (matrix,) = optimising.matrices(optimised)
    answer = optimising.optimisers_answer(matrix)
    goal = matrix.goals()[-1]
    alternating, backprop = (optimising.gain(matrix, name) for name in ("alternating", "backprop"))
    # sgd gets to 0.1 % from a half in log(500) / 0.03 = 207 of its 200 steps: not there, but to 1 %.
    assert goal == 0.001 and alternating.goal == 0.01 and alternating.factor == pytest.approx(0.12 / 0.03)
    assert backprop.goal == 0.001 and backprop.factor == pytest.approx(0.06 / 0.08)
    assert answer.startswith("Acceleration helps `alternating`: momentum gets to a relative error of 0.01 in 33 steps "
                             "(16.3 s), sgd needs 131 steps (65.2 s), 4 times as many.")  # fmt: skip
    assert "It does not help `backprop` (momentum gets to a relative error of 0.001 in 104 steps" in answer


# -- experiments: pictures


def test_psnr_of_known_noise():
    clean = np.full((8, 8), 0.5)
    assert pictures.psnr(clean, clean + 0.1) == pytest.approx(20, abs=1e-9)
    assert pictures.psnr(clean, clean) == math.inf


def test_denoising_table_is_that_of_the_summaries(tmp_path):
    results = experiments(
        tmp_path, denoising("a", "backprop, reconstruction", "backprop", 0.5),
        denoising("b", "BM3D", "", 0.2, shifted=False), denoising("c", "alternating, lasso", "alternating", 0.25),
    )  # fmt: skip
    (images,) = pictures.denoised(results)
    table = pictures.denoising_table(images).set_index("method")
    gains = {"alternating, lasso": 26 - 20 * math.log10(0.25), "BM3D": 20 - 20 * math.log10(0.2),
             "backprop, reconstruction": 26 - 20 * math.log10(0.5)}  # fmt: skip
    assert list(table.index) == [*gains, "noisy images"]
    assert table["gain over noisy"].tolist() == [f"{gain - 20:+.2f} dB" for gain in gains.values()] + [text.DASH]
    assert [name for name in gains if table.loc[name, "PSNR"].best] == ["BM3D"]
    assert [name for name in gains if table.loc[name, "PSNR with shifts"].best] == ["alternating, lasso"]
    assert table.loc["BM3D", ["training", "steps", "PSNR with shifts"]].tolist() == [text.DASH] * 3
    assert table.loc["noisy images", "PSNR"] == "20.00 dB"
    answer = pictures.denoising_answer(images)
    assert answer.startswith(
        "`alternating`, lasso denoises best: 38.04 dB with shifts, 18.04 dB above the noisy images; next is BM3D, 4.06"
    )


def test_denoisings_that_differ_in_their_seed_are_one_method(tmp_path):
    records = []
    for seed, left in enumerate((0.5, 0.25, 0.4)):
        record_, arrays = denoising(f"d{seed}", "backprop, lasso", "backprop", left)
        records.append((record_ | {"setting": {"sigma": 0.1, "training": {"estimator": "backprop", "seed": seed}}}, arrays))
    (images,) = pictures.denoised(experiments(tmp_path, *records))
    (method,) = images.methods
    assert method.estimator == "backprop" and len(method.runs) == 3
    assert method.spread("psnr")[0] == pytest.approx(20 - 20 * math.log10(0.4), abs=1e-9)


def test_images_and_filters_are_in_the_page_with_words_for_them(tmp_path):
    results = experiments(tmp_path, denoising("a", "backprop, reconstruction", "backprop", filters=9),
                          denoising("b", "BM3D", left=0.25, shifted=False))  # fmt: skip
    images, filters = pictures.denoising_galleries(pictures.denoised(results)[0])
    clean, noisy = crops()
    assert [tile.caption[0] for tile in images.rows[0]] == ["clean", "noisy", "backprop, reconstruction", "BM3D"]
    assert np.array_equal(images.rows[0][0].image, np.round(255 * np.clip(clean, 0, 1)))
    before = pictures.psnr(clean, noisy)
    # Half of the noise, half of that with shifts, is 12.04 dB less; a quarter as well.
    assert images.rows[0][2].caption[1:] == (f"{before + 12.0412:.2f} dB with shifts", f"{before + 6.0206:.2f} dB without")
    assert images.rows[0][3].caption[1:] == (f"{before + 12.0412:.2f} dB",)
    data = pd.read_csv(io.StringIO(images.csv)).set_index("method")
    assert data.loc["BM3D", "psnr"] == pytest.approx(before + 20 * math.log10(4), abs=1e-3)
    sheet = filters.rows[0][0].image
    assert sheet.shape == (26, 26) and set(sheet[8]) == {255}
    page = Report.of(results).html()
    pictures_ = re.findall(r'<img src="(data:image/png;base64,[^"]+)" alt="([^"]+)"', page)
    assert len(pictures_) == 5 and all(alt.endswith(".") for _, alt in pictures_)
    done = run(tmp_path, "--format", "figures", "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    for path in (tmp_path / "out" / "report_figures").glob("*.svg"):
        root = ElementTree.fromstring(path.read_text())
        assert root.tag.endswith("svg") and root[0].text
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF") and len(pd.read_csv(path.with_suffix(".csv")))
    assert len(list((tmp_path / "out" / "report_figures").glob("*.svg"))) == 4


def test_filters_are_sorted_and_scaled_each_by_itself():
    flat, wave, checks = np.ones((4, 4)), np.tile([1.0, 1, -1, -1], (4, 1)), np.indices((4, 4)).sum(0) % 2 * 2.0 - 1
    sheet, order = pictures.mosaic(np.array([100 * checks, np.zeros((4, 4)), 1e-3 * wave, flat]))
    assert order.tolist() == [3, 2, 0, 1]
    assert set(sheet[:4, :4].ravel()) == {255} and set(sheet[:4, 5:].ravel()) == {1, 255}
    assert set(sheet[5:, :4].ravel()) == {1, 255} and set(sheet[5:, 5:].ravel()) == {128}


def test_samples_stand_beside_their_atom_in_order(tmp_path):
    record_, arrays = interpretation(atoms=3, samples=4)
    ((heading, answer, gallery),) = pictures.interpreted(experiments(tmp_path, (record_, arrays)))
    assert answer == ""
    told = {"share": 0.25, "cosine": 0.8, "residual": 1.5e-6, "purity": 0.6, "purity_by_chance": 0.3}
    known = record_ | {"name": "told", "summary": record_["summary"] | told}
    page = Report.of(experiments(tmp_path / "told", (known, arrays))).html()
    assert "4 samples shown of an atom are 25% of all that shaped it" in page and "a cosine of 0.80 with it." in page
    assert "On average 60% of them share one label, where of as many drawn at random it is 30%." in page
    assert "give the atoms back but for a relative error of 1.5e-6." in page
    assert heading == "backprop, image_patches" and [len(row) for row in gallery.rows] == [5] * 3
    captions = [tile.caption[0] for tile in gallery.rows[1]]
    assert captions == ["atom 2", *(text.number(1 / (1 + rank) + 0.01) for rank in range(4))]
    assert "weight 0.51" in gallery.rows[1][2].alt
    data = pd.read_csv(io.StringIO(gallery.csv))
    assert data["weight"].to_numpy() == pytest.approx(arrays["weights"].ravel(), rel=1e-5) and data["atom"].max() == 3


def test_page_of_many_experiments_stays_small(tmp_path):
    """Eight methods with large crops and many filters, beside three dozen trainings of 600 epochs."""
    methods = [denoising(f"d{number}", f"method {number}", "backprop", 0.4 + number / 100, side=256, filters=256)
               for number in range(8)]  # fmt: skip
    trainings = [training(f"t{number}-{depth}-{name}", name, 0.001 * (1 + depth), steps=600,
                          setting={"depth": depth, "dataset": f"sparse_gaussian(n={number})"})
                 for number in range(4) for depth in (25, 50, 100) for name in CURVES]  # fmt: skip
    page = Report.of(experiments(tmp_path, *methods, *trainings)).html()
    assert page.count("<img ") == 2 + 8 + 8 and "data:text/csv" in page
    assert len(page) < 5_000_000


def test_latex_of_experiments_compiles(tmp_path):
    engine = shutil.which("pdflatex") or shutil.which("tectonic")
    if engine is None:
        pytest.skip("needs pdflatex or tectonic")
    odd = experiment("odd", "spectral", "strangers", summary={"a_b": 0.5, "share": "50% & more"})
    results = experiments(
        tmp_path, training("one", rate=0.1), training("two", study="optimisers"), denoising("d", "BM3D"), odd
    )
    tables_ = Report.of(results).latex()
    assert tables_.count(r"\begin{tabular}") == 1 + 3 + 1 + 1 and tables_.isascii()
    document = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}" + tables_ + r"\end{document}"
    (tmp_path / "document.tex").write_text(document)
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in engine else []
    done = subprocess.run([engine, *options, "document.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull \\hbox" not in done.stdout + (tmp_path / "document.log").read_text()


def test_two_results_with_experiments_are_still_compared(two):
    for folder in two:
        write_experiments(folder.parent, [training("one", status="timeout", reason="late")])
    done = run(two[0].parent, *map(str, two), "--format", "markdown", "--out", str(two[0].parent / "out"))
    assert "report.md" in done.stdout and "one" in done.stderr.split(":")[0].split()
    table = (two[0].parent / "out" / "report.md").read_text().partition("## Experiments")[2]
    assert re.search(r"\| `one` \|.* timeout \|", table)


# -- two results


@pytest.fixture
def two(tmp_path):
    """Two results of which the second has a worse backprop, no analytic, and a case of its own."""
    first = write(tmp_path / "a", [record(case(), estimator) for estimator in CURVES])
    worse = record(case(), "backprop", scores=scores(lambda depth, rho: 10 * CURVES["backprop"](depth, rho)),
                   provenance=provenance(commit="d" * 40, machine="there"))  # fmt: skip
    records = [record(case(), "alternating"), worse, record(case("own-ista-lasso"), "backprop")]
    second = write(tmp_path / "b", records, estimators=["alternating", "backprop"])
    for home, seconds in ((first, [1.0, 2.0, 3.0, 6.0]), (second, [1.0, 2.0, 3.0, 3.0])):
        write_asv(home, ["alternating", "backprop"], seconds, memory=[2.0**21, 2.0**22] * 2)
    return first / "quick", second / "quick"


def test_differences_are_those_of_the_two(two):
    made = Pair(tuple(Report.of(load(folder.parent, "quick")) for folder in two), ("one", "other"))
    assert made.cases == [case()["name"]]
    rows = made.differences().set_index("estimator")
    assert rows.loc["alternating", ["decades B - A", "time B / A", "memory B - A"]].tolist() == ["+0.00", "1.00", "0"]
    assert rows.loc["backprop", "time B / A"] == "0.50"
    # Nothing of what is absent on one side is a difference.
    assert rows.loc["analytic", "status"] == "ok, then absent"
    assert rows.loc["analytic", ["error B", "decades B - A", "time B / A", "memory B - A"]].tolist() == ["–"] * 4


def test_decades_are_above_zero_where_the_second_is_worse(two):
    made = Pair(tuple(Report.of(load(folder.parent, "quick")) for folder in two), ("one", "other"))
    # At the deepest depth, in the median seed; the first is at its bound there, or near it.
    one, other = (sorted(max(by * CURVES["backprop"](300, rho), BOUND) for rho in RHO.values())[1] for by in (1, 10))
    assert other > 2 * one
    shown = made.differences().set_index("estimator").loc["backprop", "decades B - A"]
    assert shown == f"{math.log10(other / one):+.2f}"


def test_command_shows_two_results_side_by_side(two, tmp_path):
    done = run(tmp_path, *map(str, two), "--out", str(tmp_path / "out"))
    # The second never ran two of its pairs: that is said, and the page is there.
    assert done.exit_code in (0, 2), done.output
    names = [Path(line).name for line in done.stdout.splitlines()]
    assert names == ["report_figures", "report.md", "report.csv", "report.html"]
    page = (tmp_path / "out" / "report.html").read_text()
    parsed = _Page(page)
    assert not any(link.startswith("report_figures/") for link in parsed.loaded)
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids)) and len(parsed.figures) == 1
    assert "Only in B: <code>own-ista-lasso</code>" in page and "d" * 12 in page and "differs" in page
    assert set(pd.read_csv(tmp_path / "out" / "report.csv")["side"]) == {"A", "B"}


def test_two_results_without_a_common_case_are_refused(tmp_path):
    homes = [write(tmp_path / name, [record(case(f"{name}-ista-lasso"), "backprop")]) for name in ("a", "b")]
    done = run(tmp_path, *(str(home) for home in homes))
    assert isinstance(done.exception, InvalidArgument) and "no case and no experiment in common" in str(done.exception)
    homes = [write(tmp_path / f"e{name}", [], cases=[], estimators=[]) for name in "ab"]
    for home, name in zip(homes, "ab", strict=True):
        write_experiments(home, [training(f"{name}{number}") for number in range(40)])
    done = run(tmp_path, *(str(home) for home in homes))
    assert "a0, a1, a10, a11, a12 and 35 more and" in str(done.exception) and len(str(done.exception)) < 500


def test_experiments_side_by_side(tmp_path):
    """The errors are ``0.5 exp(-50 rate)``, and a share `left` of the noise is -20 log10 of it in decibels."""
    first = [training("one", rate=0.1), training("gone"), denoising("clear", "BM3D", left=0.5),
             training("other", setting={"depth": 10}), training("broken", status="error", reason="no disk"),
             experiment("odd", "spectral")]  # fmt: skip
    second = [training("one", rate=0.2, pace=0.02), denoising("clear", "BM3D", left=0.25),
              training("other", setting={"depth": 20}), training("broken"), experiment("odd", "spectral")]  # fmt: skip
    homes = [write(tmp_path / name, [], cases=[], estimators=[]) for name in "ab"]
    sides = [Report.of(experiments(home, *records)) for home, records in zip(homes, (first, second), strict=True)]
    rows = sections.experiments_pair(*(side.results for side in sides)).set_index("experiment").to_dict("index")
    assert rows["one"] == {
        "measure": "relative error of the dictionary", "A": text.number(0.5 * math.exp(-5)),
        "B": text.number(0.5 * math.exp(-10)), "difference": f"{text.number(math.exp(-5), 3)} times", "time A": "500 ms",
        "time B": "1 s", "status": "ok",
    }  # fmt: skip
    assert [rows["clear"][name] for name in ("A", "B", "difference")] == ["26.02 dB", "32.04 dB", "+6.02 dB"]
    assert rows["gone"]["status"] == "ok, then absent" and rows["gone"]["B"] == rows["gone"]["difference"] == "–"
    assert rows["other"]["status"] == "ok; other options" and rows["other"]["difference"] == "–"
    assert rows["broken"]["status"] == "error, then ok" and rows["broken"]["A"] == rows["broken"]["difference"] == "–"
    assert rows["odd"]["status"] == "ok" and set(rows["odd"].values()) == {"–", "ok"}
    # An option that one side did not have yet is no other option; other test images are other numbers.
    changed = [training("one", rate=0.1, setting={"later": None}), denoising("clear", "BM3D")]
    changed[1][0]["summary"]["test_images"] = "others"
    later = experiments(tmp_path / "later", *changed)
    rows = sections.experiments_pair(sides[0].results, later).set_index("experiment").to_dict("index")
    assert rows["one"]["difference"] == "1 times" and rows["one"]["status"] == "ok"
    assert rows["clear"]["difference"] == "–" and rows["clear"]["status"] == "ok; other images"
    # There is no case: what is about cases is left out, and what has failed on either side is told.
    page = Pair(tuple(sides), ("one", "other")).html()
    assert headings(page) == ["experiments", "problems", "provenance"] and "no disk" in page
    parsed = _Page(page)
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= set(parsed.ids)
    done = run(tmp_path, *map(str, homes), "--out", str(tmp_path / "out"))
    assert done.exit_code == 2 and "something broke in broken:" in done.output
    written = (tmp_path / "out" / "report.md").read_text()
    assert "below one where B is nearer" in written
    assert re.findall("^## (.*)", written, re.MULTILINE) == ["Experiments", "Skipped, refused or failed", "Provenance"]


def test_formats_of_one_result_are_refused_for_two(two, tmp_path):
    done = run(tmp_path, *map(str, two), "--format", "latex")
    assert isinstance(done.exception, InvalidArgument) and "latex" in str(done.exception)


def test_what_is_neither_folder_nor_commit_is_refused(four):
    done = run(four, "nowhere", "elsewhere")
    assert isinstance(done.exception, InvalidArgument) and "nowhere" in str(done.exception)
