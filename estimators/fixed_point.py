"""Implicit differentiation with a truncated Neumann series in place of the solve."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pudle.algorithms.algorithm import unspecified
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
class FixedPointAdjoint(CheckedOptions, ImplicitEstimator):
    r"""Implicit differentiation of the fixed point :math:`z = \Phi(z, \theta)`, by K terms of a
    Neumann series.

    .. math:: g = \partial_\theta \ell + (\partial_\theta \Phi)^\top v, \qquad v = \lambda
              \sum_{k=0}^{K-1} \big[\lambda \, \partial_z \Phi + (1 - \lambda) I\big]^{\top k} \,
              \partial_z \ell
                \approx (I - \partial_z \Phi^\top)^{-1} \partial_z \ell

    with all derivatives at :math:`z_T`. :math:`\Phi` is one plain proximal gradient layer at the
    algorithm's step, also for an accelerated algorithm, which has the same fixed point; for
    `pudle.FixedPoint` it is the problem's own step. A thresholding rule that changes from layer to
    layer is taken as it is in the last one. At depth zero, where no layer made the codes, the
    estimate is the direct part alone.

    The series converges as :math:`(1 - \lambda (1 - \rho))^K`. With a damping :math:`\lambda < 1`
    it is the Neumann form of the phantom gradient, whose other form is `phantom`. Without one, at a
    converged code, it equals `truncated` with a window of K layers of ISTA. The error falls with
    depth on the lasso loss; on any other there is a floor of the order of what the series leaves.

    Cost: T + 1 layers forward, K vector-Jacobian products of one layer, no exact solve; stored are
    the tensors of one layer.

    Parameters
    ----------
    terms : int
        Number K of terms, k = 0 to K - 1; >= 1.
    damping : float
        Factor :math:`\lambda` in (0, 1]; 1 damps nothing.
    adjoint : Tensor, optional
        An approximation :math:`v_0`, shape of the codes: the `adjoint` of an earlier estimate, such
        as that of the last step of a training. The series is then that of
        :math:`v - v_0`, whose right-hand side is
        :math:`\partial_z \ell - (I - \partial_z \Phi)^\top v_0`. By default zero. Like a warm start
        of an algorithm it is data, which no spec holds.
    """

    terms: int
    damping: float = 1.0
    adjoint: Tensor | None = unspecified()

    name = "fixed_point"
    aliases = ("neumann", "aid_fp", "phantom_neumann", "npg")
    references = (
        (
            "Lorraine, Vicol and Duvenaud, Optimizing millions of hyperparameters by implicit"
            " differentiation, AISTATS 2020"
        ),
        (
            "Grazzi, Franceschi, Pontil and Salzo, On the iteration complexity of hypergradient"
            " computation, ICML 2020"
        ),
        "Geng, Zhang, Bai, Wang and Lin, On training implicit models, NeurIPS 2021",
    )
    computes = "approximate"
    consistent_for = ("lasso",)
    approaches = {"implicit": {"terms": 1000}}

    def through_codes(
        self, problem: Problem, algorithm: Algorithm, state: State, code_gradient: Tensor
    ) -> Contribution:
        """Sum the series by vector-Jacobian products of one layer, and return the gradient through
        the codes with the adjoint; at depth zero return zeros.
        """
        if state.iteration == 0:
            return torch.zeros_like(problem.theta), {}
        step = algorithm.step_size(problem)
        with torch.enable_grad():
            live, theta = differentiable(problem)
            leaf = state.codes.detach().requires_grad_()
            image = algorithm.plain_layer(live, leaf, step, state.iteration - 1)
        term = code_gradient
        if self.adjoint is not None:
            problem.check_codes("adjoint", self.adjoint)
            (pulled,) = gradients(image, (leaf,), self.adjoint, keep_graph=True)
            term = code_gradient - self.adjoint + pulled
        total = term
        for _ in range(self.terms - 1):
            (pulled,) = gradients(image, (leaf,), term, keep_graph=True)
            term = self.damping * pulled + (1 - self.damping) * term
            total = total + term
        adjoint = self.damping * total
        if self.adjoint is not None:
            adjoint = adjoint + self.adjoint
        (through_codes,) = gradients(image, (theta,), adjoint)
        return (
            through_codes,
            {
                "layers": state.iteration + 1,
                "layers_differentiated": 1,
                "iterations": self.terms,
            },
            adjoint,
        )
