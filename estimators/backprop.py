"""Automatic differentiation through all the layers."""

from dataclasses import dataclass

from pudle.estimator import WindowEstimator


@dataclass(frozen=True)
class Backprop(WindowEstimator):
    r"""Exact gradient of the loss after T layers, in reverse mode through all of them.

    .. math:: g = \partial_\theta \ell(z_T, \theta) + J_T^\top \partial_z \ell(z_T, \theta), \qquad
              J_T = \mathrm{d} z_T / \mathrm{d} \theta

    Its error falls as :math:`O(T \rho^{2T})` on the lasso loss, twice as fast as that of
    `alternating`, and as
    :math:`O(T \rho^T)` on the reconstruction loss.

    Cost: T layers forward, T backward. Memory grows linearly with T where layers are recorded by
    autograd; the kernels of sparse coding keep the layers of at most 250 samples at a time, in 128
    MiB where all layers are dense.
    """

    name = "backprop"
    aliases = ("g_ae", "g2", "automatic", "unrolled", "itd", "ddl")
    references = (
        (
            "Ablin, Peyré and Moreau, Super-efficiency of automatic differentiation for functions"
            " defined as a minimum, ICML 2020"
        ),
        "Tolooshams and Ba, Stable and Interpretable Unrolled Dictionary Learning, TMLR 2022",
    )
    computes = "unrolled"
    window = None
