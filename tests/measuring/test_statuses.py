"""Statuses: their order, and that of a record at one depth."""

from __future__ import annotations

from pudle.measuring.statuses import BROKEN, STATUSES, at_depth, first_line, worst


def test_statuses_are_ordered_from_good_to_bad():
    assert STATUSES[0] == "ok" and set(BROKEN) == set(STATUSES[-3:]) == {"timeout", "out-of-memory", "error"}
    assert set(STATUSES) == {
        "ok", "skipped", "unsupported", "diverged", "uncertified", "degenerate", "error", "timeout", "out-of-memory"
    }  # fmt: skip


def test_the_worst_status():
    assert worst([]) == "ok"
    assert worst(["ok", "diverged", "skipped"]) == "diverged"


def test_a_record_at_one_depth():
    rows = [("ok", "", 1), ("ok", "", 2), ("diverged", "codes grow", 2)]
    scores = [{"status": status, "reason": reason, "depth": depth} for status, reason, depth in rows]
    record = {"status": "diverged", "reason": "codes grow", "scores": scores}
    assert at_depth(record, 1) == {"status": "ok", "reason": ""}
    assert at_depth(record, 2) == at_depth(record, 3) == {"status": "diverged", "reason": "codes grow"}


def test_the_first_line_of_an_error():
    assert first_line(ValueError("one\ntwo")) == "one" and first_line(ValueError()) == ""
