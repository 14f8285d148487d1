"""Interpretation: the training samples that shaped each learned atom."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from pudle import text
from pudle.reports.learning.pictures import Gallery, Tile, gallery, gray, signed
from pudle.reports.load import Results
from pudle.reports.records import ARRAYS, ExperimentRecord


def interpreted(results: Results) -> list[tuple[str, str, Gallery]]:
    """Return title, conclusion and gallery of each experiment that says which samples shaped its
    atoms.
    """
    found = []
    for record in (
        item
        for item in results.experiments
        if item.kind == "interpretation" and item.status == "ok"
    ):
        arrays = record.arrays(**ARRAYS["interpretation"])
        samples, weights = arrays["samples"], arrays["weights"]
        title = ", ".join(
            filter(
                None,
                (record.method, record.summary.get("dataset") or record.options.get("dataset")),
            )
        )
        rows = [
            _row(f"atom {place}", *parts, record.estimator)
            for place, parts in enumerate(
                zip(arrays["atoms"], samples, weights, strict=True), start=1
            )
        ]
        atom, rank = np.indices(weights.shape) + 1
        data = pd.DataFrame({"atom": atom.ravel(), "rank": rank.ravel(), "weight": weights.ravel()})
        shaped = gallery(f"samples-{record.name}", "Samples that shaped an atom", title, rows, data)
        found.append((title, _answer(record, samples.shape[1]), shaped))
    return found


def _answer(record: ExperimentRecord, count: int) -> str:
    """Say how much of an atom the samples explain, and whether they have one label."""
    share, cosine, residual = map(record.number, ("share", "cosine", "residual"))
    purity, chance = map(record.number, ("purity", "purity_by_chance"))
    sentences = []
    if not math.isnan(share):
        fit = (
            ""
            if math.isnan(cosine)
            else f"; their weighted sum has a cosine of {cosine:.2f} with it"
        )
        sentences.append(
            f"The {count} samples shown carry {share:.0%} of what all samples contribute to an"
            f" atom{fit}."
        )
    if not math.isnan(purity):
        by_chance = (
            "" if math.isnan(chance) else f"; of as many samples drawn at random, {chance:.0%} do"
        )
        sentences.append(f"On average {purity:.0%} of them share one label{by_chance}.")
    if not math.isnan(residual):
        sentences.append(
            "All samples together reproduce the atoms with a relative error of"
            f" {text.number(residual)}."
        )
    return " ".join(sentences)


def _row(
    name: str, atom: np.ndarray, samples: np.ndarray, weights: np.ndarray, estimator: str
) -> list[Tile]:
    tiles = [Tile(signed(atom), (name,), f"The learned {name}.", estimator, enlarged=True)]
    for rank, (sample, value) in enumerate(zip(samples, weights.tolist(), strict=True), start=1):
        weight = f"\u2212{text.number(-value)}" if value < 0 else text.number(value)
        # Samples that are not gray values in [0, 1] are drawn like atoms.
        shown = (
            gray(sample)
            if sample.min(initial=0) >= 0 and sample.max(initial=0) <= 1
            else signed(sample)
        )
        alt = f"Sample {rank} of those that shaped {name} most: weight {weight}."
        tiles.append(Tile(shown, (weight,), alt, enlarged=True))
    return tiles
