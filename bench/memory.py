"""Peak memory of one estimate: asv's peak covers the life of a process."""

from pudle.measuring.meters import touch
from pudle.measuring.results.cost import MEMORY

from .store import _Estimates, add_case_classes, selection


class _Memory(_Estimates):
    """Peak of a process that draws the problem and makes one estimate."""

    version = "2"
    metric = MEMORY

    def setup(self, estimator: str, depth: int) -> None:
        super().setup(estimator, depth)
        touch(self.estimator, self.problem, self.algorithm, depth)

    def peakmem_estimate(self, estimator: str, depth: int) -> None:
        self.estimate = self.estimator.estimate(self.problem, self.algorithm, depth)


add_case_classes(_Memory, selection().timed_depths, globals())
