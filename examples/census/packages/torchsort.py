"""torchsort: soft ranks and soft sorting."""

from collections.abc import Callable

from census import Layer, drawn
from torch import Tensor
from torchsort import soft_rank, soft_sort

VALUES = drawn(2, 6, seed=1)


def soft(function: Callable[..., Tensor], regularization: str) -> Layer:
    options = {"regularization": regularization, "regularization_strength": 0.7}
    return Layer(lambda x: function(x, **options), [VALUES])


def ranks() -> Layer:
    """`soft_rank(regularization="l2")`, in the values."""
    return soft(soft_rank, "l2")


def ranks_by_entropy() -> Layer:
    """`soft_rank(regularization="kl")`, in the values."""
    return soft(soft_rank, "kl")


def sorted_values() -> Layer:
    """`soft_sort(regularization="l2")`, in the values."""
    return soft(soft_sort, "l2")


LAYERS = [ranks, ranks_by_entropy, sorted_values]
