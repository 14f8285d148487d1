"""Denoising with other packages' methods, which get the same noisy images and the noise's
deviation.
"""

from __future__ import annotations

import sys

import pytest
from learning_helpers import save_images, texture

from pudle.errors import MissingDependency
from pudle.learning import denoising_baselines
from pudle.learning.denoising_baselines import METHODS, DenoisingBaseline
from pudle.learning.images import SAMPLES, add_noise, psnr, to_float


@pytest.mark.parametrize("method", METHODS)
def test_baselines(tmp_path, method):
    folder = save_images(tmp_path / "test", {"a.png": texture(60, 70)})
    result = DenoisingBaseline(method, test_images=folder).run(tmp_path)
    summary = result.summary
    assert result.rows == [] and summary["method"] == method and "filters" not in result.arrays
    assert summary["psnr"] > summary["noisy_psnr"] + 4


@pytest.mark.parametrize("method", METHODS)
def test_baselines_use_the_noise_deviation(method):
    clean = to_float(texture(60, 70))
    noisy = add_noise(clean, "a", 50)
    assert (
        psnr(clean, METHODS[method](noisy, 50 / 255))
        > psnr(clean, METHODS[method](noisy, 5 / 255)) + 1
    )


@pytest.mark.parametrize("name", ["scikit-image", "bm3d", "PyWavelets"])
def test_an_installed_or_upgraded_package_outdates_a_baseline(monkeypatch, name):
    """A method whose package was missing runs again once it is installed."""
    experiment, fingerprints = DenoisingBaseline("BM3D", test_images=SAMPLES), set()
    for number in ("", "1.0", "2.0"):
        monkeypatch.setattr(
            denoising_baselines,
            "versions",
            lambda *names, number=number: dict.fromkeys(names, "1") | {name: number},
        )
        fingerprints.add(experiment.fingerprint())
    assert len(fingerprints) == 3


@pytest.mark.parametrize(("method", "package"), [("BM3D", "bm3d"), ("wavelet", "pywt")])
def test_a_missing_package_is_named(tmp_path, monkeypatch, method, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=r"install pudle\[baselines\]"):
        DenoisingBaseline(method, test_images=SAMPLES).run(tmp_path)
