"""Handwritten digits, and a dictionary of such digits."""

from dataclasses import dataclass

from pudle.data import Draw, SparseCodingDataset
from pudle.data.atoms import normalize_rows, split_atoms
from pudle.data.images import handwritten_digits
from pudle.validation import CheckedOptions


@dataclass(frozen=True)
class Digits(CheckedOptions, SparseCodingDataset):
    """The 8 x 8 handwritten digits that ship inside scikit-learn, coded in a dictionary whose atoms
    are other digits.

    With gray values scaled to [0, 1], each digit has its mean removed and is scaled to unit norm,
    as image patches are. So the penalty is relative, and the blank border does not make all atoms
    alike. Atoms are chosen greedily in random order such that any two have a coherence ``|a^T b| <
    0.95``; observations are drawn from the digits that are not atoms. There is no generating
    dictionary. ``m = 64``; removing the means leaves 63 dimensions.

    Parameters
    ----------
    n_samples, n_components : int
        Numbers of digits to code and of atoms, at most 1797 together.
    penalty : float
        Weight of the l1 norm.
    seed : int
    """

    n_samples: int = 1000
    n_components: int = 128
    penalty: float = 0.1
    seed: int = 0

    name = "digits"
    references = (
        "Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning"
        " Repository, 1998",
    )

    def draw(self) -> Draw:
        """Draw observations and atoms from scikit-learn's digits, in a random order from the stream
        of the seed.
        """
        random, images = self.generator(), handwritten_digits()[0]
        digits = normalize_rows(random.permutation(images.reshape(-1, 64)))
        return Draw(*split_atoms([digits], self.n_components, self.n_samples, random, "the digits"))
