"""Interpretation: the training samples that shaped each learned atom."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from pudle import text
from pudle.learning.images import gray, signed
from pudle.reports.learning.pictures import Block, Tile, gallery
from pudle.reports.load import Results
from pudle.reports.looks import Look
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


def blocks(results: Results, styles: Mapping[str, Look]) -> Iterator[Block]:
    """Yield title, conclusion and gallery of each experiment that says which samples shaped its
    atoms.
    """
    for record in results.experiments:
        if record.kind == "interpretation" and record.status == "ok":
            dataset = record.summary.get("dataset") or record.options.get("dataset")
            title = ", ".join(filter(None, (record.method, dataset)))
            numbers = {name: record.number(name) for name in SENTENCES}
            sentences = (
                SENTENCES[name].format(value)
                for name, value in numbers.items()
                if not math.isnan(value)
            )
            weights = record.shown["weights"]
            atom, rank = np.indices(weights.shape) + 1
            columns = {"atom": atom.ravel(), "rank": rank.ravel(), "weight": weights.ravel()}
            shaped = gallery(
                f"samples-{record.name}",
                "Samples that shaped an atom",
                title,
                _rows(record, **record.shown),
                pd.DataFrame(columns),
            )
            yield Block(title, " ".join(sentences), galleries=[shaped])


def _rows(
    record: ExperimentRecord, atoms: np.ndarray, samples: np.ndarray, weights: np.ndarray
) -> list[list[Tile]]:
    rows = []
    for place, atom in enumerate(atoms):
        name, alt = f"atom {place + 1}", f"The learned atom {place + 1}."
        row = [Tile(signed(atom), (name,), alt, record.estimator, enlarged=True)]
        for sample, value in zip(samples[place], weights[place].tolist(), strict=True):
            weight = f"{MINUS * (value < 0)}{text.number(abs(value))}"
            # Samples that are not gray values in [0, 1] are drawn like atoms.
            plain = sample.min(initial=0) >= 0 and sample.max(initial=0) <= 1
            alt = f"A sample that shaped {name}: weight {weight}."
            shown = gray(sample) if plain else signed(sample)
            row.append(Tile(shown, (weight,), alt, enlarged=True))
        rows.append(row)
    return rows
