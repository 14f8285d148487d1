"""Handwritten digits, and a dictionary of such digits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pudle.dataset import Draw, SparseCodingDataset
from pudle.datasets._atoms import normalise_rows, split_atoms
from pudle.errors import InvalidArgument
from pudle.validation import check_integer, check_positive

SAMPLES = 1797


@dataclass(frozen=True)
class Digits(SparseCodingDataset):
    """The 8 x 8 handwritten digits that ship inside scikit-learn, coded in a dictionary whose atoms are other digits.

    With grey values scaled to [0, 1], each digit has its mean removed and is scaled to unit norm, as image patches are: so
    the penalty is relative, and the blank border does not make all atoms alike. Atoms are chosen greedily in random order
    such that any two have a coherence ``|a^T b| < 0.95``; observations are drawn from the digits that are not atoms. There
    is no generating dictionary. ``m = 64``, of which removing means leaves 63 dimensions.

    Parameters
    ----------
    n : int
        Number of digits to code, at most 1797 - p.
    p : int
        Number of atoms.
    penalty : float
        Weight of the l1 norm.
    seed : int
    """

    n: int = 1000
    p: int = 128
    penalty: float = 0.1
    seed: int = 0

    name = "digits"
    references = ("Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998",)

    def __post_init__(self) -> None:
        for name in ("n", "p"):
            check_integer(name, getattr(self, name), 1)
        check_positive("penalty", self.penalty)
        check_integer("seed", self.seed, 0)
        if self.n + self.p > SAMPLES:
            raise InvalidArgument(
                f"n={self.n} and p={self.p} need more than the {SAMPLES} digits there are: give n + p <= {SAMPLES}"
            )

    def draw(self) -> Draw:
        from sklearn.datasets import load_digits  # slow to import, and listing datasets must not be

        random = self.generator()
        digits = normalise_rows(random.permutation(load_digits().data / 16))
        dictionary, observations = split_atoms([digits], self.p, self.n, random, "the digits")
        return Draw(observations, dictionary)

    def labels(self) -> np.ndarray:
        """Return which digit each observation is, shape (n,)."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        # All rows have unit norm: that of an observation's own image is the one with a correlation of one.
        places = (self.draw().observations @ normalise_rows(digits.data / 16).T).argmax(axis=1)
        return digits.target[places]
