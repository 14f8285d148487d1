"""Accuracy, read from the store."""

import statistics
from collections.abc import Callable

from pudle.measuring.results.score import ScoreRecord, ScoreRow
from pudle.measuring.stored_files import STATUSES

from .store import _Cells, add_case_classes, record, require_ok, selection


def _median(metric: str, unit: str) -> Callable[["_Accuracy", str, int], float]:
    """Return a benchmark method, with its unit for asv, that gives the median of a metric over the
    seeds; for a cell whose status is not ok it raises what `require_ok` does.
    """

    def track(self: "_Accuracy", estimator: str, depth: int) -> float:
        require_ok(self.verdict)
        return float(statistics.median(getattr(row, metric) for row in self.rows))

    track.unit = unit  # type: ignore[attr-defined]  # asv reads it there
    return track


class _Accuracy(_Cells):
    """Errors of each estimator at each depth: the median over seeds, against the case's first
    target.

    A cell without a number is skipped if that is a finding (unsupported, uncertified, degenerate,
    diverged) and fails if something broke; `track_status` always has a value, the index in
    `pudle.measuring.stored_files.STATUSES`.
    """

    rows: list[ScoreRow]
    # asv's own hash covers these lines alone and not the scoring behind them: raise this when a
    # value changes its meaning.
    version = "1"

    def setup(self, estimator: str, depth: int) -> None:
        self.look_up(record(self.case, estimator), depth)

    def look_up(self, stored: ScoreRecord, depth: int) -> None:
        """Set `rows` to the scores at a depth, against the first target of the record's case, and
        `verdict` to the worst status of these.
        """
        target = stored.case.targets[0]
        self.rows = [row for row in stored.scores if (row.depth, row.target) == (depth, target)]
        self.verdict = stored.at(depth, target)

    def track_status(self, estimator: str, depth: int) -> float:
        return float(STATUSES.index(self.verdict.status))

    track_relative_error = _median("relative_error", "|g - g_ref| / |g_ref|")
    track_cosine_error = _median("cosine_error", "1 - cos")
    track_code_error = _median("code_error", "mean |z - z_ref|")
    track_status.unit = "status"  # type: ignore[attr-defined]


add_case_classes(_Accuracy, selection().tracked_depths, globals())
