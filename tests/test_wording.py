"""Numbers in messages and reports: one of a thing is no plural."""

from __future__ import annotations

import re

import living_page
import pytest
import torch
from parsed_page import ParsedPage
from synthetic import CURVES, case, record, references, scores, write

from pudle.errors import InvalidArgument
from pudle.reports.load import load
from pudle.reports.report import Report
from pudle.text import count
from pudle.validation import check_tensor

#: One of what reports count, as a plural.
PLURAL = re.compile(
    r"(?<![\w.,-])1 (seeds|layers|depths|cases|estimators|scores|others|experiments|measured"
    r" depths)\b"
)


def test_one_is_no_plural():
    assert [count(number, "case") for number in (0, 1, 2)] == ["0 cases", "1 case", "2 cases"]
    assert count(1, "entry", "entries") == "1 entry" and count(2, "entry", "entries") == "2 entries"


def test_a_report_of_one_seed_and_one_depth_has_no_plural(tmp_path):
    rows = [row for row in scores(CURVES["backprop"], seeds=[0]) if row["depth"] == 1]
    one = record(
        case(seeds=[0], depths=[1]), "backprop", scores=rows, references=references(seeds=[0])
    )
    report = Report.of(load(write(tmp_path, [one]), "quick"))
    page = living_page.html(report)
    for text in (
        report.markdown(),
        ParsedPage(page).text,
        *living_page.texts(living_page.data(page)),
    ):
        assert not PLURAL.findall(text)
    assert "Rests on 1 estimator and 1 case of 1 seed." in report.subtitle
    assert "within 1 layer;" in report.answers[0]["short"]


def test_a_message_about_one_entry_has_no_plural():
    with pytest.raises(InvalidArgument, match="observations has 1 entry that is NaN or infinite: "):
        check_tensor("observations", torch.tensor([float("nan"), 1.0]), "(n)")
