"""DeepInverse: inverse problems."""

import deepinv
import torch
from census import Known, Layer, Status, drawn
from torch import Tensor

TALL = drawn(6, 4, seed=2)
solve = deepinv.optim.linear.least_squares_implicit_backward


def operator() -> deepinv.physics.LinearPhysics:
    return deepinv.physics.LinearPhysics(A=lambda x: x @ TALL.T, A_adjoint=lambda y: y @ TALL)


def tikhonov(y: Tensor) -> Tensor:
    """Return the solution of ridge regression with half a unit of penalty."""
    return torch.linalg.solve(TALL.T @ TALL + 0.5 * torch.eye(4).double(), (y @ TALL).mT).mT


def equilibrium() -> Layer:
    """`PGD` with `DEQ=True`, Tikhonov's penalty, otherwise as it comes, in the measurements."""
    options = {"stepsize": 1 / 16, "lambda_reg": 0.5, "g_param": 0.0, "DEQ": True}
    model = deepinv.optim.PGD(deepinv.optim.L2(), deepinv.optim.Tikhonov(), **options)
    layer = lambda y: model(y, operator())  # noqa: E731
    step = lambda z, y: (z - (z @ TALL.T - y) @ TALL / 16) / (1 + 1 / 32)  # noqa: E731
    text = (
        "51 terms of the series in place of a solve, and 100 steps of PGD, are the"
        " [defaults](https://github.com/deepinv/deepinv/blob/main/deepinv/optim/optimizers.py)."
    )
    known = Known(Status.APPROXIMATION, text)
    return Layer(layer, [drawn(1, 6)], {"step": step}, known, tikhonov)


def proximal(y: Tensor, z: Tensor, gamma: Tensor) -> Tensor:
    system = TALL.T @ TALL + torch.eye(4).double() / gamma
    return torch.linalg.solve(system, (y @ TALL + z / gamma).mT).mT


def least_squares() -> Layer:
    """`least_squares_implicit_backward`, in measurements, point and penalty."""
    layer = lambda y, z, gamma: solve(operator(), y, z=z, gamma=gamma)  # noqa: E731
    residual = lambda x, y, z, gamma: (x @ TALL.T - y) @ TALL + (x - z) / gamma  # noqa: E731
    inputs = drawn(1, 6), drawn(1, 4), torch.tensor(0.7).double()
    known = Known(
        Status.APPROXIMATION, "As exact as its conjugate gradients, whose tolerance is an option."
    )
    return Layer(layer, inputs, {"residual": residual}, known, proximal)


def sharpened(weights: Tensor) -> Tensor:
    """Return the regularized solution for a periodic blur, from its matrix."""
    kernel = weights.softmax(-1)[0, 0]
    columns = []
    for place in range(16):
        image = torch.zeros(16).double()
        image[place] = 1
        shifted = [
            kernel[i, j] * image.reshape(4, 4).roll((i - 1, j - 1), (0, 1))
            for i in range(3)
            for j in range(3)
        ]
        columns.append(torch.stack(shifted).sum(0).flatten())
    blur = torch.stack(columns, 1)
    system = blur.T @ blur + torch.eye(16).double() / 2
    return torch.linalg.solve(system, blur.T @ drawn(1, 1, 4, 4).flatten()).reshape(1, 1, 4, 4)


def computed_filter() -> Layer:
    """`least_squares_implicit_backward` of `BlurFFT`, in what its filter is computed from."""
    start = torch.ones(1, 1, 3, 3).double()
    physics = deepinv.physics.BlurFFT(img_size=(1, 4, 4), filter=start)

    def layer(weights: Tensor) -> Tensor:
        physics.update_parameters(filter=weights.softmax(-1))
        return solve(physics, drawn(1, 1, 4, 4), gamma=torch.tensor(2.0).double())

    text = (
        "No gradient arrives, [DeepInverse 1145](https://github.com/deepinv/deepinv/issues/1145)."
    )
    known = Known(Status.TICKET, text)
    return Layer(layer, [drawn(1, 1, 3, 3)], known=known, other=sharpened)


LAYERS = [equilibrium, least_squares, computed_filter]
