"""How far the gradients that a training uses are from the exact ones."""

import math
from dataclasses import dataclass
from statistics import median

from ..errors import UnsupportedProblem
from ..estimator import Estimate
from ..measuring.scoring import score
from ..references.certified import default_target, reference
from ..validation import check_options
from .processes import Processes
from .run import LearningRun, Measure, Row

#: The columns: a gap is 1 where a gradient has no error, because its reference is not certified or
#: is zero.
ERROR, COSINE, GAP = "gradient_error", "gradient_cosine", "gradient_gap"


@dataclass(frozen=True)
class GradientError(Measure):
    """The relative error of the gradient that the last step used, and its cosine with the exact
    one.

    The exact gradient is the certified reference of the same batch at the same dictionary, and the
    errors are those of `pudle.score`, before the optimizer removes or scales anything. A row
    without a measurement has NaN. One whose reference is not certified, or zero, is a gap: its
    error and its cosine are NaN as well, and ``gradient_gap`` is 1 instead of 0.

    Parameters
    ----------
    every : int
        Steps from one measurement to the next, which takes place at the first row of the history
        after them.
    """

    every: int = 1

    def __post_init__(self) -> None:
        check_options(self)

    def at(self, run: LearningRun) -> dict[str, float]:
        found, rows = dict.fromkeys((ERROR, COSINE, GAP), math.nan), run.counts.rows
        if default_target(run.problem, run.options.parts.algorithm) != "exact":
            raise UnsupportedProblem(
                "the error of the gradient needs the exact one, which is not known for this"
                " problem and its loss, or where this algorithm leads: leave gradient_error out"
            )
        if run.last is None or run.counts.step // self.every == rows[-1]["step"] // self.every:
            return found
        _, batch = run.batch(run.last.number, Processes())
        exact = reference(run.seen(batch, run.last.theta))
        # Of several processes none has the codes of all samples; they are not scored here.
        errors = score(Estimate(run.last.estimate, exact.codes), exact)
        if errors.status != "ok":
            return found | {GAP: 1}
        return {ERROR: errors.relative_error, COSINE: 1 - errors.cosine_error, GAP: 0}


def along(rows: list[Row]) -> dict[str, float]:
    """Return the medians of the error and the cosine along a training, as far as they were
    measured, and the number of gaps; nothing where none was to be measured.
    """
    if GAP not in rows[-1]:
        return {}
    known = [row for row in rows if row.get(GAP) == 0]
    medians = {
        name: median(row[name] for row in known) if known else math.nan for name in (ERROR, COSINE)
    }
    return medians | {GAP: sum(row.get(GAP) == 1 for row in rows)}
