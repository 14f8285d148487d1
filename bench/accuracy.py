"""Accuracy, read from the store."""

import statistics
from collections.abc import Callable

from pudle.measuring.contents import STATUSES, ScoreRecord

from .selected import _Cells, record, require_ok, selection


def _median(metric: str, unit: str) -> Callable[..., float]:
    """Return a method that gives the median of a metric over the seeds."""

    def track(self: "Accuracy", case: str, estimator: str, depth: int) -> float:
        require_ok(**self.result)
        return float(statistics.median(row[metric] for row in self.rows))

    track.unit = unit
    return track


class Accuracy(_Cells):
    """Errors of each estimator on each case at each depth: the median over seeds, against the
    case's first target.

    A cell without a number is skipped if that is a finding (unsupported, uncertified, degenerate,
    diverged) and fails if something broke; `track_status` always has a value, the index in
    `pudle.measuring.contents.STATUSES`.
    """

    params = (*_Cells.params[:2], list(selection().tracked_depths))
    # asv's own hash covers these lines alone and not the scoring behind them: raise this when a
    # value changes its meaning.
    version = "1"

    def setup(self, case: str, estimator: str, depth: int) -> None:
        self.look_up(record(case, estimator), depth)

    def look_up(self, kept: ScoreRecord, depth: int) -> None:
        """Take the scores at a depth from a record."""
        if depth not in kept.case.depths:
            raise NotImplementedError(f"{kept.case.name} is not scored at depth {depth}")
        target = kept.case.targets[0]
        self.rows = [row for row in kept.scores if (row["depth"], row["target"]) == (depth, target)]
        self.result = kept.at(depth, target)

    def track_status(self, case: str, estimator: str, depth: int) -> float:
        return float(STATUSES.index(self.result["status"]))

    track_relative_error = _median("relative_error", "|g - g_ref| / |g_ref|")
    track_cosine_error = _median("cosine_error", "1 - cos")
    track_code_error = _median("code_error", "mean |z - z_ref|")
    track_status.unit = "status"
