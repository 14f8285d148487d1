"""Differentiation of the last layer alone."""

from dataclasses import dataclass

from pudle.estimator import WindowEstimator


@dataclass(frozen=True)
class OneStep(WindowEstimator):
    r"""Reverse mode through the last layer; the codes that enter it are held constant.

    .. math:: g = \partial_\theta \ell(z_T, \theta)
                  + (\partial_\theta \Phi(z_{T-1}, \theta))^\top \partial_z \ell(z_T, \theta)

    with :math:`\Phi` one layer. It is `truncated` with a window of one: the Jacobian :math:`(I -
    \partial_z \Phi)^{-1} \partial_\theta \Phi` of the fixed point with the inverse replaced by the
    identity, which is accurate where a layer contracts fast. On the lasso loss the error falls with
    depth; on the reconstruction loss a floor of order :math:`\rho` remains. At depth zero it is the
    direct part alone.

    Cost: T layers forward, one backward, no solves; stored are the tensors of one layer, whatever
    T.
    """

    name = "one_step"
    aliases = ("jfb", "jacobian_free")
    references = (
        "Bolte, Pauwels and Vaiter, One-step differentiation of iterative algorithms, NeurIPS 2023",
        (
            "Fung, Heaton, Li, McKenzie, Osher and Yin, JFB: Jacobian-free backpropagation for"
            " implicit networks, AAAI 2022"
        ),
    )
    computes = "truncated"
    consistent_for = ("lasso",)
    window = 1
