"""The equilibrium of a tanh layer, which several packages are asked for."""

import torch
from census import drawn
from torch import Tensor

J = 0.3 * drawn(4, 4, seed=3)


def step(z: Tensor, x: Tensor) -> Tensor:
    """Return what the layer makes of its state z, of one sample or several, and its input x."""
    return torch.tanh(z @ J.T + x)


def by_unrolling(x: Tensor) -> Tensor:
    """Return the equilibrium, differentiated through 200 steps."""
    z = torch.zeros_like(x)
    for _ in range(200):
        z = step(z, x)
    return z
