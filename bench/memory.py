"""Peak memory of one estimate, and of the same process without it: asv's peak covers the life of a
process.
"""

from pudle.measuring.costs import drawn, touch

from .selected import _Cells, _Estimates, selection


class ProblemAlone(_Cells):
    """Peak of a process that draws the problem and estimates nothing: subtract it from `Memory`."""

    metric = "baseline"
    params = _Cells.params[:1]
    param_names = ("case",)
    version = "1"

    def setup(self, case: str) -> None:
        self.problem, self.algorithm = drawn(selection().case(case), selection().device)

    def peakmem_problem(self, case: str) -> None:
        pass


class Memory(_Estimates):
    """Peak of a process that draws the problem and makes one estimate."""

    version = "2"
    metric = "memory_bytes"

    def setup(self, case: str, estimator: str, depth: int) -> None:
        super().setup(case, estimator, depth)
        touch(self.estimator, self.problem, self.algorithm, depth)

    def peakmem_estimate(self, case: str, estimator: str, depth: int) -> None:
        self.estimator.estimate(self.problem, self.algorithm, depth)
