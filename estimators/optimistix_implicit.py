"""Implicit differentiation by Optimistix, a peer to measure against."""

from collections.abc import Callable
from dataclasses import dataclass

from pudle import peers
from pudle.peers import Array


@dataclass(frozen=True)
class OptimistixImplicit(peers.JaxImplicitPeer):
    r"""Implicit differentiation of the fixed point :math:`z = \Phi(z, D)` at z_T by
    ``optimistix.ImplicitAdjoint``.

    :math:`\Phi` is one proximal gradient layer at the algorithm's step, written in jax. For each
    sample the system
    :math:`(I - \partial_z \Phi^\top) v = \partial_z \ell` is written out as a dense matrix and
    solved directly. Optimistix's own default is an LU factorization, which fails, or returns
    numbers of size 1e13, where more atoms are active than there are dimensions. Its solver for
    ill-posed systems, a singular value decomposition, gives the minimum-norm solution there and is
    used here.

    Cost: T layers forward, p Jacobian-vector products of one layer and one decomposition of a p x p
    matrix per sample; stored are several such matrices for each of some hundred samples, whatever
    T. Everything but the layers is compiled once for each shape and precision.
    """

    name = "optimistix_implicit"
    references = (
        "Rader, Lyons and Kidger,"
        " Optimistix: modular optimisation in JAX and Equinox,"  # codespell:ignore optimisation
        " 2024",
        (
            "Blondel, Berthet, Cuturi, Frostig, Hoyer, Llinares-López, Pedregosa and Vert,"
            " Efficient and Modular Implicit Differentiation, NeurIPS 2022"
        ),
    )
    distributions = ("jax", "jaxlib", "lineax", "optimistix")
    instead = "analytic"
    #: Several p x p matrices for each.
    chunk = 500

    def minimizer(self, nonnegative: bool, rounding: float) -> Callable[..., Array]:
        """Return the codes of one sample as Optimistix's implicit function of the layer's other
        arguments.

        Imports optimistix and lineax; the system may be singular.
        """
        adjoint = peers.require("optimistix").ImplicitAdjoint(
            linear_solver=peers.require("lineax").AutoLinearSolver(well_posed=False)
        )

        def minimizer(*inputs: Array) -> Array:
            return adjoint.apply(_solve, _optimality, (*inputs, nonnegative), frozenset())[0]

        return minimizer


# Optimistix requires that these two are global functions, which take everything as arguments.
def _solve(inputs: Array) -> Array:
    return inputs[0], None


def _optimality(codes: Array, residual: Array, inputs: Array) -> Array:
    return peers.layer(codes, *inputs[1:6]) - codes
