"""Fitted rates, on errors that follow theory exactly."""

from __future__ import annotations

import pytest
from synthetic import (
    BOUND,
    CURVES,
    DEPTHS,
    RHO,
    SEEDS,
    case,
    record,
    scores,
    write,
)

from pudle.reports.answers import answers
from pudle.reports.load import load
from pudle.reports.page import Report
from pudle.reports.rates import Law, fit, law


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
def test_window_not_reached_is_the_reason_for_no_rate(tmp_path, support, reason):
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
