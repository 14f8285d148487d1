"""The recommendation in short: what the answers of a loss have in common, and why it is right."""

import math
import re

import numpy as np
import pytest
from support.page.living_page import html
from support.records.stored_experiments import reported
from support.records.synthetic import case, record, scores, write, write_costs

from pudle.answers import Requirement
from pudle.reports.answers import answers, budgets
from pudle.reports.load import load
from pudle.reports.recommendation import INDIRECT, STATIONARY, recommendations
from pudle.reports.report import Report

FLOOR = 0.625
DATASETS = ("sparse_gaussian(n_samples=10)", "image_patches(n_samples=10)")


def records_of(loss, change=None):
    """Return the records of two estimators on two datasets; `change` makes the curve of a dataset
    and an estimator another one.
    """
    curves = dict.fromkeys(("alternating", "analytic"), lambda depth, rho: 0.5 * rho**depth)
    if loss == "reconstruction":
        curves["alternating"] = lambda *_: FLOOR
    return [
        record(
            case(f"{dataset[:5]}-ista-{loss}", dataset=dataset, loss=loss, algorithm="ista"),
            estimator,
            scores=scores((change or {}).get((dataset, estimator), curve)),
        )
        for dataset in DATASETS
        for estimator, curve in curves.items()
    ]


def report_on(home, records):
    """Return a report of records where the first estimator of each case is the fastest."""
    write(home, records)
    names = [*dict.fromkeys(item["case"]["name"] for item in records)]
    estimators = [*dict.fromkeys(item["estimator"] for item in records)]
    seconds = [rank * depth for _ in names for rank in (1, 3) for depth in (1, 2)]
    write_costs(home, estimators, seconds, names=names)
    return Report(load(home, "quick"))


def test_the_reason_of_a_stationary_loss_is_said(tmp_path):
    """The direct part is all of the gradient of the inner objective at its minimizer."""
    (line,) = report_on(tmp_path, records_of("lasso")).recommendations
    assert line.startswith(f"Lasso loss: use `alternating` with `ista`. {STATIONARY} the direct")


def test_what_keeps_an_error_is_named_with_it(tmp_path):
    report = report_on(tmp_path, records_of("reconstruction"))
    (line,) = report.recommendations
    assert line == (
        f"Reconstruction loss: use `analytic` with `ista`. {INDIRECT}"
        " `alternating` leaves out how the codes change: its error stays at 0.62, whatever the"
        " depth."
    )
    page = html(report)
    assert line in report.markdown() and line.replace("`", "") in page.replace(
        "<code>", ""
    ).replace("</code>", "")


def test_a_floor_is_said_only_where_two_depths_agree(tmp_path):
    """An error at one depth may be that of codes which are not solved yet, and is no floor."""
    records = records_of("reconstruction")
    for item in records:
        item["scores"] = [row for row in item["scores"] if row["depth"] in (1, 300)]
    kept = report_on(tmp_path / "two", records).recommendations[0]
    assert kept.endswith("its error stays at 0.62, whatever the depth.")
    for item in records:
        item["scores"] = [row for row in item["scores"] if row["depth"] == 300]
    (line,) = report_on(tmp_path / "one", records).recommendations
    assert line.endswith(": at depth 300 its error is 0.62.") and "whatever" not in line


def test_a_floor_is_that_of_the_cases_where_it_has_settled(tmp_path):
    """Where the error still falls at the deepest depth, it does not widen what is said."""
    falling = {(DATASETS[0], "alternating"): lambda depth, _: FLOOR + 100 / depth}
    report = report_on(tmp_path, records_of("reconstruction", falling))
    assert report.recommendations[0].endswith("its error stays at 0.62, whatever the depth.")
    both = {(name, "alternating"): lambda depth, _: FLOOR + 100 / depth for name in DATASETS}
    report = report_on(tmp_path / "both", records_of("reconstruction", both))
    assert report.recommendations[0].endswith("at depth 300 its error is 0.96.")


def test_an_estimator_that_claims_the_loss_keeps_no_error_by_its_nature(tmp_path):
    """An error that is large because the depth is small is no floor."""
    slow = {(dataset, "alternating"): lambda *_: FLOOR for dataset in DATASETS}
    (line,) = report_on(tmp_path, records_of("lasso", slow)).recommendations
    assert line == "Lasso loss: use `analytic` with `ista`."


def test_the_reason_is_that_of_the_loss_of_the_problem(tmp_path):
    """Where codes do not minimize the lasso loss, as with other targets, the direct estimator does
    not reach the error, and nothing is claimed of it.
    """
    slow = {
        (dataset, name): lambda *_: FLOOR
        for dataset in DATASETS
        for name in ("alternating", "analytic")
    }
    (line,) = report_on(tmp_path, records_of("lasso", slow)).recommendations
    assert line == "Lasso loss: on all of 2 problems nothing reaches an error of 1e-3."
    one = report_on(tmp_path / "one", records_of("lasso", slow)[:2]).recommendations
    assert one == ["Lasso loss: nothing reaches an error of 1e-3."]


