"""Optimistix: solvers in JAX."""

import jax
import optimistix as optx
import torch
from census import Known, Layer, Status, drawn
from equilibrium import J, by_unrolling, step
from jax import numpy as jnp
from torch import Tensor

from pudle.adapt import from_jax

WITH = ["jax"]
TALL = drawn(6, 4, seed=2)
ASKED = Known(
    Status.APPROXIMATION,
    "Implicit, at a solution to the tolerances that were"
    " [asked for](https://docs.kidger.site/optimistix/api/adjoints/), 1e-3.",
)


def fixed_point() -> Layer:
    """Fixed point of a tanh layer, to tolerances of 1e-3."""
    solver = optx.FixedPointIteration(1e-3, 1e-3)
    function = lambda z, x: jnp.tanh(J.numpy() @ z + x)  # noqa: E731
    layer = from_jax(lambda x: optx.fixed_point(function, solver, 0 * x, x).value)
    return Layer(layer, [drawn(4)], {"step": step}, ASKED, by_unrolling)


def stationary(z: Tensor, y: Tensor) -> Tensor:
    """Zero at the least sum of squares of tanh(TALL z) - y."""
    bent = torch.tanh(TALL @ z)
    return TALL.T @ ((1 - bent**2) * (bent - y))


def by_newton(y: Tensor) -> Tensor:
    """Return that solution, differentiated through the last of many Newton steps."""
    z = torch.zeros(4).double()
    for _ in range(200):
        bent = torch.tanh(TALL @ z)
        weights = (1 - bent**2) ** 2 - 2 * bent * (1 - bent**2) * (bent - y)
        curvature = TALL.T @ (weights[:, None] * TALL)
        z = z.detach() - torch.linalg.solve(curvature.detach(), stationary(z.detach(), y))
    return z


TARGETS = torch.tanh(TALL @ drawn(4, seed=7) / 3) + 0.05 * drawn(6)


def least_squares() -> Layer:
    """Nonlinear least squares by Levenberg and Marquardt, to tolerances of 1e-3."""
    solver = optx.LevenbergMarquardt(1e-3, 1e-3)
    residuals = lambda z, y: jnp.tanh(TALL.numpy() @ z) - y  # noqa: E731
    start = jnp.zeros(4)

    def solve(y: jax.Array) -> jax.Array:
        return optx.least_squares(residuals, solver, start.astype(y.dtype), y).value

    return Layer(from_jax(solve), [TARGETS], {"residual": stationary}, ASKED, by_newton)


def minimise() -> Layer:
    """Nonlinear least squares by `minimise` with `BFGS`, to tolerances of 1e-8."""
    solver = optx.BFGS(1e-8, 1e-8)
    objective = lambda z, y: jnp.sum((jnp.tanh(TALL.numpy() @ z) - y) ** 2) / 2  # noqa: E731
    start = jnp.zeros(4)

    def solve(y: jax.Array) -> jax.Array:
        return optx.minimise(objective, solver, start.astype(y.dtype), y).value

    return Layer(from_jax(solve), [TARGETS], {"residual": stationary}, ASKED, by_newton)


LAYERS = [fixed_point, least_squares, minimise]
