"""Several runs side by side, on results that the tests make."""

import math
from pathlib import Path

import pytest
from support.page import living_page
from support.page.parsed_page import ParsedPage
from support.records.stored_experiments import experiments, framed, headings, run_report
from support.records.synthetic import (
    BOUND,
    CURVES,
    RHO,
    case,
    denoising,
    provenance,
    record,
    scores,
    training,
    write,
    write_costs,
)

from pudle import text
from pudle.errors import InvalidArgument
from pudle.reports.load import load
from pudle.reports.report import Report, Runs


@pytest.fixture
def two(tmp_path):
    """Two results; the second has a worse backprop, no analytic, and a case of its own."""
    first = write(tmp_path / "a", [record(case(), estimator) for estimator in CURVES])
    worse = record(
        case(),
        "backprop",
        scores=scores(lambda depth, rho: 10 * CURVES["backprop"](depth, rho)),
        provenance=provenance(commit="d" * 40, machine="there", date="2026-01-03T00:00:00+00:00"),
    )
    records = [record(case(), "alternating"), worse, record(case("own-ista-lasso"), "backprop")]
    names = ["alternating", "backprop", "forward"]
    second = write(tmp_path / "b", records, estimators=names)
    for home, seconds in ((first, [1.0, 2.0, 3.0, 6.0]), (second, [1.0, 2.0, 3.0, 3.0])):
        write_costs(home, names[:2], seconds, memory=[2.0**21, 2.0**22] * 2)
    return first / "quick", second / "quick"


def test_the_numbers_of_every_run_stand_below_each_other(two):
    one, other = (Report(load(folder.parent, "quick")) for folder in two)
    rows = framed(Runs({"one": one, "other": other}).numbers)
    # On the cases of the first run; an estimator that one side lacks has no row of it.
    assert set(rows["case"]) == {case()["name"]}
    assert rows[["estimator", "run"]].values.tolist()[1:5] == [
        ["alternating", "other"],
        ["backprop", "one"],
        ["backprop", "other"],
        ["analytic", "one"],
    ]
    errors = rows.set_index(["estimator", "run"])["error at the deepest depth"]["backprop"]
    for run, by in (("one", 1), ("other", 10)):
        _, median, _ = sorted(max(by * CURVES["backprop"](300, rho), BOUND) for rho in RHO.values())
        assert errors[run].startswith(text.number(median))


def test_the_report_of_one_folder_lies_in_it(two, tmp_path):
    """Of a home, and of the folder of its profile."""
    for folder in (two[0], two[0].parent):
        done = run_report(tmp_path / "home", str(folder), "--format", "csv")
        assert done.stdout.split() == [str(two[0] / "report" / "report.csv")]


def test_command_shows_several_results_in_one_page(two, tmp_path):
    done = run_report(tmp_path, *map(str, (*two, two[0])), "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    names = [Path(line).name for line in done.stdout.splitlines()]
    assert names == ["report.html"]
    page = (tmp_path / "out" / "report.html").read_text()
    ParsedPage(page).check()
    content, labels = living_page.data(page), [str(folder) for folder in two]
    assert [item["label"] for item in content["runs"]] == labels
    rows = living_page.texts(content["tables"]["numbers"])
    assert {case()["name"], labels[1]} <= {*rows} and "d" * 12 in page
    done = run_report(tmp_path, *map(str, two), "--format", "csv")
    assert isinstance(done.exception, InvalidArgument) and "csv" in str(done.exception)


def test_experiments_side_by_side(tmp_path):
    """The errors are ``0.5 exp(-50 rate)``, and a share `left` of the noise is -20 log10 of it in
    decibels.
    """
    sides = [
        experiments(write(tmp_path / name, [], cases=[], estimators=[]), *records)
        for name, records in {
            "a": [
                training("one", rate=0.1),
                training("gone"),
                denoising("clear", "BM3D", left=0.5),
                training("other", options={"depth": 10}),
                training("broken", status="error", reason="no disk"),
            ],
            "b": [
                training("one", rate=0.2, pace=0.02),
                denoising("clear", "BM3D", left=0.25),
                training("other", options={"depth": 20}),
                training("broken"),
            ],
        }.items()
    ]
    reports = dict(zip(("one", "other"), map(Report, sides), strict=True))
    rows = framed(Runs(reports).experiments).set_index(["experiment", "run"])
    errors = [text.number(0.5 * math.exp(-end)) for end in (5, 10)]
    assert rows.loc["one", ["value", "time"]].values.tolist() == [
        [errors[0], "500 ms"],
        [errors[1], "1 s"],
    ]
    assert rows.loc["clear", "value"].tolist() == ["26.02 dB", "32.04 dB"]
    assert rows.loc["other", "status"].tolist() == ["ok", "ok; other options"]
    assert rows.loc[("broken", "one"), "status"] == "error" and ("gone", "other") not in rows.index
    # Without a case the sections about cases are left out; failures of either side are listed.
    page = living_page.html(*map(Report, sides), names=["one", "other"])
    assert headings(page)[0] == "runs" and "answers" not in headings(page)
    assert "no disk" in set(living_page.texts(living_page.data(page)["tables"]["problems"]))
