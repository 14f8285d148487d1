"""Two results side by side, on results that the tests make."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from parsed_page import ParsedPage
from synthetic import (
    BOUND,
    CURVES,
    RHO,
    case,
    denoising,
    experiment,
    provenance,
    record,
    scores,
    training,
    write,
    write_costs,
    write_experiments,
)

from pudle.errors import InvalidArgument
from pudle.reports import text
from pudle.reports.command import report_command
from pudle.reports.compare.page import SideBySide
from pudle.reports.learning import sections
from pudle.reports.load import load
from pudle.reports.page import Report


@pytest.fixture
def four(tmp_path):
    """Results of four estimators on one lasso case, exactly as theory predicts."""
    return write(tmp_path, [record(case(), estimator) for estimator in CURVES])


def run(home, *arguments):
    return CliRunner().invoke(report_command, ["--home", str(home), *arguments])


def experiments(tmp_path, *records):
    """Return results that hold only experiments."""
    write_experiments(tmp_path, records)
    return load(tmp_path, "quick")


def headings(page):
    return re.findall(r'<h2 id="(\w+)"', page)


@pytest.fixture
def two(tmp_path):
    """Two results; the second has a worse backprop, no analytic, and a case of its own."""
    first = write(tmp_path / "a", [record(case(), estimator) for estimator in CURVES])
    worse = record(case(), "backprop", scores=scores(lambda depth, rho: 10 * CURVES["backprop"](depth, rho)),
                   provenance=provenance(commit="d" * 40, machine="there"))  # fmt: skip
    records = [record(case(), "alternating"), worse, record(case("own-ista-lasso"), "backprop")]
    second = write(tmp_path / "b", records, estimators=["alternating", "backprop"])
    for home, seconds in ((first, [1.0, 2.0, 3.0, 6.0]), (second, [1.0, 2.0, 3.0, 3.0])):
        write_costs(home, ["alternating", "backprop"], seconds, memory=[2.0**21, 2.0**22] * 2)
    return first / "quick", second / "quick"


def test_differences_are_those_of_the_two(two):
    made = SideBySide(tuple(Report.of(load(folder.parent, "quick")) for folder in two), ("one", "other"))
    assert made.cases == [case()["name"]]
    rows = made.differences().set_index("estimator")
    assert rows.loc["alternating", ["decades B - A", "time B / A", "memory B - A"]].tolist() == ["+0.00", "1.00", "0"]
    assert rows.loc["backprop", "time B / A"] == "0.50"
    # An estimator that one side lacks has no differences.
    assert rows.loc["analytic", "status"] == "ok, then absent"
    assert rows.loc["analytic", ["error B", "decades B - A", "time B / A", "memory B - A"]].tolist() == ["–"] * 4


def test_an_estimator_that_one_side_did_not_time_has_no_differences_in_time(tmp_path):
    homes = [
        write(tmp_path / name, [record(case(), estimator) for estimator in ("alternating", "backprop")]) for name in "ab"
    ]
    write_costs(homes[0], ["alternating", "backprop"], [1.0, 2.0] * 2, memory=[2.0**21, 2.0**22] * 2)
    write_costs(homes[1], ["backprop"], [1.0, 2.0], memory=[2.0**21, 2.0**22])
    made = SideBySide(tuple(Report.of(load(home, "quick")) for home in homes), ("one", "other"))
    rows = made.differences().set_index("estimator")
    compared = ["decades B - A", "time B / A", "memory B - A"]
    assert rows.loc["alternating", compared].tolist() == ["+0.00", "–", "–"]
    assert rows.loc["backprop", compared].tolist() == ["+0.00", "1.00", "0"]


def test_decades_are_above_zero_where_the_second_is_worse(two):
    made = SideBySide(tuple(Report.of(load(folder.parent, "quick")) for folder in two), ("one", "other"))
    # At the deepest depth, in the median seed; the first is at its bound there, or near it.
    one, other = (sorted(max(by * CURVES["backprop"](300, rho), BOUND) for rho in RHO.values())[1] for by in (1, 10))
    assert other > 2 * one
    shown = made.differences().set_index("estimator").loc["backprop", "decades B - A"]
    assert shown == f"{math.log10(other / one):+.2f}"


def test_command_shows_two_results_side_by_side(two, tmp_path):
    done = run(tmp_path, *map(str, two), "--out", str(tmp_path / "out"))
    # The second side lacks two of its pairs: the command says so and writes the page.
    assert done.exit_code in (0, 2), done.output
    names = [Path(line).name for line in done.stdout.splitlines()]
    assert names == ["report_figures", "report.md", "report.csv", "report.html"]
    page = (tmp_path / "out" / "report.html").read_text()
    parsed = ParsedPage(page)
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
             training("other", options={"depth": 10}), training("broken", status="error", reason="no disk"),
             experiment("odd", "spectral")]  # fmt: skip
    second = [training("one", rate=0.2, pace=0.02), denoising("clear", "BM3D", left=0.25),
              training("other", options={"depth": 20}), training("broken"), experiment("odd", "spectral")]  # fmt: skip
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
    # An option that one side's version did not have is no different option; with different images PSNR cannot be compared.
    changed = [training("one", rate=0.1, options={"later": None}), denoising("clear", "BM3D")]
    changed[1][0]["summary"]["test_images"] = "others"
    later = experiments(tmp_path / "later", *changed)
    rows = sections.experiments_pair(sides[0].results, later).set_index("experiment").to_dict("index")
    assert rows["one"]["difference"] == "1 times" and rows["one"]["status"] == "ok"
    assert rows["clear"]["difference"] == "–" and rows["clear"]["status"] == "ok; other images"
    # Without a case the sections about cases are left out; failures of either side are listed.
    page = SideBySide(tuple(sides), ("one", "other")).html()
    assert headings(page) == ["experiments", "problems", "provenance"] and "no disk" in page
    parsed = ParsedPage(page)
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= set(parsed.ids)
    done = run(tmp_path, *map(str, homes), "--out", str(tmp_path / "out"))
    assert done.exit_code == 2 and "something broke in broken:" in done.output
    written = (tmp_path / "out" / "report.md").read_text()
    assert "below one where B is smaller" in written
    assert re.findall("^## (.*)", written, re.MULTILINE) == ["Experiments", "Skipped, refused or failed", "Provenance"]


def test_formats_of_one_result_are_refused_for_two(two, tmp_path):
    done = run(tmp_path, *map(str, two), "--format", "latex")
    assert isinstance(done.exception, InvalidArgument) and "latex" in str(done.exception)


def test_what_is_neither_folder_nor_commit_is_refused(four):
    done = run(four, "nowhere", "elsewhere")
    assert isinstance(done.exception, InvalidArgument) and "nowhere" in str(done.exception)


def test_two_results_with_experiments_are_still_compared(two):
    for folder in two:
        write_experiments(folder.parent, [training("one", status="timeout", reason="late")])
    done = run(two[0].parent, *map(str, two), "--format", "markdown", "--out", str(two[0].parent / "out"))
    assert "report.md" in done.stdout and "one" in done.stderr.split(":")[0].split()
    table = (two[0].parent / "out" / "report.md").read_text().partition("## Experiments")[2]
    assert re.search(r"\| `one` \|.* timeout \|", table)
