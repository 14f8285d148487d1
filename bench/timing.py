"""Time of one estimate."""

import os

from pudle import kernel_choice
from pudle.measuring.costs import clock

from .selected import _Estimates, selection


class Time(_Estimates):
    """Seconds of the processor for one estimate, data and references excluded, on one thread."""

    version = "2"
    rounds = 1
    repeat = (1, 10, 0.05)
    warmup_time = 0.03
    timer = staticmethod(clock(selection().device))
    metric = "seconds"

    def setup(self, case: str, estimator: str, depth: int) -> None:
        super().setup(case, estimator, depth)
        # The first estimate loads kernels, and `asv run --quick` times no other.
        self.time_estimate(case, estimator, depth)

    def time_estimate(self, case: str, estimator: str, depth: int) -> None:
        self.estimator.estimate(self.problem, self.algorithm, depth)


class TorchTime(Time):
    """The same on the torch path, where compiled kernels take its place otherwise."""

    metric = "seconds_torch"

    def setup(self, case: str, estimator: str, depth: int) -> None:
        super().setup(case, estimator, depth)
        os.environ[kernel_choice.VARIABLE] = "torch"
