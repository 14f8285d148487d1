"""Tables, answers and budgets, on results whose numbers are known because the tests make them."""

from __future__ import annotations

import io

import living_page
import pandas as pd
import pytest
from synthetic import (
    CURVES,
    case,
    failed_scores,
    failure,
    record,
    references,
    scores,
    write,
    write_costs,
)

from pudle.reports import scope, tables
from pudle.reports.answers import answers, budgets
from pudle.reports.load import load
from pudle.reports.report import Report
from pudle.reports.results import COLUMNS


def test_summary_counts_time_memory_and_spread(four):
    write_costs(four, list(CURVES), [1.0, 2.0, 3.0, 6.0, 2.0, 4.0, 1.0, 2.0], memory=[2.0**21] * 8)
    report = Report.of(load(four, "quick"))
    rows = report.summary.set_index("estimator")
    assert (
        rows.loc["backprop", "relative_seconds"] == 3.0
        and rows.loc["alternating", "relative_seconds"] == 1.0
    )
    assert rows.loc["backprop", "memory"] == 2.0**21
    middle, low, high = rows.loc["alternating", ["error", "error_low", "error_high"]]
    assert (middle, low, high) == tuple(0.5 * rho**300 for rho in (0.955, 0.95, 0.96))
    assert rows.loc["analytic", "seeds_at_floor"] == 2


def test_failed_estimator_is_never_shown_as_a_number(tmp_path):
    records = [
        record(case(), "alternating"),
        record(
            case(),
            "backprop",
            status="diverged",
            reason="3 of 9 entries are NaN",
            scores=failed_scores("diverged", "3 of 9 entries are NaN"),
        ),
        failure(case(), "analytic", "timeout", "not finished after 1 s"),
    ]
    report = Report.of(load(write(tmp_path, records), "quick"))
    table = tables.summary_table(report.summary).set_index("estimator")
    for name, status in (("backprop", "diverged"), ("analytic", "timeout")):
        assert table.loc[name, "status"] == status
        assert table.loc[name, "error at the deepest depth"] == "–"
        assert not table.loc[name].drop("status").str.contains(r"\d", regex=True).any()
    problems = tables.problems_table(report.results).set_index("estimator")
    assert problems.loc["backprop", "reason"] == "3 of 9 entries are NaN"
    assert problems.loc["analytic", "depths"] == "all"
    assert "`alternating`" in answers(report.results, report.summary)[0]["advice"]
    for picture in report.pictures:
        assert not picture.rows["estimator"].isin(["backprop", "analytic"]).any()


def test_uncertified_references_are_counted_and_nothing_is_scored_against_them(tmp_path):
    reason = "4 of 10 samples are not certified"
    bad = record(
        case(),
        "backprop",
        status="uncertified",
        reason=reason,
        scores=failed_scores("uncertified", reason),
        references=references(status="uncertified", reason=reason, uncertified=4, bound=None),
    )
    results = load(write(tmp_path, [bad]), "quick")
    assert not results.curve("synthetic-ista-lasso", "backprop").by_seed
    row = tables.references_table(results).iloc[0]
    assert (
        row["status"] == "uncertified"
        and row["uncertified samples"] == "12 of 30"
        and row["all-zero codes"] == "12%"
    )
    assert scope.broken(results) == []
    assert "Nothing was scored" in Report.of(results).markdown()


def test_further_targets_have_a_table_of_their_own(tmp_path):
    the_case = case(targets=["ghat", "gstar"])
    both = scores(CURVES["backprop"], targets=("ghat", "gstar"))
    for row in both:
        row["relative_error"] *= 2 if row["target"] == "gstar" else 1
    results = load(
        write(
            tmp_path,
            [record(the_case, "backprop", scores=both, references=references(target="ghat"))],
        ),
        "quick",
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


# -- fronts and budgets


def test_budgets_name_the_cheapest_and_the_most_accurate_within(four):
    write_costs(
        four,
        ["alternating", "backprop"],
        [1.0, 2.0, 10.0, 30.0],
        memory=[2**21, 2**21, 2**24, 2**25],
    )
    (row,) = budgets(load(four, "quick"))
    cells = {cell["budget"]: (cell["estimator"], cell["value"]) for cell in row["cells"]}
    # Alternating reaches 1e-3 after 135 layers at 10 ms each, and to 1e-6 after 285: beyond the
    # timed depths.
    assert cells["error 1e-3"] == ("alternating", "1.35 s")
    # One of its seeds does not get there.
    assert cells["error 1e-6"] == ("alternating", "2.85 s*, not distinguishable from 1 other")
    within = {name: cell for name, cell in cells.items() if name.startswith("within")}
    assert len(within) == 4
    assert within.pop("within 2 s") == (
        "alternating",
        f"error {0.5 * 0.955**200:.1e}".replace("e-0", "e-"),
    )
    assert {estimator for estimator, _ in within.values()} <= {"alternating", "backprop"}
    assert all(value.startswith("error") for _, value in within.values())


@pytest.mark.parametrize("single", [(0, 1), (1,), (3,), range(4)])
def test_a_time_of_one_sample_cannot_be_told_from_others(four, single):
    """Ten times as long, which quartiles must say of both."""
    for few, ties in (((), []), (single, ["backprop"])):
        write_costs(four, ["alternating", "backprop"], [1.0, 2.0, 10.0, 20.0], single=few)
        report = Report.of(load(four, "quick"))
        (answer,) = answers(report.results, report.summary)
        assert (answer["use"], answer["ties"]) == ("alternating", ties)
        # Nor has it an interval.
        assert ("(" in answer["time"]) == (few not in ((0, 1), (1,), range(4)))


def test_the_goal_out_of_reach_is_no_budget(tmp_path):
    home = write(tmp_path, [record(case(), "alternating", scores=scores(lambda depth, rho: 0.5))])
    (row,) = budgets(load(home, "quick"))
    assert [(cell["estimator"], cell["value"]) for cell in row["cells"]] == [
        ("", "not reached")
    ] * 3


def test_a_column_of_the_summary_is_one_record(timed, monkeypatch):
    """Markdown, CSV and the page read it."""
    new = tables.Column("seeds seen", lambda row: row.seeds, lambda value, row: f"{value} seeds")
    monkeypatch.setattr(tables, "COLUMNS", (*tables.COLUMNS, new))
    timed = Report.of(timed.results)
    assert "| seeds seen |" in timed.markdown() and "3 seeds |" in timed.markdown()
    written = pd.read_csv(io.StringIO(timed.csv()))
    assert set(written["seeds seen"].dropna()) == {3.0} and list(written)[:11] == [*COLUMNS][:11]
    shown = living_page.texts(living_page.data(living_page.html(timed)))
    assert "seeds seen" in set(shown)