@pytest.mark.parametrize("error", [1e-3, None])
def test_answers_that_differ_have_no_recommendation(tmp_path, error):
    other = {
        (DATASETS[1], "alternating"): lambda *_: FLOOR,
        (DATASETS[0], "analytic"): lambda *_: FLOOR,
    }
    report = report_on(tmp_path, records_of("lasso", other))
    requirement = Requirement(error)
    (line,) = recommendations(report.results, answers(report.results, requirement), requirement)
    assert line == "Lasso loss: the answer depends on the dataset."


#: Estimators on a lasso case by the rates of their errors, and the times of a layer: of the three
#: that reach 1e-3 two do at the same depth, and the third is the fastest.
RATES = {"backprop": 0.9, "analytic": 0.9, "alternating": 0.96, "truncated(window=10)": 0.999}
SECONDS = {"backprop": 3.0, "analytic": 2.0, "alternating": 0.1, "truncated(window=10)": 1.0}


def report_of_rates(home, rates, seconds=None, memory=None):
    """Return a report of estimators with some rates, timed or not, on one lasso case."""
    records = [
        record(case(), name, scores=scores(lambda depth, _, rate=rate: 0.5 * rate**depth))
        for name, rate in rates.items()
    ]
    write(home, records)
    if seconds:
        costs = [seconds[name] * depth for name in rates for depth in (1, 2)]
        write_costs(home, [*rates], costs, memory)
    return Report(load(home, "quick"))


def named(line):
    """Return the estimators that the first sentence of a recommendation names."""
    return {*re.findall(r"`([^`]*)`", line.partition(". ")[0])} - {"ista(step=0.2)"}


def test_a_tie_in_depth_is_told_as_one(tmp_path):
    """What is not timed is not recommended flatly, above the table, in it and by budget."""
    report = report_of_rates(tmp_path, RATES)
    (line,), (row,) = report.recommendations, report.answers
    assert line.startswith(
        "Lasso loss: `backprop` or `analytic`, with `ista(step=0.2)`: tie in depth; not timed, and"
        " others with more layers may be faster."
    )
    assert str(row.cells["use"]) == "backprop with ista(step=0.2) or analytic with ista(step=0.2)"
    assert "≤ 100 layers, tie with analytic" in str(budgets(report.results).columns["error 1e-3"])
    # One alone at its depth is no answer either, as long as deeper ones may be faster.
    alone = report_of_rates(tmp_path / "alone", RATES | {"backprop": 0.97})
    assert alone.recommendations[0].startswith(
        "Lasso loss: `analytic` with `ista(step=0.2)` has the least depth that reaches the error;"
        " not timed, and others with more layers may be faster."
    )


@pytest.mark.parametrize("draw", range(25))
@pytest.mark.parametrize("error", [1e-3, None])
def test_times_refine_what_was_said_without_them(tmp_path, draw, error):
    """What they choose was named before, or it was said that others may be faster; and nothing is
    recommended flatly where the table below has a tie.
    """
    random = np.random.default_rng(draw)
    rates = {name: float(random.choice([0.8, 0.9, 0.95, 0.999])) for name in RATES}
    seconds = {name: float(random.choice([1.0, 1.001, 1.05, 3.0])) for name in RATES}
    lines = []
    for folder, times in (("untimed", None), ("timed", seconds)):
        report = report_of_rates(tmp_path / folder, rates, times)
        requirement = Requirement(error)
        rows = answers(report.results, requirement)
        lines += recommendations(report.results, rows, requirement)
        (row,) = rows
        if row.best.reached or error is None:
            flat = bool(re.match(r"Lasso loss: use `[^`]*` with `[^`]*`\.", lines[-1]))
            assert flat == (not row.best.tied and (row.best.is_timed or row.best.n_near == 1))
    before, after = lines
    assert named(after) <= named(before) or "may be faster" in before
    assert "nothing reaches" not in before or before == after


