"""Interpretation: the training samples that shaped each learned atom."""

import math
from collections.abc import Iterator

import pandas as pd

from pudle import text
from pudle.learning.images import gray, signed
from pudle.reports.learning.methods import Block, Gallery, Tile
from pudle.reports.load import Results
from pudle.reports.looks import Looks
from pudle.reports.records import ExperimentRecord

NAME = "Which samples shaped an atom"
READING = (
    "Each row shows one atom, scaled to its greatest magnitude with zero in gray, and the training"
    " samples that shaped it most, with their weights, in the order in which the experiment stored"
    " them."
)
MINUS = "\u2212"
#: Numbers of the summary, and the sentence about each.
SENTENCES = {
    "share": "The samples shown carry {:.0%} of what all samples contribute to an atom.",
    "cosine": "Their weighted sum has a cosine of {:.2f} with it.",
    "purity": "On average {:.0%} of them share one label.",
    "purity_by_chance": "Of as many samples drawn at random, {:.0%} do.",
    "residual": "All samples together reproduce the atoms with a relative error of {:.2g}.",
}


def blocks(results: Results, styles: Looks) -> Iterator[Block]:
    """Yield title, conclusion and gallery of each experiment that says which samples shaped its
    atoms.
    """
    for record in results.experiments:
        if record.kind == "interpretation" and record.status == "ok":
            title = f"{record.method}, {record.summary.get('dataset') or record.dataset}"
            sentences = [
                sentence.format(value)
                for name, sentence in SENTENCES.items()
                if not math.isnan(value := record.number(name))
            ]
            weights = pd.DataFrame(record.shown["weights"]).stack().rename_axis(["atom", "rank"])
            data = weights.reset_index(name="weight")
            data[["atom", "rank"]] += 1
            shaped = Gallery(
                "Samples that shaped an atom", f"{title}, {record.name}", [*_rows(record)], data
            )
            yield Block(title, " ".join(sentences), galleries=[shaped])


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
