"""Peak memory of one estimate, and of the same process without it: asv's peak covers the life of a
process.
"""

from pudle.measuring.meters import drawn, touch
from pudle.measuring.results.cost import MEMORY

from .selected import _Cells, _Estimates, by_case, selection


class ProblemAlone(_Cells):
    """Peak of a process that draws the problem and estimates nothing: subtract it from the peak of
    an estimate on the same case.
    """

    metric = "baseline"
    params = [[case.name for case in selection().cases]]
    param_names = ("case",)
    version = "1"

    def setup(self, case: str) -> None:
        self.problem, self.algorithm = drawn(selection().case(case), selection().device)

    def peakmem_problem(self, case: str) -> None:
        pass


class _Memory(_Estimates):
    """Peak of a process that draws the problem and makes one estimate."""

    version = "2"
    metric = MEMORY

    def setup(self, estimator: str, depth: int) -> None:
        super().setup(estimator, depth)
        touch(self.estimator, self.problem, self.algorithm, depth)

    def peakmem_estimate(self, estimator: str, depth: int) -> None:
        self.estimator.estimate(self.problem, self.algorithm, depth)


by_case(_Memory, selection().timed_depths, globals())
