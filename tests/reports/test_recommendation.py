"""The recommendation in short: what the answers of a loss have in common, and why it is right."""

import math

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
        " `alternating` leaves that out: its error stays at 0.62, whatever the depth."
    )
    page = html(report)
    assert line in report.markdown() and line.replace("`", "") in page.replace(
        "<code>", ""
    ).replace("</code>", "")


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
