"""What pages say of experiments: one section per study, what gradients buy, and what each led
to.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import pandas as pd

from pudle import text
from pudle.reports.cells import Shown, number_cell
from pudle.reports.figures.record import Figure, file_name
from pudle.reports.learning.images import Denoising, Interpretation
from pudle.reports.learning.recovery import Optimizers, Recovery
from pudle.reports.learning.study import (
    GRADIENT,
    LONGEST_NAME,
    Block,
    Method,
    Study,
    layers_text,
    setup_text,
)
from pudle.reports.load import Results, ShownExperiment, parsed
from pudle.reports.looks import Looks, looks, looks_of
from pudle.reports.markup import Table


class Others(Study):
    """Experiments of kinds that this version cannot draw."""

    anchor = "others"
    name = "Other experiments"
    reading = "Experiments of kinds that this version cannot draw."
    kinds = ()

    def shows(self, record: ShownExperiment) -> bool:
        return record.kind not in BY_KIND

    def title(self, record: ShownExperiment) -> str:
        return ""

    def block(self, title: str, methods: list[Method], styles: Looks) -> Block:
        """Return a table of the summaries, without charts and an answer."""
        rows: list[dict[str, Shown]] = [
            {
                "experiment": run.name,
                "study": run.study,
                "kind": run.kind,
                "status": run.status,
                "summary": "; ".join(f"{key}: {value}" for key, value in run.summary.items()),
            }
            for method in methods
            for run in method.runs
        ]
        return Block("", tables=[(Table.of(rows), "Summaries of other experiments")])


OTHERS = Others()
STUDIES: tuple[Study, ...] = Recovery(), Optimizers(), Denoising(), Interpretation(), OTHERS
#: How a note names the steps of a training, where errors of gradients were measured on them.
ALONG = "the trainings' own steps"
#: The study of each kind of experiments; of several, the first.
BY_KIND = {kind: study for study in reversed(STUDIES) for kind in study.kinds}


class Section(NamedTuple):
    """What a page says of one study."""

    study: Study
    blocks: Sequence[Block]
    #: Why what it finds best may be another gradient than the answers name; empty where nothing
    #: has to be said.
    beside_answers: str = ""


def sections(results: Results) -> list[Section]:
    """Return the sections on the experiments of a result: one for each study that has some, with a
    block for every group of its experiments.
    """
    packages = (record.method for record in results.experiments if not record.estimator)
    styles = {**looks(dict.fromkeys(packages), {}), **looks_of(results)}
    return [
        Section(
            study,
            [study.block(title, methods, styles) for title, methods in groups.items()],
            _beside_answers(results, chain.from_iterable(groups.values())),
        )
        for study in STUDIES
        if (groups := study.groups(results))
    ]


def _beside_answers(results: Results, methods: Iterable[Method]) -> str:
    """Say why the best gradient of some trainings need not be that of the answers; empty without
    answers, or where no training runs layers.
    """
    layers = layers_text(methods)
    if not results.cases or not layers:
        return ""
    return (
        "The best gradient here may be another one than in the answers, which this does not"
        " contradict: an answer runs as many layers, or steps of a solver, as an accurate gradient"
        f" takes, whereas these trainings run {layers}, where another gradient may be the more"
        " accurate one."
    )


def bought(results: Results) -> list[Figure]:
    """Return one figure per dataset: for each training the error of its gradient, and what it led
    to.

    The error is the median along the training where it was measured. Elsewhere it is the median
    scored at the training's depth, or at the next smaller one that was measured, on a case with the
    same kind of dataset, loss and algorithm; trainings without one are left out, and so are those
    that start from the last codes, because gradients are scored from codes that start anew. The
    note says which it is.
    """
    figures = []
    for study in STUDIES:
        for title, methods in study.groups(results).items() if study.time else ():
            scores = {method: _errors(results, method) for method in methods if method.good}
            rows = pd.DataFrame(
                {
                    "method": method.label,
                    "estimator": method.estimator,
                    "depth": method.runs[0].depth,
                    "loss": method.runs[0].options.get("loss"),
                    study.outcome.column: method.median(study.outcome.column),
                    "gradient_error": float(np.median([scored.error for scored in errors])),
                }
                for method, errors in scores.items()
                if errors
            ).dropna()
            if rows.empty:
                continue
            listed = "; ".join(
                f"{row['method']}, {row['depth']} layers, {row['loss']} loss:"
                f" {text.number(row['gradient_error'])} led to"
                f" {text.number(row[study.outcome.column], 3)}"
                for row in rows.to_dict("records")
            )
            every = [scored for errors in scores.values() for scored in errors]
            where = text.listing([*dict.fromkeys(scored.where for scored in every)])
            setup = setup_text(method for method, errors in scores.items() if errors)
            figures.append(
                Figure(
                    file_name("bought", title, longest=LONGEST_NAME),
                    "What gradients buy",
                    ": ".join(filter(None, [title, setup])),
                    rows,
                    [GRADIENT],
                    [study.outcome],
                    looks_of(results),
                    mark="point",
                    about=f"{title}: {listed}.",
                    note=f"Errors of gradients are those on {where}.{_depths_text(every)}",
                    tips={"method": "method", "depth": "layers", "loss": "loss"},
                )
            )
    return figures


class ScoredGradient(NamedTuple):
    """The error of a training's gradient, where it was scored, at how many layers, and how many the
    training has.
    """

    error: float
    where: str
    depth: int = 0
    trained_depth: int = 0


def _errors(results: Results, method: Method) -> list[ScoredGradient]:
    """Return the errors of a training's gradient, none where none is known.

    That is the median along the training, if it was measured. Otherwise it is, for each case that
    scores gradients of the kind of problem that the training solves, the error at the greatest
    measured depth that is none above the training's; without cases that have none, or none above
    it. A training that starts from the last codes has none then.
    """
    along = method.median("gradient_error")
    if not math.isnan(along) or method.warm:
        return [] if math.isnan(along) else [ScoredGradient(along, ALONG)]
    record = method.good[0]
    errors = []
    for name, case in results.cases.items():
        depths, values = results.curve(name, method.estimator).spread[:, :2].T
        # The same kind of problem, whatever the options of the dataset.
        same = case.loss == record.options.get("loss") and all(
            parsed(getattr(case, key))[0] == parsed(str(record.options.get(key)))[0]
            for key in ("dataset", "algorithm")
        )
        depth = record.depth or 0
        if same and len(depths) and depths[0] <= depth <= depths[-1]:
            error, at = float(values[depths <= depth][-1]), int(depths[depths <= depth][-1])
            where = f"{case.dataset}, {case.algorithm}"
            errors.append(ScoredGradient(error, where, at, depth))
    return errors


def _depths_text(every: Iterable[ScoredGradient]) -> str:
    """Say at which depths errors were scored that are not those of the trainings; empty where all
    are. It begins with a space.
    """
    depths = sorted(
        {
            (scored.trained_depth, scored.depth)
            for scored in every
            if scored.depth != scored.trained_depth
        }
    )
    if not depths:
        return ""
    pairs = [f"depth {at} for trainings with {layers} layers" for layers, at in depths]
    return f" They are those at {text.listing(pairs)}, the next smaller one that was measured."


def outcome(record: ShownExperiment, first: ShownExperiment) -> dict[str, Shown]:
    """Show the outcome of an experiment, by columns: what its study compares, the number, the time,
    and the status, which says where options or images differ from those of `first`, another run's,
    so that they cannot be compared.
    """
    study = BY_KIND.get(record.kind, OTHERS)
    return {
        "measure": study.outcome.title,
        "value": number_cell(record.number(study.outcome.column), study.show),
        "time": number_cell(record.number(study.time), text.seconds),
        "status": "; ".join(filter(None, [record.status, _differing(first, record)])),
    }


def _differing(first: ShownExperiment, second: ShownExperiment) -> str:
    """Return why two experiments of the same name cannot be compared, or an empty text."""
    # An option that one side's version does not have yet is no difference.
    shared = first.options.keys() & second.options.keys()
    if first.kind != second.kind or any(
        first.options[key] != second.options[key] for key in shared
    ):
        return "other options"
    images = ("test_images", "images")
    differ = any(first.summary.get(key) != second.summary.get(key) for key in images)
    return "other images" if differ else ""
