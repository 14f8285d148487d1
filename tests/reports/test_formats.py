"""The report's formats, and the command that writes them."""

import io
import math
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.text import Text
from support.page import living_page
from support.page.parsed_page import ParsedPage
from support.paths import ROOT
from support.records.stored_experiments import reported, run_report
from support.records.synthetic import (
    BOUND,
    COMMIT,
    CURVES,
    RHO,
    SEEDS,
    case,
    record,
    references,
    scores,
    write,
    write_costs,
)

from pudle.reports import markup, tables
from pudle.reports.command import report_command
from pudle.reports.error_tables import error_texts, latex_range, name_lines
from pudle.reports.load import load
from pudle.reports.page import data
from pudle.reports.report import Report
from pudle.reports.summary import Spread

#: More depths than this make a table wider than a page, with the estimators of the quick profile.
DEPTHS_ACROSS_A_PAGE = 8


def test_page_loads_nothing_and_says_what_it_rests_on(html):
    parsed = ParsedPage(html)
    parsed.check()
    assert all(link.startswith(("#", "data:")) for link in parsed.links)
    assert not re.search(r"@import|<script src", html) and len(html) < 5e6
    assert "Rests on 4 estimators and 1 case of 3 seeds." in html
    assert COMMIT[:12] in html and "Abacus" in html


def test_page_carries_its_errors_and_costs_by_depth(html):
    (run,) = living_page.data(html)["runs"]
    (shown,) = run["cases"]
    errors = [0.5 * RHO[seed] ** 100 for seed in SEEDS]
    at = {"estimator": "alternating", "depth": 100}
    (row,) = (row for row in living_page.rows(shown["figure"]["rows"]) if row.items() >= at.items())
    spread = [row[f"relative_error{end}"] for end in ("_low", "", "_high")]
    seeds = living_page.rows(shown["figure"]["seeds"])
    by_seed = [row["relative_error"] for row in seeds if row.items() >= at.items()]
    assert spread == by_seed == pytest.approx(errors, rel=1e-5)
    # At depth 100, 1 s and 2 MiB.
    assert (row["ms"], row["mib"]) == (1000, 2)
    assert shown["figure"]["levels"] == [[BOUND, "certified bound 1.0e-12"]]


def test_notes_and_badges_of_references(tmp_path):
    """Seeds that all draw the same problem are noted, and a limit has its badge."""
    same = [{**references()[0], "seed": seed} for seed in SEEDS]
    records = [
        record(case("fixed"), "backprop", references=same),
        record(case("own", dataset="own"), "backprop", references=references(status="limit")),
    ]
    home = write(tmp_path, records)
    write_costs(home, ["backprop"], [1.0, 2.0], names=["fixed"])
    report = Report(load(home, "quick"))
    markdown = report.markdown()
    said = "the range over the seeds says nothing about other problems there."
    assert f"- Every seed draws the same problem on `fixed`: {said}" in markdown
    assert " Scored against a limit. |" in markdown and "scored against a limit" in report.latex()
    (run,) = living_page.data(living_page.html(report))["runs"]
    assert [item["badge"] for item in run["cases"]] == ["", "limit"]
    # Figures across cases compare it with no other.
    assert any("scored against a limit are left out" in chart["note"] for chart in run["charts"])


def test_an_unfinished_run_says_what_is_still_to_be_measured(tmp_path):
    """Two of four scores are there: nothing broke, and the command says so too."""
    cases = [case(), case("synthetic-ista-reconstruction", loss="reconstruction")]
    names = ["backprop", "analytic"]
    report = reported(tmp_path, [record(item, "backprop") for item in cases], estimators=names)
    sentence = tables.pending_sentence(report.results)
    assert "still to be measured are 2 scores" in sentence
    assert "No score with `analytic`" in tables.scope(report.results)
    assert sentence in report.markdown() and report.problems.rows == []
    done = run_report(tmp_path, "--format", "csv")
    assert done.exit_code == 0 and done.stderr.startswith("This run is unfinished")


