"""Sections on experiments in a page, and in the other formats."""

from living_page import data, html, texts
from parsed_page import ParsedPage
from stored_experiments import experiments, framed, headings, run_report
from synthetic import experiment, training

from pudle.reports.learning.sections import sections
from pudle.reports.report import Report


def test_experiments_alone_make_a_page_without_empty_sections(tmp_path):
    report = Report(experiments(tmp_path, training("one"), training("two", "alternating")))
    page = html(report)
    assert headings(page) == ["recovery", "caveats", "problems", "provenance"]
    assert 'id="answers"' not in page and "2 experiments" in page
    ParsedPage(page).check()
    assert (
        "## Dictionaries recovered" in report.markdown() and "## Answers" not in report.markdown()
    )
    assert report.csv() and "Recovery of the dictionary" in report.latex()


def test_kinds_of_plug_ins_are_listed_with_their_summaries(tmp_path):
    summary = {"gap": 0.25, "note": "<b>", "none": None, "long": [0, 1, 2], "flag": True}
    odd = experiment("odd", "spectral", "strangers", summary=summary)
    page = html(Report(experiments(tmp_path, odd)))
    assert headings(page) == ["others", "problems", "provenance"]
    shown = "gap: 0.25; note: <b>; none: None; long: [0, 1, 2]; flag: True"
    assert shown in set(texts(data(page)))


def test_failed_experiments_are_listed_with_their_reasons(tmp_path):
    facts = {"status": "skipped", "reason": "install bm3d", "options": {"baseline": "BM3D"}}
    skipped = experiment("bm3d", "denoising", "denoising", **facts)
    died = training("died", status="timeout", reason="not finished after 9 s", rows=[])
    results = experiments(tmp_path, skipped, died)
    done = run_report(tmp_path)
    page = (tmp_path / "quick" / "report" / "report.html").read_text()
    assert done.exit_code == 2 and "died" in done.stderr and "bm3d" not in done.stderr
    problems = set(texts(data(page)["tables"]["problems"]))
    assert {"install bm3d", "not finished after 9 s", "BM3D"} <= problems
    # In the table of its group it has a row without any number.
    (section,) = sections(results)
    (row,) = framed(section.blocks[0].tables[0][0]).to_dict("records")
    assert row == {"method": "backprop", "layers": "25", "status": "timeout"}
    assert "denoising" not in headings(page)
