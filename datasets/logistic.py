"""Choice of the regularization of a logistic regression by its loss on held-out data."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from pudle.data import ArraysDataset, FloatArray, ToTensor, check_options
from pudle.problems import FixedPoint


@dataclass(frozen=True)
class LogisticRegression(ArraysDataset):
    r"""The standard task of bilevel optimization: `pudle.FixedPoint` of gradient descent on a
    logistic regression.

    On breast_cancer, which comes with scikit-learn: 569 tumors with 30 features, standardized on
    the training half, labels
    :math:`y = \pm 1`, no intercept. The outer parameter is the logarithm of the regularization, one
    number or one for each feature,

    .. math:: w(\theta) = \arg\min_w \frac{1}{n} \sum_i \log(1 + e^{-y_i x_i^\top w})
        + \frac12 \sum_j e^{\theta_j} w_j^2 ,

    and the outer loss is the mean logistic loss on the other half. A step is one of gradient
    descent of size
    :math:`\eta = 1/L`, with :math:`L = \lambda_{\max}(X^\top X) / 4n + \max_j e^{\theta_j}` at the
    theta where the gradient is taken. Its Jacobian is symmetric, with spectral radius :math:`\rho =
    1 - \eta \mu`, where
    :math:`\mu \ge \min_j e^{\theta_j}` is the smallest curvature at the solution. States and
    implicit gradients converge as
    :math:`\rho^T`, unrolled ones as :math:`T \rho^T`; one through K layers keeps an error of order
    :math:`\rho^K`. The direct part is zero. With H the Hessian at the solution and g the gradient
    of the outer loss in w,

    .. math:: \partial_{\theta_j} \ell = -e^{\theta_j} w_j (H^{-1} g)_j ,

    summed over j if all features share one number.

    Parameters
    ----------
    penalty : float
        The value of :math:`e^\theta` at which the gradient is taken, > 0.
    per_feature : bool
        Whether each feature has a regularization of its own (all equal at first): theta then has 30
        entries, not one.
    seed : int
        Seed of the split.
    """

    penalty: float = 0.1
    per_feature: bool = False
    seed: int = 0

    name = "logistic"
    references = (
        "Pedregosa, Hyperparameter optimization with approximate gradient, ICML 2016",
        (
            "Grazzi, Franceschi, Pontil and Salzo, On the iteration complexity of hypergradient"
            " computation, ICML 2020"
        ),
    )
    losses = ("held_out",)

    def __post_init__(self) -> None:
        check_options(self)

    def make(self, loss: str, tensor: ToTensor) -> FixedPoint:
        from sklearn.datasets import load_breast_cancer  # slow to import, and only needed here

        tumors: tuple[FloatArray, NDArray[np.int64]] = load_breast_cancer(return_X_y=True)
        features, labels = tumors
        order = self.generator().permutation(len(features))
        half = len(order) // 2
        rows = order[:half]
        features = (features - features[rows].mean(0)) / features[rows].std(0)
        # A row times its label: the loss depends on x and y through their product alone.
        signed = (2.0 * labels - 1)[:, None] * features
        curvature = float(np.linalg.norm(signed[rows], 2)) ** 2 / (4 * half)
        training, held_out = tensor(signed[rows]), tensor(signed[order[half:]])
        # Rounded as the data are.
        step_size = float(tensor(np.array(1 / (curvature + self.penalty))))

        def step(weights: Tensor, theta: Tensor) -> Tensor:
            data = training.to(theta)
            slope = -(torch.sigmoid(-data @ weights) @ data) / len(data) + theta.exp() * weights
            return weights - step_size * slope

        def held_out_loss(weights: Tensor, theta: Tensor) -> Tensor:
            return softplus(-held_out.to(theta) @ weights).mean()

        count = features.shape[1]
        theta = np.log(np.full(count if self.per_feature else (), self.penalty))
        return FixedPoint(tensor(theta), step, held_out_loss, tensor(np.zeros(count)))
