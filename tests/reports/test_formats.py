"""The report's formats, and the command that writes them."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import living_page
import pandas as pd
import pytest
from click.testing import CliRunner
from parsed_page import ParsedPage
from stored_experiments import experiments
from synthetic import (
    BOUND,
    COMMIT,
    RHO,
    SEEDS,
    case,
    failure,
    record,
    references,
    training,
    write,
)

from pudle.errors import MissingDependency, MissingResults, UnreadableResult
from pudle.files import write_record
from pudle.reports import scope
from pudle.reports.command import report_command
from pudle.reports.load import load
from pudle.reports.report import Report


def run(home, *arguments):
    return CliRunner().invoke(report_command, ["--home", str(home), *arguments])


def test_page_loads_nothing_and_says_what_it_rests_on(html):
    parsed = ParsedPage(html)
    assert all(link.startswith(("#", "data:")) for link in parsed.links)
    assert not re.search(r"@import|<script src", html)
    assert parsed.language == "en"
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= set(parsed.ids)
    assert len(html) < 5e6
    assert (
        "Rests on 4 estimators and 1 case of 3 seeds." in html
        and COMMIT[:12] in html
        and "Abacus" in html
    )


def test_page_carries_its_errors_and_costs_by_depth(html):
    (run,) = living_page.data(html)["runs"]
    (shown,) = run["cases"]
    errors = [0.5 * RHO[seed] ** 100 for seed in SEEDS]
    at = {"estimator": "alternating", "depth": 100}
    (row,) = (row for row in living_page.rows(shown["figure"]["rows"]) if row.items() >= at.items())
    spread = [row[f"relative_error{end}"] for end in ("_low", "", "_high")]
    assert spread == pytest.approx([errors[0], errors[1], errors[2]], rel=1e-5)
    # At depth 100, 1 s and 2 MiB.
    assert (row["ms"], row["mib"]) == (1000, 2)
    seeds = living_page.rows(shown["figure"]["seeds"])
    known = [row["relative_error"] for row in seeds if row.items() >= at.items()]
    assert known == pytest.approx(errors, rel=1e-5)
    assert shown["figure"]["levels"] == [[BOUND, "certified bound 1.0e-12"]]


def test_seeds_that_all_draw_the_same_problem_are_noted(tmp_path):
    same = [{**references()[0], "seed": seed} for seed in SEEDS]
    home = write(
        tmp_path,
        [record(case("fixed"), "backprop", references=same), record(case("drawn"), "backprop")],
    )
    report = Report.of(load(home, "quick"))
    said = "the range over the seeds says nothing about other problems there."
    assert f"Every seed draws the same problem on <code>fixed</code>: {said}" in living_page.html(
        report
    )
    assert f"- Every seed draws the same problem on `fixed`: {said}" in report.markdown()


def test_times_of_the_torch_path_are_explained_where_there_are_some(timed):
    results, told = timed.results, "`pudle run --profile default` measures those without as well"
    rows = results.frame[results.frame["metric"] == "seconds"].assign(metric="seconds_torch")
    both = Report.of(
        dataclasses.replace(results, frame=pd.concat([results.frame, rows], ignore_index=True))
    )
    for report, some in ((timed, False), (both, True)):
        markdown, page = report.markdown(), living_page.html(report)
        assert ("torch path: time to" in markdown) == ("Torch path: the same" in markdown) == some
        assert ("as Markdown and as CSV has those without as well" in page) == some
        assert (
            (told in markdown)
            == (told.replace("`", "<code>", 1).replace("`", "</code>") in page)
            == (not some)
        )


def test_an_unfinished_run_says_what_is_still_to_be_measured(tmp_path):
    """Two of four scores are there: nothing broke, and the command says so too."""
    cases = [case(), case("synthetic-ista-reconstruction", loss="reconstruction")]
    home = write(
        tmp_path, [record(item, "backprop") for item in cases], estimators=["backprop", "analytic"]
    )
    report = Report.of(load(home, "quick"))
    page = living_page.html(report)
    assert (
        "This run is unfinished: still to be measured are 2 scores. Nothing is scored yet with"
        " <code>analytic</code>." in page
    )
    assert "Something broke" not in page and "This run is unfinished" in report.markdown()
    assert (
        "Rests on 1 estimator and 2 cases of 3 seeds. No score with `analytic`." in report.subtitle
    )
    assert living_page.data(page)["tables"]["problems"]["rows"] == []
    done = run(home, "--format", "csv")
    assert done.exit_code == 0 and done.stderr.startswith("This run is unfinished")


def test_an_estimator_of_experiments_alone_is_named_beside_those_of_the_scores(tmp_path):
    """The controls of the page list it too, so that the numbers of estimators agree."""
    write(tmp_path, [record(case(), "backprop")])
    results = experiments(tmp_path, training("a", "backprop"), training("b", "noodl"))
    expected = (
        "Rests on 1 estimator and 1 case of 3 seeds, and 2 experiments, some of them with `noodl`."
    )
    assert scope.scope(results) == expected


def test_where_an_estimator_is_not_measured_nothing_is_missing(tmp_path):
    cases = [case(), case("synthetic-ista-reconstruction", loss="reconstruction")]
    records = [
        record(cases[0], "backprop"),
        record(cases[1], "backprop"),
        record(cases[0], "forward"),
    ]
    home = write(tmp_path, records, estimators=["backprop", "forward"])
    path = home / "quick" / "run.json"
    listed = json.loads(path.read_text())
    listed["selection"]["limited"] = [["forward", "*-lasso", "too long"]]
    write_record(path, listed)
    results = load(home, "quick")
    assert results.frame["status"].eq("ok").all() and len(results.records) == 3
    assert results.estimators == ("backprop", "forward") and scope.pending_sentence(results) == ""
    assert "Rests on 2 estimators and 2 cases" in Report.of(results).subtitle


def test_a_page_of_too_many_errors_carries_medians_and_says_so(timed, monkeypatch):
    monkeypatch.setattr("pudle.reports.page.data.MOST_ERRORS", 50)
    page = living_page.html(timed)
    (shown,) = living_page.data(page)["runs"][0]["cases"]
    assert "seeds" not in shown["figure"] and "cosine_error" not in shown["figure"]["rows"]
    assert len(shown["figure"]["rows"]["depth"]) == 32
    assert "it carries their median, least and greatest over the seeds" in page


def test_a_case_that_is_scored_against_a_limit_has_its_badge(tmp_path):
    other = case("own-iteration-lasso", dataset="own(n=10)")
    home = write(
        tmp_path,
        [
            record(case(), "backprop"),
            record(other, "backprop", references=references(status="limit")),
        ],
    )
    report = Report.of(load(home, "quick"))
    page = living_page.html(report)
    assert page.count('<span class="badge">limit</span>') == 1
    assert [item["badge"] for item in living_page.data(page)["runs"][0]["cases"]] == ["", "limit"]
    assert (
        "**own-iteration-lasso** (against a limit)" in report.markdown()
        and "scored against a limit" in report.latex()
    )


def test_latex_is_plain_text_with_whole_tables(timed):
    text = timed.latex()
    assert (
        text.isascii()
        and r"\toprule" in text
        and r"$\rho^{2T}$" in text
        and "truncated(window=10)" in text
    )
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3


def test_latex_compiles(timed, tmp_path):
    engine = shutil.which("pdflatex") or shutil.which("tectonic")
    if engine is None:
        pytest.skip("needs pdflatex or tectonic")
    document = (
        r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
        + timed.latex()
        + r"\end{document}"
    )
    (tmp_path / "document.tex").write_text(document)
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in engine else []
    done = subprocess.run(
        [engine, *options, "document.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull \\hbox" not in done.stdout + (tmp_path / "document.log").read_text()
    assert (tmp_path / "document.pdf").exists()


def test_parquet_keeps_the_types(four, tmp_path):
    pytest.importorskip("pyarrow")
    done = run(four, "--format", "parquet", "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    back = pd.read_parquet(tmp_path / "report.parquet")
    pd.testing.assert_frame_equal(back, load(four, "quick").frame)


def test_parquet_without_pyarrow_is_refused_with_the_remedy(four, monkeypatch):
    report = Report.of(load(four, "quick"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match=r"pip install 'pudle\[parquet\]'") as error:
        report.parquet()
    assert len(str(error.value).splitlines()) == 1


# -- command


def test_command_writes_three_files_and_prints_the_page_last(timed_home, written):
    assert written.exit_code == 0, written.output
    paths = [Path(line) for line in written.stdout.splitlines()]
    assert [path.name for path in paths] == ["report.md", "report.csv", "report.html"]
    assert all(
        path.parent == timed_home / "quick" / "report" and path.stat().st_size for path in paths
    )
    # No figure was drawn.
    assert {path.name for path in paths[0].parent.iterdir()} == {path.name for path in paths}


@pytest.mark.parametrize(
    ("formats", "shown"),
    [
        ("markdown", ""),
        ("svg,markdown", ".svg"),
        ("markdown,png,pdf,csv", ".png"),
        ("markdown,pdf", ""),
    ],
)
def test_images_of_the_markdown_are_files_beside_it(tmp_path, formats, shown):
    home = write(tmp_path, [record(case(), "backprop")])
    done = run(home, "--out", str(tmp_path / "out"), "--format", formats)
    assert done.exit_code == 0, done.output
    images = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (tmp_path / "out" / "report.md").read_text())
    assert {Path(image).suffix for image in images} == {shown} - {""}
    assert all((tmp_path / "out" / image).is_file() for image in images)


def test_command_writes_only_the_selected_formats(four, tmp_path):
    done = run(four, "--out", str(tmp_path / "out"), "--format", "latex")
    assert done.stdout.split() == [str(tmp_path / "out" / "report.tex")]
    home = write(tmp_path / "one", [record(case(), "backprop")])
    done = run(home, "--format", "pdf", "--out", str(tmp_path / "drawn"))
    assert done.stdout.split() == [str(tmp_path / "drawn" / "report_figures")]


def test_command_reports_the_rest_and_exits_with_2_when_something_broke(tmp_path):
    home = write(
        tmp_path,
        [record(case(), "backprop"), failure(case(), "analytic", "error", "ValueError: no")],
    )
    done = run(home)
    assert done.exit_code == 2
    assert (
        done.stderr.count("\n") == 1 and "analytic" in done.stderr and "backprop" not in done.stderr
    )
    page = Path(done.stdout.splitlines()[-1])
    assert page.suffix == ".html"
    assert "ValueError: no" in set(living_page.texts(living_page.data(page.read_text())))


def test_command_writes_nothing_on_an_error(four, tmp_path):
    for path in (four / "quick" / "store").glob("*/*.json"):
        path.write_text("{")
    done = run(four)
    assert isinstance(done.exception, UnreadableResult) and not (four / "quick" / "report").exists()
    assert isinstance(run(tmp_path / "nowhere").exception, MissingResults)


def test_command_refuses_a_profiles_folder_as_a_home_and_names_the_home(four):
    done = run(four / "quick")
    assert isinstance(done.exception, MissingResults) and f"did you mean --home {four}?" in str(
        done.exception
    )


def test_command_names_a_damaged_file_and_writes_the_rest(four):
    path = next((four / "quick" / "store").glob("*/*.json"))
    path.write_text("{")
    done = run(four, "--format", "csv")
    assert done.exit_code == 2 and sum(str(path) in line for line in done.stderr.splitlines()) == 1
    assert len((four / "quick" / "report" / "report.csv").read_text().splitlines()) > 100
