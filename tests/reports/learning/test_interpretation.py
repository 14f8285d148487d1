"""Samples that shaped an atom."""

from __future__ import annotations

import pytest
from stored_experiments import experiments
from synthetic import interpretation

from pudle import text
from pudle.reports.learning.interpretation import interpreted


def test_samples_stand_beside_their_atom_in_order(tmp_path):
    record, arrays = interpretation(atoms=3, samples=4)
    ((title, answer, gallery),) = interpreted(experiments(tmp_path, (record, arrays)))
    assert (
        answer == ""
        and title == "backprop, image_patches"
        and [len(row) for row in gallery.rows] == [5] * 3
    )
    captions = [tile.caption[0] for tile in gallery.rows[1]]
    assert captions == ["atom 2", *(text.number(1 / (1 + rank) + 0.01) for rank in range(4))]
    assert "weight 0.51" in gallery.rows[1][2].alt
    data = gallery.data
    assert (
        data["weight"].to_numpy() == pytest.approx(arrays["weights"].ravel(), rel=1e-5)
        and data["atom"].max() == 3
    )


def test_answer_says_what_the_summary_says(tmp_path):
    record, arrays = interpretation(atoms=3, samples=4)
    summary = {
        "share": 0.25,
        "cosine": 0.8,
        "residual": 1.5e-6,
        "purity": 0.6,
        "purity_by_chance": 0.3,
    }
    record["summary"] |= summary
    ((_, answer, _),) = interpreted(experiments(tmp_path, (record, arrays)))
    assert "The 4 samples shown carry 25% of what all samples contribute to an atom" in answer
    assert "a cosine of 0.80 with it." in answer
    assert (
        "On average 60% of them share one label; of as many samples drawn at random, 30% do."
        in answer
    )
    assert "reproduce the atoms with a relative error of 1.5e-6." in answer
