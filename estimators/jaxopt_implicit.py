"""Implicit differentiation by JAXopt, a peer to measure against."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from pudle import peers
from pudle.estimator import CheckedOptions
from pudle.peers import Array


@dataclass(frozen=True)
class JaxoptImplicit(CheckedOptions, peers.JaxImplicitPeer):
    r"""Implicit differentiation of the fixed point :math:`z = \Phi(z, D)` at the codes z_T by
    ``jaxopt.implicit_diff``.

    :math:`\Phi` is one proximal gradient layer at the algorithm's step, written in jax. The system
    :math:`(I - \partial_z \Phi^\top) v = \partial_z \ell` is solved for each sample by JAXopt. It
    is not symmetric, because the columns off the support of :math:`\Phi` are zero and the rows are
    not. JAXopt's default, conjugate gradients on the normal equations, is right for it, and is used
    here. Plain conjugate gradients, which JAXopt offers as well, are not: they return large errors
    without a warning.

    Cost: T layers forward, one solve per sample by at most ``iterations`` products with the system
    and its transpose, all samples at a time; memory independent of T. Everything but the layers is
    compiled once for each shape and precision.

    Parameters
    ----------
    iterations : int
        Largest number of iterations, >= 1.
    rtol : float
        Stop when the residual is at most this many times the right-hand side; the dtype's rounding
        unit where that is larger. JAXopt's default is 1e-5.
    """

    iterations: int = 1000
    rtol: float = 1e-13

    name = "jaxopt_implicit"
    references = (
        "Blondel, Berthet, Cuturi, Frostig, Hoyer, Llinares-López, Pedregosa and Vert, Efficient"
        " and Modular Implicit Differentiation, NeurIPS 2022",
    )
    distributions = ("jax", "jaxlib", "jaxopt")
    instead = "fixed_point"

    def minimizer(self, nonnegative: bool, rounding: float) -> Callable[..., Array]:
        """Return the codes of one sample as JAXopt's implicit function of the layer's other
        arguments.

        Imports jaxopt. A residual up to `rounding` times the right-hand side ends the solve.
        """
        solve = functools.partial(
            peers.require("jaxopt.linear_solve").solve_normal_cg,
            maxiter=self.iterations,
            tol=max(self.rtol, rounding),
        )

        layer = functools.partial(peers.layer, nonnegative=nonnegative)
        implicit = peers.require("jaxopt").implicit_diff.custom_fixed_point(layer, solve=solve)
        differentiable_minimizer: Callable[..., Array] = implicit(
            lambda codes, dictionary, offset, observation, constants: codes
        )
        return differentiable_minimizer