def test_a_page_of_too_many_errors_carries_medians_and_says_so(timed, monkeypatch):
    monkeypatch.setattr("pudle.reports.page.data.MOST_ERRORS", 50)
    page = living_page.html(timed)
    (shown,) = living_page.data(page)["runs"][0]["cases"]
    assert "seeds" not in shown["figure"] and "cosine_error" not in shown["figure"]["rows"]
    assert len(shown["figure"]["rows"]["depth"]) == 32
    assert "it carries their median, least and greatest over the seeds" in page


def test_latex_is_plain_text_with_whole_tables_that_compile(timed, tmp_path):
    text = timed.latex()
    assert text.isascii() and "truncated(window=10)" in text
    assert "quartiles over rounds. Measured on Abacus" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3
    head = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
    if not compile_latex(tmp_path, head + text + r"\end{document}"):
        pytest.skip("needs pdflatex or tectonic")


@pytest.mark.parametrize("are_timed", [False, True])
def test_answers_in_latex_are_those_of_least_depth_where_nothing_was_timed(tmp_path, are_timed):
    """They are not called the cheapest then, nothing is said of costs, and all of a tie is bold as
    in the Markdown.
    """
    names = ["backprop", "analytic"]
    # At each depth both have the same error.
    errors = scores(CURVES["backprop"])
    home = write(tmp_path, [record(case(), name, scores=errors) for name in names])
    if are_timed:
        write_costs(home, names, [1.0, 2.0, 3.0, 6.0], memory=[2.0**21] * 4)
    report = Report(load(home, "quick"))
    latex = report.latex()
    answers, case_table, *_ = re.findall(r"\\begin\{table\}.*?\\end\{table\}", latex, re.DOTALL)
    assert ("the cheapest" in answers) is are_timed
    assert ("one of least depth" in answers and "; nothing was timed." in answers) is not are_timed
    for table in (answers, case_table):
        for words in ("Memory: added peak", "estimated from the costs", "Measured on", "& memory"):
            assert (words in table) is are_timed, words
    lines = [r"\textbf{backprop}", r"\textbf{with ista(step=0.2)}"]
    if not are_timed:
        lines.append(r"\textbf{or analytic with ista(step=0.2)}")
        in_markdown = "**backprop with ista(step=0.2) or analytic with ista(step=0.2)**"
        assert in_markdown in report.markdown()
    assert rf"\pudlelines{{{markup.NEXT_LINE.join(lines)}}} &" in answers
    document = r"\documentclass[twocolumn]{article}\usepackage{booktabs,graphicx}\begin{document}"
    compile_latex(tmp_path, document + latex + r"\end{document}")


def compile_latex(folder, document):
    """Compile a document without a box that is too wide; tell whether there is a program for it."""
    engine = shutil.which("pdflatex") or shutil.which("tectonic")
    if engine is None:
        return False
    (folder / "document.tex").write_text(document)
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in engine else []
    done = subprocess.run(
        [engine, *options, "document.tex"], cwd=folder, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull \\hbox" not in (folder / "document.log").read_text()
    return True


# -- command


@pytest.mark.parametrize("formats, shown", [("markdown", set()), ("png,markdown", {".png"})])
def test_images_of_the_markdown_are_files_beside_it(tmp_path, formats, shown):
    home, out = write(tmp_path, [record(case(), "backprop")]), tmp_path / "out"
    done = run_report(home, "--out", str(out), "--format", formats)
    assert done.exit_code == 0, done.output
    images = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (out / "report.md").read_text())
    assert {Path(image).suffix for image in images} == shown
    assert all((out / image).is_file() for image in images)


