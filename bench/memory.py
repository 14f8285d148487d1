"""Peak memory of one estimate, and of the same process without it: asv's peak covers the life of a
process.
"""

from __future__ import annotations

import contextlib

from pudle.batches import split
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

    params = (
        [case.name for case in selection().cases],
        list(selection().estimators),
        list(selection().timed_depths),
    )
    param_names = ("case", "estimator", "depth")
    timeout = selection().timeout
    version = "2"

    def setup(self, case: str, estimator: str, depth: int) -> None:
        require_ok(at_depth(record(case, estimator), depth))
        self.problem, self.algorithm = draw(case)
        self.estimator = make_estimator(estimator)
        self._touch(min(depth, 2))

    def _touch(self, depth: int) -> None:
        """Estimate on one sample, so that the code that this needs lies in memory before the
        estimate that is measured.

        Pages of libraries count as memory of a process once they are used, and some are imported at
        their first use: 20 to 70 MB, which the first estimate would seem to need.
        """
        # Whatever fails will fail again, where it is kept.
        with contextlib.suppress(Exception):
            self.estimator.estimate(next(split(self.problem, 1)), self.algorithm, depth)

    def peakmem_estimate(self, case: str, estimator: str, depth: int) -> None:
        self.estimator.estimate(self.problem, self.algorithm, depth)
