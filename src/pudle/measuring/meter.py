"""The one timer and the one meter of memory: all times and peaks that this package tells."""

import resource
import sys
import time
import timeit
from collections.abc import Callable
from typing import Any

import torch

Clock = Callable[[], float]

#: A time is that of the fastest of as many calls as take so many seconds together.
SAMPLE_SECONDS = 0.002


def clock(device: str) -> Clock:
    """Return the clock of a device: on the CPU that of the processor, which stands still while
    other work has it, where one thread works; that of a GPU waits until all queued work is done.
    """

    def gpu() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    alone = torch.get_num_threads() == 1
    return gpu if device.startswith("cuda") else time.process_time if alone else time.perf_counter


def sample(call: Callable[[], Any], clock: Clock) -> float:
    """Return the seconds of the fastest of several calls, of one where that takes long: other work
    on the machine only ever adds to a time. There is no garbage collection meanwhile.
    """
    taken: list[float] = []
    while sum(taken) < SAMPLE_SECONDS:
        # Of a call that the clock cannot see there is still an end.
        taken.append(max(timeit.timeit(call, timer=clock, number=1), 1e-6))
    return min(taken)


def peak_memory(call: Callable[[], Any], device: str) -> tuple[int, int]:
    """Return the bytes that a call takes at its peak beyond those taken before, and these.

    On the CPU the peak is that of this process, which should be a new copy that makes no other
    call: the system keeps the peak of a whole life. On a GPU it is that of torch's memory.
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before, before
    before = _peak()
    call()
    # Less than a page cannot be told from nothing.
    return max(_peak() - before, resource.getpagesize()), before


def _peak() -> int:
    """Return the peak of this process's memory in bytes."""
    # macOS counts bytes, and other systems count KiB.
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
