"""Images denoised: tables, conclusions, images and filters."""

import math
import re

import numpy as np
import pytest
from living_page import html
from stored_experiments import experiments
from synthetic import crops, denoising

from pudle import text
from pudle.learning.images import psnr
from pudle.reports.learning import denoising as reported
from pudle.reports.report import Report


def test_table_and_answer_are_those_of_the_summaries(tmp_path):
    results = experiments(
        tmp_path,
        denoising("a", "backprop, reconstruction", "backprop", 0.5),
        denoising("b", "BM3D", "", 0.2, shifted=False),
        denoising("c", "alternating, lasso", "alternating", 0.25),
    )
    ((title, methods),) = reported.denoised(results).items()
    assert title == "photographs, 68 images, noise standard deviation 0.1 (0-255 scale)"
    table = reported.table(methods).set_index("method")
    gains = [6 - 20 * math.log10(0.25), -20 * math.log10(0.2), 6 - 20 * math.log10(0.5), math.nan]
    assert [*table.index] == [
        "alternating, lasso",
        "BM3D",
        "backprop, reconstruction",
        "noisy images",
    ]
    shown = [reported.decibels(gain, sign="+") for gain in gains]
    assert table["gain over noisy"].tolist() == shown
    assert table.loc["BM3D", "PSNR"].best
    assert table.loc["alternating, lasso", "PSNR with shifts"].best
    assert table.loc["BM3D", ["training", "steps", "PSNR with shifts"]].tolist() == [text.DASH] * 3
    assert table.loc["noisy images", "PSNR"] == "20.00 dB"
    for told in ("`alternating` (lasso)", "38.04 dB, 18.04 dB above", "BM3D, 4.06 dB less"):
        assert told in reported.answer(methods)


def test_images_and_filters_are_in_the_page_and_described(tmp_path):
    results = experiments(
        tmp_path,
        denoising("a", r"no formula: $\y{$", "backprop", filters=9),
        denoising("b", "BM3D", left=0.25, shifted=False),
    )
    ((title, methods),) = reported.denoised(results).items()
    (images,) = reported.image_galleries(title, methods)
    (filters,) = reported.filter_galleries(title, methods)
    clean, noisy = crops()
    before = psnr(clean, noisy, clip=False)
    # Half of the noise, half of that with shifts, is 12.04 dB less; a quarter as well.
    (_, with_shifts, without), (_, other) = [tile.caption for tile in images.tiles[0][2:]]
    assert with_shifts == f"{before + 12.0412:.2f} dB with shifts"
    assert without == f"{before + 6.0206:.2f} dB without" and f"{other} with shifts" == with_shifts
    assert np.array_equal(images.tiles[0][0].image, np.round(255 * np.clip(clean, 0, 1)))
    data = images.rows.set_index("method")
    assert data.loc["BM3D", "psnr"] == pytest.approx(before + 20 * math.log10(4), abs=1e-3)
    assert [*images.files(["svg"])]
    sheet = filters.tiles[0][0].image
    assert sheet.shape == (26, 26) and set(sheet[8]) == {255}
    page = html(Report(results))
    shown = re.findall(r'<img src="(data:image/png;base64,[^"]+)" alt="([^"]+)"', page)
    assert len(shown) == 5 and all(alt.endswith(".") for _, alt in shown)