def test_a_tie_in_time_is_told_as_one(tmp_path):
    """Memory decides it only where it differs by more than its noise."""
    same = dict.fromkeys(SECONDS, 1.0)
    mebibytes = [2.23, 2.23, 1.68, 1.68, 9.0, 9.0, 9.0, 9.0]
    memory = [2.0**20 * size for size in mebibytes]
    rates = {name: 0.9 for name in RATES}
    (line,) = report_of_rates(tmp_path / "a", rates, same, memory).recommendations
    assert line.startswith(
        "Lasso loss: use `analytic` with `ista(step=0.2)`: no other is distinguishably faster, or"
        " as fast with less memory."
    )
    (row,) = report_of_rates(tmp_path / "c", rates, same, memory).answers
    assert "tie in time with" in str(row.cells["use"])
    assert str(row.cells["use"]).endswith(", less memory")
    memory[-1] -= 2.77 * 2.0**20
    report = report_of_rates(tmp_path / "b", rates, same, memory)
    (line,) = report.recommendations
    assert "use `backprop` or `analytic`, with `ista(step=0.2)`: a tie, not dist" in line
    assert "2.77 MiB more than another of the same estimator" in " ".join(report.caveats)
    why = report.answers[0].cells["why"].text
    assert why.startswith("Among the fastest") and why.endswith(" 2 of these take more memory.")


def test_each_loss_has_its_own(tmp_path):
    lines = report_on(tmp_path, records_of("lasso") + records_of("reconstruction")).recommendations
    assert [line.partition(":")[0] for line in lines] == ["Lasso loss", "Reconstruction loss"]


def test_one_pair_for_all_budgets_is_named_once(tmp_path):
    """Where another is best at one budget of one problem, each cell names its own."""
    exact = {(dataset, "analytic"): lambda *_: 1e-9 for dataset in DATASETS}
    alone = [item for item in records_of("lasso", exact) if item["estimator"] == "analytic"]
    table = budgets(reported(tmp_path / "a", alone).results)
    assert [cell.estimator for cell in table.columns["use"]] == ["analytic"] * 2
    assert all(not cell.estimator for cell in table.columns["error 0.1"])
    table = budgets(report_on(tmp_path / "b", records_of("lasso")).results)
    assert "use" not in table.columns
    assert {cell.estimator for cell in table.columns["error 1e-3"]} == {"alternating"}


def test_the_best_unrolled_pair_says_what_it_misses(tmp_path):
    named = case("synthetic-solver-lasso", algorithm="solver")
    records = [
        record(named, "analytic", differentiable=False, scores=scores(lambda *_: 1e-9)),
        record(case(), "analytic", scores=scores(lambda *_: FLOOR)),
    ]
    (row,) = reported(tmp_path, records).answers
    missed = "does not reach 1e-3: error 0.62, 300 layers"
    assert missed in str(row.cells["best unrolled"]) and math.isclose(row.unrolled.error, FLOOR)


def test_the_best_unrolled_pairs_are_told_in_words(tmp_path):
    """With the share of wrong signs at their depths: here of the error that nothing reaches."""
    named = case("synthetic-solver-lasso", algorithm="solver")
    solved = record(named, "analytic", differentiable=False, scores=scores(lambda *_: 1e-9))
    wrong = {1e-9: 0.015, FLOOR: 0.32}
    for error, share in wrong.items():
        signs = scores(lambda *_, error=error: error, support=lambda depth, share=share: share)
        records = [solved, record(case(), "backprop", scores=signs)]
        report = reported(tmp_path / str(share), records)
        *_, line = report.recommendations
        problem = report.answers[0].cells["problem"].text
        if error == FLOOR:
            assert line == (
                f"Best unrolled: nothing reaches 1e-3; closest: `backprop` on {problem}. The signs"
                " of codes there are wrong in up to 32% of the samples after 300 layers: more"
                " layers may change which is best."
            )
        else:
            assert line == (
                f"Best unrolled: `backprop` on {problem}. Where the error is reached, the signs of"
                " codes are wrong in at most 1.5% of the samples by then."
            )
    # Where the answers run layers themselves, they are the best unrolled pairs.
    lines = reported(tmp_path / "layers", records[1:]).recommendations
    assert not any("unrolled" in line for line in lines)


def test_the_best_unrolled_pair_names_what_it_ties_with(tmp_path):
    """Up to two, and with its algorithm where that is another one."""
    solver = case("synthetic-solver-lasso", algorithm="solver")
    fista = case("synthetic-fista-lasso", algorithm="fista")
    fast = scores(lambda *_: 1e-9)
    records = [
        record(solver, "analytic", differentiable=False, scores=scores(lambda *_: 1e-12)),
        record(case(), "analytic", scores=fast),
        record(case(), "backprop", scores=fast),
        record(fista, "backprop", scores=fast),
    ]
    (row,) = reported(tmp_path / "a", records).answers
    tie = "tie with backprop and backprop with fista"
    assert tie in str(row.cells["best unrolled"])
    records.append(record(fista, "alternating", scores=fast))
    (row,) = reported(tmp_path / "b", records).answers
    assert "tie with backprop and 2 others" in str(row.cells["best unrolled"])
