"""Crops of real photographs, and filters that are patches of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pudle.data.atoms import normalize_rows, split_atoms
from pudle.data.dataset import ConvolutionalDataset, Draw
from pudle.data.images import check_folder, count_patches, folder_state, patches_at, read_folder, sample_images
from pudle.errors import InvalidArgument
from pudle.validation import check_integer, check_positive

BLOCK = 2048


@dataclass(frozen=True)
class ImageCrops(ConvolutionalDataset):
    """Square crops of gray photographs, coded by filters that are small patches of the same photographs.

    Crops and patches are drawn uniformly over all positions in all images. Gray values are in [0, 1]; every crop has its
    mean removed, for the filters have none. Filters are chosen as the atoms of `image_patches` are: without mean, not
    nearly constant, of unit norm, any two with a coherence below 0.95. There is no generating dictionary. The number,
    size, stride and sign of the filters and codes are by default those of the PUDLE paper's denoising experiment.

    Parameters
    ----------
    folder : str, optional
        A folder with the user's own images; by default the two photographs that ship inside scikit-learn.
    n_samples : int
        Number of crops.
    size : int
        Side of a crop in pixels, at least the filters'.
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
    seed : int

    Raises
    ------
    InvalidArgument
        When drawn: if the folder does not exist or holds no image, an image is unreadable or smaller than a crop, or there
        are too few distinct patches for p.
    """

    folder: str | None = None
    n_samples: int = 4
    size: int = 32
    n_components: int = 64
    kernel: int = 9
    stride: int = 4
    nonnegative: bool = True
    penalty: float = 0.1
    seed: int = 0

    name = "image_crops"
    references = (
        "Simon and Elad, Rethinking the CSC model for natural images, NeurIPS 2019",
        "Tolooshams and Ba, Stable and Interpretable Unrolled Dictionary Learning, TMLR 2022",
    )

    def __post_init__(self) -> None:
        check_folder(self.folder)
        check_integer("n_samples", self.n_samples, 1)
        check_integer("size", self.size, 2)
        check_integer("n_components", self.n_components, 1)
        check_integer("kernel", self.kernel, 2)
        check_integer("stride", self.stride, 1)
        if self.kernel > self.size:
            raise InvalidArgument(f"kernel={self.kernel} is above size={self.size}: filters must fit into the crops")
        if self.stride > self.kernel:
            raise InvalidArgument(f"stride={self.stride} is above kernel={self.kernel}: it would leave pixels uncovered")
        check_positive("penalty", self.penalty)
        check_integer("seed", self.seed, 0)

    def fingerprint(self) -> str:
        return folder_state(self.folder)

    def draw(self) -> Draw:
        random = self.generator()
        images = sample_images() if self.folder is None else read_folder(self.folder)
        source = "the patches of " + ("the sample images" if self.folder is None else f"folder={self.folder!r}")
        total = count_patches(images, self.size)
        if self.n_samples > total:
            raise InvalidArgument(
                f"n_samples={self.n_samples} is above the {total} crops that there are: "
                f"give a smaller n_samples or more data"
            )
        crops = patches_at(images, self.size, random.choice(total, self.n_samples, replace=False))
        crops = crops - crops.mean(axis=1, keepdims=True)
        # One row beside the filters is asked for, since the split gives both; it serves no purpose here.
        atoms, _ = split_atoms(self._blocks(images, random), self.n_components, 1, random, source)
        return Draw(
            crops.reshape(self.n_samples, 1, self.size, self.size),
            atoms.T.reshape(self.n_components, 1, self.kernel, self.kernel).copy(),
        )

    def _blocks(self, images: dict[str, np.ndarray], random: np.random.Generator) -> Iterator[np.ndarray]:
        total = count_patches(images, self.kernel)
        # A cap, for a permutation of every position in a folder of large photographs would not fit into memory.
        positions = random.choice(total, min(total, 1_000_000 + 20 * self.n_components), replace=False)
        for start in range(0, len(positions), BLOCK):
            yield normalize_rows(patches_at(images, self.kernel, positions[start : start + BLOCK]))
