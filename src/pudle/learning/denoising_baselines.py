"""Denoising with other packages' methods, on the noisy images of `DenoisingExperiment`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage

from ..measuring.experiment import ExperimentResult, ProgressCallback, silent
from ..peers import require, versions
from ..validation import check_choice, check_positive
from .denoising import DenoisingTest
from .images import images_to_test, source


def _wavelet(noisy: np.ndarray, deviation: float) -> np.ndarray:
    require("pywt", "baselines")
    options = {"wavelet": "sym4", "method": "BayesShrink", "mode": "soft", "rescale_sigma": False}
    return skimage.restoration.denoise_wavelet(noisy, sigma=deviation, **options)


def _non_local_means(noisy: np.ndarray, deviation: float) -> np.ndarray:
    return skimage.restoration.denoise_nl_means(
        noisy, patch_size=5, patch_distance=6, h=0.6 * deviation, fast_mode=True, sigma=deviation
    )


#: Functions of an image with values in [0, 1] and of the noise's standard deviation on that scale.
METHODS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "BM3D": lambda noisy, deviation: require("bm3d", "baselines").bm3d(noisy, deviation),
    "non-local means": _non_local_means,
    "wavelet": _wavelet,
    "total variation": lambda noisy, deviation: skimage.restoration.denoise_tv_chambolle(
        noisy, weight=deviation
    ),
}


@dataclass(frozen=True)
class DenoisingBaseline(DenoisingTest):
    """Denoise the test images with a method of another package, which is given the noise's standard
    deviation.

    The field `baseline` is one of `METHODS`; the others are as in `DenoisingExperiment`.

    Sources: Dabov, Foi, Katkovnik and Egiazarian, "Image denoising by sparse 3-D transform-domain
    collaborative filtering", IEEE Trans. Image Processing 2007. Buades, Coll and Morel, "A
    non-local algorithm for image denoising", CVPR 2005. Chang, Yu and Vetterli, "Adaptive wavelet
    thresholding", IEEE Trans. Image Processing 2000. Chambolle, "An algorithm for total variation
    minimization", J. Mathematical Imaging and Vision 2004.
    """

    baseline: str
    test_images: str | None = None
    sigma: float = 25.0
    noise_seed: int = 0

    def __post_init__(self) -> None:
        check_choice("baseline", self.baseline, METHODS)

    @property
    def method(self) -> str:
        """Name of the method in tables."""
        return self.baseline

    def fingerprint(self) -> str:
        # A package that is installed or upgraded may give another result, or one instead of none.
        return (
            f"{source(self.test_folder).fingerprint()}"
            f" {versions('scikit-image', 'bm3d', 'PyWavelets')}"
        )

    def run(
        self, folder: Path, device: str = "cpu", progress: ProgressCallback = silent
    ) -> ExperimentResult:
        """Denoise the test images; summary and arrays are those of `DenoisingExperiment` that need
        no training.
        """
        method = METHODS[self.baseline]
        deviation = check_positive("sigma", self.sigma) / 255
        images = images_to_test(self.test_folder)
        summary, pictures = self.evaluate(
            {"denoised": lambda noisy: method(noisy, deviation)}, images, progress
        )
        return ExperimentResult([], {"method": self.method} | summary, pictures)
