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


def report_of(folder, n_cases):
    """Return the report of a store with 2,000 errors in each case, no two of them equal."""
    random, records = np.random.default_rng(0), []
    cases = [case(f"case{number}", depths=DEPTHS, seeds=SEEDS) for number in range(n_cases)]
    for the_case, estimator in itertools.product(cases, NAMES):
        errors = random.uniform(0.95, 0.97) ** np.array(DEPTHS) * random.uniform(0.5, 1, (5, 20))
        drawn = iter(errors.ravel().tolist())
        rows = scores(lambda *_: next(drawn), seeds=SEEDS, depths=DEPTHS)  # noqa: B023
        records.append(record(the_case, estimator, scores=rows))
    write(folder, records)
    costs = random.uniform(1e-3, 2e-3, 2 * len(records))
    names = [item["name"] for item in cases]
    write_costs(folder, NAMES, costs.tolist(), (1e9 * costs).tolist(), names)
    return Report(load(folder, "quick"))


def timed(function):
    """Return what a function returns, and its processor time."""
    start = time.process_time()
    return function(), time.process_time() - start


@pytest.mark.nightly
def test_a_large_report_stays_small_and_its_time_grows_with_its_errors(tmp_path):
    # The first page of a process imports what draws.
    html(report_of(tmp_path / "first", 1))
    small, large = report_of(tmp_path / "small", 10), report_of(tmp_path / "large", 40)
    _, seconds_of_small = timed(lambda: html(small))
    page, seconds = timed(lambda: html(large))
    # 80,000 errors, each of which the page carries exactly.
    assert seconds < 1.5 * 4 * seconds_of_small
    assert len(page) < 5_000_000
    (run,) = data(page)["runs"]
    assert not run["condensed"] and len(run["cases"]) == 40


@pytest.mark.nightly
def test_a_record_of_200_000_rows_is_read_and_reported(tmp_path):
    def report(folder, n_seeds):
        seeds, depths = list(range(n_seeds)), list(range(500))
        rows = scores(lambda depth, _: 0.99**depth, seeds=seeds, depths=depths)
        write(folder, [record(case(seeds=seeds, depths=depths), "backprop", scores=rows)])

        def written():
            report = Report(load(folder, "quick"))
            assert report.csv().count("\n") == 1 + 500 * n_seeds * len(ERRORS)
            return report.markdown(), html(report)

        (markdown, page), seconds = timed(written)
        assert markdown and "data" in page
        return seconds

    report(tmp_path / "first", 1)
    seconds_of_small = report(tmp_path / "small", 100)
    assert report(tmp_path / "large", 400) < 1.5 * 4 * seconds_of_small
