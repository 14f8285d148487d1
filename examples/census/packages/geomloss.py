"""GeomLoss: optimal transport between points."""

import math

import torch
from census import Known, Layer, Status, drawn
from geomloss import SamplesLoss
from geomloss.ot import solve_sample
from torch import Tensor

POINTS, OTHERS = drawn(3, 2), drawn(4, 2, seed=2)
WEIGHTS, MASSES = torch.full((3,), 1 / 3).double(), torch.full((4,), 1 / 4).double()


def entropic(a: Tensor, b: Tensor, cost: Tensor, reg: float, reach: float = math.inf) -> Tensor:
    """Return transport cost plus divergences from the product of the weights and, times `reach`,
    of the marginals from the weights, at the plan of a Sinkhorn iteration, where its derivative in
    the plan vanishes.
    """
    with torch.no_grad():
        f, g, step = torch.zeros_like(a), torch.zeros_like(b), reg / (1 + reg / reach)
        for _ in range(3000):
            f = -step * ((g - cost) / reg + b.log()).logsumexp(1)
            g = -step * ((f[:, None] - cost) / reg + a.log()[:, None]).logsumexp(0)
        plan = ((f[:, None] + g - cost) / reg).exp() * a[:, None] * b
    value = (plan * cost).sum() + reg * divergence(plan, a[:, None] * b)
    if reach == math.inf:
        return value
    return value + reach * (divergence(plan.sum(1), a) + divergence(plan.sum(0), b))


def divergence(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log() - p + q).sum()


def squared(x: Tensor, y: Tensor) -> Tensor:
    return (x[:, None] - y).square().sum(-1)


def debiased(x: Tensor, a: Tensor, reg: float, reach: float = math.inf) -> Tensor:
    """Return the Sinkhorn divergence from the other points, of half the squared distances."""
    sets = (x, a), (OTHERS, MASSES)
    across, within, within_others = (
        entropic(c, d, squared(p, q) / 2, reg, reach)
        for (p, c), (q, d) in [sets, (sets[0], sets[0]), (sets[1], sets[1])]
    )
    return across - (within + within_others) / 2 + reg / 2 * (a.sum() - MASSES.sum()) ** 2


def sinkhorn() -> Layer:
    """`SamplesLoss("sinkhorn", blur=0.5)`, in the points."""

    def layer(x: Tensor, scaling: float = 0.5) -> Tensor:
        return SamplesLoss(blur=0.5, scaling=scaling)(WEIGHTS, x, MASSES, OTHERS)

    tight = lambda x: layer(x, 0.99)  # noqa: E731
    text = (
        "The number of iterations follows from [scaling](https://www.kernel-operations.io/geomloss/"
        "api/pytorch-api.html), 0.5 by default, a trade-off between speed and accuracy."
    )
    known = Known(Status.APPROXIMATION, text)
    return Layer(layer, [POINTS], {"tighten": tight}, known, lambda x: debiased(x, WEIGHTS, 0.25))


def unbalanced() -> Layer:
    """`SamplesLoss("sinkhorn", blur=0.7, reach=1, scaling=0.99)`, in points and weights."""

    def layer(x: Tensor, a: Tensor, scaling: float = 0.99) -> Tensor:
        # The diameter is given, as otherwise the number of iterations jumps with the points.
        loss = SamplesLoss(blur=0.7, reach=1, scaling=scaling, diameter=5)
        return loss(a, x, MASSES, OTHERS)

    tight = lambda x, a: layer(x, a, 0.997)  # noqa: E731
    by_hand = lambda x, a: debiased(x, a, 0.49, 1.0)  # noqa: E731
    known = Known(
        Status.NEW,
        "With `reach` both gradients are (rho + eps/2) / (rho + eps) times what they should be,"
        " 0.84 for this blur and reach and next to 1 for a blur that is small beside reach: the"
        " backward pass that corrects this is a method of a `torch.nn.Module`, which nothing calls."
        " `ot.solve_sample(unbalanced=...)` has the same factor.",
    )
    return Layer(layer, [POINTS, WEIGHTS], {"tighten": tight}, known, by_hand)


def energy() -> Layer:
    """`SamplesLoss("energy")`, in the points."""

    def by_hand(x: Tensor) -> Tensor:
        near = squared(x, x) + torch.eye(3).double()
        within = ((near.sqrt() - torch.eye(3).double()) / 9).sum()
        across = (squared(x, OTHERS).sqrt() / 12).sum()
        within_others = torch.cdist(OTHERS, OTHERS).sum() / 16
        return across - (within + within_others) / 2

    layer = lambda x: SamplesLoss("energy")(WEIGHTS, x, MASSES, OTHERS)  # noqa: E731
    return Layer(layer, [POINTS], other=by_hand)


def value() -> Layer:
    """Value of `ot.solve_sample` with `reg=1`, in the points."""

    def layer(x: Tensor, max_iter: int = 100) -> Tensor:
        return solve_sample(x, OTHERS, WEIGHTS, MASSES, reg=1, max_iter=max_iter).value

    by_hand = lambda x: entropic(WEIGHTS, MASSES, squared(x, OTHERS), 1.0)  # noqa: E731
    known = Known(
        Status.NEW,
        "The gradient in the points is about twice what it should be; the value is right to 1e-6."
        " That of `ot.solve` in the cost is doubled as well."
        ' POT 0.9.7.post1 hands it on from `ot.solve_sample(method="geomloss")`. GeomLoss says that'
        " this interface is still in development.",
    )
    return Layer(layer, [POINTS], {"tighten": "max_iter"}, known, by_hand)


LAYERS = [sinkhorn, unbalanced, energy, value]
