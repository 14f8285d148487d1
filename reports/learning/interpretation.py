"""Interpretation: the training samples that shaped each learned atom."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from pudle import text
from pudle.learning.images import gray, signed
from pudle.reports.learning.galleries import Gallery, Tile
from pudle.reports.learning.methods import Method
from pudle.reports.learning.study import Block, Study
from pudle.reports.looks import Looks
from pudle.reports.records import ExperimentRecord

MINUS = "\u2212"
#: Numbers of the summary, and the sentence about each.
SENTENCES = {
    "share": "The samples shown carry {:.0%} of what all samples contribute to an atom.",
    "cosine": "Their weighted sum has a cosine of {:.2f} with it.",
    "residual": "All samples together reproduce the atoms with a relative error of {:.2g}.",
}


class Interpretation(Study):
    """Atoms, each beside the samples that shaped it."""

    anchor = "interpretation"
    name = "Which samples shaped an atom"
    reading = (
        "Each row shows one atom, scaled to its greatest magnitude with zero in gray, and the"
        " training samples that shaped it most, with their weights, in the order in which the"
        " experiment stored them."
    )
    kinds = ("interpretation",)

    def title(self, record: ExperimentRecord) -> str:
        return f"{record.method}, {record.summary.get('dataset') or record.dataset}"

    def block(self, title: str, methods: list[Method], styles: Looks) -> Block:
        """Return sentences and a gallery of each experiment."""
        records = [record for method in methods for record in method.runs]
        sentences = [
            sentence.format(value)
            for record in records
            for name, sentence in SENTENCES.items()
            if not math.isnan(value := record.number(name))
        ]
        galleries = [_gallery(title, record) for record in records]
        return Block(title, " ".join(sentences), galleries=galleries)


def _gallery(title: str, record: ExperimentRecord) -> Gallery:
    rows = [
        {"atom": atom + 1, "rank": rank + 1, "weight": weight}
        for (atom, rank), weight in np.ndenumerate(record.shown["weights"])
    ]
    about = f"{title}, {record.name}"
    return Gallery("Samples that shaped an atom", about, [*_rows(record)], pd.DataFrame(rows))


def _rows(record: ExperimentRecord) -> Iterator[list[Tile]]:
    shown = (record.shown[name] for name in ("atoms", "samples", "weights"))
    for number, (atom, samples, weights) in enumerate(zip(*shown, strict=True), start=1):
        alt = f"The learned atom {number}."
        row = [Tile(signed(atom), [f"atom {number}"], alt, record.estimator, enlarged=True)]
        for sample, value in zip(samples, weights.tolist(), strict=True):
            weight = f"{MINUS * (value < 0)}{text.number(abs(value))}"
            # Samples that are not gray values in [0, 1] are drawn like atoms.
            draw = gray if sample.min(initial=0) >= 0 and sample.max(initial=0) <= 1 else signed
            alt = f"A sample that shaped atom {number}: weight {weight}."
            row.append(Tile(draw(sample), [weight], alt, enlarged=True))
        yield row
