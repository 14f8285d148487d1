"""A comparison as Markdown."""

from __future__ import annotations

import copy

from two_sides import CASES, case, scores

from pudle.reports.compare import summary


def test_markdown_is_a_table_per_kind_and_survives_any_text(judge):
    def plant(head):
        for row in scores(head, "truncated(window=10)", depth=100):
            row |= {"relative_error": None, "status": "error", "reason": "a | b <img src=x>\nnext"}

    text = summary.markdown(judge(plant), "ma|in", "head", "quick")
    assert text.startswith(summary.MARKER)
    rows = [line for line in text.splitlines() if line.startswith("| status")]
    assert len(rows) == 1
    assert rows[0].replace("\\|", "").count("|") == 8
    assert "<img" not in text and "a \\| b &lt;img" in rows[0]


def test_markdown_of_many_findings_fits_a_comment(judge):
    names = [f"case-{number}-with-a-rather-long-name-lasso" for number in range(200)]

    def many(side):
        record = side["records"][CASES[0], "backprop"]
        side["cases"] = [case(name) for name in names]
        side["records"] = {
            (name, "backprop"): copy.deepcopy(record) | {"case": case(name)} for name in names
        }
        side["estimators"] = ["backprop"]

    def worse(side):
        many(side)
        for name in names:
            for row in scores(side, name=name):
                row["relative_error"] *= 10

    text = summary.markdown(judge(worse, many), "base", "head", "quick")
    assert len(text) < 65_536
    assert "and 170 more lines" in text
