"""Peak memory of one estimate, and of the same process without it: asv's peak covers the life of a process."""

from __future__ import annotations

from pudle.measuring.statuses import at_depth
from pudle.registry import make_estimator

from .selected import draw, record, require_ok, selection


class ProblemAlone:
    """Peak of a process that draws the problem and estimates nothing: subtract it from `Memory`."""

    params = ([case.name for case in selection().cases],)
    param_names = ("case",)
    timeout = selection().timeout
    version = "1"

    def setup(self, case: str) -> None:
        self.problem, self.algorithm = draw(case)

    def peakmem_problem(self, case: str) -> None:
        pass


class Memory:
    """Peak of a process that draws the problem and makes one estimate."""

    params = ([case.name for case in selection().cases], list(selection().estimators), list(selection().timed_depths))
    param_names = ("case", "estimator", "depth")
    timeout = selection().timeout
    version = "1"

    def setup(self, case: str, estimator: str, depth: int) -> None:
        require_ok(at_depth(record(case, estimator), depth))
        self.problem, self.algorithm = draw(case)
        self.estimator = make_estimator(estimator)

    def peakmem_estimate(self, case: str, estimator: str, depth: int) -> None:
        self.estimator.estimate(self.problem, self.algorithm, depth)
