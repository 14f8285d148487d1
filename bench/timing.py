"""Time of one estimate."""

from __future__ import annotations

import os
import time

import torch

from pudle import kernel_choice
from pudle.algorithms import kernels
from pudle.measuring.costs import NO_KERNEL
from pudle.measuring.statuses import at_depth
from pudle.registry import make_estimator

from .selected import draw, record, require_ok, selection


class _DeviceClock:
    """Seconds by the clock of the GPU: it stops when all work is done that was queued before."""

    def __init__(self) -> None:
        self.first: torch.cuda.Event | None = None

    def __call__(self) -> float:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        event.synchronize()
        self.first = self.first or event
        return self.first.elapsed_time(event) / 1000


class Time:
    """Seconds for one estimate, data and references excluded, on one thread."""

    params = (
        [case.name for case in selection().cases],
        list(selection().estimators),
        list(selection().timed_depths),
    )
    param_names = ("case", "estimator", "depth")
    timeout = selection().timeout
    version = "1"
    rounds = 1
    # `pudle run` repeats these few repeats until their spread is small enough.
    repeat = (1, 10, 0.05)
    warmup_time = 0.03
    timer = staticmethod(_DeviceClock() if selection().device == "cuda" else time.perf_counter)

    def setup(self, case: str, estimator: str, depth: int) -> None:
        require_ok(at_depth(record(case, estimator), depth))
        self.problem, self.algorithm = draw(case)
        self.estimator = make_estimator(estimator)

    def time_estimate(self, case: str, estimator: str, depth: int) -> None:
        self.estimator.estimate(self.problem, self.algorithm, depth)


class TorchTime(Time):
    """The same on the torch path, where compiled kernels take its place otherwise."""

    version = "1"

    def setup(self, case: str, estimator: str, depth: int) -> None:
        super().setup(case, estimator, depth)
        if not kernels.is_plain(self.problem):
            raise NotImplementedError(NO_KERNEL)
        os.environ[kernel_choice.VARIABLE] = "torch"
