"""Crops of real photographs, and filters that are patches of them."""

from dataclasses import dataclass

from pudle.data import ConvolutionalDataset, Draw, check_options, path_option
from pudle.data.images import ImageDataset, random_patches


@dataclass(frozen=True)
class ImageCrops(ImageDataset, ConvolutionalDataset):
    """Square crops of gray photographs, coded by filters that are small patches of the same
    photographs.

    Crops and patches are drawn uniformly over all positions in all images. Gray values are in [0,
    1]; the mean of every crop is removed, because the filters have zero mean. Filters are chosen
    like the atoms of `image_patches`: without mean, not nearly constant, of unit norm, any two with
    a coherence below 0.95. There is no generating dictionary. The defaults for the number, size,
    stride and sign of the filters and codes are those of the PUDLE paper's denoising experiment.

    Parameters
    ----------
    folder : str, optional
        A folder with the user's own images; by default the two photographs that ship inside
        scikit-learn.
    n_samples, size : int
        Number of crops, and their side in pixels, at least that of the filters.
    n_components, kernel : int
        Number of filters, and their side in pixels.
    stride : int
        Distance between neighboring code positions in pixels, at most the side of the filters.
    nonnegative : bool
        Restrict the codes to the non-negative orthant.
    penalty : float
        Weight of the l1 norm.
    seed : int
    """

    folder: str | None = path_option()
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
        check_options(self, least={"size": 2, "kernel": 2}, at_most=self.fitting)

    def draw(self) -> Draw:
        random = self.generator()
        crops = random_patches(self.images(), self.size, self.n_samples, random)
        crops = crops - crops.mean(axis=1, keepdims=True)
        _, atoms = self.split_patches(self.kernel, self.n_components, 0, random)
        filters = atoms.T.reshape(self.n_components, 1, self.kernel, self.kernel).copy()
        return Draw(crops.reshape(self.n_samples, 1, self.size, self.size), filters)
