"""Statuses: what an error of memory is."""

import torch

from pudle.workers import failure


def test_an_error_of_memory_is_a_status():
    full = [
        MemoryError(),
        torch.OutOfMemoryError("of 80 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ]
    assert {failure(error)[0] for error in full} == {"out-of-memory"}
