"""Size and time of a large report: 20 estimators, 40 cases, 20 depths and 5 seeds, and the
browser's share.
"""

import time

import numpy as np
import pytest
from living_page import data, html
from synthetic import case, record, references, scores, write, write_costs

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


def large(home, cases):
    """Lay out results of 20 estimators whose errors no two share."""
    random, records = np.random.default_rng(0), []
    template = scores(lambda depth, rho: 1.0, seeds=[0])[0]
    for name in cases:
        the_case = case(name, depths=DEPTHS, seeds=SEEDS)
        for estimator in NAMES:
            rate = 0.95 + 0.02 * random.random()
            rows = [
                template
                | {
                    "seed": seed,
                    "depth": depth,
                    "relative_error": float(rate**depth * random.uniform(0.5, 1)),
                }
                for depth in DEPTHS
                for seed in SEEDS
            ]
            known = [
                reference | {"seed": seed} for seed in SEEDS for reference in references(seeds=[0])
            ]
            records.append(record(the_case, estimator, scores=rows, references=known))
    write(home, records)
    costs = random.uniform(1e-3, 2e-3, 2 * len(records))
    write_costs(home, NAMES, costs.tolist(), memory=(1e9 * costs).tolist(), names=cases)
    return load(home, "quick")


@pytest.mark.nightly
def test_a_large_report_stays_small_and_quick(tmp_path):
    results = large(tmp_path, [f"case{number}" for number in range(40)])
    start = time.process_time()
    page = html(Report.of(results))
    # Without reading the files: 80,000 errors, each of which the page carries exactly.
    assert time.process_time() - start < 15
    assert len(page) < 5_000_000
    (run,) = data(page)["runs"]
    assert (
        not run["condensed"]
        and len(run["cases"]) == 40
        and len(run["cases"][0]["relative_error"][0]) == 20
    )


@pytest.mark.nightly
def test_time_is_linear_in_the_number_of_records(tmp_path):
    """Four times the records in at most six times the time; quadratic would be sixteen."""
    seconds = []
    for count in (5, 20):
        taken = []
        # The least of two, because the speed of a machine moves.
        for turn in range(2):
            results = large(
                tmp_path / f"{count}-{turn}", [f"case{number}" for number in range(count)]
            )
            start = time.process_time()
            Report.of(results)
            taken.append(time.process_time() - start)
        seconds.append(min(taken))
    assert seconds[1] < 6 * seconds[0]
