"""Samples that shaped an atom."""

import pytest
from stored_experiments import experiments
from synthetic import interpretation

from pudle import text
from pudle.reports.learning.images import Interpretation


def test_samples_stand_beside_their_atom_in_order_and_the_answer_is_that_of_the_summary(tmp_path):
    record, arrays = interpretation(atoms=3, samples=4)
    record["summary"] |= {"share": 0.25, "residual": 1.5e-6}
    ((title, methods),) = Interpretation().groups(experiments(tmp_path, (record, arrays))).items()
    block = Interpretation().block(title, methods, {})
    (gallery,) = block.galleries
    assert block.heading == "backprop, image_patches"
    captions = [tile.caption[0] for tile in gallery.tiles[1]]
    assert captions == ["atom 2", *(text.number(1 / (1 + rank) + 0.01) for rank in range(4))]
    data = gallery.rows
    assert data["weight"].to_numpy() == pytest.approx(arrays["weights"].ravel(), rel=1e-5)
    assert "carry 25% of what all samples contribute" in block.answer
    assert "a relative error of 1.5e-06." in block.answer
