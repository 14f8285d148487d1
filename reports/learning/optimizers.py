"""The study of optimizers: which gradient each optimizer recovers a dictionary with."""

from collections import defaultdict
from collections.abc import Sequence

from pudle.reports.learning.methods import Method
from pudle.reports.learning.recovery import Panels, Recovery, ranked
from pudle.reports.load import parsed
from pudle.reports.records import ExperimentRecord


class Optimizers(Recovery):
    """Trainings of the study of optimizers by dataset, depth, algorithm and size of the batches."""

    anchor = "optimizers"
    name = "Optimizers"
    reading = (
        "Where each optimizer ends with each gradient. Of several learning rates the one that ends"
        " nearest is shown. A step of an optimizer with a line search computes several gradients."
    )
    kinds = ("learning",)
    against = ("step",)
    where = "With {}"

    def shows(self, record: ExperimentRecord) -> bool:
        return record.kind in self.kinds and record.study == "optimizers"

    def title(self, record: ExperimentRecord) -> str:
        batch = record.options.get("batch")
        title = "{dataset}, {depth} layers, {algorithm}".format(**record.options)
        return f"{title}, batches of {batch}" if batch else title

    def panels(self, methods: Sequence[Method]) -> Panels:
        """Return the methods by optimizer, each gradient at its best learning rate; without those
        that failed.
        """
        chosen: dict[str, dict[str, Method]] = defaultdict(dict)
        for method in ranked(methods):
            options = method.runs[0].options
            name, arguments = parsed(str(options.get("optimizer")))
            others = (f"{key}={arguments[key]}" for key in arguments.keys() - {"learning_rate"})
            optimizer = ", ".join([name, *sorted(others)])
            chosen[optimizer].setdefault(f"{method.estimator} {options.get('loss')}", method)
        return {name: [*part.values()] for name, part in chosen.items()}
