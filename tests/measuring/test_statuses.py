"""Statuses: their order, and that of a record at one depth."""

from __future__ import annotations

import torch

from pudle.errors import MissingDependency, UnsupportedProblem, first_line
from pudle.measuring.statuses import BROKEN, STATUSES, worst
from pudle.workers import failure


def test_statuses_are_ordered_from_good_to_bad():
    assert STATUSES[0] == "ok" and set(BROKEN) == set(STATUSES[-3:]) == {
        "timeout",
        "out-of-memory",
        "error",
    }
    assert set(STATUSES) == {
        "ok",
        "skipped",
        "unsupported",
        "diverged",
        "uncertified",
        "degenerate",
        "error",
        "timeout",
        "out-of-memory",
    }


def test_the_worst_status_counts_with_its_first_reason():
    rows = [
        ("ok", ""),
        ("diverged", "codes grow"),
        ("skipped", "not installed"),
        ("diverged", "codes grow more"),
    ]
    assert worst({"status": status, "reason": reason} for status, reason in rows) == {
        "status": "diverged",
        "reason": "codes grow",
    }


def test_an_error_is_a_status_with_a_reason():
    assert failure(UnsupportedProblem("needs a smooth problem")) == (
        "unsupported",
        "needs a smooth problem",
    )
    assert failure(MissingDependency("install jax")) == ("skipped", "install jax")
    assert failure(ValueError("one\ntwo")) == ("error", "ValueError: one")
    full = [
        MemoryError(),
        torch.OutOfMemoryError("of 80 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ]
    assert {failure(error)[0] for error in full} == {"out-of-memory"}


def test_the_first_line_of_an_error():
    assert first_line(ValueError("one\ntwo")) == "one" and first_line(ValueError()) == ""
