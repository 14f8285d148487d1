"""Sections on experiments in a page and in the other formats, and what trainings led to, beside the
error of their gradients.
"""

import math

import pytest
from support.page.living_page import data, html, texts
from support.page.parsed_page import ParsedPage
from support.records.stored_experiments import experiments, framed, headings, run_report
from support.records.synthetic import (
    CURVES,
    case,
    denoising,
    experiment,
    record,
    training,
    write,
    write_experiments,
)

from pudle.reports.learning.sections import bought, sections
from pudle.reports.load import load
from pudle.reports.report import Report


def test_experiments_alone_make_a_page_without_empty_sections(tmp_path):
    report = Report(experiments(tmp_path, training("one"), training("two", "alternating")))
    page = html(report)
    assert headings(page) == ["recovery", "names", "caveats", "problems", "provenance"]
    assert 'id="answers"' not in page and "2 trainings" in page
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


def test_outcomes_stand_beside_the_error_of_the_gradient_at_the_depth_of_the_training(tmp_path):
    cases = [case(dataset="sparse_gaussian(n_samples=7)"), case("other", dataset="other(n=1)")]
    write(tmp_path, [record(item, name) for item in cases for name in CURVES])
    rates = {"alternating": 0.05, "backprop": 0.1}
    trainings = [training(name, name, rate) for name, rate in rates.items()]
    others = [
        training("ridge", options={"loss": "ridge"}),
        training("unscored", "truncated(window=3)"),
        training("warm", options={"warm_start": True}),
    ]
    write_experiments(tmp_path, [*trainings, *others, denoising("d", "BM3D")])
    results = load(tmp_path, "quick")
    (figure,) = bought(results)
    rows = figure.rows.set_index("method")
    # The training has 25 layers, and 10 is the next smaller depth that was measured.
    error = rows.loc["alternating, lasso loss", "gradient_error"]
    assert error == pytest.approx(0.5 * 0.955**10, rel=1e-3)
    assert rows["relative_error"].to_dict() == pytest.approx(
        {f"{name}, lasso loss": 0.5 * math.exp(-50 * rate) for name, rate in rates.items()},
        rel=1e-4,
    )
    page = html(Report(results))
    (drawn,) = (each for each in data(page)["charts"] if each["host"] == "#bought-figures")
    assert drawn["rows"]["method"] == list(rows.index)
    assert "are those on sparse_gaussian(n_samples=7), " in drawn["note"]
    assert "at depth 10 for trainings with 25 layers, the next smaller one" in drawn["note"]


def test_trainings_name_their_loss_and_layers_and_why_answers_may_name_another(tmp_path):
    """What is cheapest for an accurate gradient need not be the best after a few layers."""
    cases = [case(dataset="sparse_gaussian(n_samples=7)")]
    write(tmp_path, [record(item, name) for item in cases for name in CURVES])
    write_experiments(tmp_path, [training(name, name) for name in ("alternating", "backprop")])
    report = Report(load(tmp_path, "quick"))
    (figure,) = bought(report.results)
    assert figure.title == "sparse_gaussian(n_samples=10): lasso loss, 25 layers of ista"
    (section,) = report.experiments
    ((_, caption),) = section.blocks[0].tables
    assert ", trained on the lasso loss, 25 layers of ista. In every step" in caption
    assert "an answer runs as many layers" in section.beside_answers
    assert "these trainings run 25 layers of ista, where" in section.beside_answers
    assert section.beside_answers in report.markdown() and section.beside_answers in html(report)
    assert '<a href="#recovery">Why the answers may name another gradient</a>' in html(report)
    # Without answers there is nothing that it could contradict.
    alone = experiments(tmp_path / "alone", training("one"))
    assert [one.beside_answers for one in sections(alone)] == [""]


def test_trainings_that_solve_for_the_codes_name_the_solver(tmp_path):
    options = {"algorithm": "active_set"}
    records = [training("few"), training("solved", "analytic", options=options)]
    (section,) = sections(experiments(tmp_path, *records))
    ((_, caption),) = section.blocks[0].tables
    assert "trained on the lasso loss, 25 layers of ista, solved by active_set. " in caption


def test_an_error_measured_along_a_training_is_drawn_and_stands_for_a_scored_one(tmp_path):
    warm = training("warm", options={"warm_start": True})
    warm["rows"][5]["gradient_error"], warm["rows"][9]["gradient_error"] = 0.1, 0.2
    warm["summary"]["gradient_error"] = 0.03
    scored = case(dataset="sparse_gaussian(n_samples=7)")
    write(tmp_path, [record(scored, name) for name in CURVES])
    write_experiments(tmp_path, [warm, training("cold")])
    results = load(tmp_path, "quick")
    (figure,) = bought(results)
    assert 0.03 in [*figure.rows["gradient_error"]] and len(figure.rows) == 2
    for told in ("the trainings' own steps", "sparse_gaussian(n_samples=7)"):
        assert told in figure.note
    (section,) = sections(results)
    (drawn,) = (each for each in section.blocks[0].charts if each.y[0].column == "gradient_error")
    assert drawn.rows["gradient_error"].tolist() == [0.1, 0.2]
    assert "0.03" in [*framed(section.blocks[0].tables[0][0])["gradient error"]]
