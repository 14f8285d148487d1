"""Peak memory of one estimate, and of the same process doing nothing."""

from __future__ import annotations

from pudle.measuring.runner import at_depth
from pudle.registry import make_estimator

from .selected import pin_threads, record, require_ok, selection, store


class _Problem:
    """Draws the case's problem; asv's peak covers a process's whole life, so both sides must draw alike."""

    timeout = selection().timeout
    version = "1"

    def _draw(self, case: str) -> None:
        pin_threads()
        chosen = selection().case(case)
        self.problem = chosen.make_problem(chosen.seeds[0], store().device)
        self.algorithm = chosen.make_algorithm()
        # What every estimator needs once: the largest curvature, for the step.
        self.algorithm.step_size(self.problem)


class ProblemAlone(_Problem):
    """Peak of a process that draws the problem and estimates nothing: subtract it from `Memory`."""

    params = ([case.name for case in selection().cases],)
    param_names = ("case",)

    def setup(self, case: str) -> None:
        self._draw(case)

    def peakmem_problem(self, case: str) -> None:
        pass


class Memory(_Problem):
    """Peak of a process that draws the problem and makes one estimate."""

    params = (
        [case.name for case in selection().cases],
        list(selection().estimators),
        list(selection().timed_depths),
    )
    param_names = ("case", "estimator", "depth")

    def setup(self, case: str, estimator: str, depth: int) -> None:
        require_ok(at_depth(record(case, estimator), depth))
        self._draw(case)
        self.estimator = make_estimator(estimator)

    def peakmem_estimate(self, case: str, estimator: str, depth: int) -> None:
        self.estimator.estimate(self.problem, self.algorithm, depth)
