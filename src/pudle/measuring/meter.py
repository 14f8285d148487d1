"""The one timer and the one meter of memory: all times and peaks that this package tells."""

from __future__ import annotations

import resource
import sys
import time
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Clock = Callable[[], float]

#: Seconds of calls that do not count, at least one call: the first fill caches that later ones use.
WARMUP = 0.03
#: A time is repeated until it has so many samples, which its quartiles need, or these have taken so
#: many seconds ...
LEAST_SAMPLES, MOST_SECONDS_FOR_THESE = 3, 2.0
#: ... and further until the standard error of the median is this share of it, or all have taken so
#: many seconds.
PRECISION, MOST_SECONDS = 0.02, 0.1


def clock(device: str) -> Clock:
    """Return the clock of a device; that of a GPU waits until all queued work is done."""

    def gpu() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return gpu if device.startswith("cuda") else time.perf_counter


def seconds(call: Callable[[], Any], repeats: int = 1, clock: Clock = time.perf_counter) -> float:
    """Return the seconds of one call, the mean of some repeats, without garbage collection."""
    return timeit.timeit(call, timer=clock, number=repeats) / repeats


def samples(call: Callable[[], Any], clock: Clock = time.perf_counter) -> list[float]:
    """Return the seconds of repeated calls, as many as their spread needs.

    The standard error of a median is about 0.93 interquartile ranges over the root of the number of
    samples, which is exact for a normal distribution.
    """
    warm = 0.0
    while warm < WARMUP:
        warm += max(seconds(call, clock=clock), 1e-6)
    taken = [seconds(call, clock=clock)]
    while sum(taken) < (MOST_SECONDS if len(taken) >= LEAST_SAMPLES else MOST_SECONDS_FOR_THESE):
        low, median, high = np.quantile(taken, (0.25, 0.5, 0.75))
        error = 0.93 * (high - low) / len(taken) ** 0.5
        if len(taken) >= LEAST_SAMPLES and error <= PRECISION * median:
            break
        taken.append(seconds(call, clock=clock))
    return taken


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
