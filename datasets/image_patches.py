"""Patches of real photographs, and a dictionary of such patches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pudle.data.atoms import normalize_rows, split_atoms
from pudle.data.dataset import Draw, SparseCodingDataset
from pudle.data.images import check_folder, count_patches, folder_state, patches_at, read_folder, sample_images
from pudle.validation import check_integer, check_positive

BLOCK = 2048


@dataclass(frozen=True)
class ImagePatches(SparseCodingDataset):
    """Square patches of gray photographs, coded in a dictionary whose atoms are other patches of them.

    Patches are drawn uniformly over all positions in all images, without replacement; no position serves both as an atom
    and as an observation (two patches may overlap). With gray values in [0, 1], each has its mean removed, is left out
    where its norm is then at most 0.3 (nearly constant: normalizing it would amplify noise), and is scaled to unit norm.
    So the penalty is relative: a code is zero where no atom has a correlation above it with the patch. Atoms are chosen
    greedily such that any two have a coherence ``|a^T b| < 0.95``, for close ones make the active Gram matrices singular.
    There is no generating dictionary. Removing means leaves observations and atoms in ``m - 1`` dimensions.

    Parameters
    ----------
    folder : str, optional
        A folder with the user's own images (png, jpg, bmp, tif, gif, webp, pgm, ppm); by default the two photographs that
        ship inside scikit-learn. Subfolders are not read.
    n_samples : int
        Number of patches to code.
    size : int
        Side of a patch in pixels; ``m = size**2``.
    n_components : int
        Number of atoms.
    penalty : float
        Weight of the l1 norm.
    seed : int

    Raises
    ------
    InvalidArgument
        When drawn: if the folder does not exist or holds no image, an image is unreadable or smaller than a patch, all
        patches are nearly constant, or there are too few of them for n and p.
    """

    folder: str | None = None
    n_samples: int = 1000
    size: int = 8
    n_components: int = 128
    penalty: float = 0.1
    seed: int = 0

    name = "image_patches"
    references = (
        "Malezieux, Moreau and Kowalski, Understanding approximate and unrolled dictionary learning for pattern recovery, "
        "ICLR 2022",
    )

    def __post_init__(self) -> None:
        check_folder(self.folder)
        check_integer("n_samples", self.n_samples, 1)
        check_integer("size", self.size, 2)
        check_integer("n_components", self.n_components, 1)
        check_positive("penalty", self.penalty)
        check_integer("seed", self.seed, 0)

    def fingerprint(self) -> str:
        return folder_state(self.folder)

    def draw(self) -> Draw:
        random = self.generator()
        images = sample_images() if self.folder is None else read_folder(self.folder)
        source = "the patches of " + ("the sample images" if self.folder is None else f"folder={self.folder!r}")
        dictionary, observations = split_atoms(
            self._blocks(images, random), self.n_components, self.n_samples, random, source
        )
        return Draw(observations, dictionary)

    def _blocks(self, images: dict[str, np.ndarray], random: np.random.Generator) -> Iterator[np.ndarray]:
        total = count_patches(images, self.size)
        # A cap, for a permutation of every position in a folder of large photographs would not fit into memory.
        positions = random.choice(total, min(total, 1_000_000 + 20 * (self.n_samples + self.n_components)), replace=False)
        for start in range(0, len(positions), BLOCK):
            yield normalize_rows(patches_at(images, self.size, positions[start : start + BLOCK]))
