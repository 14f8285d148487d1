"""Names in a report are explained, by the classes that they name."""

from support.page.living_page import data, html
from support.records.stored_experiments import reported
from support.records.synthetic import case, record

import pudle
from pudle.data.dataset import SparseCodingDataset
from pudle.estimators.backprop import Backprop
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
