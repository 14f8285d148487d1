"""The report's formats, and the command that writes them."""

from __future__ import annotations

import dataclasses
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from click.testing import CliRunner
from parsed_page import ParsedPage
from synthetic import (
    COMMIT,
    case,
    failure,
    record,
    write,
)

from pudle.errors import MissingDependency, MissingResults, UnreadableResult
from pudle.reports.command import report_command
from pudle.reports.load import load
from pudle.reports.page import Report


def run(home, *arguments):
    return CliRunner().invoke(report_command, ["--home", str(home), *arguments])


def test_page_loads_nothing_and_describes_its_figures(html):
    parsed = ParsedPage(html)
    assert all(link.startswith(("#", "data:", "report_figures/")) for link in parsed.links)
    assert not any(link.startswith("report_figures/") for link in parsed.loaded)
    assert not re.search(r"https?:|@import|<script src", html)
    assert parsed.language == "en"
    # Error, direction, memory over depth; error over time and memory; rates.
    assert len(parsed.figures) == 6
    for figure in parsed.figures:
        assert figure["role"] == "img" and re.match("synthetic-ista-lasso|All cases", figure["aria-label"])
        assert "backprop" in figure["aria-label"]
    assert len(parsed.ids) == len(set(parsed.ids))
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(parsed.ids)
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= set(parsed.ids)
    assert html.count("<caption>") == html.count("<table ") > 0 and '<th scope="col">' in html
    assert len(html) < 5e6
    assert "1.0e-12" in html and COMMIT[:12] in html and "Abacus" in html


def test_page_is_the_same_twice(tmp_path):
    home = write(tmp_path, [record(case(), "backprop")])
    first, second = (Report.of(load(home, "quick")).html() for _ in range(2))
    assert first == second


def test_text_from_outside_is_escaped(tmp_path):
    home = write(
        tmp_path, [record(case(), "backprop"), failure(case(), "analytic", "error", "<script>alert(1)</script> | `x`")]
    )
    report = Report.of(load(home, "quick"))
    assert "<script>alert" not in report.html()
    line = next(line for line in report.markdown().splitlines() if "alert" in line)
    assert line.replace("\\|", "").count("|") == 8 and "<script" not in line


def test_data_of_a_figure_is_in_the_page(html):
    (uri,) = re.findall(r'download="error-synthetic-ista-lasso.csv" href="data:text/csv;charset=utf-8,([^"]+)"', html)
    data = pd.read_csv(io.StringIO(unquote(uri)))
    assert list(data.columns) == ["estimator", "depth", "median", "least", "greatest"]
    row = data[(data["estimator"] == "alternating") & (data["depth"] == 100)].iloc[0]
    expected = [0.5 * rho**100 for rho in (0.955, 0.95, 0.96)]
    assert row[["median", "least", "greatest"]].tolist() == pytest.approx(expected, 1e-5)


def test_too_large_a_page_links_to_the_data_instead(timed, monkeypatch):
    monkeypatch.setattr("pudle.reports.page.LARGEST", 1000)
    page = dataclasses.replace(timed, linked=["csv"]).html()
    assert "data:text/csv" not in page and 'href="report_figures/error-synthetic-ista-lasso.csv"' in page
    assert "report_figures" not in timed.html()


def test_latex_is_plain_text_with_whole_tables(timed):
    text = timed.latex()
    assert text.isascii() and r"\toprule" in text and r"$\rho^{2T}$" in text and "truncated(window=10)" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3


def test_latex_compiles(timed, tmp_path):
    engine = shutil.which("pdflatex") or shutil.which("tectonic")
    if engine is None:
        pytest.skip("needs pdflatex or tectonic")
    document = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}" + timed.latex() + r"\end{document}"
    (tmp_path / "document.tex").write_text(document)
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in engine else []
    done = subprocess.run([engine, *options, "document.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
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
    assert [path.name for path in paths] == ["report_figures", "report.md", "report.csv", "report.html"]
    assert all(path.parent == timed_home / "quick" / "report" and path.stat().st_size for path in paths)
    # No figure was drawn but for the page: their data alone are files.
    assert {path.suffix for path in paths[0].iterdir()} == {".csv"}
    assert not list(paths[0].parent.glob("*.tmp"))


@pytest.mark.parametrize(("formats", "of_page", "of_markdown"), [
    ([], set(), set()),
    (["html,markdown"], set(), set()),
    (["html,svg", "markdown"], {"svg"}, {"svg"}),
    (["markdown", "html", "png", "pdf", "csv"], {"png", "pdf"}, {"png"}),
    (["markdown,pdf"], set(), set()),
])  # fmt: skip
def test_links_of_page_and_markdown_lead_to_files(tmp_path, formats, of_page, of_markdown):
    home = write(tmp_path, [record(case(), "backprop")])
    done = run(home, "--out", str(tmp_path / "out"), *(part for name in formats for part in ("--format", name)))
    assert done.exit_code == 0, done.output
    page, markdown = (tmp_path / "out" / name for name in ("report.html", "report.md"))
    links = re.findall(r'href="(report_figures/[^"]+)"', page.read_text()) if page.exists() else []
    images = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", markdown.read_text())
    assert {Path(link).suffix[1:] for link in links} == of_page
    assert {Path(image).suffix[1:] for image in images} == of_markdown
    assert all((tmp_path / "out" / link).is_file() for link in [*links, *images])


def test_an_unknown_format_is_refused_by_name(four):
    done = run(four, "--format", "html,docx")
    assert done.exit_code == 2 and "docx" in done.stderr


def test_command_writes_only_the_selected_formats(four, tmp_path):
    done = run(four, "--out", str(tmp_path / "out"), "--format", "latex")
    assert done.stdout.split() == [str(tmp_path / "out" / "report.tex")]
    home = write(tmp_path / "one", [record(case(), "backprop")])
    done = run(home, "--format", "pdf", "--out", str(tmp_path / "drawn"))
    assert done.stdout.split() == [str(tmp_path / "drawn" / "report_figures")]


def test_command_reports_the_rest_and_exits_with_2_when_something_broke(tmp_path):
    home = write(tmp_path, [record(case(), "backprop"), failure(case(), "analytic", "error", "ValueError: no")])
    done = run(home)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1 and "analytic" in done.stderr and "backprop" not in done.stderr
    page = Path(done.stdout.splitlines()[-1])
    assert page.suffix == ".html" and "ValueError: no" in page.read_text()


def test_command_exits_with_0_when_there_are_findings(tmp_path):
    home = write(tmp_path, [record(case(), "backprop"), failure(case(), "analytic", "unsupported", "needs a dictionary")])
    assert run(home, "--format", "csv").exit_code == 0


def test_command_writes_nothing_on_an_error(four, tmp_path):
    for path in (four / "quick" / "store").glob("*/*.json"):
        path.write_text("{")
    done = run(four)
    assert isinstance(done.exception, UnreadableResult) and not (four / "quick" / "report").exists()
    assert isinstance(run(tmp_path / "nowhere").exception, MissingResults)


def test_command_names_a_damaged_file_and_writes_the_rest(four):
    path = next((four / "quick" / "store").glob("*/*.json"))
    path.write_text("{")
    done = run(four, "--format", "csv")
    assert done.exit_code == 2 and sum(str(path) in line for line in done.stderr.splitlines()) == 1
    assert len((four / "quick" / "report" / "report.csv").read_text().splitlines()) > 100


def test_command_explains_itself():
    done = CliRunner().invoke(report_command, ["--help"])
    assert done.exit_code == 0 and "pudle report --profile default" in done.output
