"""The study of optimizers: what each optimizer reaches with each gradient, and whether acceleration
helps.
"""

import math
from collections import defaultdict
from collections.abc import Sequence

from pudle import text
from pudle.reports.learning.methods import Method
from pudle.reports.learning.recovery import Recovery, table
from pudle.reports.learning.study import Block, charts
from pudle.reports.load import parsed
from pudle.reports.looks import Looks
from pudle.reports.records import ExperimentRecord

ERROR = "relative_error"
#: The optimizer without acceleration.
PLAIN = "sgd"


class Optimizers(Recovery):
    """Trainings of the study of optimizers by dataset, depth, algorithm and size of the batches."""

    anchor = "optimizers"
    name = "Optimizers"
    reading = (
        "The relative error of the dictionary at which each optimizer ends with each gradient. Of"
        " several learning rates the one that ends nearest is shown. A step of an optimizer with a"
        " line search computes several gradients."
    )
    kinds = ("learning",)

    def shows(self, record: ExperimentRecord) -> bool:
        return record.kind in self.kinds and record.study == "optimizers"

    def title(self, record: ExperimentRecord) -> str:
        batch = record.options.get("batch")
        title = "{dataset}, {depth} layers, {algorithm}".format(**record.options)
        return f"{title}, batches of {batch}" if batch else title

    def block(self, title: str, methods: list[Method], styles: Looks) -> Block:
        """Return a table, and the error against steps, one chart per optimizer."""
        chosen = best(methods)
        panels: dict[str, dict[str, Method]] = defaultdict(dict)
        for method in chosen:
            panels[optimizer(method)][method.label] = method
        figures = charts(
            title, panels, styles, x=["step"], y=self.outcome, kind="Steps of an optimizer"
        )
        caption = f"Where optimizers end: {title}"
        return Block(title, answer(chosen), [(table(chosen), caption)], figures)


def optimizer(method: Method) -> str:
    """Return the optimizer of a method, without its learning rate."""
    name, options = parsed(str(method.runs[0].options.get("optimizer")))
    others = [f"{key}={value!r}" for key, value in options.items() if key != "learning_rate"]
    return f"{name}({', '.join(others)})" if others else name


def gradient(method: Method) -> str:
    """Return the estimator of a method and its loss, as a sentence has them."""
    return f"`{method.estimator}` on the {method.runs[0].options.get('loss')} loss"


def best(methods: Sequence[Method]) -> list[Method]:
    """Return the method that ends nearest for each gradient and optimizer."""
    chosen: dict[tuple[str, str], Method] = {}
    for method in methods:
        place = gradient(method), optimizer(method)
        chosen[place] = min(chosen.get(place, method), method, key=_end)
    return [*chosen.values()]


def _end(method: Method) -> float:
    error = method.median(ERROR)
    return math.inf if math.isnan(error) else error


def answer(methods: Sequence[Method]) -> str:
    """Say what acceleration gains with each gradient."""
    sentences = []
    for name in dict.fromkeys(map(gradient, methods)):
        ends = {optimizer(each): _end(each) for each in methods if gradient(each) == name}
        plain, others = ends.pop(PLAIN, math.inf), sorted(ends, key=ends.__getitem__)
        if plain < math.inf and others and ends[others[0]] < math.inf:
            sentences.append(
                f"With {name}, {others[0]} ends at a relative error of"
                f" {text.number(ends[others[0]])}, {PLAIN} at {text.number(plain)}."
            )
    return " ".join(sentences)
