"""What the names in a report stand for: one sentence for each estimator, algorithm, loss and
dataset that it shows.
"""

import inspect
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pudle.names.registry import entries_named
from pudle.reports.load import Results, parsed

#: What a report is about, for a reader who has not met it.
ABOUT = (
    "Each estimator computes the gradient of an outer loss in an outer parameter (in dictionary"
    " learning: the dictionary), where that loss depends on the output of an inner algorithm that"
    " stops after some layers, its depth. The exact gradient is that at the solution of the inner"
    " problem. The error of an estimator is its distance from the exact gradient, divided by the"
    " norm of the exact gradient."
)
#: The outer losses that problems of the suite have; others are those of their own problems.
LOSSES = {
    "lasso": "the inner objective itself: reconstruction error plus penalty on the codes.",
    "reconstruction": "the reconstruction error alone, without the penalty on the codes.",
    "own": "the loss that the problem itself defines.",
}
FORMULA = re.compile(r":[a-z]+:`([^`]*)`")


class Meaning(NamedTuple):
    """A name in a report, what kind of thing it names, and a sentence about it."""

    kind: str
    name: str
    sentence: str


def meanings(results: Results) -> list[Meaning]:
    """Explain the estimators, algorithms, losses and datasets of some results."""
    cases = results.cases.values()
    estimators = [*results.estimators, *(run.estimator for run in results.experiments)]
    explained = [
        *_from_classes("estimator", estimators),
        *_from_classes("algorithm", (case.algorithm for case in cases)),
        *_from_classes("dataset", (case.dataset for case in cases)),
    ]
    losses = dict.fromkeys(case.loss for case in cases)
    explained += [Meaning("loss", loss, LOSSES[loss]) for loss in losses if loss in LOSSES]
    return explained


def _from_classes(kind: str, specs: Iterable[str]) -> Iterator[Meaning]:
    """Explain what specs name by the first sentence of their classes; a file is not opened."""
    for name in dict.fromkeys(parsed(spec)[0] for spec in specs if spec):
        documented = entries_named(f"{kind}s", name).get(name)
        if sentence := first_sentence(documented):
            yield Meaning(kind, name, sentence)


def first_sentence(documented: object) -> str:
    """Return the first paragraph of a docstring on one line, its markup as code."""
    text = inspect.getdoc(documented) if isinstance(documented, type) else ""
    paragraph = " ".join((text or "").split("\n\n")[0].split())
    return FORMULA.sub(r"`\1`", paragraph).replace("``", "`")
