"""Patches of real photographs, and a dictionary of such patches."""

from dataclasses import dataclass, field

from pudle.data import PATH, Draw, SparseCodingDataset, check_options
from pudle.data.images import ImageDataset


@dataclass(frozen=True)
class ImagePatches(ImageDataset, SparseCodingDataset):
    """Square patches of gray photographs, coded in a dictionary whose atoms are other patches of
    them.

    Patches are drawn uniformly over all positions in all images, without replacement; no position
    serves both as an atom and as an observation, though two patches may overlap. Gray values are in
    [0, 1]. The mean of each patch is removed, a patch whose norm is then at most 0.3 is dropped (it
    is nearly constant, and normalizing it would amplify noise), and the others are scaled to unit
    norm. So the penalty is relative: a code is zero where no atom has a correlation above it with
    the patch. Atoms are chosen greedily such that any two have a coherence ``|a^T b| < 0.95``,
    because closer ones make the active Gram matrices singular. There is no generating dictionary.
    Removing the means leaves observations and atoms in ``m - 1`` dimensions.

    Parameters
    ----------
    folder : str, optional
        A folder with the user's own images (png, jpg, bmp, tif, gif, webp, pgm, ppm); by default
        the two photographs that ship inside scikit-learn. Subfolders are not read.
    n_samples, n_components : int
        Numbers of patches to code and of atoms.
    size : int
        Side of a patch in pixels; ``m = size**2``.
    penalty : float
        Weight of the l1 norm.
    seed : int
    """

    folder: str | None = field(default=None, metadata=PATH)
    n_samples: int = 1000
    size: int = 8
    n_components: int = 128
    penalty: float = 0.1
    seed: int = 0

    name = "image_patches"
    references = (
        "Malézieux, Moreau and Kowalski, Understanding approximate and unrolled dictionary"
        " learning for pattern recovery, ICLR 2022",
    )

    def __post_init__(self) -> None:
        check_options(self, least={"size": 2})

    def draw(self) -> Draw:
        """Draw patches as observations and other patches as atoms, from the stream of the seed;
        there is no generating dictionary.
        """
        return Draw(
            *self.split_patches(self.size, self.n_components, self.n_samples, self.generator())
        )
