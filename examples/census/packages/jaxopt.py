"""JAXopt: optimizers and projections in JAX."""

import jax
import jaxopt
import torch
from census import Known, Layer, Status, drawn
from equilibrium import J, by_unrolling, step
from jax import numpy as jnp
from torch import Tensor

from pudle.adapt import from_jax

WITH = ["jax"]
TALL = drawn(6, 4, seed=2)
EYE = torch.eye(4).double()


def fixed_point() -> Layer:
    """Fixed point of a tanh layer, by `FixedPointIteration` as it comes."""
    solver = jaxopt.FixedPointIteration(lambda z, x: jnp.tanh(J.numpy() @ z + x))
    layer = from_jax(jax.jit(lambda x: solver.run(0 * x, x).params))
    text = "Tolerance of 1e-5 by [default](https://jaxopt.github.io/stable/_autosummary/jaxopt.FixedPointIteration.html)."
    known = Known(Status.APPROXIMATION, text)
    return Layer(layer, [drawn(4)], {"step": step}, known, by_unrolling)


def least_squares(y: Tensor, penalty: Tensor) -> Tensor:
    return torch.linalg.solve(TALL.T @ TALL + penalty * EYE, TALL.T @ y)


def ridge() -> Layer:
    """Ridge regression by `LBFGS` as it comes, in targets and penalty."""

    def objective(z: jax.Array, y: jax.Array, penalty: jax.Array) -> jax.Array:
        return (jnp.sum((TALL.numpy() @ z - y) ** 2) + penalty * jnp.sum(z**2)) / 2

    solver = jaxopt.LBFGS(objective)
    layer = from_jax(lambda y, penalty: solver.run(jnp.zeros(4, y.dtype), y, penalty).params)
    text = "Tolerance of 1e-3 by [default](https://jaxopt.github.io/stable/_autosummary/jaxopt.LBFGS.html)."
    residual = lambda z, y, penalty: TALL.T @ (TALL @ z - y) + penalty * z  # noqa: E731
    inputs = drawn(6), torch.tensor(0.7).double()
    known = Known(Status.APPROXIMATION, text)
    return Layer(layer, inputs, {"residual": residual}, known, least_squares)


def nearest(x: Tensor, size: Tensor) -> Tensor:
    """Return the nearest point of the simplex, in operations that torch differentiates."""
    ordered = x.sort(descending=True).values
    thresholds = (ordered.cumsum(0) - size) / torch.arange(1, len(x) + 1)
    return (x - thresholds[(ordered > thresholds).sum() - 1]).relu()


def simplex() -> Layer:
    """`projection_simplex`, in the point and the size of the simplex."""
    inputs = drawn(6, seed=6), torch.tensor(1.5).double()
    return Layer(from_jax(jaxopt.projection.projection_simplex), inputs, other=nearest)


LAYERS = [fixed_point, ridge, simplex]
