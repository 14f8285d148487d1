"""The phantom gradient: reverse mode through damped layers that start from the last codes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pudle.algorithms.unrolling import differentiable, gradients
from pudle.estimator import (
    Algorithm,
    CheckedOptions,
    Contribution,
    ImplicitEstimator,
    Problem,
    State,
)


@dataclass(frozen=True)
class Phantom(CheckedOptions, ImplicitEstimator):
    r"""Phantom gradient by unrolling: K damped layers from the codes z_T, which are held constant
    at their start.

    .. math:: h_0 = z_T, \quad h_{k+1} = \lambda \, \Phi(h_k, \theta) + (1 - \lambda) \, h_k, \qquad
              g = \partial_\theta \ell + \Big(\frac{\mathrm{d} h_K}{\mathrm{d} \theta}\Big)^\top
              \partial_z \ell

    with both derivatives of the loss at :math:`z_T`. :math:`\Phi` is one plain layer at the
    algorithm's step, also for an accelerated algorithm, which has the same fixed point; for
    `pudle.FixedPoint` it is the problem's own step. A thresholding rule that changes from layer to
    layer is taken as it is in the last one. The authors evaluate the loss at
    :math:`h_K`, which a network passes on; here all estimators are evaluated at the same codes, and
    the two agree at a fixed point. At depth zero, where no layer made the codes, the estimate is
    the direct part alone.

    At a converged code it is :math:`\lambda \sum_{k<K} (\partial_\theta \Phi)^\top [\lambda \,
    \partial_z \Phi + (1 - \lambda) I]^{\top k} \partial_z \ell`, the damped Neumann series of
    `fixed_point`; without damping it is `truncated` with a window of K layers. Elsewhere the two
    forms differ, as the support changes along h. Damping slows the convergence in K and keeps it
    where a layer does not contract. The error falls with depth on the lasso loss; on any other
    there is a floor of order :math:`(1 - \lambda (1 - \rho))^K`.

    Cost: T + K layers forward, K backward, no solves; stored are the tensors of K layers, whatever
    T.

    Parameters
    ----------
    steps : int
        Number K of damped layers, >= 1.
    damping : float
        Factor :math:`\lambda` in (0, 1]; 1 damps nothing.
    """

    steps: int = 5
    damping: float = 0.5

    name = "phantom"
    aliases = ("phantom_gradient", "upg")
    references = ("Geng, Zhang, Bai, Wang and Lin, On training implicit models, NeurIPS 2021",)
    computes = "approximate"
    consistent_for = ("lasso",)

    def through_codes(
        self, problem: Problem, algorithm: Algorithm, state: State, code_gradient: Tensor
    ) -> Contribution:
        """Run K damped layers from the codes and differentiate through them; at depth zero return
        zeros.
        """
        if state.iteration == 0:
            return torch.zeros_like(problem.theta), {}
        step = algorithm.step_size(problem)
        with torch.enable_grad():
            live, theta = differentiable(problem)
            codes = state.codes.detach()
            for _ in range(self.steps):
                image = algorithm.plain_layer(live, codes, step, state.iteration - 1)
                codes = self.damping * image + (1 - self.damping) * codes
            (through_codes,) = gradients(codes, (theta,), code_gradient)
        return through_codes, {
            "layers": state.iteration + self.steps,
            "layers_differentiated": self.steps,
        }
