"""What a reader should not rely on, in one list."""

from collections.abc import Iterator, Sequence
from math import isinf, nan

from pudle import text
from pudle.answers import ERROR
from pudle.measuring.checked import NOT_CHECKED
from pudle.reports.load import TIMES, Results, parsed
from pudle.reports.summary import WINDOW, Summary
from pudle.reports.tables import some

#: A condition number from which on it is told.
ILL = 1e4
#: The estimator that goes back through few layers.
SHORT = "truncated"


def caveats(results: Results, rows: Sequence[Summary]) -> list[str]:
    """Return what holds less than it may seem, a sentence or two each."""
    return [*_seeds(results), *_costs(results), *_accuracy(results, rows), *_plugins(results)]


def _seeds(results: Results) -> Iterator[str]:
    single = [results.labels[name] for name, case in results.cases.items() if len(case.seeds) == 1]
    if single:
        yield f"One seed alone on {some(single)}: an order of estimators there may be chance."
    trained = [item for item in results.experiments if item.estimator]
    methods = {repr(sorted((item.options | {"seed": None}).items())) for item in trained}
    if len(methods) == len(trained) > 1:
        yield "Each training ran with one seed only: small differences may be chance."


def _costs(results: Results) -> Iterator[str]:
    if depths := sorted({row.depth or 0 for row in results.numbers if row.metric in TIMES}):
        shown = ", ".join(map(str, depths))
        yield (
            f"Times are measured at the depths {shown} and at those of answers; all others are"
            " estimates. Time and memory are those of one seed, and what else ran on the machine"
            " meanwhile is not recorded: ratios, which were measured in turns, hold better than"
            " seconds."
        )


def _accuracy(results: Results, rows: Sequence[Summary]) -> Iterator[str]:
    worst: dict[str, float] = {}
    for (case, *_), row in results.references.items():
        worst[case] = max(worst.get(case, 0.0), row.condition_number or 0.0)
    if ill := {case: value for case, value in worst.items() if value > ILL}:
        shown = text.number(max(ill.values()), 1)
        yield (
            f"Condition numbers of codes are up to {shown} on"
            f" {some([results.labels[case] for case in ill])}: a little other data has other"
            " gradients there."
        )
    if any(isinf(row.measured.reach(ERROR).depth) for row in rows):
        yield "What is not reached is not reached at the measured depths: more layers may do."
    errors = {(row.case, row.estimator): row.deepest.error.value for row in rows}
    costs = [
        (error / full, case, estimator, error, full)
        for (case, estimator), error in errors.items()
        if parsed(estimator)[0] == SHORT and error > (full := errors.get((case, WINDOW), nan)) > 0
    ]
    if costs:
        _, case, estimator, error, full = max(costs)
        yield (
            f"What truncation costs: on {results.labels[case]} `{estimator}` ends at an error of"
            f" {text.number(error)}, `{WINDOW}` at {text.number(full)}."
        )


def _plugins(results: Results) -> Iterator[str]:
    unchecked = [name for name, verdict in results.checks.items() if verdict == NOT_CHECKED]
    if unchecked:
        yield f"{some(unchecked)} did not go through `pudle check`: what they claim is not tested."
