"""Crops of real photographs with noise; the outer loss compares with the clean crops."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from pudle.data import PATH, ConvolutionalDataset, Draw, FloatArray, check_options
from pudle.data.atoms import normalize
from pudle.data.images import ImageDataset, Images, random_patches
from pudle.errors import InvalidArgument


@dataclass(frozen=True)
class NoisyCrops(ImageDataset, ConvolutionalDataset):
    """Square crops of gray photographs with white Gaussian noise, from which filters for denoising
    are learned.

    Crops are drawn uniformly over all positions in all images; gray values are in [0, 1], and the
    noise is not clipped. The mean of a noisy crop is removed from it and from its clean
    counterpart. There is no generating dictionary. The defaults for the number, size, stride and
    sign of the filters and codes, the noise and the penalty are those of the PUDLE paper's
    denoising experiment, whose published code trains against clean images.

    Filters with zero mean cannot code the local means that are left when the mean of the whole crop
    is removed. Therefore the initial filters, of unit norm, include the constant filter, and its
    negative where codes are non-negative.

    Parameters
    ----------
    folder : str, optional
        A folder with the user's own images; by default the two photographs that ship inside
        scikit-learn.
    n_samples, size : int
        Number of crops, and their side in pixels, at least that of the filters.
    sigma : float
        Noise standard deviation, on the 0-255 scale.
    supervised : bool
        Whether the outer loss compares with the clean crops, not with the noisy ones.
    start : {"cosine", "random"}
        Initial filters. ``cosine``: products of discrete cosines of the lowest frequencies, each
        with its negative where codes are non-negative. ``random``: the constant filter as above,
        and Gaussian ones with zero mean.
    n_components, kernel : int
        Number of filters, and their side in pixels.
    stride : int
        Distance between neighboring code positions in pixels, at most the side of the filters.
    nonnegative : bool
        Restrict the codes to the non-negative orthant.
    penalty : float
        Weight of the l1 norm.
    learned_penalties : bool
        Whether every filter has a weight of its own, which starts at `penalty` and is learned with
        the filter, as in `pudle.ThresholdedConvolutionalSparseCoding`.
    seed : int
    """

    folder: str | None = field(default=None, metadata=PATH)
    n_samples: int = 400
    size: int = 129
    sigma: float = 25.0
    supervised: bool = True
    start: Literal["cosine", "random"] = "cosine"
    n_components: int = 64
    kernel: int = 9
    stride: int = 4
    nonnegative: bool = True
    penalty: float = 0.16
    learned_penalties: bool = False
    seed: int = 0

    name = "noisy_crops"
    references = (
        "Tolooshams and Ba, Stable and Interpretable Unrolled Dictionary Learning, TMLR 2022",
        "Simon and Elad, Rethinking the CSC model for natural images, NeurIPS 2019",
    )

    def __post_init__(self) -> None:
        check_options(
            self,
            least={"size": 2, "kernel": 2, "n_components": 2},
            may_be_zero=("sigma",),
            at_most=self.fitting,
        )
        most = self.kernel**2 * (1 + self.nonnegative)
        if self.start == "cosine" and self.n_components > most:
            raise InvalidArgument(
                f"n_components={self.n_components} is above the {most} cosines of this size: give"
                " fewer, or start='random'"
            )

    def filters(self) -> FloatArray:
        """Return the initial filters, of shape (p, 1, kernel, kernel) and unit norm; random ones
        are from a stream of the seed for filters alone.
        """
        size, signs = self.kernel, 1 + self.nonnegative
        filters: FloatArray = np.empty((-(-self.n_components // signs), signs, size, size))
        if self.start == "cosine":
            from scipy.fft import idctn  # slow to import, and only needed here

            # The lowest frequencies first; equals stay in the order of their indices.
            frequencies = sorted(np.ndindex(size, size), key=lambda pair: np.dot(pair, pair))
            for place, frequency in enumerate(frequencies[: len(filters)]):
                spectrum = np.zeros((size, size))
                spectrum[frequency] = 1
                filters[place, 0] = idctn(spectrum, norm="ortho")
            filters[:, 1:] = -filters[:, :1]
        else:
            filters = self.generator("filters").standard_normal(filters.shape)
            filters = normalize(filters - filters.mean(axis=(2, 3), keepdims=True), axis=(2, 3))
            filters[0, 0] = 1 / size
            filters[0, 1:] = -1 / size
        return filters.reshape(-1, 1, size, size)[: self.n_components]

    def draw(self, images: Images | None = None) -> Draw:
        """Draw noisy crops, filters and the clean crops; from `images` instead of the folder's
        where they are given.

        Crops, noise and filters have a stream of the seed each. The clean crops are `targets`, or
        None if not `supervised`.
        """
        images = self.images() if images is None else images
        clean = random_patches(images, self.size, self.n_samples, self.generator("crops"))
        noisy = clean + self.sigma / 255 * self.generator("noise").standard_normal(clean.shape)
        means = noisy.mean(axis=1, keepdims=True)
        noisy, clean = (
            (crops - means).reshape(-1, 1, self.size, self.size) for crops in (noisy, clean)
        )
        return Draw(noisy, self.filters(), targets=clean if self.supervised else None)
