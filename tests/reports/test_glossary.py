"""Names in a report are explained, by the classes that they name."""

import re

import pytest
from support.page.living_page import data, html
from support.records.stored_experiments import reported
from support.records.synthetic import case, record, references, scores

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
    in_words_of,
)


def test_every_built_in_class_has_a_sentence_for_reports():
    for kinds in (pudle.list_estimators(), pudle.list_datasets()):
        for name, kind in kinds.items():
            sentence = first_paragraph(kind)
            assert sentence.endswith("."), (name, sentence)
            assert ":math:" not in sentence and "\\" not in sentence, (name, sentence)


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


def test_problems_without_codes_have_no_words_of_sparse_coding(tmp_path):
    """A logistic regression of one's own has no codes, no dictionary and no active set."""
    claims = {"dual_margin": None, "smallest_amplitude": None, "zero_codes": None}
    facts = {"references": references(**claims), "consistent_for": ["lasso"]}
    own = case("mine", dataset="mine.py:problem", loss="own", algorithm="gradient_descent")
    records = [
        record(own, "truncated(window=10)", scores=scores(lambda *_: 0.5), **facts),
        record(own, "alternating", scores=scores(lambda *_: 1.0), **facts),
        record(own, "analytic", scores=scores(lambda *_: 1e-9), **facts | {"consistent_for": None}),
    ]
    report = reported(tmp_path, records)
    (line,) = report.recommendations
    assert (
        "It matters here how the inner variables change with the outer parameter."
        " `truncated(window=10)` leaves out the layers before its window: its error stays at 0.5,"
        " whatever the depth. `alternating` leaves out how the inner variables change: its error"
        " stays at 1, whatever the depth."
    ) in line
    analytic = "Implicit differentiation at the inner variables z_T, with an exact solve."
    assert [one.sentence for one in report.meanings if one.name == "analytic"] == [analytic]
    page = html(report)
    for shown in (report.markdown(), re.sub(r"<(style|script).*?</\1>", "", page, flags=re.S)):
        assert not re.search(r"\bcodes?\b(?!>)|[Dd]ictionary|active set|\batoms?\b", shown)
    titles = {axis["title"] for axis in data(page)["runs"][0]["cases"][0]["figure"]["y"]}
    assert "error of the inner variables" in titles
    # What is between backticks is a name, and a page with a dictionary keeps its words.
    assert in_words_of(report.results, "codes of `codes.py`") == "inner variables of `codes.py`"
    coded = reported(tmp_path / "b", [record(case(dataset="sparse_gaussian"), "backprop")])
    assert in_words_of(coded.results, ABOUT) == ABOUT


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