def test_a_page_without_the_library_of_figures_says_why(monkeypatch, tmp_path):
    """Where memory is limited, as by batch systems, the library aborts its process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(data, "BUNDLE", "import os; os.abort()")
    assert "may not have the memory that it needs here; raise `ulimit -v`" in data.script()
    assert not list(tmp_path.rglob("*.js"))


def test_errors_at_some_depths_are_a_table_for_a_paper(tmp_path):
    """A row per estimator, with median and range over the seeds, in three formats and with what the
    report says of rates.
    """
    write(tmp_path, [record(case(), name) for name in ("alternating", "backprop")])
    done = run_report(tmp_path, "--table", "error", "--depths", "10,100", "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert [*map(Path, done.stdout.split())] == [
        tmp_path / f"errors.{ending}" for ending in ("md", "csv", "tex")
    ]
    low, middle, high = (0.5 * RHO[seed] ** 100 for seed in SEEDS)
    rows = pd.read_csv(tmp_path / "errors.csv").set_index(["estimator", "depth"])
    assert rows.loc[
        ("alternating", 100), ["median", "least", "greatest"]
    ].tolist() == pytest.approx([middle, low, high], rel=1e-12)
    assert len(rows) == 4
    findings = tables.findings(Report(load(tmp_path, "quick")).summary)
    markdown, latex = ((tmp_path / f"errors.{end}").read_text() for end in ("md", "tex"))
    assert "Rate of decay over that of" in findings and findings in markdown
    assert "| estimator | 10 | 100 |" in markdown
    # In a paper: a heading of depths, fixed digits, the least bold, and the case named once.
    assert r"\multicolumn{2}{c}{depth}" in latex and "estimator & $10$ & $100$" in latex
    alternating, backprop = (
        next(line for line in latex.splitlines() if line.startswith(rf"\texttt{{{name}}}"))
        for name in ("alternating", "backprop")
    )
    mantissa, exponent = f"{middle:.1e}".split("e")
    assert rf"${mantissa}\cdot10^{{{int(exponent)}}}$" in alternating
    assert r"\mathbf" in backprop and r"\mathbf" not in alternating.split("&")[2]
    assert latex.count("synthetic(n=10)") == 1 and r"\label{tab:error}" in latex
    own = run_report(
        tmp_path, "--table", "error", "--format", "latex", "--out", str(tmp_path),
        "--label", "tab:mine", "--caption", "Errors of 5 %.",
    )  # fmt: skip
    assert own.exit_code == 0, own.output
    latex = (tmp_path / "errors.tex").read_text()
    assert r"\label{tab:mine}" in latex and r"\caption{Errors of 5 \%.}" in latex
    refused = run_report(tmp_path, "--table", "error", "--depths", "11")
    assert "--depths 11 was not measured on" in str(refused.exception)
    assert "`" in findings and "`" not in latex
    document = r"\documentclass[twocolumn]{article}\usepackage{booktabs,graphicx}\begin{document}"
    compile_latex(tmp_path, document + latex + r"\end{document}")
    for ending in ("html", "pdf"):
        refused = run_report(tmp_path, "--table", "error", "--format", ending)
        says = f"--format {ending} cannot hold a table of errors, as markdown, csv and latex can"
        assert says in str(refused.exception)


def test_a_caption_of_ones_own_ends_with_what_tells_several_tables_apart(tmp_path):
    """A single table has the caption alone; tables that differ in nothing that a caption says have
    the labels of their cases.
    """

    def captions(folder, *cases, caption):
        errors = scores(CURVES["backprop"], targets=["ghat", "gstar"])
        records = [
            record(the_case, "backprop", scores=errors, references=references(target="ghat"))
            for the_case in cases
        ]
        written = error_texts(reported(folder, records), [100], caption)["latex"]()
        return re.findall(r"\\caption\{(.*)\}", written)

    lasso, other = (
        case(f"synthetic-ista-{loss}", loss=loss, targets=["ghat"])
        for loss in ("lasso", "reconstruction")
    )
    assert captions(tmp_path / "one", lasso, caption="Errors of 5 %") == [r"Errors of 5 \%"]
    expected = [
        "Our errors. This table: lasso loss.",
        "Our errors. This table: reconstruction loss.",
    ]
    assert captions(tmp_path / "two", lasso, other, caption="Our errors") == expected
    assert captions(tmp_path / "end", lasso, other, caption="Our errors.") == expected
    both_targets = lasso | {"targets": ["ghat", "gstar"]}
    assert captions(tmp_path / "targets", both_targets, caption="Our errors") == [
        rf"Our errors. This table: against the {words}."
        for words in (
            r"exact gradient of the lasso loss ($\hat g$)",
            "gradient of the lasso loss with the lasso codes under the generating dictionary"
            " ($g^*$)",
        )
    ]
    alike = [lasso, lasso | {"name": "wide", "dtype": "float32"}]
    assert captions(tmp_path / "alike", *alike, caption="Our errors") == [
        f"Our errors. This table: {the_case['name']}." for the_case in alike
    ]


def test_labels_of_several_tables_end_with_their_numbers_as_help_and_docs_say(tmp_path):
    """A single table has the label itself."""
    cases = [case(), case("synthetic-ista-reconstruction", loss="reconstruction")]
    for number, expected in ((1, ["tab:errors"]), (2, ["tab:errors-1", "tab:errors-2"])):
        records = [record(the_case, "backprop") for the_case in cases[:number]]
        report = reported(tmp_path / f"{number}", records)
        written = error_texts(report, [100], label="tab:errors")["latex"]()
        assert re.findall(r"\\label\{(.*)\}", written) == expected
    (option,) = (option for option in report_command.params if option.name == "label")
    assert "tab:errors-1, tab:errors-2" in option.help
    assert "`tab:errors-1`" in (ROOT / "docs" / "reading.md").read_text()


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
@pytest.mark.parametrize(
    ("n_depths", "place"), [(3, r"\columnwidth"), (DEPTHS_ACROSS_A_PAGE, r"\textwidth")]
)
def test_errors_fit_into_a_paper_without_being_scaled(tmp_path, n_depths, place):
    """So that tables beside each other have one size of type; as docs/reading.md says."""
    depths = [100 * number for number in range(1, n_depths + 1)]
    errors = scores(lambda depth, rho: 1.1e-3 * rho**depth, depths=depths)
    the_case = case(depths=depths)
    report = reported(tmp_path, [record(the_case, name, scores=errors) for name in CURVES])
    latex = error_texts(report, depths)["latex"]()
    measured = latex.replace(r"\begin{table", r"\typeout{room \the" + place + r"}\begin{table", 1)
    measured = measured.replace(r"\sbox0{#1}", r"\sbox0{#1}\typeout{width \the\wd0}")
    document = r"\documentclass[twocolumn]{article}\usepackage{booktabs,graphicx}\begin{document}"
    compile_latex(tmp_path, document + measured + r"\end{document}")
    log = (tmp_path / "document.log").read_text()
    room, width = (float(re.search(rf"{name} ([\d.]+)pt", log)[1]) for name in ("room", "width"))
    assert 0.5 * room < width <= room
    said = (ROOT / "docs" / "reading.md").read_text()
    assert f"up to {DEPTHS_ACROSS_A_PAGE} depths. What is wider" in said


def test_a_report_of_some_cases_has_no_other(tmp_path):
    cases = case(), case() | {"name": "other"}
    write(tmp_path, [record(each, "backprop") for each in cases])
    done = run_report(
        tmp_path, "--case", "oth*", "--table", "error", "--format", "csv", "--out", str(tmp_path)
    )
    assert done.exit_code == 0, done.output
    assert {*pd.read_csv(tmp_path / "errors.csv")["case"]} == {"other"}
    refused = run_report(tmp_path, "--case", "nothing")
    assert "--case 'nothing' matches no case here: known are" in str(refused.exception)


def test_each_end_of_a_range_has_its_own_power_of_ten():
    for ends, expected in (
        ((8.4e-4, 5.0e-4, 1.1e-3), (r"5.0\cdot10^{-4}", r"1.1\cdot10^{-3}")),
        ((2.1e-8, 1.9e-12, 2.4e-8), (r"1.9\cdot10^{-12}", r"2.4\cdot10^{-8}")),
        ((2.1e-8, 0.0, 2.4e-8), ("0", r"2.4\cdot10^{-8}")),
    ):
        low, high = expected
        stacked = rf"\shortstack[r]{{\scriptsize$[{low},$\\\scriptsize${high}]$}}"
        assert latex_range(Spread(*ends)) == stacked
    assert latex_range(Spread(0.15, 0.12, 0.2)) == r"{\scriptsize$[0.12,\ 0.20]$}"
    assert latex_range(Spread(math.nan, math.nan, math.nan)) == ""


def test_options_of_a_long_name_stand_below_it():
    assert name_lines("backprop") == (r"\texttt{backprop}", "")
    assert name_lines("mine(a=1)") == (r"\texttt{mine(a=1)}", "")
    name, options = name_lines("truncated(window=10)")
    assert (name, options) == (r"\texttt{truncated}", r"{\scriptsize\texttt{(window=10)}}")


def test_figures_of_a_given_width_have_letters_of_eight_points(tmp_path):
    home = write(tmp_path, [record(case(), name) for name in CURVES])
    done = run_report(home, "--format", "pdf", "--width", "3.3", "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    drawn = [*(tmp_path / "out" / "report_figures").glob("*.pdf")]
    assert drawn
    for path in drawn:
        (width,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ", path.read_bytes())
        assert float(width) == pytest.approx(3.3 * 72), path.name
    figure = Report(load(home, "quick")).pictures[0].canvas(3.3)
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    assert min(text.get_size() for text in texts) >= 8
    # An exponent in a formula would be smaller.
    assert not any("$" in text.get_text() for text in texts)
    refused = run_report(home, "--width", "3.3")
    assert "add --format svg, pdf or png" in str(refused.exception)


def test_the_latex_files_define_each_command_once_and_alike(timed):
    """So that both can be pasted into one paper; what is used is defined."""
    texts = [timed.latex(), error_texts(timed, [10], "", "")["latex"]()]
    command = re.compile(r"\\providecommand\{(\\pudle\w+)\}(.*)")
    defined = [dict(command.findall(text)) for text in texts]
    for text, commands in zip(texts, defined, strict=True):
        assert {*re.findall(r"\\pudle\w+", text)} == commands.keys()
    shared = defined[0].keys() & defined[1].keys()
    assert all(defined[0][name] == defined[1][name] for name in shared)
    assert shared == {r"\pudlefit"}


def test_the_csv_is_what_pandas_writes_of_the_same_rows(timed, monkeypatch):
    monkeypatch.setattr(markup, "CSV_ROWS", 7)
    written = pd.read_csv(io.StringIO(timed.csv()), keep_default_na=False, dtype=str)
    frame = timed.results.frame
    by_pandas = pd.read_csv(io.StringIO(markup.csv(frame)), keep_default_na=False, dtype=str)
    assert len(frame) > 20 and by_pandas.equals(written[[*frame]])
    summary = tables.summary_table(timed.summary).columns
    number = {
        name: cell.key for name, cell in zip(summary["estimator"], summary["memory"], strict=True)
    }
    errors = written[written["metric"] == "relative_error"]
    assert {*zip(errors["estimator"], errors["memory"].astype(float), strict=True)} == {
        *number.items()
    }
    assert {*written[written["metric"] != "relative_error"]["memory"]} == {""}


def test_what_a_spreadsheet_would_compute_gets_an_apostrophe_in_parts_as_in_frames():
    rows = [("=1+1", 2.5, None), ('a "b", c', -1.0, True), ("x\ny", 1e300, False)]
    frame = pd.DataFrame(rows, columns=["-name", "number", "flag"])
    assert "".join(markup.csv_parts([*frame], rows)) == markup.csv(frame)
