"""Statuses: their order, and that of a record at one depth."""

import torch

from pudle.measuring.statuses import worst
from pudle.workers import failure


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


def test_an_error_of_memory_is_a_status():
    full = [
        MemoryError(),
        torch.OutOfMemoryError("of 80 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ]
    assert {failure(error)[0] for error in full} == {"out-of-memory"}
