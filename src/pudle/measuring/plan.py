"""The results that a selection asks for, from the selection and from the records of its scores. No
stored file is read; plug-ins, users' files and studies are imported where specs and names need it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from .. import kernel_choice, names
from ..estimator import GradientEstimator
from .answer_inputs import measurements
from .results.cost import TIME, TORCH_TIME, EstimateCost
from .results.experiment import CarriedExperiment
from .results.result import RecordedResult
from .results.score import ScoreRecord, Scores
from .selection import Selection
from .stored_files import Record


@dataclass(frozen=True, eq=False)
class Plan:
    """All results that a selection asks for.

    Attributes
    ----------
    selection : Selection
    score_records : mapping
        The record of each of its scores, None where there is none; empty where they are not known.
        They say at which depths answers lie, and so at which depths there are times as well.
    """

    selection: Selection
    score_records: Mapping[Scores, ScoreRecord | None] = field(default_factory=dict)

    @cached_property
    def scores(self) -> list[Scores]:
        """The scores of every case with every estimator that is measured on it."""
        return list(itertools.starmap(Scores, self.selection.pairs))

    @cached_property
    def costs(self) -> list[EstimateCost]:
        """Times and memories at the timed depths, and times at the depths of answers, as far as
        the scores are known.
        """
        at_timed_depths = [*self._costs_at_timed_depths()]
        at_depths_of_answers = {*self._times_of_answers()} - {*at_timed_depths}
        return [*at_timed_depths, *sorted(at_depths_of_answers, key=repr)]

    @cached_property
    def experiments(self) -> list[CarriedExperiment]:
        """The experiments."""
        return list(map(CarriedExperiment.registered, self.selection.experiments))

    @property
    def results(self) -> list[RecordedResult[Record]]:
        """All results, scores first."""
        return [*self.scores, *self.costs, *self.experiments]

    @cached_property
    def plugins(self) -> dict[str, GradientEstimator]:
        """The estimators of plug-ins and users' files that are measured, by spec."""
        estimators = {spec: names.make_estimator(spec) for spec in self.selection.estimators}
        return {
            spec: estimator
            for spec, estimator in estimators.items()
            if names.is_plugin(type(estimator))
        }

    def _costs_at_timed_depths(self) -> Iterator[EstimateCost]:
        """Yield the costs of every pair at the timed depths that its case scores."""
        selection, torch_depths = self.selection, self._torch_depths()
        for case, estimator in selection.pairs:
            for depth in selection.timed_depths:
                if depth not in case.depths:
                    # No answer lies at depths that are not scored.
                    continue
                for metric in selection.costs:
                    yield EstimateCost(metric, case, estimator, depth, selection.threads)
                if depth in torch_depths:
                    yield EstimateCost(TORCH_TIME, case, estimator, depth, selection.threads)

    def _torch_depths(self) -> tuple[int, ...]:
        """Return the depths at which times are measured on the torch path as well; none if no times
        are asked for, or PUDLE_KERNELS turns kernels off.

        They are the selection's or, without some, all timed depths where a plug-in is measured.
        """
        selection = self.selection
        if TIME not in selection.costs or kernel_choice.chosen_path() == "torch":
            # Without kernels, every time is one of the torch path.
            return ()
        # A plug-in's layers may be torch's: then the torch path of the others is its measure.
        return selection.torch_depths or (selection.timed_depths if self.plugins else ())

    def _times_of_answers(self) -> Iterator[EstimateCost]:
        """Yield, for each estimator on each case and each of the selection's `timed_errors`, the
        time at the depth from which on its stored errors are that small; nothing if they never are,
        or if no times are asked for.

        A time may come twice, for two errors, and may be one at a timed depth.
        """
        if TIME not in self.selection.costs:
            return
        cases = {case.name: case for case in self.selection.cases}
        records = [record for record in self.score_records.values() if record]
        for row in itertools.chain(*measurements(records, []).values()):
            for error in self.selection.timed_errors:
                depth = row.reach(error).depth
                if depth < math.inf:
                    case, threads = cases[row.case], self.selection.threads
                    yield EstimateCost(TIME, case, row.estimator, int(depth), threads)
