"""Time of one estimate."""

from __future__ import annotations

import os

import torch

from pudle import kernel_choice
from pudle.algorithms import kernels
from pudle.measuring.statuses import at_depth
from pudle.registry import make_estimator

from .selected import draw, record, require_ok, selection


class Time:
    """Seconds for one estimate, data and references excluded, on one thread."""

    params = ([case.name for case in selection().cases], list(selection().estimators), list(selection().timed_depths))
    param_names = ("case", "estimator", "depth")
    timeout = selection().timeout
    version = "1"
    rounds = 1
    # `pudle run` repeats these few repeats until their spread is small enough.
    repeat = (1, 10, 0.1)
    warmup_time = 0.05

    def setup(self, case: str, estimator: str, depth: int) -> None:
        require_ok(at_depth(record(case, estimator), depth))
        self.problem, self.algorithm = draw(case)
        self.estimator = make_estimator(estimator)
        # A GPU's work is queued: without waiting, only the queueing would be timed.
        self.wait = torch.cuda.synchronize if self.problem.theta.is_cuda else lambda: None

    def time_estimate(self, case: str, estimator: str, depth: int) -> None:
        self.estimator.estimate(self.problem, self.algorithm, depth)
        self.wait()


class TorchTime(Time):
    """The same on the torch path, where compiled kernels take its place otherwise."""

    version = "1"

    def setup(self, case: str, estimator: str, depth: int) -> None:
        super().setup(case, estimator, depth)
        if not kernels.is_plain(self.problem):
            raise NotImplementedError(f"no kernel applies to {case}: its time is that of the torch path")
        os.environ[kernel_choice.VARIABLE] = "torch"
