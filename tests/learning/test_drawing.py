"""Pictures of a training: what is drawn, read back from the figure's data and from the pixels of
the file.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pudle.learning.drawing import draw_atoms, draw_curve, draw_images, filter_sheet


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved, in order."""
    saved, save = [], Figure.savefig

    def keep(figure, *arguments, **options):
        saved.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def test_curves_are_the_columns_of_the_history(figures, tmp_path):
    history = pd.DataFrame(
        {"step": [0, 5, 10], "loss": [np.nan, 2.0, 1.0], "relative_error": [0.1, 0.01, 1e-3]}
    )
    draw_curve(tmp_path / "curve.png", history.assign(psnr=np.nan))
    error, loss = figures[0].axes
    np.testing.assert_array_equal(error.lines[0].get_xydata(), [[0, 0.1], [5, 0.01], [10, 1e-3]])
    np.testing.assert_array_equal(loss.lines[0].get_xydata(), [[5, 2], [10, 1]])
    assert (error.get_yscale(), loss.get_yscale()) == ("log", "linear")
    assert (error.get_ylabel(), loss.get_ylabel()) == ("relative error of the dictionary", "loss")
    with Image.open(tmp_path / "curve.png") as image:
        assert min(image.size) > 300


def test_without_two_numbers_there_is_no_curve(figures, tmp_path):
    draw_curve(tmp_path / "curve.png", pd.DataFrame({"step": [0, 1], "loss": [np.nan, 1.0]}))
    assert not figures and not list(tmp_path.iterdir())


def test_distances_to_generating_atoms_do_not_depend_on_order_and_sign(figures, tmp_path):
    generating = np.eye(5)
    near = generating.copy()
    near[:, 2] = [0, 0.6, 0.8, 0, 0]
    moved = -near[:, [3, 1, 0, 4, 2]]
    draw_atoms(tmp_path / "atoms.png", moved, generating, generating)
    start, end = (line.get_ydata() for line in figures[0].axes[0].lines)
    np.testing.assert_allclose(start, [0, 0, 0, 0, np.sqrt(0.6**2 + 0.2**2)], atol=1e-15)
    np.testing.assert_array_equal(end, np.zeros(5))


@pytest.mark.parametrize("shape", [(9, 4), (4, 1, 3, 3)])
def test_atoms_that_are_images_are_tiles_and_others_a_matrix(figures, shape, tmp_path):
    atoms = np.zeros(shape)
    (atoms[:, 1] if len(shape) == 2 else atoms[1].reshape(-1))[4] = -3.0
    draw_atoms(tmp_path / "atoms.png", atoms, atoms)
    sheet = figures[0].axes[0].images[0].get_array()
    # Two by two tiles of 3 x 3 between white lines; the second has a black middle on gray.
    assert sheet.shape == (9, 9)
    assert (
        sheet[2, 6] == 0
        and (sheet == 0).sum() == 1
        and (sheet == 0.5).sum() == 35
        and (sheet == 1).sum() == 45
    )
    draw_atoms(tmp_path / "atoms.png", np.array([[2.0, -2.0], [0.0, 1.0]]), np.zeros((2, 2)))
    before, after = (at.images[0].get_array() for at in figures[1].axes)
    np.testing.assert_array_equal(before, [[1, 0], [0.5, 0.75]])
    np.testing.assert_array_equal(after, np.full((2, 2), 0.5))


def test_images_stand_side_by_side_with_their_names(figures, tmp_path):
    draw_images(tmp_path / "images.png", {"$noisy$": np.zeros((4, 6)), "clean": np.ones((4, 6))})
    assert [at.get_title() for at in figures[0].axes] == ["$noisy$", "clean"]


def test_the_same_picture_has_the_same_bytes(tmp_path):
    for name in "ab":
        draw_images(
            tmp_path / name,
            {"filters": filter_sheet(np.random.default_rng(0).standard_normal((7, 5, 5)))},
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
