"""Studies of images: tables, conclusions, images, filters, and samples that shaped an atom."""

import math
import re

import numpy as np
import pytest
from support.page.living_page import html
from support.records.stored_experiments import best_marks, experiments, framed
from support.records.synthetic import crops, denoising, interpretation

from pudle import text
from pudle.learning.images import psnr
from pudle.reports.figures.record import file_name
from pudle.reports.learning import images as reported
from pudle.reports.learning.images import Interpretation
from pudle.reports.learning.sections import sections
from pudle.reports.report import Report


def test_table_and_answer_are_those_of_the_summaries(tmp_path):
    results = experiments(
        tmp_path,
        denoising("a", "backprop, reconstruction", "backprop", 0.5),
        denoising("b", "BM3D", "", 0.2, shifted=False),
        denoising("c", "alternating, lasso", "alternating", 0.25),
    )
    (section,) = sections(results)
    (block,) = section.blocks
    assert block.heading == "photographs, 68 images, noise standard deviation 0.1 (0-255 scale)"
    table = framed(block.tables[0][0]).set_index("method")
    assert [*table.index] == ["alternating, lasso", "BM3D", "backprop, reconstruction"]
    assert table["noisy"].tolist() == ["20.00 dB"] * 3
    marks = best_marks(block.tables[0][0])
    assert marks.loc["BM3D", "PSNR"] and marks.loc["alternating, lasso", "PSNR with shifts"]
    assert table.loc["BM3D", ["training", "steps", "PSNR with shifts"]].tolist() == [text.DASH] * 3
    for told in ("`alternating` (lasso)", "38.04 dB, 18.04 dB above", "BM3D, 4.06 dB less"):
        assert told in block.answer


def test_images_and_filters_are_in_the_page_and_described(tmp_path):
    results = experiments(
        tmp_path,
        denoising("a", r"no formula: $\y{$", "backprop", filters=9),
        denoising("b", "BM3D", left=0.25, shifted=False),
    )
    ((title, methods),) = reported.Denoising().groups(results).items()
    images, filters = (
        make(title, methods) for make in (reported.image_gallery, reported.filter_gallery)
    )
    clean, noisy = crops()
    before = psnr(clean, noisy, clip=False)
    # Half of the noise, half of that with shifts, is 12.04 dB less; a quarter as well.
    expected = f"{before + 20 * math.log10(4):.2f} dB"
    assert [tile.caption[1] for tile in images.tiles[0][2:]] == [expected] * 2
    assert np.array_equal(images.tiles[0][0].image, np.round(255 * np.clip(clean, 0, 1)))
    assert [*images.files(["svg"])]
    sheet = filters.tiles[0][0].image
    assert sheet.shape == (26, 26) and set(sheet[8]) == {255}
    page = html(Report(results))
    shown = re.findall(r'<img src="(data:image/png;base64,[^"]+)" alt="([^"]+)"', page)
    assert len(shown) == 5 and all(alt.endswith(".") for _, alt in shown)


def test_samples_stand_beside_their_atom_in_order_and_the_answer_is_that_of_the_summary(tmp_path):
    record, arrays = interpretation(atoms=3, samples=4)
    record["summary"] |= {"share": 0.25, "residual": 1.5e-6, "cosine": 0.93}
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
    assert (
        "On average, the weighted sum of the samples that are shown beside an atom has a cosine of"
        " 0.93 with that atom."
    ) in block.answer
    # People type the name of the file, and the kind is said once.
    assert gallery.name == record["name"]
    report = Report(experiments(tmp_path / "again", (record, arrays)), ["png"]).markdown()
    (alt,) = re.findall(rf"!\[(.*)\]\(report_figures/{record['name']}\.png\)", report)
    assert alt.count("amples that shaped an atom") == 1 and "image_patches" in alt.replace("\\", "")


def test_a_sheet_of_a_given_width_is_that_wide_and_its_row_wraps(tmp_path):
    results = experiments(tmp_path, *(denoising(name, name, "") for name in "abcd"))
    ((title, methods),) = reported.Denoising().groups(results).items()
    images = reported.image_gallery(title, methods)
    canvas = images.canvas(3.3)
    assert canvas.get_figwidth() == pytest.approx(3.3) and len(canvas.axes) == 6
    places = {round(at.get_position().x0, 2) for at in canvas.axes}
    assert len(places) == 3
    record, arrays = interpretation(atoms=3, samples=4)
    ((title, methods),) = (
        Interpretation().groups(experiments(tmp_path / "one", (record, arrays))).items()
    )
    (gallery,) = Interpretation().block(title, methods, {}).galleries
    # One row of five tiles for each atom, whatever the width.
    assert len(gallery.canvas(3.3).axes) == 15


def test_names_of_files_are_short_and_no_two_alike():
    names = {file_name("error of the dictionary", "x" * 100, end, longest=64) for end in "ab"}
    assert len(names) == 2 and all(len(name) == 64 for name in names)
