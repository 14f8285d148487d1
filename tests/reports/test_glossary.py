"""Names in a report are explained, by the classes that they name."""

import pytest
from support.page.living_page import data, html
from support.records.stored_experiments import reported
from support.records.synthetic import case, record

import pudle
from pudle.answers import Requirement
from pudle.data.dataset import SparseCodingDataset
from pudle.estimators.backprop import Backprop
from pudle.reports.answers import ALL_UNROLLED, NO_LAYERS, answers
from pudle.reports.glossary import (
    ABOUT,
    DICTIONARY_WORDS,
    INNER,
    LOSSES,
    WORDS,
    first_paragraph,
)


def test_every_built_in_class_has_a_sentence_for_reports():
    for kinds in (pudle.list_estimators(), pudle.list_datasets()):
        for name, kind in kinds.items():
            sentence = first_paragraph(kind)
            assert sentence.endswith(".") and ":math:" not in sentence, (name, sentence)


def test_a_report_explains_what_it_shows_and_nothing_else(tmp_path):
    named = case(dataset="sparse_gaussian(n_samples=10)", loss="reconstruction")
    records = [record(named, "backprop"), record(named, "nobody.py:Unknown")]
    report = reported(tmp_path, records)
    names = ["backprop", "ista", "sparse_gaussian", "reconstruction"]
    assert [meaning.name for meaning in report.meanings if meaning.kind != "word"] == names
    page, sentence = html(report), first_paragraph(Backprop)
    assert ABOUT in report.markdown() and ABOUT in page
    plain = page.replace("<code>", "`").replace("</code>", "`")
    for text in (sentence, LOSSES["reconstruction"]):
        assert text in report.markdown() and text in plain
    # Tables show it beside the name, with a script and without.
    assert data(page)["meanings"] == {"backprop": sentence}
    assert f'class="est" title="{sentence}"' in page


def test_the_inner_problem_and_its_words_are_written_down(tmp_path):
    """Once for each kind of dataset; what is no dictionary has no atoms."""
    named = case(dataset="sparse_gaussian(n_samples=10)")
    report = reported(tmp_path / "a", [record(named, "backprop")])
    (formula,) = report.inner_problems
    assert formula == f"Inner problem, per sample x: {INNER[SparseCodingDataset]}."
    assert formula in report.markdown() and "argmin ½‖x − D z‖² + λ‖z‖₁" in html(report)
    assert WORDS.keys() | DICTIONARY_WORDS.keys() <= {each.name for each in report.meanings}
    filters = case("filters", dataset="convolutional")
    both = reported(tmp_path / "b", [record(each, "backprop") for each in (named, filters)])
    assert [line.partition(",")[0] for line in both.inner_problems] == [
        "Inner problem of `sparse_gaussian`",
        "Inner problem of `convolutional`",
    ]
    smooth = case(dataset="ridge", loss="linear")
    report = reported(tmp_path / "c", [record(smooth, "backprop")])
    assert not report.inner_problems
    assert not DICTIONARY_WORDS.keys() & {each.name for each in report.meanings}


def test_best_unrolled_is_explained_wherever_it_stands(tmp_path):
    """Among the words, and in the heading of its column, with a script and without."""
    named = case("synthetic-solver-lasso", algorithm="solver")
    solver = [record(named, "analytic", differentiable=False)]
    report = reported(tmp_path / "a", [*solver, record(case(), "analytic")])
    page, meaning = html(report), WORDS["best unrolled"]
    assert f"- `best unrolled` (word): {meaning}" in report.markdown()
    assert f"<dt><code>best unrolled</code></dt><dd>{meaning}</dd>" in page
    assert f'<th scope="col" title="{meaning}">best unrolled</th>' in page
    assert data(page)["headings"]["best unrolled"] == meaning
    assert ALL_UNROLLED not in report.markdown()
    # Without a solver there is no such column, and a line says why.
    report = reported(tmp_path / "b", [record(case(), "analytic")])
    assert meaning in report.markdown() and meaning in html(report)
    assert ALL_UNROLLED in report.markdown() and ALL_UNROLLED in html(report)
    # Of a problem that only a solver solves there is none.
    (row,) = reported(tmp_path / "c", solver).answers
    assert str(row.cells["best unrolled"]) == NO_LAYERS


@pytest.mark.parametrize("memory", [1.0, 1e9])
def test_why_there_is_no_best_unrolled_pair_is_said(tmp_path, memory):
    named = case("synthetic-solver-lasso", algorithm="solver")
    records = [record(named, "analytic", differentiable=False), record(case(), "analytic")]
    requirement = Requirement(None, memory=memory)
    (row,) = answers(reported(tmp_path, records).results, requirement)
    assert str(row.cells["best unrolled"]) == "none within these limits"


def test_datasets_are_explained_with_the_options_that_are_shown(tmp_path):
    """Defaults included; of a plug-in or a user's file nothing is opened for it."""
    cases = [
        case("a", dataset="sparse_gaussian(n_samples=10)"),
        case("b", dataset="sparse_gaussian(n_samples=10, penalty=0.5)"),
        case("c", dataset="nobody.py:Unknown(n=2)"),
    ]
    report = reported(tmp_path, [record(each, "backprop") for each in cases])
    (meaning,) = (each for each in report.meanings if each.kind == "dataset")
    whole = "n_samples=10, n_features=50, n_components=100, n_nonzero_coefs=5, amplitudes='uniform'"
    first, second = meaning.sentence.partition(" Here: ")[2].split(" and ")
    for shown, penalty in ((first, "penalty=0.2"), (second, "penalty=0.5")):
        assert shown.startswith(f"`sparse_gaussian({whole}") and penalty in shown
    assert "seed" not in meaning.sentence
