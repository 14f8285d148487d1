"""GeomLoss: optimal transport between points."""

import torch
from census import Known, Layer, Status, drawn
from geomloss import SamplesLoss
from geomloss.ot import solve_sample
from torch import Tensor

POINTS, OTHERS = drawn(3, 2), drawn(4, 2, seed=2)
WEIGHTS, MASSES = torch.full((3,), 1 / 3).double(), torch.full((4,), 1 / 4).double()


def entropic(x: Tensor, y: Tensor, a: Tensor, b: Tensor, cost: Tensor, reg: float) -> Tensor:
    """Return transport cost plus divergence from the product of the weights, at the plan of a
    Sinkhorn iteration, where its derivative in the plan vanishes.
    """
    with torch.no_grad():
        f, g = torch.zeros_like(a), torch.zeros_like(b)
        for _ in range(3000):
            f = -reg * ((g - cost) / reg + b.log()).logsumexp(1)
            g = -reg * ((f[:, None] - cost) / reg + a.log()[:, None]).logsumexp(0)
        density = ((f[:, None] + g - cost) / reg).exp()
        plan = density * a[:, None] * b
    return (plan * cost).sum() + reg * (plan * density.log()).sum()


def squared(x: Tensor, y: Tensor) -> Tensor:
    return (x[:, None] - y).square().sum(-1)


def debiased(x: Tensor) -> Tensor:
    """Return the Sinkhorn divergence of half the squared distances, for a blur of 0.5."""
    sets = (x, WEIGHTS), (OTHERS, MASSES)
    across, own, others = (
        entropic(p, q, a, b, squared(p, q) / 2, 0.25)
        for (p, a), (q, b) in [sets, (sets[0], sets[0]), (sets[1], sets[1])]
    )
    return across - (own + others) / 2


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
    return Layer(layer, [POINTS], {"tighten": tight}, known, debiased)


def energy() -> Layer:
    """`SamplesLoss("energy")`, in the points."""

    def other(x: Tensor) -> Tensor:
        near = squared(x, x) + torch.eye(3).double()
        own = ((near.sqrt() - torch.eye(3).double()) / 9).sum()
        across = (squared(x, OTHERS).sqrt() / 12).sum()
        others = torch.cdist(OTHERS, OTHERS).sum() / 16
        return across - (own + others) / 2

    layer = lambda x: SamplesLoss("energy")(WEIGHTS, x, MASSES, OTHERS)  # noqa: E731
    return Layer(layer, [POINTS], other=other)


def value() -> Layer:
    """Value of `ot.solve_sample` with `reg=1`, in the points."""

    def layer(x: Tensor, max_iter: int = 100) -> Tensor:
        return solve_sample(x, OTHERS, WEIGHTS, MASSES, reg=1, max_iter=max_iter).value

    other = lambda x: entropic(x, OTHERS, WEIGHTS, MASSES, squared(x, OTHERS), 1.0)  # noqa: E731
    known = Known(
        Status.NEW,
        "The gradient in the points is about twice what it should be; the value is right."
        ' POT 0.9.7.post1 hands it on from `ot.solve_sample(method="geomloss")`. GeomLoss says that'
        " this interface is still in development.",
    )
    return Layer(layer, [POINTS], {"tighten": "max_iter"}, known, other)


def partial_transport(x: Tensor) -> Tensor:
    """Return the value of unbalanced transport with half the squared distances, reach 1 and blur
    0.7, at the plan of its own iteration, where its derivative in the plan vanishes.
    """
    reg, rho, cost = 0.7**2, 1.0, squared(x, OTHERS) / 2
    with torch.no_grad():
        f, g = torch.zeros(3).double(), torch.zeros(4).double()
        for _ in range(3000):
            f = -reg * rho / (rho + reg) * ((g - cost) / reg + MASSES.log()).logsumexp(1)
            g = (f[:, None] - cost) / reg + WEIGHTS.log()[:, None]
            g = -reg * rho / (rho + reg) * g.logsumexp(0)
        product = WEIGHTS[:, None] * MASSES
        plan = ((f[:, None] + g - cost) / reg).exp() * product
        pairs = [(plan, product, reg), (plan.sum(1), WEIGHTS, rho), (plan.sum(0), MASSES, rho)]
        penalty = sum(weight * (p * (p / q).log() - p + q).sum() for p, q, weight in pairs)
    return (plan * cost).sum() + penalty


def unbalanced() -> Layer:
    """`SamplesLoss("sinkhorn", reach=1, blur=0.7, scaling=0.95, debias=False)`, in the points."""

    def layer(x: Tensor, scaling: float = 0.95) -> Tensor:
        loss = SamplesLoss(reach=1, blur=0.7, scaling=scaling, debias=False)
        return loss(WEIGHTS, x, MASSES, OTHERS)

    tight = lambda x: layer(x, 0.99)  # noqa: E731
    known = Known(
        Status.NEW,
        "The gradient is too small by a factor: (rho + eps / 2) / (rho + eps) where the iteration"
        " has converged, for rho = reach^2 and eps = blur^2; the value is right.",
    )
    return Layer(layer, [POINTS], {"tighten": tight}, known, partial_transport)


LAYERS = [sinkhorn, energy, value, unbalanced]
