"""The momentum sequence of accelerated methods."""

from typing import TypeVar

from torch import Tensor

#: One number for all samples, or one for each.
Momentum = TypeVar("Momentum", float, Tensor, float | Tensor)


def following(momentum: Momentum) -> Momentum:
    """Return ``a_{t+1} = (1 + sqrt(1 + 4 a_t^2)) / 2``."""
    return (1 + (1 + 4 * momentum**2) ** 0.5) / 2
