"""Names in a report are explained, by the classes that they name."""

from support.page.living_page import data, html
from support.records.stored_experiments import reported
from support.records.synthetic import case, record

import pudle
from pudle.estimators.backprop import Backprop
from pudle.reports.glossary import ABOUT, LOSSES, first_sentence


def test_every_built_in_class_has_a_sentence_for_reports():
    for kinds in (pudle.list_estimators(), pudle.list_datasets()):
        for name, kind in kinds.items():
            sentence = first_sentence(kind)
            assert sentence.endswith(".") and ":math:" not in sentence, (name, sentence)


def test_a_report_explains_what_it_shows_and_nothing_else(tmp_path):
    named = case(dataset="sparse_gaussian(n_samples=10)", loss="reconstruction")
    records = [record(named, "backprop"), record(named, "nobody.py:Unknown")]
    report = reported(tmp_path, records)
    assert [meaning.name for meaning in report.meanings] == [
        "backprop", "ista", "sparse_gaussian", "reconstruction",
    ]  # fmt: skip
    page, sentence = html(report), first_sentence(Backprop)
    assert ABOUT in report.markdown() and ABOUT in page
    for text in (sentence, LOSSES["reconstruction"]):
        assert text in report.markdown() and text in page
    # Tables show it beside the name, with a script and without.
    assert data(page)["meanings"] == {"backprop": sentence}
    assert f'class="est" title="{sentence}"' in page
