"""Implicit differentiation in closed form on the active set."""

from dataclasses import dataclass

from pudle.estimator import ActiveSystemEstimator


@dataclass(frozen=True)
class Analytic(ActiveSystemEstimator):
    r"""Implicit differentiation at the codes z_T, with an exact solve on their active set S.

    With H the Hessian of the smooth part and F the gradient of the inner objective on the active
    set,

    .. math:: v_S = H_{SS}^{-1} (\partial_z \ell)_S, \qquad
              g = \partial_\theta \ell - (\partial_\theta F)_S^\top v_S .

    For sparse coding this is :math:`g = \partial_D \ell - [(D z - x) v^\top + D v z^\top]`. Its
    error falls as
    :math:`O(\rho^{2T})` on the lasso loss, for which it keeps the non-zero :math:`\partial_z \ell`
    of finite depth, and as
    :math:`O(\rho^T)` on the reconstruction loss.

    At small depth more atoms can be active than there are dimensions. The system is then singular,
    and its minimum-norm solution finite but wrong: ``condition_number`` and ``singular`` in the
    diagnostics report it.

    Cost: T layers forward, one solve per sample; memory independent of T.
    """

    name = "analytic"
    aliases = ("implicit", "g3", "ift", "aid")
    references = (
        (
            "Ablin, Peyré and Moreau, Super-efficiency of automatic differentiation for functions"
            " defined as a minimum, ICML 2020"
        ),
        (
            "Bertrand, Klopfenstein, Blondel, Vaiter, Gramfort and Salmon, Implicit"
            " differentiation of Lasso-type models for hyperparameter optimization, ICML 2020"
        ),
    )
    computes = "implicit"
