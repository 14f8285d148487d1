"""What answers rest on, from records: the errors of an estimator on a case against depth, and its
times and memories.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from math import isfinite
from operator import attrgetter

import numpy as np

from .. import paired
from ..answers import NO_LINE, NO_ROUNDS, Curve, Line, Measured, Rounds, memory_noise
from .grouping import grouped
from .results.cost import MEMORY, TIME, CostRecord
from .results.score import ScoreRecord, ScoreRow

depth_of = attrgetter("depth")


def number(row: ScoreRow, metric: str) -> float | None:
    """Return a score's number of a metric; None where its status is not ok, or the number is
    missing or not finite.
    """
    value: float | None = getattr(row, metric)
    usable = row.status == "ok" and value is not None and isfinite(value)
    return value if usable else None


def seeds_of(records: Iterable[ScoreRecord], metric: str, target: str) -> list[int]:
    """Return the seeds, ascending, that have a number of a metric against a target in any of the
    records of a case: each counts for every estimator, also for one that failed on it.
    """
    rows = (row for record in records for row in record.scores if row.target == target)
    return sorted({row.seed for row in rows if number(row, metric) is not None})


def curve(record: ScoreRecord, seeds: Sequence[int], metric: str, target: str) -> Curve:
    """Return the numbers of a metric over depths and seeds, against one target.

    The depths are those that have a number, in ascending order; NaN stands where a depth and a seed
    have none. `seeds` must hold every seed that has one. Only relative errors are marked as
    standing at the reference's bound.
    """
    numbers: list[tuple[ScoreRow, float]] = []
    for row in record.scores:
        value = number(row, metric)
        if row.target == target and value is not None:
            numbers.append((row, value))
    depths = sorted({row.depth for row, _ in numbers})
    values = np.full((len(depths), len(seeds)), np.nan)
    at_floor = np.zeros(values.shape, bool)
    index_of_depth = {depth: index for index, depth in enumerate(depths)}
    index_of_seed = {seed: index for index, seed in enumerate(seeds)}
    for row, value in numbers:
        place = index_of_depth[row.depth], index_of_seed[row.seed]
        values[place], at_floor[place] = value, row.at_floor and metric == "relative_error"
    return Curve(np.array(depths, int), np.array(seeds, int), values, at_floor)


def _line_key(cost: CostRecord) -> tuple[str, str, str]:
    return cost.metric, cost.case, cost.estimator


def lines(costs: Iterable[CostRecord]) -> dict[tuple[str, str, str], Line]:
    """Return costs against depth, in ascending order, by metric, case and estimator; those without
    a value are left out.
    """
    known_costs = [cost for cost in costs if cost.status == "ok" and cost.value is not None]
    lines_by_key = {}
    for key, line_costs in grouped(known_costs, _line_key).items():
        line_costs.sort(key=depth_of)
        lines_by_key[key] = Line({cost.depth: cost.value or 0.0 for cost in line_costs})
    return lines_by_key


def rounds(costs: Collection[CostRecord]) -> dict[tuple[str, str, str], Rounds]:
    """Return times by round and depth, by metric, case and estimator; costs without times by round,
    as memories, are left out.

    Of a line only the depths count that were measured in the same turns as the deepest. Two times
    differ where their p-value is at most one limit for all, which keeps the share of false
    differences among all pairs of the same turns (Benjamini and Hochberg).
    """
    timed = [cost for cost in costs if cost.status == "ok" and cost.samples]
    # All that was timed in the same turns is compared with each other at each depth.
    same_turns = grouped(
        timed, lambda cost: (cost.metric, cost.depth, cost.turns, len(cost.samples))
    )
    p_values = [np.empty(0)]
    for (*_, count), turn_costs in same_turns.items():
        if count > 1:
            first, second = np.triu_indices(len(turn_costs), 1)
            samples = np.array([cost.samples for cost in turn_costs])
            p_values.append(paired.compare_many(samples[first], samples[second]).p_value)
    significance = paired.critical(np.concatenate(p_values))
    rounds_by_key = {}
    for key, line_costs in grouped(sorted(timed, key=depth_of), _line_key).items():
        # Those at one depth may have been measured later than others.
        turns = line_costs[-1].turns
        samples_at_depth: dict[float, Sequence[float]] = {
            cost.depth: tuple(cost.samples) for cost in line_costs if cost.turns == turns
        }
        rounds_by_key[key] = Rounds(samples_at_depth, turns, significance)
    return rounds_by_key


def _memories_that_should_agree(
    by_case: Mapping[str, Sequence[ScoreRecord]], by_line: Mapping[tuple[str, str, str], Line]
) -> Iterator[list[Line]]:
    """Yield the memories of each estimator on the cases that differ in the outer loss alone."""
    records = [record for of_case in by_case.values() for record in of_case]
    same_but_loss = grouped(
        records,
        lambda record: (
            record.case.dataset,
            record.case.algorithm,
            record.case.dtype,
            record.estimator,
        ),
    )
    for group in same_but_loss.values():
        keys = [(MEMORY, record.case.name, record.estimator) for record in group]
        yield [by_line[key] for key in keys if key in by_line]


def measurements(
    scores: Iterable[ScoreRecord], costs: Collection[CostRecord]
) -> Mapping[str, tuple[Measured, ...]]:
    """Return the measurements of the estimators of each case, by the names of cases, against the
    first target of each.

    Cases and estimators are those that have score records, in their order; one without a cost has
    an empty line in its place. All share one noise of memories, that of all costs.
    """
    by_case = grouped(scores, lambda record: record.case.name)
    by_line, by_round = lines(costs), rounds(costs)
    noise = memory_noise(_memories_that_should_agree(by_case, by_line))
    inputs = {}
    for name, records in by_case.items():
        target = records[0].case.targets[0]
        seeds = seeds_of(records, "relative_error", target)
        inputs[name] = tuple(
            Measured(
                record.estimator,
                curve(record, seeds, "relative_error", target),
                by_line.get((TIME, name, record.estimator), NO_LINE),
                by_line.get((MEMORY, name, record.estimator), NO_LINE),
                by_round.get((TIME, name, record.estimator), NO_ROUNDS),
                record.case.algorithm,
                name,
                all(record.differentiable for record in records),
                noise,
            )
            for record in records
        )
    return inputs
