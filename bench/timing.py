"""Time of one estimate."""

import os

from pudle import kernel_choice
from pudle.measuring.meters import clock
from pudle.measuring.results.cost import TIME, TORCH_TIME

from .store import _Estimates, add_case_classes, selection


class _Time(_Estimates):
    """Seconds of the processor for one estimate, data and references excluded, on one thread."""

    version = "2"
    rounds = 1
    # A second call without a setup would get a theta that the estimator has seen.
    number = 1
    repeat = (1, 10, 0.05)
    warmup_time = 0.03
    timer = staticmethod(clock(selection().device))
    metric = TIME

    def setup(self, estimator: str, depth: int) -> None:
        # The first estimate loads kernels, and `asv run --quick` times no other.
        super().setup(estimator, depth)
        self.time_estimate(estimator, depth)
        super().setup(estimator, depth)

    def time_estimate(self, estimator: str, depth: int) -> None:
        self.estimate = self.estimator.estimate(self.problem, self.algorithm, depth)


class _TorchTime(_Time):
    """The same on the torch path, where compiled kernels take its place otherwise."""

    metric = TORCH_TIME

    def setup(self, estimator: str, depth: int) -> None:
        super().setup(estimator, depth)
        os.environ[kernel_choice.VARIABLE] = "torch"


add_case_classes(_Time, selection().timed_depths, globals())
add_case_classes(_TorchTime, selection().torch_depths, globals(), "_torch")
