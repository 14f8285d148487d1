"""Backpropagation through the last layers only."""

from dataclasses import dataclass

from pudle.estimator import CheckedOptions, WindowEstimator


@dataclass(frozen=True)
class Truncated(CheckedOptions, WindowEstimator):
    r"""Reverse mode through the last K layers; the codes that enter them are held constant.

    .. math:: g = \partial_\theta \ell(z_T, \theta) + J_{T,K}^\top \partial_z \ell(z_T, \theta)

    with :math:`J_{T,K}` the Jacobian of the last K layers alone. A window of the depth or more is
    full backpropagation. The error falls with depth on the lasso loss; on the reconstruction loss a
    floor of order :math:`\rho^K` remains.

    Cost: T layers forward, min(K, T) backward; memory grows with K, not with T.

    Parameters
    ----------
    window : int
        Number K of layers that are differentiated, >= 1.
    """

    window: int

    name = "truncated"
    aliases = ("k_rmd", "tbptt")
    references = (
        (
            "Shaban, Cheng, Hatch and Boots, Truncated back-propagation for bilevel optimization,"
            " AISTATS 2019"
        ),
        (
            "Malézieux, Moreau and Kowalski, Understanding approximate and unrolled dictionary"
            " learning for pattern recovery, ICLR 2022"
        ),
    )
    computes = "truncated"
    consistent_for = ("lasso",)
