"""Implicit differentiation with a truncated Neumann series in place of the solve."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pudle.algorithms import Algorithm, State
from pudle.algorithms.unrolling import differentiable, gradients
from pudle.estimator import Contribution, ImplicitEstimator
from pudle.problems import Problem
from pudle.validation import check_integer


@dataclass(frozen=True)
class FixedPointAdjoint(ImplicitEstimator):
    r"""Implicit differentiation of the fixed point :math:`z = \Phi(z, \theta)`, by K terms of a Neumann series.

    .. math:: g = \partial_\theta \ell + (\partial_\theta \Phi)^\top v, \qquad
              v = \sum_{k=0}^{K-1} \big[(\partial_z \Phi)^\top\big]^k \, \partial_z \ell
                \approx (I - \partial_z \Phi^\top)^{-1} \partial_z \ell

    with all derivatives at :math:`z_T`. :math:`\Phi` is one plain proximal gradient layer at the algorithm's step, also for
    an accelerated algorithm, which has the same fixed point. A thresholding rule that changes from layer to layer is taken
    as it is in the last one. At depth zero, where no layer made the codes, the estimate is the direct part alone.

    The series converges as :math:`\rho^K`. At a converged code the estimate equals `truncated` with a window of K layers of
    ISTA: the error falls with depth on the lasso loss, and has a floor of order :math:`\rho^K` on the reconstruction loss.

    Cost: T + 1 layers forward, K vector-Jacobian products of one layer, no exact solve; stored are the tensors of one layer.

    Parameters
    ----------
    terms : int
        Number K of terms, k = 0 to K - 1; >= 1.
    """

    terms: int

    name = "fixed_point"
    aliases = ("neumann", "aid_fp")
    references = (
        "Lorraine, Vicol and Duvenaud, Optimizing millions of hyperparameters by implicit differentiation, AISTATS 2020",
        "Grazzi, Franceschi, Pontil and Salzo, On the iteration complexity of hypergradient computation, ICML 2020",
    )
    computes = "approximate"
    consistent_for = ("lasso",)

    def __post_init__(self) -> None:
        check_integer("terms", self.terms, 1)

    def through_codes(self, problem: Problem, algorithm: Algorithm, state: State, code_gradient: Tensor) -> Contribution:
        if state.iteration == 0:
            return torch.zeros_like(problem.theta), {"iterations": 0}
        step = algorithm.step_size(problem)
        with torch.enable_grad():
            live, theta = differentiable(problem)
            leaf = state.codes.detach().requires_grad_()
            image = algorithm.proximal_step(live, leaf, step, state.iteration - 1)
        total = term = code_gradient
        for _ in range(self.terms - 1):
            (term,) = gradients(image, (leaf,), term, keep_graph=True)
            total = total + term
        (through_codes,) = gradients(image, (theta,), total)
        work = {"iterations": self.terms, "vector_products": self.terms, "solves": 0}
        return through_codes, {"layers": state.iteration + 1, "layers_differentiated": 1, **work}
