"""Size and time of large reports: of many cases, and of one record of many rows."""

import itertools
import time

import numpy as np
import pytest
from support.page.living_page import data, html
from support.records.synthetic import case, record, scores, write, write_costs

from pudle.measuring.scoring import ERRORS
from pudle.reports.load import load
from pudle.reports.report import Report

DEPTHS = [1, 2, 5, 10, 15, 20, 30, 40, 50, 60, 80, 100, 120, 150, 200, 250, 300, 400, 500, 600]
SEEDS = [0, 1, 2, 3, 4]
NAMES = [
    "alternating",
    "backprop",
    "analytic",
    *(f"truncated(window={window})" for window in range(1, 18)),
]


@pytest.mark.nightly
def test_a_large_report_stays_small_and_quick(tmp_path):
    random, records = np.random.default_rng(0), []
    cases = [case(f"case{number}", depths=DEPTHS, seeds=SEEDS) for number in range(40)]
    for the_case, estimator in itertools.product(cases, NAMES):
        # No two of them are equal.
        errors = random.uniform(0.95, 0.97) ** np.array(DEPTHS) * random.uniform(0.5, 1, (5, 20))
        drawn = iter(errors.ravel().tolist())
        rows = scores(lambda *_: next(drawn), seeds=SEEDS, depths=DEPTHS)  # noqa: B023
        records.append(record(the_case, estimator, scores=rows))
    write(tmp_path, records)
    costs = random.uniform(1e-3, 2e-3, 2 * len(records))
    names = [item["name"] for item in cases]
    write_costs(tmp_path, NAMES, costs.tolist(), (1e9 * costs).tolist(), names)
    results = load(tmp_path, "quick")
    start = time.process_time()
    page = html(Report(results))
    # Without reading the files: 80,000 errors, each of which the page carries exactly.
    assert time.process_time() - start < 15
    assert len(page) < 5_000_000
    (run,) = data(page)["runs"]
    assert not run["condensed"] and len(run["cases"]) == 40


@pytest.mark.nightly
def test_a_record_of_200_000_rows_is_read_and_reported(tmp_path):
    seeds, depths = list(range(400)), list(range(500))
    rows = scores(lambda depth, _: 0.99**depth, seeds=seeds, depths=depths)
    write(tmp_path, [record(case(seeds=seeds, depths=depths), "backprop", scores=rows)])
    start = time.process_time()
    report = Report(load(tmp_path, "quick"))
    assert report.markdown() and report.csv().count("\n") == 1 + 200_000 * len(ERRORS)
    assert "data" in html(report) and time.process_time() - start < 30
