"""The checks of options that datasets share: what they refuse follows from the type of an option's
default.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from pudle.data.atoms import split_atoms
from pudle.data.options import check_at_most, check_filters, check_options
from pudle.errors import InvalidArgument


@dataclass(frozen=True)
class Options:
    n_samples: int = 5
    size: int = 9
    kernel: int = 3
    stride: int = 2
    noise: float = 0.0
    penalty: float = 0.1
    density: float = 0.5
    weighted: bool = False
    kind: str = "any text"
    folder: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self, least={"size": 2}, may_be_zero=("noise",))
        check_filters(self)
        check_at_most(self, "n_samples", "size", "there are no more")


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("n_samples", 0, "n_samples=0 is too small: give a whole number >= 1"),
        ("n_samples", 10, "n_samples=10 is above size=9: there are no more"),
        ("size", 1, "size=1 is too small: give a whole number >= 2"),
        ("seed", -1, "seed=-1 is too small: give a whole number >= 0"),
        ("seed", True, "seed=True is not an integer"),
        ("noise", -0.1, "noise=-0.1 is out of range: give a number >= 0"),
        ("penalty", 0.0, "penalty=0.0 is out of range: give a number > 0"),
        ("density", 1.1, "density=1.1 is above 1: it is a probability"),
        ("weighted", 1, "weighted=1 is neither True nor False"),
        ("kernel", 10, "kernel=10 is above size=9: filters must fit into the images"),
        ("stride", 4, "stride=4 is above kernel=3: it would leave pixels uncovered"),
    ],
)
def test_an_option_out_of_range_is_refused(option, value, text):
    with pytest.raises(InvalidArgument) as caught:
        Options(**{option: value})
    assert str(caught.value).startswith(text)


def test_the_bounds_themselves_are_accepted():
    Options(n_samples=1, size=2, kernel=2, stride=2, noise=0, density=1, weighted=True)


def test_atoms_can_be_chosen_without_observations():
    rows = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    dictionary, observations = split_atoms([rows], 4, 0, np.random.default_rng(0), "the rows")
    assert np.array_equal(dictionary, rows.T)
    assert observations.shape == (0, 4)
