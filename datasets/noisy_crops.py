"""Crops of real photographs with noise, the clean ones being what the outer loss compares with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.fft import idctn

from pudle.data.dataset import ConvolutionalDataset, Draw
from pudle.data.images import check_folder, count_patches, folder_state, patches_at, read_folder, sample_images
from pudle.errors import InvalidArgument
from pudle.problems.convolutional import ConvolutionalSparseCoding
from pudle.problems.learned_penalties import ThresholdedConvolutionalSparseCoding
from pudle.validation import check_choice, check_integer, check_positive


@dataclass(frozen=True)
class NoisyCrops(ConvolutionalDataset):
    """Square crops of gray photographs with white Gaussian noise, to learn filters for denoising from.

    Crops are drawn uniformly over all positions in all images; gray values are in [0, 1], and the noise is not clipped. The
    mean of a noisy crop is removed from it and from its clean counterpart. With `supervised`, the outer loss compares with
    the clean crops, else with the noisy ones. There is no generating dictionary. The number, size, stride and sign of the
    filters and codes, the noise and the penalty are by default those of the PUDLE paper's denoising experiment, whose
    published code trains against clean images.

    Local means matter here, unlike in `image_crops`: filters without mean cannot code what a mean of the whole crop leaves.
    Therefore the first filters, of unit norm, include the constant one, and its negative where codes are not negative.

    Parameters
    ----------
    folder : str, optional
        A folder with the user's own images; by default the two photographs that ship inside scikit-learn.
    n_samples : int
        Number of crops.
    size : int
        Side of a crop in pixels, at least the filters'.
    sigma : float
        Standard deviation of the noise, of 255.
    supervised : bool
        Whether the outer loss compares with the clean crops.
    start : {"cosine", "random"}
        The first filters: products of discrete cosines of the lowest frequencies, each with its negative where codes are not
        negative; or the constant one as above and else Gaussian ones without mean.
    n_components : int
        Number of filters.
    kernel : int
        Side of the filters in pixels.
    stride : int
        Distance of neighboring code positions in pixels, at most the filters' side.
    nonnegative : bool
        Restrict the codes to the non-negative orthant.
    penalty : float
        Weight of the l1 norm.
    learned_penalties : bool
        Whether every filter has a weight of its own, learned with it from `penalty` on, as in
        `pudle.ThresholdedConvolutionalSparseCoding`.
    seed : int

    Raises
    ------
    InvalidArgument
        When drawn: if the folder does not exist or holds no image, an image is unreadable or smaller than a crop, or there
        are fewer crops than n.
    """

    folder: str | None = None
    n_samples: int = 400
    size: int = 129
    sigma: float = 25.0
    supervised: bool = True
    start: str = "cosine"
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
        check_folder(self.folder)
        check_integer("n_samples", self.n_samples, 1)
        check_integer("size", self.size, 2)
        check_positive("sigma", self.sigma, allow_zero=True)
        for name in ("supervised", "nonnegative", "learned_penalties"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidArgument(f"{name}={getattr(self, name)!r} is neither True nor False: give one of these")
        check_choice("start", self.start, ("cosine", "random"))
        check_integer("n_components", self.n_components, 2)
        check_integer("kernel", self.kernel, 2)
        check_integer("stride", self.stride, 1)
        if self.kernel > self.size:
            raise InvalidArgument(f"kernel={self.kernel} is above size={self.size}: filters must fit into the crops")
        if self.stride > self.kernel:
            raise InvalidArgument(f"stride={self.stride} is above kernel={self.kernel}: it would leave pixels uncovered")
        most = self.kernel**2 * self._signs
        if self.start == "cosine" and self.n_components > most:
            raise InvalidArgument(
                f"n_components={self.n_components} is above the {most} cosines that there are: give fewer, or start='random'"
            )
        check_positive("penalty", self.penalty)
        check_integer("seed", self.seed, 0)

    @property
    def _signs(self) -> int:
        return 2 if self.nonnegative else 1

    def fingerprint(self) -> str:
        return folder_state(self.folder)

    def images(self) -> dict[str, np.ndarray]:
        """Return the images that crops are taken from in gray, by file name, as unsigned integers of their type."""
        return sample_images() if self.folder is None else read_folder(self.folder)

    def crops(self, images: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Draw noisy crops and their clean counterparts, each of shape (n, 1, size, size), from images as of `images`."""
        images = dict(images)
        total = count_patches(images, self.size)
        if self.n_samples > total:
            raise InvalidArgument(
                f"n_samples={self.n_samples} is above the {total} crops that there are: "
                f"give a smaller n_samples or more data"
            )
        positions = self.generator("crops").choice(total, self.n_samples, replace=False)
        clean = patches_at(images, self.size, positions)
        noisy = clean + self.sigma / 255 * self.generator("noise").standard_normal(clean.shape)
        means = noisy.mean(axis=1, keepdims=True)
        shape = (self.n_samples, 1, self.size, self.size)
        return (noisy - means).reshape(shape), (clean - means).reshape(shape)

    def filters(self) -> np.ndarray:
        """Return the first filters, of shape (p, 1, kernel, kernel)."""
        size, signs = self.kernel, self._signs
        filters = np.empty((-(-self.n_components // signs), signs, size, size))
        if self.start == "cosine":
            # The lowest frequencies first; among equals the order is arbitrary but fixed.
            frequencies = sorted(np.ndindex(size, size), key=lambda pair: (pair[0] ** 2 + pair[1] ** 2, pair))
            for place, frequency in enumerate(frequencies[: len(filters)]):
                spectrum = np.zeros((size, size))
                spectrum[frequency] = 1
                filters[place, 0] = idctn(spectrum, norm="ortho")
            if self.nonnegative:
                filters[:, 1] = -filters[:, 0]
        else:
            filters[...] = self.generator("filters").standard_normal(filters.shape)
            filters -= filters.mean(axis=(2, 3), keepdims=True)
            filters /= np.sqrt(np.square(filters).sum(axis=(2, 3), keepdims=True))
            filters[0, 0] = 1 / size
            filters[0, 1:] = -1 / size
        return filters.reshape(-1, 1, size, size)[: self.n_components]

    def draw(self) -> Draw:
        noisy, _ = self.crops(self.images())
        return Draw(noisy, self.filters())

    def problem(
        self,
        loss: str = "lasso",
        *,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
        images: Mapping[str, np.ndarray] | None = None,
    ) -> ConvolutionalSparseCoding:
        """Draw the problem; from other images than the folder's where they are given."""
        noisy, clean = self.crops(self.images() if images is None else images)

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(array).to(device=device, dtype=dtype)

        targets: dict[str, Any] = {"targets": tensor(clean)} if self.supervised else {}
        made = ThresholdedConvolutionalSparseCoding if self.learned_penalties else ConvolutionalSparseCoding
        return made(
            observations=tensor(noisy),
            dictionary=tensor(self.filters()),
            penalty=self.penalty,
            stride=self.stride,
            nonnegative=self.nonnegative,
            loss=loss,
            **targets,
        )
