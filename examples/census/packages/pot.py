"""POT: optimal transport."""

import ot
import torch
from census import Layer, drawn
from torch import Tensor

POINTS, OTHERS = drawn(3, 2), drawn(4, 2, seed=2)
DIRECTIONS = torch.nn.functional.normalize(drawn(2, 5, seed=3), dim=0)
UNIFORM = torch.full((4,), 1 / 4).double()


def cost(x: Tensor) -> Tensor:
    return (x[:, None] - OTHERS).square().sum(-1)


def entropic(x: Tensor, weights: Tensor) -> Tensor:
    """Return the cost of the entropic plan, through a Sinkhorn iteration."""
    masses, costs = weights.softmax(0), cost(x)
    f, g = torch.zeros(3).double(), torch.zeros(4).double()
    for _ in range(3000):
        f = masses.log() - (g - costs).logsumexp(1)
        g = UNIFORM.log() - (f[:, None] - costs).logsumexp(0)
    return ((f[:, None] + g - costs).exp() * costs).sum()


def sinkhorn() -> Layer:
    """`sinkhorn2` with `reg=1`, in points and weights."""

    def layer(x: Tensor, weights: Tensor, tolerance: float = 1e-9) -> Tensor:
        return ot.sinkhorn2(weights.softmax(0), UNIFORM, ot.dist(x, OTHERS), 1.0, stopThr=tolerance)

    return Layer(layer, [POINTS, drawn(3, seed=5)], {"tighten": "tolerance"}, other=entropic)


def distances(x: Tensor) -> Tensor:
    return (x[:, None] - x).square().sum(-1)


def gromov() -> Layer:
    """`gromov_wasserstein2`, in both sets of points, for uniform weights."""
    layer = lambda x, y: ot.gromov_wasserstein2(distances(x), distances(y))  # noqa: E731

    def other(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            plan = ot.gromov_wasserstein(distances(x), distances(y))
        gaps = distances(x)[:, :, None, None] - distances(y)
        return torch.einsum("ijkl,ik,jl->", gaps**2, plan, plan)

    return Layer(layer, [drawn(4, 2), OTHERS], {"tighten": layer}, other=other)


def sliced() -> Layer:
    """`sliced_wasserstein_distance` with 5 projections, in the points."""

    def layer(x: Tensor, y: Tensor) -> Tensor:
        return ot.sliced_wasserstein_distance(x, y, projections=DIRECTIONS)

    def other(x: Tensor, y: Tensor) -> Tensor:
        gaps = (x @ DIRECTIONS).sort(0).values - (y @ DIRECTIONS).sort(0).values
        return gaps.square().mean().sqrt()

    return Layer(layer, [drawn(4, 2), OTHERS], other=other)


LAYERS = [sinkhorn, gromov, sliced]
