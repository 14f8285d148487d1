"""Interpretation: the training samples that shaped each learned atom."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from pudle.errors import UnreadableResult
from pudle.reports import text
from pudle.reports.learning.galleries import Gallery, Tile, gallery, gray, signed
from pudle.reports.learning.records import REMEDY, ExperimentRecord
from pudle.reports.load import Results


def interpreted(results: Results) -> list[tuple[str, str, Gallery]]:
    """Return title, conclusion and gallery of each experiment that says which samples shaped its atoms.

    Raises
    ------
    UnreadableResult
        If arrays are missing, damaged or do not fit each other.
    """
    records = (item for item in results.experiments if item.kind == "interpretation" and item.status == "ok")
    return [_interpretation(record) for record in records]


def _interpretation(record: ExperimentRecord) -> tuple[str, str, Gallery]:
    arrays = record.arrays(atoms=3, samples=4, weights=2)
    missing = {"atoms", "samples", "weights"} - arrays.keys()
    if missing:
        raise UnreadableResult(f"{record.path} lacks the arrays {', '.join(sorted(missing))}: {REMEDY}")
    atoms, samples, weights = (arrays[name] for name in ("atoms", "samples", "weights"))
    if len(samples) != len(atoms):
        raise record.unusable("samples", samples)
    if weights.shape != samples.shape[:2]:
        raise record.unusable("weights", weights)
    title = ", ".join(filter(None, (record.method, record.summary.get("dataset") or record.options.get("dataset"))))
    rows = [_row(f"atom {place + 1}", atoms[place], samples[place], weights[place], record.estimator)
            for place in range(len(atoms))]  # fmt: skip
    atom, rank = np.indices(weights.shape) + 1
    data = pd.DataFrame({"atom": atom.ravel(), "rank": rank.ravel(), "weight": weights.ravel()})
    shaped = gallery(f"samples-{record.name}", "Samples that shaped an atom", title, rows, data)
    return title, _answer(record, samples.shape[1]), shaped


def _answer(record: ExperimentRecord, count: int) -> str:
    """Say how much of an atom the samples explain, and whether they have one label."""
    share, cosine, residual, purity, chance = (
        record.number(name) for name in ("share", "cosine", "residual", "purity", "purity_by_chance")
    )
    sentences = []
    if not math.isnan(share):
        fit = "" if math.isnan(cosine) else f"; their weighted sum has a cosine of {cosine:.2f} with it"
        sentences.append(
            f"The {count} samples shown carry {100 * share:.0f}% of what all samples contribute to an atom{fit}."
        )
    if not math.isnan(purity):
        by_chance = "" if math.isnan(chance) else f"; of as many samples drawn at random, {100 * chance:.0f}% do"
        sentences.append(f"On average {100 * purity:.0f}% of them share one label{by_chance}.")
    if not math.isnan(residual):
        sentences.append(f"All samples together reproduce the atoms with a relative error of {text.number(residual)}.")
    return " ".join(sentences)


def _row(name: str, atom: np.ndarray, samples: np.ndarray, weights: np.ndarray, estimator: str) -> list[Tile]:
    tiles = [Tile(signed(atom), (name,), f"The learned {name}.", estimator, enlarged=True)]
    for rank, (sample, value) in enumerate(zip(samples, weights.tolist(), strict=True), start=1):
        weight = f"\u2212{text.number(-value)}" if value < 0 else text.number(value)
        # Samples that are not gray values in [0, 1] are drawn like atoms.
        within = 0 <= sample.min(initial=0.0) and sample.max(initial=0.0) <= 1
        alt = f"Sample {rank} of those that shaped {name} most: weight {weight}."
        tiles.append(Tile(gray(sample) if within else signed(sample), (weight,), alt, enlarged=True))
    return tiles
